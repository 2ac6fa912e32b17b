"""What options alone do not tell about a command line: scripts, subcommands, operands. Pure.

Each reader takes the arguments after the program's name and returns codes of ``shell_hazards.CODES``. What a reader does
not understand has the code of the worst that it could be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from femtoclaw.hazard_tables import PLAIN

# What stands in brackets has no slash: whether such a slash ends the part is where sed programs disagree.
_PART = r"(?:[^/\\\n\[]|\\[^\n]|\[[^]/\\\n\[]+\])*"
_WHERE = rf"(?:(?:\d+|\$|/{_PART}/)(?:,(?:\d+|\$|/{_PART}/))?)?"
_HARMLESS = re.compile(rf"(?:{_WHERE}(?:[dpq=D]|s/{_PART}/{_PART}/[gpiI0-9]*)(?:;|\Z))+")
"""Printing, deleting and plain substituting: what neither runs, reads nor writes. Two such parts share no first byte."""

_SED_FLAGS = frozenset("nErsuzb")
_SED_SCRIPT_CHARACTERS_MAX = 2000


def _looks_like_option(argument: str) -> bool:
    return len(argument) > 1 and argument[0] == "-"


def _interpreter(argv: Sequence[str]) -> set[str]:
    return {"runs_file"} if argv else set()


def _code(argv: Sequence[str]) -> set[str]:
    return {"inline_code"} if argv else set()


def _wrapper(argv: Sequence[str]) -> set[str]:
    return {"runs_program"}


def _applet(argv: Sequence[str]) -> set[str]:
    """`busybox NAME ...` is NAME; which one, an option may say too."""
    return {"runs_program"} if argv and argv[0] not in PLAIN else set()


def outside(argv: Sequence[str]) -> set[str]:
    """Whether an argument, an option's value included, leads out of the working folder."""
    for argument in argv:
        value = argument.partition("=")[2]
        joined = argument[2:] if argument.startswith("-") else ""
        for text in (argument, value, joined):
            if text.startswith(("/", "~")) or (".." in text and ".." in text.split("/")):
                return {"outside_path"}
    return set()


def _writes_operands(argv: Sequence[str]) -> set[str]:
    operands = [each for each in argv if not _looks_like_option(each)]
    return outside(argv) | ({"writes_option"} if operands else set())


def _second_operand(argv: Sequence[str]) -> set[str]:
    operands = [each for each in argv if not _looks_like_option(each)]
    return outside(operands[1:]) | ({"writes_option"} if len(operands) > 1 else set())


def _names_host(argv: Sequence[str]) -> set[str]:
    return {"acts_elsewhere"} if any(not _looks_like_option(each) for each in argv) else set()


def _remote(argv: Sequence[str]) -> set[str]:
    """Host and path in one operand: another program makes the connection."""
    texts = [each.partition("=")[2] if each.startswith("--") else each for each in argv]
    remote = any(":" in each.split("/")[0] for each in texts)
    return outside(argv) | ({"opens_network", "runs_program"} if remote else set())


def _openssl(argv: Sequence[str]) -> set[str]:
    connecting = {"s_client", "s_server", "s_time", "ocsp", "cmp"}.intersection(argv[:1])
    return outside(argv) | ({"opens_network"} if connecting else set())


def _sed(argv: Sequence[str]) -> set[str]:
    """GNU sed runs commands (`e`) and writes files (`w`) from scripts; `--sandbox` keeps it from both."""
    found, scripts, operands = _sed_options(list(argv))
    if not scripts:
        scripts = operands[:1]
    within = "--sandbox" in argv and ("--" not in argv or argv.index("--") > argv.index("--sandbox"))
    if not within and not all(map(_harmless_sed, scripts)):
        found.add("inline_code")
    return found


def _harmless_sed(script: str) -> bool:
    return len(script) <= _SED_SCRIPT_CHARACTERS_MAX and _HARMLESS.fullmatch(script) is not None


def _sed_options(left: list[str]) -> tuple[set[str], list[str], list[str]]:
    """Codes of the options, the scripts that options give, and the operands."""
    found: set[str] = set()
    scripts: list[str] = []
    operands: list[str] = []
    left.reverse()
    while left:
        argument = left.pop()
        name, equals, value = argument[2:].partition("=")
        if argument == "--":
            operands += reversed(left)
            break
        if not _looks_like_option(argument):
            operands.append(argument)
        elif not argument.startswith("--"):
            _sed_cluster(argument[1:], left, found, scripts)
        elif "expression".startswith(name):
            scripts.append(value if equals else (left.pop() if left else ""))
        elif "file".startswith(name):
            found.add("runs_file")
            scripts.append("")
        elif "in-place".startswith(name):
            found.add("writes_option")
        elif "line-length".startswith(name) and not equals and left:
            left.pop()
    return found, scripts, operands


