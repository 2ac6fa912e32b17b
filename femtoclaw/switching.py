"""A claw's switch in the text of a configuration file: one line changes, comments and everything else stay. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

from femtoclaw.config import parse_toml
from femtoclaw.errors import ConfigurationError

_ENABLED = re.compile(r"(?m)^[ \t]*enabled[ \t]*=[ \t]*(true|false)[ \t]*(?=#|$)")
_TABLE = re.compile(r"(?m)^[ \t]*\[")
WHERE = "femtoclaw.toml"


def switched(raw: bytes, name: str, wanted: bool) -> bytes:
    """The file with ``capabilities.NAME.enabled`` as ``wanted``, and every other value as it was.

    Raises ConfigurationError for what is no TOML, and for a table that is written in a way that only a person can edit.
    """
    before = parse_toml(raw, WHERE)
    text = raw.decode()
    word = "true" if wanted else "false"
    # One spelling of a quoted key is JSON's; names are printable ASCII, so nothing else is needed.
    header = re.search(
        rf"(?m)^\[capabilities\.(?:{re.escape(json.dumps(name))}|{re.escape(name)})\][ \t]*(?:#.*)?$", text
    )
    if header is None:
        changed = f"{text.rstrip()}\n\n[capabilities.{json.dumps(name)}]\nenabled = {word}\n"
    else:
        following = _TABLE.search(text, header.end())
        end = following.start() if following is not None else len(text)
        body = text[header.end() : end]
        line = f"enabled = {word}"
        body, found = _ENABLED.subn(line, body, count=1)
        changed = text[: header.end()] + (body if found else f"\n{line}{body}") + text[end:]
    after = changed.encode()
    if _parsed(after) != _expected(before, name, wanted):
        raise ConfigurationError(
            "the file is written in a way that cannot be changed here", where=f"{WHERE}: capabilities",
            expected=f"a table [capabilities.{json.dumps(name)}] with a line `enabled = ...`", found="another form",
            remedy="write it so, then run the command again",
        )  # fmt: skip
    return after


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        return parse_toml(raw, WHERE)
    except ConfigurationError:
        return None


def _expected(before: dict[str, Any], name: str, wanted: bool) -> dict[str, Any]:
    capabilities = before.get("capabilities", {})
    entry = capabilities.get(name, {}) if isinstance(capabilities, dict) else {}
    return before | {"capabilities": {**capabilities, name: {**entry, "enabled": wanted}}}
