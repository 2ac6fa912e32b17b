"""Hostile messages by grammar and by mutation, for Hypothesis.

Most are near misses of something that a shipped policy permits: a message that is wrong in every respect shows only
that the first check works.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

TOOLS = ("fs.read", "fs.list", "fs.write", "shell", "web.get", "process.list", "system.info")
FALSE_TOOLS = (
    "fs.Read", "FS.READ", "fs.read ", " fs.read", "fs\u2024read", "\uff46s.read", "fs.read\x00", "shell\u200b", "s\u04bbell",
    "fs.reаd", "sh", "bash", "exec", "eval", "", "femtoclaw.claws.shell", "femtoclaw.claws.shell:execute", "../shell",
    "policy.set", "approval.grant", "claw.enable", "node.release", "__import__", "shell;fs.read", "fs.*", "*", "device",
)  # fmt: skip
GOOD_PATHS = (
    "notes.txt", "public", "public/a.txt", "public/deep/b", "src/main.c", "build/out.o", "reports/today.md", "outbox/letter", ".",
    "a b", "clé",
)  # fmt: skip
BAD_PATHS = (
    "/etc/passwd", "/", "..", "../x", "public/../x", "public/../../etc/shadow", "a/..", "....//x", "%2e%2e/x", "..%2fx",
    "..\\x", "\uff0e\uff0e/x", "\u2025/x", "prod.env", "PROD.ENV", "prod.env/", "prod.env/.", "./prod.env", "a//b.key",
    "x.key\u200b", "x.kеy", ".ssh/id_rsa", "~/.ssh/id_rsa", "home/.ssh", ".aws/credentials", "file:///etc/passwd",
    "C:\\x", "//server/share", "public/./.hidden", "public/.hidden", ".git/hooks/pre-commit", "a/.bashrc", "build/../.env",
    "build/.env", "reports/a.pem", "public/server.key", "build", "builds/x", "publicx", "public\n", "a\x00b", "a\x1b[2Jb",
    "a\u202eb", "\ufeffnotes.txt", "", " ", "x" * 4096, "x" * 4097, "é" * 2049, "a/" * 2048, "/proc/self/environ", "./" * 9,
    "build/" + "./" * 20 + "out", "reports//..//x",
)  # fmt: skip
FORBIDDEN_PATHS = (
    "prod.env",
    "a.key",
    "public/a.key",
    "home/.ssh",
    "public/.hidden",
    "build/.env",
    ".bashrc",
    "outbox/x",
    "public/..",
)
BEFORE = ("", "./", ".//", "././", "/", "../", "public/../", "x/./")
AFTER = ("", "/", "/.", "//", "/./.", "/..", " ", "\x00", ".")
"""Around a path: other spellings of it, or of another one."""
WORDS = (
    "status", "diff", "log", "--oneline", "-20", "test", "check", "package", "-c", "--", "-exec", ";", "id", "-o", "/etc/x",
    "--compress-program=sh", "-p", "--to-command=sh", "core.pager=id", "status\nid", "$(id)", "`id`", "&&", "|", "-C", "..", "@x",
    "test;id", "ｔest", "test ", " test", "", "--exec-path=.", "-f", "/dev/stdin", "SHELL=/bin/sh", "--eval=$(shell id)", "x" * 300,
)  # fmt: skip
COMMANDS = (
    ("git", ["status"]), ("/usr/bin/git", ["status"]), ("git", ["diff"]), ("/usr/bin/git", ["log", "--oneline", "-20"]),
    ("make", []), ("/usr/bin/make", ["test"]), ("make", ["check"]), ("make", ["package"]), ("sort", ["a"]), ("env", ["ls"]),
    ("find", [".", "-delete"]), ("tar", ["-xf", "a"]), ("sh", ["-c", "id"]), ("/bin/sh", []),
)  # fmt: skip
FALSE_BINS = (
    "/usr/bin/../bin/git", "//usr/bin/git", "/usr/bin/git ", "./git", "Git", "git\n", "gіt", "/bin/git", "bash",
    "/usr/bin/python3",
    "git status", "/usr/bin/make -f x", "../../usr/bin/git", "", "*", "/proc/self/exe", "make\u200b",
)  # fmt: skip
URLS = (
    "https://docs.example.org", "https://docs.example.org/guide", "https://docs.example.org/a/b/",
    "https://x.files.example.org/a",
    "http://docs.example.org/", "https://docs.example.org:443/a", "https://docs.example.org:8443/", "https://DOCS.example.org./a",
    "https://user@docs.example.org/", "https://docs.example.org@evil.test/", "https://evil.test/",
    "https://evil.test#docs.example.org",
    "https://docs.example.org.evil.test/", "https://evildocs.example.org/", "https://files.example.org/", "https://127.0.0.1/",
    "https://127.1/", "https://0x7f.1/", "https://2130706433/", "https://[::1]/", "https://[::ffff:127.0.0.1]/",
    "https://169.254.169.254/",
    "https://metadata.google.internal/", "https://localhost/", "https://docs.example.org\\@evil.test/",
    "https:\\\\docs.example.org/",
    "https:///docs.example.org/", "https://docs.example.org/%2e%2e/x", "https://docs.example.org/../x",
    "https://docs.example.org/a%2fb",
    "https://docs.example.org/a;/../b", "https://docs.example.org//x", "https://docs。example。org/", "https://ｄocs.example.org/",
    "https://d\u043ecs.example.org/", "https://docs.example.org\t/", "\thttps://docs.example.org/",
    "https://docs.example.org/\r\nHost: x",
    "file:///etc/passwd", "gopher://docs.example.org/", "ftp://docs.example.org/", "javascript:alert(1)", "//docs.example.org/",
    "docs.example.org", "HTTPS://docs.example.org/a", "https://docs.example.org/?q=a#b", "https://docs.example.org:0443/",
    "https://docs.example.org:99999/", "https://docs.example.org:/", "https://a..files.example.org/",
    "https://-.files.example.org/",
    "https://docs.example.org/" + "a" * 8200, "https://x.files.example.org\x00.evil.test/",
)  # fmt: skip
ODD_CHARACTERS = (
    "\x00",
    "\n",
    "\r",
    "\x1b",
    "\u200b",
    "\u202e",
    "\ufeff",
    "\u2028",
    "/",
    "\\",
    "..",
    "%00",
    " ",
    "\x7f",
    "\u0301",
    "'",
    '"',
    "😀",
)
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**22, 2**22 + 1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**30, 1.0, 5e0, 0.5, -0.0,
    "", "1", "null",
    [], {}, ["notes.txt"], [["notes.txt"]], {"path": "notes.txt"}, {"$ref": "#"}, {"__class__": "x"}, [None] * 300, "x" * 140_000,
)  # fmt: skip
FALSE_KEYS = (
    "settings", "workspace", "permissions", "binaries", "env", "cwd", "stdin", "shell", "Path", "path ", "pаth",
    "__class__", "entry",
    "timeout", "idempotency_key", "approved", "policy", "agent", "secrets", "$schema", "",
)  # fmt: skip
PIECES = (
    b'"', b"{", b"}",
    b"[", b"]", b",", b":", b"\\", b"\\ud800", b"\\u0000", b"NaN", b"\x00", b"1e9", b"\xff", b"\xc0\xaf", b"\xef\xbb\xbf",
    b"..", b"/", b'"args":{},', b'"tool":"shell",', b'"path":"/etc/passwd",', b"\n", b" ", b"null", b"//x", b"/*x*/",
    b"\xe2\x80\xae",
)  # fmt: skip


class Members(list[tuple[str, Any]]):
    """An object as it is to be written: keys may stand twice."""


def written(value: Any, *, escaped: bool, blank: str) -> str:
    """The value as JSON text, or as what only looks like it."""
    if isinstance(value, dict):
        value = Members(value.items())
    if isinstance(value, Members):
        inside = ",".join(
            f"{text(key, escaped)}:{blank}{written(each, escaped=escaped, blank=blank)}" for key, each in value
        )
        return f"{{{inside}{blank}}}"
    if isinstance(value, list):
        return "[" + ",".join(written(each, escaped=escaped, blank=blank) for each in value) + "]"
    if isinstance(value, str):
        return text(value, escaped)
    return json.dumps(value)


def text(value: str, escaped: bool) -> str:
    """A string; with ``escaped`` every character as ``\\uXXXX``."""
    if not escaped or len(value) > 5000:
        return json.dumps(value, ensure_ascii=False)
    units = value.encode("utf-16-be", "surrogatepass")
    return '"' + "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2)) + '"'


def _with_odd(draw: st.DrawFn, value: str) -> str:
    at = draw(st.integers(0, min(len(value), 40)))
    return value[:at] + draw(st.sampled_from(ODD_CHARACTERS)) + value[at:]


@st.composite
def paths(draw: st.DrawFn) -> str:
    """A path that is permitted somewhere, one that is not, or a good one made odd."""
    how = draw(st.integers(0, 9))
    if how < 3:
        return draw(st.sampled_from(GOOD_PATHS))
    if how < 5:
        return draw(st.sampled_from(BAD_PATHS))
    if how < 7:
        before, after = draw(st.sampled_from(BEFORE)), draw(st.sampled_from(AFTER))
        return before + draw(st.sampled_from(FORBIDDEN_PATHS)) + after
    if how < 9:
        return _with_odd(draw, draw(st.sampled_from(GOOD_PATHS)))
    parts = draw(
        st.lists(
            st.sampled_from(("public", "build", "a", ".", "..", "", ".x", "x.key", "reports")), min_size=1, max_size=5
        )
    )
    return "/".join(parts)


@st.composite
def commands(draw: st.DrawFn) -> dict[str, Any]:
    """A command line near one that is permitted somewhere."""
    binary, argv = draw(st.sampled_from(COMMANDS))
    argv = list(argv)
    how = draw(st.integers(0, 8))
    if how == 8:
        binary = draw(st.sampled_from(FALSE_BINS))
    elif how == 7:
        argv.insert(draw(st.integers(0, len(argv))), draw(st.sampled_from(WORDS)))
    elif how == 6:
        argv = draw(st.lists(st.sampled_from(WORDS), max_size=4))
    elif how == 5 and argv:
        argv[-1] = _with_odd(draw, argv[-1])
    elif how == 4:
        argv = [" ".join(argv)]
    return {"bin": binary} if not argv and draw(st.booleans()) else {"bin": binary, "argv": argv}


@st.composite
def addresses(draw: st.DrawFn) -> str:
    """A web address: one of the plain ones, or one that programs disagree about."""
    address = draw(st.sampled_from(URLS[:4] + URLS))
    return _with_odd(draw, address) if draw(st.integers(0, 4)) == 4 else address


@st.composite
def arguments(draw: st.DrawFn, tool: str) -> dict[str, Any]:
    """What the claw takes, with targets that may be hostile."""
    if tool == "shell":
        return draw(commands())
    if tool == "web.get":
        args: dict[str, Any] = {"url": draw(addresses())}
        if draw(st.integers(0, 5)) == 5:
            args["headers"] = draw(
                st.sampled_from(({"range": "bytes=0-1"}, {"host": "evil.test"}, {"accept": "a\r\nX: y"}, {}))
            )
        return args
    if tool == "process.list":
        return draw(
            st.sampled_from(({}, {"pid": 1}, {"pid": 0}, {"pid": -1}, {"pid": 2**22}, {"pid": 2**22 + 1}, {"pid": "1"}))
        )
    if tool == "system.info":
        return draw(st.sampled_from(({}, {}, {}, {"host_name": True})))
    args = {"path": draw(paths())}
    if tool == "fs.write":
        content = st.one_of(*[st.text(max_size=8)] * 8, st.sampled_from(("x" * 131_072, "x" * 131_073)))
        args |= {"content": draw(content)}
        args["mode"] = draw(
            st.sampled_from(("create", "create", "replace", "append", "create", "replace", "append", "Create", "w"))
        )
    elif tool == "fs.read" and draw(st.integers(0, 4)) == 4:
        args["offset"] = draw(st.sampled_from((0, 7, -1, 2**63 - 1, 2**63, 0.0, True)))
    return args


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Tool and arguments; in one of four something is of the wrong type, too much, or missing."""
    tool = draw(
        st.sampled_from((*TOOLS, "fs.read", "fs.write", "fs.list", "shell", "shell", "shell", "web.get", "web.get"))
    )
    args = draw(arguments(tool))
    how = draw(st.integers(0, 15))
    if how == 15:
        tool = draw(st.sampled_from(FALSE_TOOLS))
    elif how == 14:
        args[draw(st.sampled_from(FALSE_KEYS))] = draw(st.sampled_from(ODD_VALUES))
    elif how == 13 and args:
        args[draw(st.sampled_from(sorted(args)))] = draw(st.sampled_from(ODD_VALUES))
    elif how == 12 and args:
        del args[draw(st.sampled_from(sorted(args)))]
    return tool, args


