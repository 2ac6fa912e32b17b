"""What a release says of itself: the text that its maker signs. Pure.

    femtoclaw release v1
    program 0.2.0
    counter 12
    floor 10
    python cpython 3.11.7 cpython-311 x86_64
    log 1 1
    home 1 2
    events 1:1 2:1 21:2
    abi FC-ABI-1.0.0
    configuration 77…
    claw fs.read 5c…
    distribution 93…
    file 1234 0a… site-packages/femtoclaw/gate.py

``counter`` grows from release to release; ``floor`` is the least counter that is safe to go back to, by the word of who
signs this one. ``log`` and ``home`` are the oldest and the newest format that the program reads; it writes the newest.
``events`` are the types with the newest version that it knows. ``configuration`` is of every key that there is with its
default; ``distribution`` is the SHA-256 of the sealed manifest. ``file`` is size in bytes, SHA-256, path; the files are all
that the release holds beside this text.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

TITLE = "femtoclaw release v1"
STATEMENT_FILE = "release.note"
PACKAGES_FOLDER = "site-packages"
STATEMENT_BYTES_MAX = 8 * 1024 * 1024
FILES_MAX = 20_000
FILE_BYTES_MAX = 256 * 1024 * 1024

_VERSION = re.compile(r"(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})")
_DIGEST = re.compile("[0-9a-f]{64}")
_PATH = re.compile(r"[A-Za-z0-9_.+@=,~ -]+(/[A-Za-z0-9_.+@=,~ -]+)*")


class File(NamedTuple):
    """One file of a release: size in bytes, SHA-256 in hex."""

    size: int
    digest: str


class Release(NamedTuple):
    """What is signed. ``log`` and ``home`` are the oldest and newest format that it reads; ``events`` maps each type's code to
    the newest version that it knows; ``claws`` each shipped claw to the digest of its manifest."""

    program: str
    counter: int
    floor: int
    python: str
    log: tuple[int, int]
    home: tuple[int, int]
    events: Mapping[int, int]
    abi: str
    claws: Mapping[str, str]
    configuration: str
    distribution: str
    files: Mapping[str, File]

    def text(self) -> str:
        """The text, in its one spelling."""
        return "\n".join([*self._lines(), ""])

    def _lines(self) -> Iterator[str]:
        yield TITLE
        yield f"program {self.program}"
        yield f"counter {self.counter}"
        yield f"floor {self.floor}"
        yield f"python {self.python}"
        yield f"log {self.log[0]} {self.log[1]}"
        yield f"home {self.home[0]} {self.home[1]}"
        yield "events " + " ".join(f"{code}:{version}" for code, version in sorted(self.events.items()))
        yield f"abi {self.abi}"
        yield f"configuration {self.configuration}"
        for name, digest in sorted(self.claws.items()):
            yield f"claw {name} {digest}"
        yield f"distribution {self.distribution}"
        for path, file in sorted(self.files.items()):
            yield f"file {file.size} {file.digest} {path}"


def parse(text: str) -> Release:
    """The release of a signed text. Raises ValueError, with what is wrong, for any other spelling than ``Release.text``."""
    lines = text.split("\n")
    if lines[0] != TITLE:
        raise ValueError("another title")
    said: dict[str, str] = {}
    claws: dict[str, str] = {}
    files: dict[str, File] = {}
    for line in lines[1:-1]:
        kind, _, rest = line.partition(" ")
        if kind == "claw":
            name, _, digest = rest.partition(" ")
            claws[name] = _matching(_DIGEST, digest, "a claw's digest")
        elif kind == "file":
            size, digest, path = rest.split(" ", 2)
            files[_path(path)] = File(_number(size, FILE_BYTES_MAX), _matching(_DIGEST, digest, "a file's digest"))
        else:
            said[kind] = rest
    made = _made(said, claws, files)
    if made.text() != text:
        raise ValueError("another spelling than the one that there is")
    if made.floor > made.counter:
        raise ValueError("its floor is above its own counter")
    return made


def _made(said: Mapping[str, str], claws: Mapping[str, str], files: Mapping[str, File]) -> Release:
    try:
        return Release(
            _matching(_VERSION, said["program"], "the version"), _number(said["counter"]), _number(said["floor"]),
            said["python"], _span(said["log"]), _span(said["home"]), _events(said["events"]), said["abi"], claws,
            _matching(_DIGEST, said["configuration"], "the digest of the configuration"),
            _matching(_DIGEST, said["distribution"], "the digest of the distribution"), files,
        )  # fmt: skip
    except KeyError as error:
        raise ValueError(f"no line {error.args[0]!r}") from None


def _matching(pattern: re.Pattern[str], word: str, what: str) -> str:
    if not pattern.fullmatch(word):
        raise ValueError(f"{what} is none")
    return word


def _number(word: str, limit: int = 1 << 62) -> int:
    if not word.isascii() or not word.isdigit() or len(word) > 20 or int(word) > limit:
        raise ValueError("a number is none, or too large")
    return int(word)


def _span(words: str) -> tuple[int, int]:
    oldest, _, newest = words.partition(" ")
    span = (_number(oldest), _number(newest))
    if span[0] > span[1]:
        raise ValueError("the oldest format is above the newest")
    return span


def _events(words: str) -> dict[int, int]:
    pairs = (word.partition(":") for word in words.split(" ") if word)
    return {_number(code): _number(version) for code, _, version in pairs}


def _path(path: str) -> str:
    """A path that stays in its folder. Raises ValueError."""
    parts = path.split("/")
    if not _PATH.fullmatch(path) or any(part in (".", "..") for part in parts) or path == STATEMENT_FILE:
        raise ValueError("a path that leads elsewhere")
    return path
