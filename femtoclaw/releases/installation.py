"""An installation: releases side by side in one folder, and a link that names the one in use.

    ROOT/femtoclaw                              starts what ``current`` names
    ROOT/current -> releases/0.2.0-53cf9f138000
    ROOT/releases/0.2.0-53cf9f138000/           release.note, site-packages/, requirements.lock, LICENSE

A release is unpacked under a name of its own, made durable, compared again from the disk, and only then gets its name. Switching
is the exchange of one link. A power cut at any moment leaves ``current`` on a whole release, the old one or the new one.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import stat
import sys
import time
from collections.abc import Callable, Sequence
from hashlib import sha256

from femtoclaw.errors import ConfigurationError, UnavailableError
from femtoclaw.launcher import sealed
from femtoclaw.launcher.repair import ALTERED
from femtoclaw.releases.bundle import OpenRelease, check_statement
from femtoclaw.releases.refusal import ReleaseRefusedError
from femtoclaw.releases.statement import FILE_BYTES_MAX, PACKAGES_FOLDER, STATEMENT_BYTES_MAX, STATEMENT_FILE, Release
from wal.durable_file import sync_folder, write_file

RELEASES, CURRENT, STARTER = "releases", "current", "femtoclaw"
UNPACKING, LINKING = ".new-", ".current-"
DIGEST_SHOWN = 12
ROOM_LEFT_BYTES = 64 * 1024 * 1024
"""What a deployment leaves free at least: a node without room stops (exit 4), and its log grows meanwhile."""

Step = Callable[[str], None]
"""Told before each step that changes something; what it raises stops there, as a power cut would."""

_START = """#!/bin/sh
# Runs the release that `current` names. Isolated: no variable of the interpreter, nothing but the release is searched.
here=$(dirname "$(readlink -f "$0")")
FEMTOCLAW_PROGRAM=$0
export FEMTOCLAW_PROGRAM
exec {python} -I -S -B -X pycache_prefix=/dev/null/none -c 'import sys; root = sys.argv.pop(1); sys.path.append(root); \
from femtoclaw.launcher.start import main; main(root)' "$(readlink -f "$here/{current}")/{packages}" "$@"
"""


def name_of(release: Release) -> str:
    """Under which name a release stands in an installation."""
    return f"{release.program}-{release.distribution[:DIGEST_SHOWN]}"


def running_in(place: str) -> str | None:
    """The installation that the program at ``place`` is part of; None when it is part of none."""
    release, packages = os.path.split(os.path.realpath(place))
    releases = os.path.dirname(release)
    found = packages == PACKAGES_FOLDER and os.path.basename(releases) == RELEASES
    return os.path.dirname(releases) if found else None


class Installation:
    """One folder with releases. The methods raise UnavailableError where the disk fails."""

    def __init__(self, root: str, step: Step | None = None) -> None:
        self.root = os.path.abspath(root)
        self._step = step if step is not None else lambda name: None

    @property
    def starter(self) -> str:
        """The command that starts the release in use."""
        return os.path.join(self.root, STARTER)

    def folder(self, name: str) -> str:
        """Where a release is."""
        return os.path.join(self.root, RELEASES, name)

    def packages(self, name: str) -> str:
        """What of it the launcher is given."""
        return os.path.join(self.folder(name), PACKAGES_FOLDER)

    def names(self) -> list[str]:
        """The releases that are unpacked whole, in order of their names."""
        try:
            found = os.listdir(os.path.join(self.root, RELEASES))
        except OSError:
            return []
        return sorted(name for name in found if not name.startswith("."))

    def current(self) -> str | None:
        """The release in use; None before the first."""
        try:
            target = os.readlink(os.path.join(self.root, CURRENT))
        except OSError:
            return None
        folder, _, name = target.partition("/")
        return name if folder == RELEASES and name in self.names() else None

    def check_room(self, release: Release, more: int) -> None:
        """Raise UnavailableError unless the release, ``more`` bytes and ``ROOM_LEFT_BYTES`` have room where releases are."""
        place = self.root
        while not os.path.isdir(place):
            place = os.path.dirname(place)
        there = 0 if name_of(release) in self.names() else sum(file.size for file in release.files.values())
        wanted, found = there + more + ROOM_LEFT_BYTES, os.statvfs(place)
        if found.f_bavail * found.f_frsize < wanted:
            raise UnavailableError(
                "there is no room for the release", where=self.root, expected=f"{wanted} bytes free",
                found=f"{found.f_bavail * found.f_frsize}", remedy="make room (`femtoclaw release prune`); nothing has changed",
            )  # fmt: skip

    def unpack(self, opened: OpenRelease, release: Release, note: bytes) -> str:
        """Put a checked release beside the others and return its name. Nothing is done when it is there whole. One that is there
        altered, and not in use, is moved to where somebody can look at it, and unpacked anew.

        Raises ReleaseRefusedError for a file that is not the signed one, UnavailableError.
        """
        name = name_of(release)
        if name in self.names():
            try:
                self.check_files(name, release, note)
                return name
            except ReleaseRefusedError:
                if name == self.current():
                    raise  # it runs: only the launcher, which is none of it, puts its files back (``release repair``)
        making = os.path.join(self.root, RELEASES, f"{UNPACKING}{name}")
        try:
            self._make_root()
            self._step("unpack")
            remove(making)
            os.mkdir(making, 0o755)
            for path, raw in opened.files(release):
                self._step(f"write {path}")
                _write(os.path.join(making, path), raw)
            _write(os.path.join(making, STATEMENT_FILE), note)
            self._settle(making)
            self.check_files(os.path.basename(making), release, note)
            self._step("name")
            if name in self.names():
                aside = os.path.join(self.root, ALTERED, f"{name}-{time.time_ns()}")
                os.makedirs(os.path.dirname(aside), 0o755, exist_ok=True)
                os.rename(self.folder(name), aside)
            os.rename(making, self.folder(name))
            sync_folder(os.path.dirname(making))
        except ReleaseRefusedError:
            _clean(making)
            raise
        except OSError as error:
            _clean(making)
            raise _failed(making, error) from error
        return name

    def _make_root(self) -> None:
        for folder in (self.root, os.path.join(self.root, RELEASES)):
            os.makedirs(folder, 0o755, exist_ok=True)
            status = os.stat(folder)
            if status.st_mode & 0o022:
                raise ConfigurationError(
                    "others may write where programs are installed", where=folder, expected="mode 0755",
                    found=f"{stat.S_IMODE(status.st_mode):04o}", remedy=f"run `chmod 755 {folder}` after a look at who changed it",
                )  # fmt: skip

    def _settle(self, folder: str) -> None:
        """Take the right to write from all of it, and make names durable: the files are."""
        self._step("settle")
        for place, _, files in os.walk(folder, topdown=False):
            for file in files:
                os.chmod(os.path.join(place, file), 0o444)
            if place != folder:
                os.chmod(place, 0o555)
            sync_folder(place)

    def check(self, name: str, keys: Sequence[str], revoked: Sequence[str] = ()) -> tuple[Release, str]:
        """An installed release as it is on the disk: signature, every file, nothing besides; with the key that vouches for
        it. Raises ReleaseRefusedError."""
        where = os.path.join(self.folder(name), STATEMENT_FILE)
        try:
            note = sealed.read(where, STATEMENT_BYTES_MAX)
        except OSError as error:
            raise ReleaseRefusedError(
                "FILE_MISSING", where=where, expected="a statement", found=error.strerror
            ) from None
        release, anchor = check_statement(note, keys, where, revoked)
        self.check_files(name, release, note)
        return release, anchor

    def check_files(self, name: str, release: Release, note: bytes) -> None:
        """Raises ReleaseRefusedError for the first file that is altered, missing or one too many."""
        top = self.folder(name)
        there = set(_files(top))
        for path in sorted(there - {*release.files, STATEMENT_FILE}):
            raise ReleaseRefusedError(
                "UNLISTED_FILE", where=os.path.join(top, path), expected="no such file", found="a file"
            )
        for path, file in [(STATEMENT_FILE, None), *sorted(release.files.items())]:
            where = os.path.join(top, path)
            try:
                raw = sealed.read(where, FILE_BYTES_MAX)
            except OSError as error:
                raise ReleaseRefusedError(
                    "FILE_MISSING", where=where, expected="a file", found=error.strerror
                ) from None
            expected = sha256(note).hexdigest() if file is None else file.digest
            if sha256(raw).hexdigest() != expected:
                found = sha256(raw).hexdigest()
                raise ReleaseRefusedError("HASH_MISMATCH", where=where, expected=expected, found=found)

    def switch(self, name: str | None) -> None:
        """Let ``current`` name another release, in one step; None: no release any more. Raises UnavailableError."""
        link = os.path.join(self.root, CURRENT)
        making = os.path.join(self.root, f"{LINKING}{os.getpid()}")
        try:
            self._step("switch")
            if name is None:
                if os.path.lexists(link):
                    os.unlink(link)
            else:
                self._write_starter()
                if os.path.lexists(making):
                    os.unlink(making)
                os.symlink(f"{RELEASES}/{name}", making)
                self._step("exchange")
                os.rename(making, link)
            sync_folder(self.root)
            self._step("switched")
        except OSError as error:
            raise _failed(link, error) from error

    def _write_starter(self) -> None:
        python = shlex.quote(os.path.realpath(sys.executable))
        text = _START.format(python=python, current=CURRENT, packages=PACKAGES_FOLDER).encode()
        if _content(self.starter) != text:
            write_file(self.starter, text)
        os.chmod(self.starter, 0o755)


def _files(top: str) -> list[str]:
    """Paths of everything below ``top`` that is no folder; interpreters' own caches are removed first."""
    found = []
    for place, folders, files in os.walk(top):
        if "__pycache__" in folders:
            folders.remove("__pycache__")
            remove(os.path.join(place, "__pycache__"))
        found += [os.path.relpath(os.path.join(place, file), top) for file in files]
        found += [
            os.path.relpath(os.path.join(place, each), top)
            for each in folders
            if os.path.islink(os.path.join(place, each))
        ]
    return found


def _write(path: str, raw: bytes) -> None:
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(fd, "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def _content(path: str) -> bytes | None:
    try:
        return sealed.read(path, 1 << 16)
    except OSError:
        return None


def remove(folder: str) -> None:
    """Remove a folder, whatever its modes; nothing is done where there is none. Raises OSError."""
    if not os.path.lexists(folder):
        return
    for place, _, _ in os.walk(folder):
        os.chmod(place, 0o755)
    shutil.rmtree(folder)


def _clean(making: str) -> None:
    """On a disk that is full, what is left of an attempt would stop the node."""
    with contextlib.suppress(OSError):
        remove(making)


def _failed(where: str, error: OSError) -> UnavailableError:
    return UnavailableError(
        "the installation cannot be written", where=where, found=error.strerror,
        remedy="make room or permit it; what is in use has not changed",
    )  # fmt: skip
