"""What options alone do not tell about a command line: scripts, subcommands, operands. Pure.

Each reader takes the arguments after the program's name and returns codes of ``shell_hazards.CODES``. What a reader does
not understand has the code of the worst that it could be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from femtoclaw.hazard_tables import PLAIN
from femtoclaw.sed_commands import sed

_PLACES = re.compile("[=@<,]")
_CLUSTERED_PLACE = re.compile(r"-[A-Za-z]+(?:/|~|\.\.(?:/|\Z))")
_OPENSSL_WRITING = re.compile(r"--?(?!no)(?:\w+_)?\w*out(?:_\w+)?(?:=|\Z)")
_CLOCK = re.compile(r"\d{8,12}(?:\.\d\d)?")

_COMPILER_HARMLESS = re.compile(
    "-(?:[cSEvw]|g[0-3]?|ggdb[0-3]?|O[0-3sgz]?|Ofast|std=.*|ansi|pedantic(?:-errors)?|[IDULl].*|o.*|M[A-Z]*.*|x[a-z+-]*|"
    "shared|static|s|pthread|pipe|pie|no-pie|rdynamic|nostdlib|nostdinc|m(?:32|64|(?:arch|tune|cpu)=[a-z0-9_+.-]+)|"
    "(?:isystem|iquote|idirafter|include|imacros).*|W(?![lap],)[a-z0-9+=-]*|dumpversion|dumpmachine|print-[a-z-]+|"
    "f(?:pic|PIC|pie|PIE|openmp|wrapv|exceptions|rtti|common|permissive|strict-aliasing|omit-frame-pointer|syntax-only|"
    "function-sections|data-sections|signed-char|unsigned-char|short-enums|stack-protector(?:-[a-z]+)?|"
    "sanitize=[a-z,-]+|visibility=[a-z]+|diagnostics-color(?:=[a-z]+)?|max-errors=\\d+|no-(?!integrated)[a-z0-9-]+)|"
    "-(?:version|help))?"
)
"""What makes a compiler load and run nothing; `-` alone is the standard input. Every other option may: wrappers, plugins,
passes, linker options and module mappers have too many names, and each version has new ones."""


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
        for text in (argument, value, joined, *_PLACES.split(argument)[1:]):
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
    clustered = any(_CLUSTERED_PLACE.match(each) for each in argv if each[:1] == "-")
    found = outside(argv) | ({"outside_path"} if clustered else set())
    return found | ({"opens_network", "runs_program"} if remote else set())


def _openssl(argv: Sequence[str]) -> set[str]:
    found = outside(argv)
    if {"s_client", "s_server", "s_time", "ocsp", "cmp"}.intersection(argv[:1]):
        found.add("opens_network")
    if {"engine", "fipsinstall"}.intersection(argv[:1]):
        found.add("loads_code")
    if {"ca", "rehash", "fipsinstall"}.intersection(argv[:1]):
        found.add("writes_option")
    return found | ({"writes_option"} if any(map(_OPENSSL_WRITING.match, argv)) else set())


def _compiler(argv: Sequence[str]) -> set[str]:
    others = [each for each in argv if each[:1] == "-" and _COMPILER_HARMLESS.fullmatch(each) is None]
    return outside(argv) | ({"loads_code"} if others else set())


def _clock(argv: Sequence[str]) -> set[str]:
    """`date` with a time as its operand sets the machine's clock."""
    return {"acts_elsewhere"} if any(map(_CLOCK.fullmatch, argv)) else set()


def _renaming(argv: Sequence[str]) -> set[str]:
    """On some systems `rename` takes Perl, on others two texts."""
    return _code(argv) | outside(argv)


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
    "clock": _clock,
    "code": _code,
    "compiler": _compiler,
    "git": _git,
    "interpreter": _interpreter,
    "names_host": _names_host,
    "openssl": _openssl,
    "outside": outside,
    "remote": _remote,
    "renaming": _renaming,
    "second_operand": _second_operand,
    "sed": sed,
    "wrapper": _wrapper,
    "writes_operands": _writes_operands,
}