def _doubled(tool: str, args: dict[str, Any], other: dict[str, Any]) -> list[Any]:
    """A key stands twice, at each depth: a reader that takes the first sees another call than one that takes the last."""
    call = {"tool": tool, "args": args}
    return [
        Members([("tool_call", {"tool": "system.info", "args": {}}), ("tool_call", call)]),
        {"tool_call": Members([("tool", "system.info"), ("tool", tool), ("args", args)])},
        {"tool_call": Members([("tool", tool), ("args", other), ("args", args)])},
        {"tool_call": {"tool": tool, "args": Members([*other.items(), *args.items()])}},
    ]


def _shapes(tool: str, args: dict[str, Any]) -> list[Any]:
    """The call in forms that are none, or that two readers could take for two calls."""
    call = {"tool": tool, "args": args}
    return [
        {"tool_call": call, "message": {"content": "x"}}, {"tool_call": call, "version": 1}, {"tool_call": [call]},
        [{"tool_call": call}],
        {"tool_call": call | {"id": "1"}}, {"Tool_call": call}, {"tool_call": {"name": tool, "arguments": args}}, call,
        {"message": {"content": json.dumps({"tool_call": call})}}, {"message": {"tool_call": call}},
        {"tool_call": {"tool_call": call}},
        {"tool_call": {"tool": tool, "args": [args]}},
        {"tool_call": {"tool": [tool], "args": args}}, {"tool_call": {"tool": tool, "args": json.dumps(args)}},
        json.dumps({"tool_call": call}), {"tool_calls": [{"tool_call": call}]}, {"function_call": {"name": tool,
        "arguments": args}},
    ]  # fmt: skip


