"""Storage on disk: the only importer of lmdb.

Layout of a log's directory::

    LOCK            flock for the writer's life; holds its pid
    HEAD            two HEAD slots at 0 and 4096
    data/           one LMDB environment without named databases: one entry a group commit, key = index of its first
                    record as 8 bytes big-endian, value = its frames one after the other
    segments/ blobs/ snapshots/ checkpoints/ evidence/   plain files, each replaced atomically

LMDB runs with full sync and metasync, without writemap: the other modes lose acknowledged commits or turn a full disk
into SIGBUS (ADR 0003). lmdb.mdb_env's own lock is not relied on: after `rm lock.mdb` a second writer can commit over
the first, so this class holds its own flock and checks the inodes of LOCK, HEAD and both LMDB files at every append.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from types import TracebackType

import lmdb

from wal import head, record
from wal.disk_room import DiskRoom
from wal.durable_file import FILE_MODE, FOLDER_MODE, read_file, refused_write, sync_folder, write_file
from wal.errors import (
    CorruptFileError,
    CorruptRecordError,
    LogError,
    LogFailedError,
    LogFullError,
    LogMissingError,
    LogUnavailableError,
    StoreUnreadableError,
)
from wal.limits import DISK_RESERVE_BYTES, FINISH_RESERVE_BYTES, MAP_BYTES_DEFAULT, READ_CHUNK_RECORDS
from wal.writer_lock import lock_for_writing

_LMDB_DATA_FORMAT = 0
"""py-lmdb's name for the LMDB 0.9 file format: passed explicitly, so that an environment variable cannot change it."""

_KEY_BYTES = 8
PAGES_PER_COMMIT = 4
"""Pages that a commit takes beside its records, about: the path to the last leaf is written anew each time."""
_Identity = tuple[int, int]


