"""Where a value that nobody may see is to be found."""

from __future__ import annotations

import base64

from tests.cli.node import Answer, Node


def spellings(value: str) -> list[bytes]:
    raw = value.encode()
    return [raw, raw.hex().encode(), base64.b64encode(raw).rstrip(b"="), base64.b64encode(raw)[4:20]]


def traces(node: Node, value: str, *answers: Answer, beside: tuple[str, ...] = ()) -> list[str]:
    """Files of the home (but those named) and answers in which the value is, in a common spelling."""
    files = [path for path in node.path.rglob("*") if path.is_file() and path.name not in beside]
    found = [str(path) for path in files if any(text in path.read_bytes() for text in spellings(value))]
    shown = [answer.stdout + answer.stderr for answer in answers]
    return found + [text for text in shown if any(part.decode() in text for part in spellings(value))]