def _wrapped(raw: bytes, how: int) -> bytes:
    """The bytes with something around them, or in another encoding."""
    as_text = raw.decode("utf-8", "replace")
    return (
        raw, b" \n" + raw + b"\t\r\n", b"\xef\xbb\xbf" + raw, b"```json\n" + raw + b"\n```", raw + raw,
        raw + b" trailing", b"Sure! " + raw,
        as_text.encode("utf-16"), as_text.encode("utf-32"), raw + b"\x00", raw.replace(b'"', b"'"),
        raw + b" " * 262_144, b"[" * 10_000 + raw,
        raw.replace(b"{", b'{"a":NaN,', 1), raw.replace(b"/", b"\xc0\xaf"), b"\x0b" + raw, raw[:-1],
        b'{"a":' * 40 + raw + b"}" * 40, b"data: " + raw + b"\n\n",
    )[how]  # fmt: skip


WRAPPINGS = 19


@st.composite
def by_grammar(draw: st.DrawFn) -> bytes:
    """A message with one thing, or nothing, that is hostile in its form."""
    tool, args = draw(calls())
    how = draw(st.integers(0, 10))
    value: Any = {"tool_call": {"tool": tool, "args": args}}
    if how == 9:
        value = draw(st.sampled_from(_shapes(tool, args)))
    if how == 10:
        value = draw(st.sampled_from(_doubled(tool, args, {"path": "notes.txt"})))
    escaped = draw(st.integers(0, 7)) == 7
    blank = draw(st.sampled_from(("", "", "", " ", "\n\t")))
    raw = written(value, escaped=escaped, blank=blank).encode("utf-8", "surrogatepass")
    return _wrapped(raw, draw(st.integers(0, WRAPPINGS - 1))) if how == 8 else raw