class LmdbStorage:
    """A ``Storage`` in the directory ``path``; with ``writable`` it owns the writer's lock until ``close``."""

    def __init__(self, path: str, *, writable: bool, map_bytes: int = MAP_BYTES_DEFAULT) -> None:
        """Open an existing directory made by ``create_directory``.

        Raises LogMissingError, LogLockedError, LogUnavailableError (permissions, read-only file system) or
        CorruptFileError (LMDB refuses its own file, or the file is shorter than its meta page says).
        """
        self._path = path
        self._pid = os.getpid()
        self._lock_fd = -1
        self._head_fd = -1
        self._env: lmdb.Environment | None = None
        self._data = os.path.join(path, "data")
        self._unchecked = 0
        self._map_room = self._map_asked = self._finish = 0
        self._last = -1
        self._times = (0, 0)
        self._committed = False
        self._folders = {path}
        data = os.path.join(path, "data", "data.mdb")
        if not os.path.exists(data):
            raise LogMissingError("there is no log in this directory", where=path, expected=data, found="nothing")
        try:
            if writable:
                self._lock()
            self._disk = DiskRoom(self._lock_fd)
            self._env = _open_environment(os.path.join(path, "data"), writable=writable, map_bytes=map_bytes)
            self._check_length(data)
            self._times = (os.stat(self._data).st_mtime_ns, os.stat(path).st_mtime_ns)
            self._guarded = self._identities() if writable else {}
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        return self._path

    @property
    def writable(self) -> bool:
        """True when this object holds the writer's lock."""
        return self._lock_fd >= 0

    def _lock(self) -> None:
        self._lock_fd = lock_for_writing(self._path)
        try:
            # Whoever moved the log here may have been killed before its name was durable.
            sync_folder(os.path.dirname(os.path.abspath(self._path)))
        except OSError as error:
            raise LogUnavailableError("the log's folder cannot be synced", where=self._path, found=error) from error

    def _check_length(self, data: str) -> None:
        assert self._env is not None
        pages = self._env.info()["last_pgno"] + 1
        needed = pages * self._env.stat()["psize"]
        found = os.stat(data).st_size
        if found < needed:
            raise CorruptFileError(
                "LMDB file is shorter than its meta page says", where=data, expected=needed, found=found
            )

    def _identities(self) -> dict[str, _Identity]:
        """Device and inode of each file whose replacement would let a second writer in."""
        found: dict[str, _Identity] = {}
        for name in ("LOCK", "data/data.mdb", "data/lock.mdb", "HEAD"):
            path = os.path.join(self._path, name)
            try:
                status = os.stat(path)
            except FileNotFoundError:
                continue
            found[path] = (status.st_dev, status.st_ino)
        return found

    def _folders_changed(self) -> bool:
        """True when an entry of the data folder or of the log's folder came or went since it was last asked.

        Entries cannot be removed or replaced without changing their folder's time: two system calls a commit instead
        of four. Each of them hands the interpreter's lock to another thread, and the commit waits until it is back.
        """
        data, own = os.stat(self._data).st_mtime_ns, os.stat(self._path).st_mtime_ns
        if (data, own) == self._times:
            return False
        self._times = (data, own)
        return True

    def _guard_owner(self) -> None:
        """Refuse to write without the lock, or after a fork: the child shares the lock but is not its holder."""
        if self._env is None or self._lock_fd < 0:
            raise LogFailedError("this storage is not open for writing", where=self._path)
        if os.getpid() != self._pid:
            raise LogFailedError("this storage was opened by another process", where=self._path)

    def _guard(self) -> None:
        """Refuse to write when we are not the owner, or when a guarded file was removed or replaced under us."""
        self._guard_owner()
        if not self._folders_changed():
            return
        for path, identity in self._guarded.items():
            try:
                status = os.stat(path)
                found: _Identity | None = (status.st_dev, status.st_ino)
            except FileNotFoundError:
                found = None
            if found != identity:
                raise LogFailedError(
                    "a file of the log was removed or replaced while it was open", where=path,
                    expected=f"inode {identity[1]}", found=f"inode {found[1]}" if found else "nothing",
                )  # fmt: skip

    def _reserve(self, size: int) -> None:
        """Refuse when less than the reserve is free, whoever wrote it; look for dead readers at times."""
        self._disk.used(size)
        free = self._disk.free()
        if free < DISK_RESERVE_BYTES:
            raise LogFullError(
                "the disk's reserve is used up",
                where=self._path,
                expected=f">= {DISK_RESERVE_BYTES} bytes free",
                found=free,
            )
        self._unchecked -= size
        if self._unchecked <= 0:
            self._unchecked = DISK_RESERVE_BYTES // 4
            self.check_readers()

    def room(self) -> int:
        # Of the map only this process takes pages: asked of LMDB again after an eighth of the last answer was written.
        known_map = self._environment().info()["map_size"] if self._map_room <= self._map_asked * 7 // 8 else 0
        if known_map:
            used = (self._environment().info()["last_pgno"] + 1) * self._environment().stat()["psize"]
            self._map_room = self._map_asked = known_map - used
            self._finish = min(FINISH_RESERVE_BYTES, known_map // 4)
        return min(self._map_room, self._disk.free() - DISK_RESERVE_BYTES) - self._finish

    def _no_commit(self, error: lmdb.Error) -> LogError:
        """What a failed commit means. Pages come before the one that makes them count: where the disk is full and what
        is committed ends where it did, nothing was written. In all other cases nobody knows."""
        try:
            with _Reading(self._environment(), self._data) as txn:
                unchanged = isinstance(error, lmdb.DiskError) and _last_index(txn.cursor()) == self._last
            if unchanged and self._disk.asked() < DISK_RESERVE_BYTES:
                return LogFullError("the disk is full", where=self._path, expected="room for a commit", found=error)
        except (LogError, OSError):
            pass  # a store that cannot be read any more says nothing of what was committed
        return LogFailedError("a commit failed; its outcome is unknown", where=self._path, found=error)

    def append(self, frames: Sequence[tuple[int, bytes]]) -> None:
        self._guard()
        if not frames:
            return
        size = sum(len(raw) for _, raw in frames)
        self._map_room -= 2 * size + PAGES_PER_COMMIT * 4096
        self._reserve(size)
        assert self._env is not None
        first = frames[0][0]
        if [index for index, _ in frames] != list(range(first, first + len(frames))):
            raise CorruptRecordError("append is out of order", where=self._path, found=first)
        value = b"".join([raw for _, raw in frames])
        try:
            with self._env.begin(write=True) as txn:
                cursor = txn.cursor()
                if self._last < 0:
                    self._last = _last_index(cursor)
                expected = self._last + 1
                # One entry for the whole group: py-lmdb hands over the interpreter's lock at every put.
                if first != expected or not cursor.put(first.to_bytes(_KEY_BYTES, "big"), value, append=True):
                    raise CorruptRecordError("append is out of order", where=self._path, expected=expected, found=first)
        except lmdb.MapFullError as error:
            raise LogFullError("the LMDB map is full", where=self._path, found=error) from error
        except lmdb.Error as error:
            raise self._no_commit(error) from error
        self._last = frames[-1][0]
        self._committed = True

    def get(self, index: int) -> bytes | None:
        with _Reading(self._environment(), self._data) as txn:
            cursor = txn.cursor()
            if not _seek(cursor, index):
                return None
            first, value = int.from_bytes(cursor.key(), "big"), bytes(cursor.value())
        for at, raw in split_frames(first, value):
            if at == index:
                return raw
        return None

    def last_index(self) -> int:
        with _Reading(self._environment(), self._data) as txn:
            return _last_index(txn.cursor())

    def scan(self, first: int, stop: int) -> Iterator[tuple[int, bytes]]:
        while first < stop:
            chunk = self._chunk(first)
            if not chunk:
                return
            first = chunk[-1][0] + 1
            if first > stop:
                yield from chunk[: stop - first]
                return
            yield from chunk

    def _chunk(self, first: int) -> list[tuple[int, bytes]]:
        """Frames from ``first`` on: whole entries until a chunk's worth of records is collected."""
        frames: list[tuple[int, bytes]] = []
        with _Reading(self._environment(), self._data) as txn:
            cursor = txn.cursor()
            if not _seek(cursor, first) and not cursor.set_range(first.to_bytes(_KEY_BYTES, "big")):
                return []
            for key, value in cursor.iternext():
                entry = split_frames(int.from_bytes(key, "big"), bytes(value))
                frames.extend(
                    entry if entry and entry[0][0] >= first else [frame for frame in entry if frame[0] >= first]
                )
                if len(frames) >= READ_CHUNK_RECORDS:
                    break
        return frames

    def unfindable(self) -> Iterator[int]:
        """First indexes of entries that reading in order meets but searching does not: damage between the pages."""
        start: bytes | None = b"\0" * _KEY_BYTES
        while start is not None:
            with _Reading(self._environment(), self._data) as txn:
                walker = txn.cursor()
                found, start = walker.set_range(start), None
                for count, key in enumerate(walker.iternext(values=False) if found else ()):
                    if count == READ_CHUNK_RECORDS:
                        start = bytes(key)
                        break
                    if txn.get(key) is None:  # not by a cursor: one that is near does not go through the root
                        yield int.from_bytes(key, "big")

    def cut(self, after: int) -> int:
        self._guard()
        assert self._env is not None
        before, self._last = self.last_index(), -1
        try:
            with self._env.begin(write=True) as txn:
                cursor = txn.cursor()
                while cursor.last() and int.from_bytes(cursor.key(), "big") > after:
                    cursor.delete()
                if cursor.last() and _last_index(cursor) > after:
                    key, value = bytes(cursor.key()), bytes(cursor.value())
                    kept = [raw for at, raw in split_frames(int.from_bytes(key, "big"), value) if at <= after]
                    txn.put(key, b"".join(kept))
        except lmdb.Error as error:
            raise LogFailedError("a commit failed; its outcome is unknown", where=self._path, found=error) from error
        return max(0, before - after)

    def write_slot(self, slot: int, raw: bytes) -> None:
        self._guard_owner()
        if self._head_fd < 0:
            self._open_head()
        if not self._committed:
            self._sync_environment()
        try:
            # Opened with O_DSYNC: the write returns when it is durable, one system call instead of two.
            written = os.pwrite(self._head_fd, raw, slot * head.SLOT_STRIDE)
        except OSError as error:
            raise LogFailedError("HEAD cannot be written; outcome unknown", where=self._path, found=error) from error
        if written != len(raw):
            raise LogFailedError("HEAD was written short", where=self._path, expected=len(raw), found=written)

    def _sync_environment(self) -> None:
        """Before a slot without a commit of our own: what we read may be a killed writer's, and only in the cache."""
        try:
            self._environment().sync(True)
        except lmdb.Error as error:
            raise LogFailedError("a sync failed; its outcome is unknown", where=self._path, found=error) from error
        self._committed = True

    def _open_head(self) -> None:
        path = os.path.join(self._path, "HEAD")
        try:
            self._head_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DSYNC | os.O_CLOEXEC, FILE_MODE)
            if os.fstat(self._head_fd).st_size < 2 * head.SLOT_STRIDE:
                os.ftruncate(self._head_fd, 2 * head.SLOT_STRIDE)
                os.fsync(self._head_fd)
                sync_folder(self._path)
        except OSError as error:
            raise LogFailedError("HEAD cannot be opened", where=path, found=error) from error
        self._guarded = self._identities()

    def read_slots(self) -> tuple[bytes, bytes]:
        try:
            with open(os.path.join(self._path, "HEAD"), "rb") as file:
                raw = file.read(2 * head.SLOT_STRIDE)
        except FileNotFoundError:
            return b"", b""
        except OSError as error:
            raise LogUnavailableError("HEAD cannot be read", where=self._path, found=error) from error
        return _page(raw, 0), _page(raw, 1)

    def put_file(self, name: str, raw: bytes) -> None:
        self._guard()
        path = os.path.join(self._path, name)
        try:
            self._keep_folder(os.path.dirname(path))
        except OSError as error:
            raise refused_write(error, path) from error
        write_file(path, raw)

    def _keep_folder(self, folder: str) -> None:
        """Make a folder; or sync its name once, as whoever made it may have been killed before it was durable."""
        if folder in self._folders:
            return
        parent = os.path.dirname(folder)
        self._keep_folder(parent)
        if not os.path.isdir(folder):
            os.mkdir(folder, FOLDER_MODE)
        sync_folder(parent)
        self._folders.add(folder)

    def get_file(self, name: str) -> bytes | None:
        return read_file(os.path.join(self._path, name))

    def list_files(self, folder: str) -> list[str]:
        try:
            with os.scandir(os.path.join(self._path, folder)) as entries:
                return sorted(each.name for each in entries if each.is_file() and not each.name.startswith("."))
        except FileNotFoundError:
            return []

    def check_readers(self) -> int:
        """Free the slots of readers that died, and return how many: while one stands, no page that it may have read is
        used again, and every commit would make the file grow. Asked at the first append and every few megabytes."""
        cleared: int = self._environment().reader_check()
        return cleared

    def _environment(self) -> lmdb.Environment:
        if self._env is None:
            raise LogFailedError("this storage is closed", where=self._path)
        return self._env

    def close(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None
        for fd in (self._head_fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)
        self._head_fd = self._lock_fd = -1


def _page(raw: bytes, slot: int) -> bytes:
    """A slot's page without the zeros that nothing was written over; at least the slot itself, where there is one."""
    page = raw[slot * head.SLOT_STRIDE : (slot + 1) * head.SLOT_STRIDE]
    return page[: max(head.SLOT_BYTES, len(page.rstrip(b"\0")))]


def split_frames(first: int, value: bytes) -> list[tuple[int, bytes]]:
    """The frames of one entry with their indexes, by their length fields, unverified.

    Where a length does not fit, the rest of the entry comes as one frame that no check will pass: nothing is hidden.
    """
    frames: list[tuple[int, bytes]] = []
    offset, size = 0, len(value)
    length_at, overhead = record.LENGTH.unpack_from, record.FRAME_OVERHEAD_BYTES
    while offset < size:
        end = size
        if offset + record.HEADER_BYTES <= size:
            end = offset + overhead + length_at(value, offset + record.LENGTH_OFFSET)[0]
        frames.append((first, value[offset:end]))
        offset, first = end, first + 1
    return frames


def _last_index(cursor: lmdb.Cursor) -> int:
    """Index of the last frame of the last entry; leaves the cursor there. 0 when there is none."""
    if not cursor.last():
        return 0
    first, value = int.from_bytes(cursor.key(), "big"), bytes(cursor.value())
    return split_frames(first, value)[-1][0] if value else first


def _seek(cursor: lmdb.Cursor, index: int) -> bool:
    """Put the cursor on the entry that would hold ``index``: the last one that begins at or before it."""
    if cursor.set_range(index.to_bytes(_KEY_BYTES, "big")):
        return int.from_bytes(cursor.key(), "big") == index or bool(cursor.prev())
    return bool(cursor.last())


class _Reading:
    """A read transaction that gives its reader slot back at once (pitfall 9: the slot lives as long as the object).

    What LMDB raises on damaged pages leaves as StoreUnreadableError.
    """

    def __init__(self, env: lmdb.Environment, where: str) -> None:
        self._where = where
        try:
            self._txn: lmdb.Transaction | None = env.begin()
        except lmdb.Error as error:
            raise LogFailedError("the store cannot be read any more", where=where, found=error) from error

    def __enter__(self) -> lmdb.Transaction:
        assert self._txn is not None
        return self._txn

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._txn is not None
        self._txn.abort()
        self._txn = None
        if isinstance(value, lmdb.Error):
            raise StoreUnreadableError("LMDB cannot read its own pages", where=self._where, found=value) from value


def _open_environment(path: str, *, writable: bool, map_bytes: int) -> lmdb.Environment:
    # Another user's reader may lack the right to write lock.mdb; a reader of a store nobody writes needs no lock.
    lock = writable or os.access(os.path.join(path, "lock.mdb"), os.W_OK)
    try:
        return lmdb.open(
            path, map_size=map_bytes, subdir=True, readonly=not writable, lock=lock, sync=True, metasync=True,
            writemap=False, map_async=False, max_dbs=0, mode=FILE_MODE, lib_version=_LMDB_DATA_FORMAT,
        )  # fmt: skip
    except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError) as error:
        raise CorruptFileError("LMDB refuses its own file", where=path, found=error) from error
    except (lmdb.Error, OSError) as error:
        raise LogUnavailableError("the LMDB environment cannot be opened", where=path, found=error) from error


def create_directory(path: str, *, map_bytes: int = MAP_BYTES_DEFAULT) -> None:
    """Make an empty log directory (0700) with a synced, empty LMDB environment. Raises LogUnavailableError."""
    data = os.path.join(path, "data")
    try:
        os.mkdir(path, FOLDER_MODE)
        os.mkdir(data, FOLDER_MODE)
        with _open_environment(data, writable=True, map_bytes=map_bytes) as env:
            env.sync(True)
        os.close(os.open(os.path.join(path, "LOCK"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
        sync_folder(data)
        sync_folder(path)
    except (OSError, lmdb.Error) as error:
        raise LogUnavailableError("the log's directory cannot be made", where=path, found=error) from error


def install_directory(new: str, path: str) -> None:
    """Rename a finished directory into place and sync its parent: the moment from which it exists.

    Raises LogFailedError: it may be in place or not.
    """
    try:
        sync_folder(new)
        os.rename(new, path)
        sync_folder(os.path.dirname(os.path.abspath(path)))
    except OSError as error:
        raise refused_write(error, path) from error