def _sed_cluster(letters: str, left: list[str], found: set[str], scripts: list[str]) -> None:
    for at, letter in enumerate(letters):
        rest = letters[at + 1 :]
        if letter in _SED_FLAGS:
            continue
        if letter == "i":
            found.add("writes_option")
        elif letter in "efl":
            value = rest or (left.pop() if left else "")
            if letter == "f":
                found.add("runs_file")
            if letter != "l":
                scripts.append(value if letter == "e" else "")
        else:
            found.add("inline_code")
        return


_GIT_VALUED = frozenset(("-C", "-c", "--git-dir", "--work-tree", "--namespace", "--config-env", "--attr-source"))
_GIT_KNOWN_NAMES = (
    "add am annotate apply archive bisect blame branch bundle cat-file check-attr check-ignore check-ref-format checkout "
    "checkout-index cherry cherry-pick clean clone commit commit-tree count-objects describe diff diff-files diff-index "
    "diff-tree fetch fetch-pack for-each-ref format-patch fsck gc grep hash-object init log ls-files ls-remote ls-tree "
    "merge merge-base merge-tree mktag mktree mv name-rev notes pack-refs patch-id prune pull push range-diff read-tree "
    "rebase reflog remote repack replace reset restore rev-list rev-parse revert rm send-pack shortlog show show-branch "
    "show-index show-ref sparse-checkout stash status stripspace submodule switch symbolic-ref tag unpack-file "
    "unpack-objects update-index update-ref verify-commit verify-pack verify-tag version whatchanged worktree write-tree"
)
_GIT_KNOWN = frozenset(_GIT_KNOWN_NAMES.split())
_GIT_NETWORK = frozenset(
    ("clone", "fetch", "fetch-pack", "ls-remote", "pull", "push", "remote", "send-pack", "submodule", "archive")
)
_GIT_WORDS: Mapping[str, frozenset[str]] = {"bisect": frozenset(("run",)), "submodule": frozenset(("foreach",))}
_GIT_RUNNING = {
    "clone": "uc", "difftool": "x", "grep": "O", "ls-remote": "u", "rebase": "xie", "commit": "ce", "revert": "e", "tag": "e",
}  # fmt: skip
_GIT_WRITING = {"format-patch": "o", "archive": "o"}
"""Letters of options, by subcommand; anywhere in a cluster."""


def _git(argv: Sequence[str]) -> set[str]:
    """Options before the subcommand mean something else than behind it; an unknown subcommand may be an alias."""
    found: set[str] = set()
    at = 0
    while at < len(argv) and argv[at].startswith("-"):
        option = argv[at].partition("=")[0]
        if (
            option.startswith(("-c", "-p"))
            or "--config-env".startswith(option)
            or option in ("--exec-path", "--paginate")
        ):
            found.add("runs_program")
        if option.startswith("-C") or option in ("--git-dir", "--work-tree"):
            found.add("outside_path")
        at += 2 if argv[at] in _GIT_VALUED else 1
    if at >= len(argv):
        return found
    command, rest = argv[at], argv[at + 1 :]
    if command not in _GIT_KNOWN or _GIT_WORDS.get(command, frozenset()) & set(rest):
        found.add("runs_program")
    if command in _GIT_NETWORK:
        found.add("opens_network")
    letters = {letter for each in rest if each[:1] == "-" != each[1:2] for letter in each[1:]}
    if letters.intersection(_GIT_RUNNING.get(command, "")):
        found.add("runs_program")
    if letters.intersection(_GIT_WRITING.get(command, "")):
        found.add("writes_option")
    return found | outside(argv)


READERS: Mapping[str, Callable[[Sequence[str]], set[str]]] = {
    "applet": _applet,
    "code": _code,
    "git": _git,
    "interpreter": _interpreter,
    "names_host": _names_host,
    "openssl": _openssl,
    "outside": outside,
    "remote": _remote,
    "second_operand": _second_operand,
    "sed": _sed,
    "wrapper": _wrapper,
    "writes_operands": _writes_operands,
}
