"""Comparing every file of the distribution with its manifest, before anything of it is loaded.

Small files are read in the calling thread. Large ones (native libraries) are hashed by threads of their own, outside of
the interpreter's lock, while the start goes on; ``Sweep.settle`` waits for them and must have returned before the node
opens its log.
"""

from __future__ import annotations

import _thread
import os

from femtoclaw.launcher.refusal import Refused
from femtoclaw.launcher.sealed import Entry, Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

SMALL_BYTES_MAX = 512 * 1024
PIECE_BYTES = 1024 * 1024
IGNORED = (".pyc", ".pyi", ".pyx", ".pxd", ".h", ".c", ".typed")
"""Files of these kinds are never read by what is sealed: loading takes only what the manifest lists."""

INFORMATION = ".dist-info"
"""Folders of which only what is read is sealed."""


class Sweep:
    """The comparison of one manifest with the disk."""

    def __init__(self, root: str, manifest: Manifest) -> None:
        self._root = root
        self._manifest = manifest
        self._dependencies = os.path.join(root, manifest.dependencies)
        self._hasher: Callable[[Any], Any] = manifest.hasher()
        self._refused: Refused | None = None
        self._locks: list[Any] = []

    def begin(self) -> None:
        """Check names and small files now, and begin with the large ones. Raises Refused for the first difference."""
        large = [(path, entry) for path, entry in self._manifest.files.items() if entry.size > SMALL_BYTES_MAX]
        self._start(sorted(large, key=lambda item: -item[1].size))
        try:
            self._find_unlisted()
            for path, entry in self._manifest.files.items():
                if entry.size <= SMALL_BYTES_MAX:
                    self.check(path, entry)
        except Refused:
            self._large.clear()
            raise

    def _start(self, large: list[tuple[str, Entry]]) -> None:
        self._large: list[tuple[str, Entry]] = large
        for _ in range(min(len(large), max(1, min(4, (os.cpu_count() or 1) - 1)))):
            lock = _thread.allocate_lock()
            lock.acquire()
            self._locks.append(lock)
            _thread.start_new_thread(self._work, (lock,))

    def _work(self, lock: Any) -> None:
        try:
            while self._refused is None:
                try:
                    path, entry = self._large.pop(0)
                except IndexError:
                    return
                self.check(path, entry)
        except Refused as refused:
            self._refused = refused
        except BaseException as error:  # whatever it was: what has not been checked is not in order
            self._refused = Refused(
                "HASH_MISMATCH", "a file could not be checked", "", "its hash", type(error).__name__
            )
        finally:
            lock.release()

    def settle(self) -> None:
        """Wait for the large files. Raises Refused when one of them differs."""
        for lock in self._locks:
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
            raise missing(where, entry, error) from None
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


def mismatch(where: str, expected: str, found: str) -> Refused:
    """What to raise for a file with other bytes."""
    return Refused("HASH_MISMATCH", "a file of the distribution was changed", where, expected, found)


def missing(where: str, entry: Entry, error: OSError) -> Refused:
    """What to raise for a file that cannot be read."""
    return Refused(
        "FILE_MISSING", "a file of the distribution cannot be read", where, entry.digest, str(error.strerror)
    )
