"""What a chat-completions answer says: the content of a whole one, or of a stream of deltas. Pure; nothing is trusted."""

from __future__ import annotations

import json
import re
from typing import Any

from femtoclaw.errors import BrainError

_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


class MalformedAnswerError(BrainError):
    """The answer is not a chat completion."""

    code = "BRAIN_MALFORMED_ANSWER"


def completed(raw: bytes) -> bytes:
    """The content of a whole chat completion. Raises MalformedAnswerError."""
    return _content(_json(raw), "message")


def streamed(raw: bytes) -> bytes:
    """The content of a server-sent stream of deltas, which must end with [DONE]. Raises MalformedAnswerError."""
    parts: list[bytes] = []
    for line in raw.replace(b"\r\n", b"\n").split(b"\n"):
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return b"".join(parts)
        parts.append(_content(_json(data), "delta"))
    raise MalformedAnswerError("the stream ended without [DONE]")


def shows(content: bytes, text: str) -> bool:
    """Whether an ASCII text is in the content as it came, or in what a JSON reader makes of it.

    The escapes are undone wherever they stand rather than in parsed strings: that covers each string of each message,
    names and repeated names too, also where nothing parses, and needs no bound on nesting.
    """
    sought = text.encode()
    return sought in content or sought in _ESCAPE.sub(_unescaped, content)


def _unescaped(escape: re.Match[bytes]) -> bytes:
    """What a JSON escape stands for; one beyond ASCII stays as it was written."""
    digits, letter = escape.groups()
    if digits is None:
        return _LETTERS.get(letter, letter)
    code = int(digits, 16)
    return bytes((code,)) if code < 0x80 else escape[0]


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MalformedAnswerError("the answer is not JSON", found=type(error).__name__) from error


def _content(body: Any, part: str) -> bytes:
    """choices[0].message.content, or the one native function call in the protocol's own form."""
    try:
        message = body["choices"][0][part]
        calls, content = message.get("tool_calls"), message.get("content")
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise MalformedAnswerError("the answer is no chat completion", expected=f"choices[0].{part}") from error
    if calls and not content and part == "message":
        return _native_calls(calls)
    if content is None and part == "delta":
        return b""
    if not isinstance(content, str):
        raise MalformedAnswerError("the answer has no text", expected="choices[0].message.content")
    return content.encode("utf-8", "surrogatepass")


def _native_calls(calls: Any) -> bytes:
    """Native function calls, each as a protocol message on a line: more than one is no valid message and is rejected."""
    lines: list[str] = []
    try:
        for call in calls:
            function = call["function"]
            name, arguments = json.dumps(function["name"]), str(function["arguments"])
            lines.append(f'{{"tool_call":{{"tool":{name},"args":{arguments}}}}}')
    except (TypeError, KeyError) as error:
        raise MalformedAnswerError("a native tool call is malformed") from error
    return "\n".join(lines).encode("utf-8", "surrogatepass")
