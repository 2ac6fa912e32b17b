"""What a call is about: paths, programs and other arguments in one canonical form for policy to judge. Pure.

A claw's manifest says which argument names what (``Manifest.targets``). A target that cannot be brought into canonical
form inside its bounds is refused here, before policy sees it; file systems and name servers are not consulted (a
symlink is the isolation's matter, where a name leads is the claw's).
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import posixpath
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from femtoclaw.manifest import Manifest

PATH_BYTES_MAX = 4096
COMMAND_CHARACTERS_MAX = 64 * 1024
PID_MAX = 2**22
"""The kernel gives no higher process ids. 0 and below mean groups, and never one process."""

_NOT_IN_PATHS = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


class Facts(NamedTuple):
    """Attributes of the call for the policy context: str, int, bool or list of str."""

    attributes: dict[str, Any]


class ArgumentInvalid(NamedTuple):
    """An argument that cannot be judged: a stable code and a text without the value."""

    code: str
    detail: str


def facts(manifest: Manifest, args: Mapping[str, Any], settings: Mapping[str, Any]) -> Facts | ArgumentInvalid:
    """Canonical attributes of one call, or why there are none.

    The names of the attributes depend on the kind of the target alone, never on the claw, so no claw can name one like
    a reserved part of the context.
    """
    attributes: dict[str, Any] = {}
    targets = manifest.targets.items()
    for argument, kind in sorted(targets) if len(targets) > 1 else targets:
        if argument not in args:
            continue
        found = _TARGETS[kind](argument, args, settings)
        if isinstance(found, ArgumentInvalid):
            return found
        if not attributes.keys().isdisjoint(found):
            # One attribute cannot tell policy about two targets.
            return ArgumentInvalid("TARGET_AMBIGUOUS", f"{argument} is the second {kind} of this claw")
        attributes |= found
    return Facts(attributes)


def _path(argument: str, args: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any] | ArgumentInvalid:
    value = args[argument]
    if type(value) is not str:
        return ArgumentInvalid("TARGET_TYPE", f"{argument} is not a string")
    if not value or _NOT_IN_PATHS.search(value):
        return ArgumentInvalid("PATH_MALFORMED", f"{argument} is empty or holds control characters or surrogates")
    if 4 * len(value) > PATH_BYTES_MAX and len(value.encode()) > PATH_BYTES_MAX:
        return ArgumentInvalid("PATH_TOO_LONG", f"{argument} is over {PATH_BYTES_MAX} bytes")
    if value.startswith("/"):
        return ArgumentInvalid("PATH_ABSOLUTE", f"{argument} must be relative to the workspace")
    if ".." in value and ".." in value.split("/"):
        return ArgumentInvalid("PATH_ESCAPES", f"{argument} has a `..` component")
    return {"path": posixpath.normpath(value)}


def _command(argument: str, args: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any] | ArgumentInvalid:
    from femtoclaw.shell_hazards import hazards

    name, argv = args[argument], args.get("argv", [])
    if type(name) is not str or type(argv) is not list or not all(type(each) is str for each in argv):
        return ArgumentInvalid("TARGET_TYPE", f"{argument} is not a string, or argv no list of strings")
    binary = resolve_binary(name, settings.get("binaries", ()))
    if binary is None:
        return ArgumentInvalid("BINARY_NOT_LISTED", f"{argument} names no program, or more than one, of the list")
    text = shlex.join([binary, *argv])
    if len(text) > COMMAND_CHARACTERS_MAX:
        return ArgumentInvalid("COMMAND_TOO_LONG", f"command is over {COMMAND_CHARACTERS_MAX} characters")
    program = settings.get("programs", {}).get(binary) or posixpath.basename(binary)
    return {"binary": binary, "command": text, "hazards": hazards(program, argv)}


def _address(argument: str, args: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any] | ArgumentInvalid:
    """Where the settings list hosts, an address beyond them is refused before policy: none could permit it."""
    from femtoclaw.web_address import AddressInvalid, read_address, refusal

    value = args[argument]
    if type(value) is not str:
        return ArgumentInvalid("TARGET_TYPE", f"{argument} is not a string")
    try:
        address = read_address(value)
    except AddressInvalid as error:
        return ArgumentInvalid(error.code, f"{argument}: {error}")
    code = refusal(address, settings) if "hosts" in settings else ""
    if code:
        return ArgumentInvalid(code, f"{argument} is not among what the node's settings list")
    return {"scheme": address.scheme, "host": address.host, "port": address.port, "url_path": address.path}


def _process(argument: str, args: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any] | ArgumentInvalid:
    value = args[argument]
    if type(value) is not int:
        return ArgumentInvalid("TARGET_TYPE", f"{argument} is not an integer")
    if not 0 < value <= PID_MAX:
        return ArgumentInvalid("PID_OUT_OF_RANGE", f"{argument} is no process id: 1 to {PID_MAX}")
    return {"pid": value}


def resolve_binary(name: str, listed: Any) -> str | None:
    """The one listed absolute path that ``name`` is, or is the base name of; None otherwise."""
    paths = [path for path in listed if isinstance(path, str) and path.startswith("/")]
    if name in paths:
        return name
    matching = {path for path in paths if "/" not in name and posixpath.basename(path) == name}
    return matching.pop() if len(matching) == 1 else None


_TARGETS: dict[str, Callable[[str, Mapping[str, Any], Mapping[str, Any]], dict[str, Any] | ArgumentInvalid]] = {
    "path": _path,
    "command": _command,
    "address": _address,
    "process_id": _process,
}