@st.composite
def by_mutation(draw: st.DrawFn) -> bytes:
    """A message of the grammar after one to four edits of its bytes: flips, splices, cuts, insertions."""
    tool = draw(st.sampled_from(("fs.read", "fs.write", "shell", "web.get", "process.list")))
    made = {"tool_call": {"tool": tool, "args": draw(arguments(tool))}}
    raw = bytearray(json.dumps(made, ensure_ascii=draw(st.booleans())).encode()[:3000])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw)))
        match draw(st.integers(0, 5)):
            case 0 if at < len(raw):
                raw[at] ^= 1 << draw(st.integers(0, 7))
            case 1:
                del raw[at:]
            case 2:
                raw[at:at] = draw(st.sampled_from(PIECES))
            case 3:
                del raw[at : at + draw(st.integers(1, 8))]
            case 4:
                raw[at:at] = raw[: draw(st.integers(0, 40))]
            case _:
                other = draw(calls())
                raw[at:] = json.dumps({"tool_call": {"tool": other[0], "args": other[1]}}).encode()[:3000][at:]
    return bytes(raw)


def messages() -> st.SearchStrategy[bytes]:
    """Four of five by grammar, one by mutation."""
    grammar = by_grammar()
    return st.one_of(grammar, grammar, grammar, grammar, by_mutation())
