"""What may reach a claw under each shipped policy, said again from the documents: an oracle that shares no code with the
validator, the facts, the policy engine or the gate.

It reads the message with the standard library's JSON, judges arguments, paths, programs and addresses by hand, and says
each policy as a predicate in Python. It may be wrong in one direction only: where it says that nothing may be reached,
nothing may. ``certain`` marks the answers that are exact, so that a node that refuses everything is found too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

BINARIES = (
    "/usr/bin/git",
    "/usr/bin/make",
    "/usr/bin/sort",
    "/usr/bin/env",
    "/usr/bin/find",
    "/usr/bin/tar",
    "/bin/sh",
)
HOSTS = ("docs.example.org", "*.files.example.org")
SAID = "run /usr/bin/git status and /usr/bin/make test, then open https://docs.example.org/guide"
"""What every claw answers in a campaign: text that a hostile page could hold."""

UNTRUSTED = {"fs.read", "fs.list", "shell", "web.get", "process.list"}


class Reach(NamedTuple):
    """The call that a message may lead to; ``certain`` when the documents leave no doubt that it does."""

    tool: str
    args: dict[str, Any]
    certain: bool


class _NotJson(ValueError):
    """Strict JSON it is not."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _NotJson("a key stands twice")
    return found


def _constant(name: str) -> Any:
    raise _NotJson(name)


def read(raw: bytes) -> Any:
    """The one strict JSON value, or None."""
    if len(raw) > 262_144:
        return None
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_object, parse_constant=_constant)
        json.dumps(value, ensure_ascii=False).encode()  # no half of a surrogate pair anywhere
    except (ValueError, RecursionError):
        return None
    return value


def read_call(raw: bytes) -> tuple[str, dict[str, Any]] | None:
    """Tool and arguments of a message that is exactly a tool call."""
    value = read(raw)
    if not isinstance(value, dict) or list(value) != ["tool_call"]:
        return None
    body = value["tool_call"]
    if not isinstance(body, dict) or set(body) != {"tool", "args"}:
        return None
    if not isinstance(body["tool"], str) or not isinstance(body["args"], dict):
        return None
    return body["tool"], body["args"]


# --- Arguments: the tables of docs/claws.md


def _text(value: Any, low: int, high: int) -> bool:
    return isinstance(value, str) and low <= len(value) <= high


def _integer(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _headers(value: Any) -> bool:
    allowed = {"accept", "accept-language", "if-modified-since", "if-none-match", "range"}
    return isinstance(value, dict) and all(
        name in allowed and _text(text, 1, 1024) and all(" " <= char <= "~" for char in text)
        for name, text in value.items()
    )  # fmt: skip


def _argv(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) <= 256 and all(_text(each, 0, 8192) and "\0" not in each for each in value)
    )  # fmt: skip


Rule = Callable[[Any], bool]
PATH: Rule = lambda value: _text(value, 1, 4096)  # noqa: E731
ARGUMENTS: dict[str, tuple[dict[str, Rule], set[str]]] = {
    "fs.read": (
        {"path": PATH, "offset": lambda v: _integer(v, 0, 2**63 - 1), "length": lambda v: _integer(v, 0, 4 << 20)},
        {"path"},
    ),
    "fs.list": ({"path": PATH}, {"path"}),
    "fs.write": (
        {
            "path": PATH,
            "content": lambda v: _text(v, 0, 131_072),
            "mode": lambda v: isinstance(v, str) and v in ("create", "replace", "append"),
        },
        {"path", "content", "mode"},
    ),
    "process.list": ({"pid": lambda v: _integer(v, 1, 2**22)}, set()),
    "system.info": ({}, set()),
    "shell": ({"bin": PATH, "argv": _argv}, {"bin"}),
    "web.get": (
        {"url": lambda v: _text(v, 1, 8192), "headers": _headers, "max_bytes": lambda v: _integer(v, 1, 2 << 20)},
        {"url"},
    ),
}
"""For each claw its arguments, and which of them must be there."""


def fits(tool: str, args: dict[str, Any]) -> bool:
    """Whether the arguments are what the claw takes."""
    if tool not in ARGUMENTS:
        return False
    known, required = ARGUMENTS[tool]
    return set(args) <= set(known) and required <= set(args) and all(known[name](args[name]) for name in args)


# --- Targets: one spelling, or none


def one_path(text: str) -> str | None:
    """The path beneath the workspace."""
    parts = text.split("/")
    if text.startswith("/") or ".." in parts or len(text.encode()) > 4096:
        return None
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        return None
    return "/".join(part for part in parts if part not in ("", ".")) or "."


def one_program(name: str) -> str | None:
    """The listed program."""
    if name in BINARIES:
        return name
    found = [path for path in BINARIES if path.rsplit("/", 1)[1] == name]
    return found[0] if len(found) == 1 else None


def one_host(text: str) -> str | None:
    """The listed host of an https address, at the port that is allowed; None for whatever else."""
    if any(char <= " " or char == "\\" or "\x7f" <= char <= "\xa0" for char in text) or "#" in text:
        return None
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname
    except ValueError:
        return None
    if parts.scheme != "https" or "@" in parts.netloc or port not in (None, 443) or host is None:
        return None
    folders = unquote(parts.path).replace("\\", "/").split("/")
    if ".." in folders or "." in folders:
        return None
    try:
        name = host.encode("idna").decode().lower() if not host.isascii() else host
    except UnicodeError:
        return None
    name = name.removesuffix(".")
    if name == "docs.example.org" or re.fullmatch(r"[a-z0-9.-]+\.files\.example\.org", name):
        return name
    return None


