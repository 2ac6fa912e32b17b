"""Where the passphrase of a key comes from: a file, the environment, a terminal, in this order; and private files.

A passphrase is read when a key needs it and kept nowhere. Of a file, one line break at its end does not count.
"""

from __future__ import annotations

import os
import stat
import sys

from femtoclaw.errors import ConfigurationError
from femtoclaw.home import OTHERS_WRITE

PASSPHRASE_CHARS_MIN = 8
"""A new passphrase has at least this many characters; an old one is taken as it is."""

PASSPHRASE_BYTES_MAX = 1024
NODE = "FEMTOCLAW_PASSPHRASE"
OPERATOR = "FEMTOCLAW_OPERATOR_PASSPHRASE"
NEW = "FEMTOCLAW_NEW_PASSPHRASE"
"""Variables that hold a passphrase; with ``_FILE`` behind it, one that names a file with it, which is asked first."""

_OTHERS = 0o077


class KeyLockedError(ConfigurationError):
    """An encrypted key for which there is no passphrase, or not the right one."""

    code = "KEY_LOCKED"
    default_remedy = f"name a file with the passphrase in {NODE}_FILE (mode 0600), set {NODE}, or run it on a terminal"


def node_passphrase(where: str) -> str:
    """The passphrase of the node's key at ``where``. Raises KeyLockedError when there is none, ConfigurationError for
    a file that others may read, or that cannot be read."""
    return _find((NODE,), where)


def given_passphrase(where: str) -> str:
    """The passphrase of the node's key where a variable gives it. Never asks; raises KeyLockedError without one."""
    found = _given((NODE,))
    if found is None:
        raise KeyLockedError("the key is encrypted and no passphrase was given", where=where)
    return found


def operator_passphrase(where: str) -> str:
    """The same for an operator's key, which may have a passphrase of its own."""
    return _find((OPERATOR, NODE), where)


def new_passphrase(where: str, *, sealed: bool) -> str:
    """The passphrase to be: from the variables for a new one, for a key that has none (``sealed`` false) also from the
    node's, at last from a terminal, twice. Raises as ``node_passphrase``, and for one that ``check_new`` refuses."""
    given = _given((NEW,) if sealed else (NEW, NODE))
    found = given if given is not None else _prompt(f"new passphrase for {where}: ", where)
    if given is None and _prompt("the same once more: ", where) != found:
        raise KeyLockedError("the two passphrases are not the same", where=where, remedy="run it again")
    check_new(found, where)
    return found


def chosen_passphrase(where: str) -> str | None:
    """What ``init`` is given to encrypt with: from the node's variables, None when nothing is set. Never asks.

    Raises as ``new_passphrase``.
    """
    found = _given((NODE,))
    if found is not None:
        check_new(found, where)
    return found


def check_new(passphrase: str, where: str) -> None:
    """Raise ConfigurationError for a passphrase that is too short to encrypt with, or too long."""
    size = len(passphrase.encode("utf-8", "surrogateescape"))
    if len(passphrase) < PASSPHRASE_CHARS_MIN or size > PASSPHRASE_BYTES_MAX:
        raise ConfigurationError(
            "this passphrase cannot be used", where=where, found=f"{len(passphrase)} characters",
            expected=f"{PASSPHRASE_CHARS_MIN} characters to {PASSPHRASE_BYTES_MAX} bytes",
            remedy="choose a longer one: whoever gets the file may try without end",
        )  # fmt: skip


def _find(variables: tuple[str, ...], where: str) -> str:
    found = _given(variables)
    return found if found is not None else _prompt(f"passphrase for {where}: ", where)


def _given(variables: tuple[str, ...]) -> str | None:
    """What the first variable that is set gives. An empty one counts as not set, as in a unit file that clears it."""
    for name in variables:
        if path := os.environ.get(f"{name}_FILE"):
            raw = read_private(path, PASSPHRASE_BYTES_MAX + 2)
            text = raw.decode("utf-8", "surrogateescape")
            return text[:-1].removesuffix("\r") if text.endswith("\n") else text
        if given := os.environ.get(name):
            return given
    return None


def _prompt(text: str, where: str) -> str:
    if sys.stdin is None or not sys.stdin.isatty():
        raise KeyLockedError(
            "the key is encrypted and there is no passphrase",
            where=where,
            expected=f"{NODE}_FILE, {NODE} or a terminal",
        )
    from getpass import getpass

    try:
        return getpass(text)
    except EOFError:
        raise KeyLockedError("no passphrase was given", where=where) from None


def read_private(path: str, limit: int) -> bytes:
    """A file that only its owner can read, judged by the opened file. Raises ConfigurationError when it is missing, no
    regular file, over ``limit`` bytes, or open to others."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            _check_private(status, path)
            raw = file.read(limit + 1)
    except OSError as error:
        raise ConfigurationError("file cannot be read", where=path, found=error.strerror) from error
    if len(raw) > limit:
        raise ConfigurationError("file is too large", where=path, expected=f"<= {limit} bytes")
    return raw


def _check_private(status: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigurationError(
            "file cannot be read", where=path, expected="a regular file", found=stat.filemode(status.st_mode)
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & _OTHERS:
        remedy = f"run `chmod {mode & ~_OTHERS:o} {path}`"
        raise ConfigurationError(
            "permissions are too wide", where=path, expected=f"mode {mode & ~_OTHERS:04o}", found=f"{mode:04o}",
            remedy=f"{remedy} after checking who changed it" if mode & OTHERS_WRITE else remedy,
        )  # fmt: skip
