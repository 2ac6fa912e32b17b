"""Comparing every file of the distribution with its manifest, before anything of it is loaded.

Small files are read in the calling thread. Large ones (native libraries) are hashed by threads of their own, outside of
the interpreter's lock, while the start goes on; ``Sweep.settle`` waits for them and must have returned before the node
opens its log.
"""

from __future__ import annotations

import _thread
import os

from femtoclaw.launcher.held import Held, hold
from femtoclaw.launcher.refusal import Refused, mismatch, missing
from femtoclaw.launcher.sealed import Entry, Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

SMALL_BYTES_MAX = 512 * 1024
PIECE_BYTES = 1024 * 1024
NATIVE = ".so"
HELD_BYTES_MAX = 4 * 1024 * 1024
"""Libraries up to this size, which most commands load, are put into sealed memory while the start goes on; larger ones
when they are loaded, which few commands do."""

IGNORED = (".pyc", ".pyi", ".pyx", ".pxd", ".h", ".c", ".typed")
"""Files of these kinds are never read by what is sealed: loading takes only what the manifest lists."""

INFORMATION = ".dist-info"
"""Folders of which only what is read is sealed."""


class Sweep:
    """The comparison of one manifest with the disk."""

    def __init__(self, root: str, manifest: Manifest, *, defer: bool = False) -> None:
        """``defer`` leaves libraries over ``HELD_BYTES_MAX`` to the moment they are loaded, which may never come."""
        self._defer = defer
        self._root = root
        self._manifest = manifest
        self._dependencies = os.path.normpath(os.path.join(root, manifest.dependencies))
        self._hasher: Callable[[Any], Any] = manifest.hasher()
        self._refused: Refused | None = None
        self._held: dict[str, Held] = {}
        self._done: dict[str, Any] = {}

    def begin(self) -> None:
        """Check names and small files now, and begin with the others. Raises Refused for the first difference."""
        files = self._manifest.files.items()
        later = [item for item in files if item[1].size > SMALL_BYTES_MAX or item[0].endswith(NATIVE)]
        deferred = {path for path, entry in later if self._defer and entry.size > HELD_BYTES_MAX}
        later = [item for item in later if item[0] not in deferred]
        self._start(sorted(later, key=lambda item: item[1].size))  # the small ones are needed first
        try:
            self._find_unlisted()
            for path, entry in files:
                if path not in self._done and path not in deferred:
                    self.check(path, entry)
        except Refused:
            self._later.clear()
            raise

    def _start(self, later: list[tuple[str, Entry]]) -> None:
        for path, _ in later:
            self._done[path] = _thread.allocate_lock()
            self._done[path].acquire()
        self._later: list[tuple[str, Entry]] = later
        for _ in range(min(len(later), max(1, min(4, (os.cpu_count() or 1) - 1)))):
            _thread.start_new_thread(self._work, ())

    def _work(self) -> None:
        while True:
            try:
                path, entry = self._later.pop(0)
            except IndexError:
                return
            try:
                if self._refused is None:
                    self._look(path, entry)
            except Refused as refused:
                self._refused = refused
            except BaseException as error:  # whatever it was: what has not been checked is not in order
                where, found = self.place(path), type(error).__name__
                self._refused = Refused("HASH_MISMATCH", "a file could not be checked", where, entry.digest, found)
            finally:
                self._done[path].release()

    def _look(self, path: str, entry: Entry) -> None:
        if path.endswith(NATIVE) and entry.size <= HELD_BYTES_MAX:
            self._held[path] = hold(self.place(path), entry, self._hasher)
        else:
            self.check(path, entry)

    def held(self, path: str) -> Held | None:
        """A library that was put into sealed memory here, when that is done; None when it is for the caller to do.

        Raises Refused when it, or another file, turned out to be changed.
        """
        if path in self._done:
            with self._done[path]:
                pass
        if self._refused is not None:
            raise self._refused
        return self._held.pop(path, None)

    def settle(self) -> None:
        """Wait for everything. Raises Refused when one of the files differs."""
        for lock in self._done.values():
            with lock:
                pass
        if self._refused is not None:
            raise self._refused

    def check(self, path: str, entry: Entry) -> None:
        """Compare one file of the manifest. Raises Refused."""
        where = self.place(path)
        try:
            size, digest = measure(where, self._hasher, entry.size)
        except OSError as error:
            raise missing(where, entry.digest, error) from None
        if digest != entry.digest or size != entry.size:
            raise mismatch(where, entry.digest, digest)

    def place(self, path: str) -> str:
        """Where a path of the manifest is on this machine."""
        return os.path.join(self._dependencies, path[2:]) if path.startswith("@/") else os.path.join(self._root, path)

    def _find_unlisted(self) -> None:
        """A file that nobody sealed could not be loaded; that it lies there is a finding all the same."""
        files = self._manifest.files
        for path, where in self.present():
            if path not in files:
                raise Refused(
                    "UNLISTED_FILE",
                    "a file lies in the distribution that was not sealed",
                    where,
                    "no such file",
                    "a file",
                )

    def present(self) -> Iterator[tuple[str, str]]:
        """Every file that lies in the distribution's packages: path in the manifest, place. Raises Refused."""
        for top in sorted({path[: path.find("/", 2)] for path in self._manifest.files if "/" in path[2:]}):
            if top.endswith(INFORMATION):
                continue
            try:
                yield from walk(self.place(top), top)
            except OSError as error:
                where = self.place(top)
                raise Refused(
                    "FILE_MISSING", "a folder cannot be read", where, "a folder", str(error.strerror)
                ) from None


def walk(folder: str, path: str) -> Iterator[tuple[str, str]]:
    """The files below a folder of the kinds that are sealed: path in the manifest, place. Raises OSError."""
    with os.scandir(folder) as found:
        for each in found:
            inside = f"{path}/{each.name}"
            if each.is_dir():
                if each.name != "__pycache__":
                    yield from walk(each.path, inside)
            elif not each.name.endswith(IGNORED):
                yield inside, each.path


def measure(path: str, hasher: Callable[[Any], Any], expected: int) -> tuple[int, str]:
    """Size and hash of a file that should have ``expected`` bytes. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        piece = os.read(fd, min(expected + 1, PIECE_BYTES))
        digest, size = hasher(piece), len(piece)
        while piece and (size > expected or size >= PIECE_BYTES):
            piece = os.read(fd, PIECE_BYTES)
            digest.update(piece)
            size += len(piece)
        return size, digest.hexdigest()
    finally:
        os.close(fd)
