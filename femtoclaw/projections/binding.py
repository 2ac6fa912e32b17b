"""What binds the projections' file to its log, and what is checked when it is opened.

The file belongs to one log (id), reaches to one record (index, link) and was made by one set of rules; another log's or
another program's file is thrown away. Its change counter, which SQLite raises with every transaction of whatever
program, must be the one that the last own transaction foresaw: so what was deleted or edited through SQLite is noticed
at the next opening, whatever the size. The rows of the audit log have a digest for each batch; the newest and one by
chance are computed again at each opening (bounded: two batches), all of them by ``femtoclaw log --rebuild``, which also
derives everything anew and compares.

This finds accidents, damage, and edits made without care. It does not find somebody who can write the file and also
puts right what is checked: nothing here has a key. Proof is in the log and ``verify``, not in an index.
"""

from __future__ import annotations

import os
import random
import sqlite3
import stat
from collections.abc import Iterator

import msgpack
from blake3 import blake3

from femtoclaw.projections.derivation import Row
from femtoclaw.projections.schema import RULES, SCHEMA_VERSION

CHANGED = "was changed by another program"
DAMAGED = "is damaged"
FOREIGN = "is of another log"
OUTDATED = "was made by another version"
SUSPECT = frozenset({CHANGED, DAMAGED})
"""Reasons for a replacement that an operator should look into."""

_HEADER_BYTES = 28
_HEADER_MAGIC = b"SQLite format 3\0"
_ROLLBACK_JOURNAL = b"\1\1"
_CHANGES = slice(24, 28)


def read_header(file: str) -> bytes:
    """The file's first bytes, empty when there is none. Only for a process with no connection to it: closing any
    descriptor of a file drops the locks that SQLite holds on it. Raises OSError, also for what is no regular file: to
    open a pipe, here or in SQLite, could wait for ever."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    with open(fd, "rb", buffering=0) as opened:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError("it is not a regular file")
        return opened.read(_HEADER_BYTES)


def unfit(db: sqlite3.Connection, header: bytes) -> str:
    """Why this file cannot be used, or an empty text. ``header`` was read before ``db`` was opened."""
    version = db.execute("PRAGMA user_version").fetchone()[0]  # also rolls back what a crash left half written
    if version != SCHEMA_VERSION:
        return OUTDATED
    row = db.execute("SELECT changes, rules, log_index FROM position").fetchone()
    if row is None:
        return DAMAGED
    changes, rules, log_index = row
    if rules != RULES:
        return OUTDATED
    if header[: len(_HEADER_MAGIC)] != _HEADER_MAGIC or header[18:20] != _ROLLBACK_JOURNAL:
        return CHANGED
    if changes != int.from_bytes(header[_CHANGES]):
        return CHANGED
    batches = db.execute("SELECT count(*), max(last_index) FROM batches").fetchone()
    if (batches[1] or 0) != log_index:
        return DAMAGED
    return "" if all(holds(db, batch) for batch in _sample(db, log_index)) else DAMAGED


def _sample(db: sqlite3.Connection, log_index: int) -> Iterator[Row]:
    """The newest batch, and the one that holds a record chosen by chance."""
    if log_index:
        for index in {log_index, random.randint(1, log_index)}:
            yield db.execute(
                "SELECT first_index, last_index, digest FROM batches WHERE last_index >= ? ORDER BY last_index LIMIT 1",
                (index,),
            ).fetchone()


def holds(db: sqlite3.Connection, batch: Row) -> bool:
    """The batch's audit rows are those that were written."""
    first, last, digest = batch
    rows = db.execute(
        "SELECT * FROM audit_log WHERE log_index BETWEEN ? AND ? ORDER BY log_index, ordinal", (first, last)
    ).fetchall()
    return digest_rows(rows) == bytes(digest)


def digest_rows(rows: list[Row]) -> bytes:
    """BLAKE3 of the rows in their order, each as a msgpack array."""
    return bytes(blake3(msgpack.packb(rows)).digest())


def is_damage(error: Exception) -> bool:
    """True when an error says that the file's content is wrong, and not that it cannot be reached or written now."""
    if not isinstance(error, sqlite3.DatabaseError):
        return False
    return (
        not isinstance(error, sqlite3.OperationalError) or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_ERROR
    )


def discard(file: str) -> None:
    """Delete the projections' file and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        if os.path.exists(file + suffix):
            os.unlink(file + suffix)
