"""The files of a home in a backup: which, as one stream, and back. They are taken as they lie on disk: nothing sealed is opened.

The stream is, for each file: 4 bytes length of a header, the header (JSON: path, mode, size), the file's bytes.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from femtoclaw.backup.layout import CHUNK_BYTES, BackupDamagedError
from femtoclaw.errors import ConfigurationError, UnavailableError
from femtoclaw.home import Home
from wal.durable_file import FOLDER_MODE, sync_folder

FILES_MAX = 200_000
HEADER_BYTES_MAX = 65_536
LEFT_OUT = ("log", "index")
"""Folders of a home that are in a backup in another form (the log), or follow from it (the index)."""

LOG_EXTRAS = ("log/checkpoints", "log/snapshots")
"""Of the log's folder: notes that others cosigned, and the state image, which counts only where the log vouches for it."""

_TEMPORARY = (".new-", ".preflight-", "lock.mdb")
"""How names begin that mean something to a running process alone: LMDB's locks are among them, of a log that a migration keeps."""


class FileRow(NamedTuple):
    """One file: path inside the home with slashes, permission bits, size in bytes."""

    path: str
    mode: int
    size: int


class ChangedWhileReadError(UnavailableError):
    """A file became shorter while it was read: the home is changing."""

    code = "CHANGED_WHILE_READ"


def home_files(home: Home, workspace: str) -> list[FileRow]:
    """The regular files of a home in the order of their paths, without the log, the index, the workspace and sockets.

    Raises ConfigurationError for links (what they name is not the home's), and for more than ``FILES_MAX``.
    """
    left_out = {os.path.join(home.path, name) for name in LEFT_OUT} | {os.path.realpath(workspace), workspace}
    found: list[FileRow] = []
    tops = [home.path, *(os.path.join(home.path, *name.split("/")) for name in LOG_EXTRAS)]
    for top in tops:
        _gather(home.path, top, left_out, found)
    return sorted(found)


def _gather(root: str, folder: str, left_out: set[str], found: list[FileRow]) -> None:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.path in left_out or entry.name.startswith(_TEMPORARY):
            continue
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISDIR(status.st_mode):
            _gather(root, entry.path, left_out, found)
        elif stat.S_ISREG(status.st_mode):
            path = os.path.relpath(entry.path, root).replace(os.sep, "/")
            found.append(FileRow(path, stat.S_IMODE(status.st_mode), status.st_size))
            if len(found) > FILES_MAX:
                raise ConfigurationError(
                    "the home has too many files for a backup", where=root, expected=f"<= {FILES_MAX}", found="more",
                    remedy="move what is not the node's out of its home",
                )  # fmt: skip
        elif stat.S_ISLNK(status.st_mode):
            raise ConfigurationError(
                "a link in the home cannot be backed up", where=entry.path, expected="files and folders", found="a link",
                remedy="put the file itself there",
            )  # fmt: skip


def packed(home: Home, rows: list[FileRow]) -> Iterator[bytes]:
    """The stream, in pieces of at most ``CHUNK_BYTES``. Raises ChangedWhileReadError, UnavailableError."""
    for row in rows:
        header = json.dumps(row._asdict(), sort_keys=True, separators=(",", ":")).encode()
        yield len(header).to_bytes(4, "big") + header
        left, path = row.size, os.path.join(home.path, *row.path.split("/"))
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                while left and (piece := file.read(min(left, CHUNK_BYTES))):
                    left -= len(piece)
                    yield piece
        except FileNotFoundError as error:
            raise ChangedWhileReadError("a file of the home went away", where=path, remedy="run it again") from error
        except OSError as error:
            raise UnavailableError(
                "a file of the home cannot be read", where=path, found=error.strerror, remedy="look at its permissions"
            ) from error
        if left:
            raise ChangedWhileReadError("a file of the home became shorter", where=path, remedy="run it again")


def chunks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in chunks of ``CHUNK_BYTES``; the last one may be shorter."""
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= CHUNK_BYTES:
            yield bytes(held[:CHUNK_BYTES])
            del held[:CHUNK_BYTES]
    if held:
        yield bytes(held)


class Incoming:
    """Bytes that are asked for by length out of chunks."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = bytearray()

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes; fewer only at the end."""
        while len(self._held) < size and (piece := next(self._pieces, None)) is not None:
            self._held += piece
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken


def unpacked(stream: Iterator[bytes], where: str) -> Iterator[tuple[FileRow, Iterator[bytes]]]:
    """Each file of a stream with its bytes, which must be taken before the next. Raises BackupDamagedError."""
    incoming = Incoming(stream)
    while head := incoming.take(4):
        row = _row(incoming.take(min(int.from_bytes(head, "big"), HEADER_BYTES_MAX)), where)
        yield row, _content(incoming, row.size, where)


def _content(incoming: Incoming, size: int, where: str) -> Iterator[bytes]:
    while size:
        piece = incoming.take(min(size, CHUNK_BYTES))
        if not piece:
            raise BackupDamagedError("the files of a backup end too early", where=where)
        size -= len(piece)
        yield piece


def _row(raw: bytes, where: str) -> FileRow:
    try:
        plain = json.loads(raw)
        row = FileRow(plain["path"], plain["mode"], plain["size"])
        parts = row.path.split("/")
        plain_path = all(part not in ("", ".", "..") and "\0" not in part and os.sep not in part for part in parts)
        if not plain_path or type(row.mode) is not int or type(row.size) is not int or row.size < 0:
            raise ValueError("a field")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BackupDamagedError("a file of a backup has no header", where=where) from None
    return row


def write_one(top: str, row: FileRow, content: Iterator[bytes]) -> None:
    """Write one file below ``top``, where nothing of its name may be; durable but for its folder. Raises OSError."""
    path = os.path.join(top, *row.path.split("/"))
    os.makedirs(os.path.dirname(path), FOLDER_MODE, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        for piece in content:
            file.write(piece)
        file.flush()
        os.fchmod(fd, row.mode & 0o777)
        os.fsync(fd)


def sync_tree(top: str) -> None:
    """Make the names in ``top`` and all folders below it durable. Raises OSError."""
    for folder, _, _ in os.walk(top):
        sync_folder(folder)