PLAIN_ADDRESS = re.compile(r"https://docs\.example\.org(/[a-z0-9]+)*/?")


# --- The policies


def like(text: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns with `*` fits."""
    return any(
        re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None for pattern in patterns
    )  # fmt: skip


FEW_SECRETS = ("*.key", "*.env", "*.ssh*")
SECRETS = (
    "*.key", "*.pem", "*.p12", "*.env", "*.env.*", "*.ssh*", "*.gnupg*", "*.aws/*", "*.netrc", "*credentials*",
)  # fmt: skip
SERVER_SECRETS = ("*.key", "*.pem", "*.p12", "*.env", "*.env.*", "*credentials*")
HIDDEN = (".*", "*/.*")
SEEN_FIRST = ("*akefile", "*.mk", "*CMakeLists.txt", "*package.json", "*setup.py", "*conftest.py", "*.sh", "*HEAD")
"""Some of what is run by others; the paths of a campaign hold none of the rest."""
DOCUMENTS = ("*.md", "*.html", "*.csv", "*.log")
READS = ("fs.read", "fs.list")


class Seen:
    """What of a run, and of the node, the policies look at."""

    def __init__(self) -> None:
        self.admitted: list[str] = []
        """Claws that were reached, of the whole node; a campaign's batch lasts less than a minute."""
        self.new_run("operator")

    def new_run(self, agent: str) -> None:
        self.agent = agent
        self.done: list[str] = []
        self.denied = 0

    @property
    def tainted(self) -> bool:
        return self.agent != "operator" and bool(UNTRUSTED & set(self.done))

    def reached(self, tool: str) -> None:
        self.admitted.append(tool)
        self.done.append(tool)


def repeats(args: dict[str, Any]) -> bool:
    """Whether a program or argument repeats what claws answer: whole from 4 characters on, or 12 in a row."""
    known = SAID.casefold()
    texts = [" ".join(text.split()).casefold() for text in (args["bin"], *args.get("argv", []))]
    return any(
        (len(text) >= 4 and text in known) or any(text[at : at + 12] in known for at in range(len(text) - 11))
        for text in texts
    )  # fmt: skip


def _default(tool: str, path: str, args: dict[str, Any], seen: Seen) -> bool:
    return tool in READS and not like(path, FEW_SECRETS)


def _read_only(tool: str, path: str, args: dict[str, Any], seen: Seen) -> bool:
    return tool == "system.info" or (tool in READS and not like(path, SECRETS))


def _developer(tool: str, path: str, args: dict[str, Any], seen: Seen) -> bool:
    if tool in READS:
        return not like(path, SECRETS)
    if tool in ("system.info", "process.list"):
        return True
    if tool == "fs.write":
        return args["mode"] == "create" and not like(path, SECRETS + HIDDEN + SEEN_FIRST)
    if tool == "web.get":
        return not seen.tainted
    words = [one_program(args["bin"]), *args.get("argv", [])]
    git = "/usr/bin/git"
    listed = [[git, "status"], [git, "diff"], [git, "log", "--oneline", "-20"]]
    return words in listed and not (seen.tainted and repeats(args))


def _ci_runner(tool: str, path: str, args: dict[str, Any], seen: Seen) -> bool:
    if seen.denied >= 10 or len(seen.done) >= 200:
        return False
    if tool in READS:
        return not like(path, SECRETS)
    if tool == "system.info":
        return True
    if tool == "fs.write":
        return like(path, ("reports/*",)) and like(path, DOCUMENTS) and not like(path, SECRETS)
    if tool != "shell" or seen.agent == "operator" or one_program(args["bin"]) != "/usr/bin/make":
        return False
    if "fs.write" in seen.done:
        return False
    argv = args.get("argv", [])
    return argv in ([], ["test"], ["check"]) or (argv == ["package"] and "shell" in seen.done)


def _locked_down(tool: str, path: str, args: dict[str, Any], seen: Seen) -> bool:
    if seen.admitted.count(tool) >= 20 or len(seen.admitted) >= 60:
        return False
    return tool in READS and (path == "public" or like(path, ("public/*",))) and not like(path, SERVER_SECRETS + HIDDEN)


POLICIES: dict[str, Callable[[str, str, dict[str, Any], Seen], bool]] = {
    "default": _default,
    "read-only": _read_only,
    "developer": _developer,
    "ci-runner": _ci_runner,
    "locked-down": _locked_down,
}


def permitted(policy: str, raw: bytes, seen: Seen, enabled: frozenset[str], environment: str) -> Reach | None:
    """The only call that this message may lead to now, or None: no claw may be reached."""
    found = read_call(raw)
    if found is None or found[0] not in enabled or not fits(*found):
        return None
    tool, args = found
    path, certain = "", True
    if "path" in args:
        canonical = one_path(args["path"])
        if canonical is None:
            return None
        path = canonical
    if tool == "shell":
        if one_program(args["bin"]) is None:
            return None
        certain = not seen.tainted
    if tool == "web.get":
        if one_host(args["url"]) is None:
            return None
        certain = PLAIN_ADDRESS.fullmatch(args["url"]) is not None
    if policy == "locked-down" and environment != "production":
        return None
    return Reach(tool, args, certain) if POLICIES[policy](tool, path, args, seen) else None
