"""What a call is about: paths, programs and other arguments in one canonical form for policy to judge. Pure.

A claw's manifest says which argument names what (``Manifest.targets``). A target that cannot be brought into canonical
form inside its bounds is refused here, before policy sees it; file systems are not consulted (a symlink is the
isolation's matter).
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from femtoclaw.manifest import Manifest

PATH_BYTES_MAX = 4096
COMMAND_CHARACTERS_MAX = 64 * 1024


class Facts(NamedTuple):
    """Attributes of the call for the policy context: str, int, bool or list of str."""

    attributes: dict[str, Any]


class ArgumentInvalid(NamedTuple):
    """An argument that cannot be judged: a stable code and a text without the value."""

    code: str
    detail: str


def facts(manifest: Manifest, args: Mapping[str, Any], settings: Mapping[str, Any]) -> Facts | ArgumentInvalid:
    """Canonical attributes of one call, or why there are none."""
    attributes: dict[str, Any] = {}
    for argument, kind in sorted(manifest.targets.items()):
        if argument not in args:
            continue
        found = _TARGETS[kind](argument, args, settings)
        if isinstance(found, ArgumentInvalid):
            return found
        attributes |= found
    return Facts(attributes)


def _path(argument: str, args: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any] | ArgumentInvalid:
    value = args[argument]
    if len(value.encode("utf-8", "surrogatepass")) > PATH_BYTES_MAX:
        return ArgumentInvalid("PATH_TOO_LONG", f"{argument} is over {PATH_BYTES_MAX} bytes")
    if not value or any(ord(char) < 0x20 or ord(char) == 0x7F for char in value):
        return ArgumentInvalid("PATH_MALFORMED", f"{argument} is empty or holds control characters")
    if value.startswith("/"):
        return ArgumentInvalid("PATH_ABSOLUTE", f"{argument} must be relative to the workspace")
    if ".." in value.split("/"):
        return ArgumentInvalid("PATH_ESCAPES", f"{argument} has a `..` component")
    return {"path": posixpath.normpath(value)}


def _command(argument: str, args: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any] | ArgumentInvalid:
    binary = resolve_binary(args[argument], settings.get("binaries", ()))
    if binary is None:
        return ArgumentInvalid("BINARY_NOT_LISTED", f"{argument} names no program, or more than one, of the list")
    argv = args.get("argv", [])
    text = shlex.join([binary, *argv])
    if len(text) > COMMAND_CHARACTERS_MAX:
        return ArgumentInvalid("COMMAND_TOO_LONG", f"command is over {COMMAND_CHARACTERS_MAX} characters")
    return {"binary": binary, "command": text}


def resolve_binary(name: str, listed: Any) -> str | None:
    """The one listed absolute path that ``name`` is, or is the base name of; None otherwise."""
    paths = [path for path in listed if isinstance(path, str) and path.startswith("/")]
    if name in paths:
        return name
    matching = {path for path in paths if "/" not in name and posixpath.basename(path) == name}
    return matching.pop() if len(matching) == 1 else None


def _plain(argument: str, args: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    return {argument: args[argument]}


_TARGETS: dict[str, Callable[[str, Mapping[str, Any], Mapping[str, Any]], dict[str, Any] | ArgumentInvalid]] = {
    "path": _path,
    "command": _command,
    "address": _plain,
    "process_id": _plain,
}
