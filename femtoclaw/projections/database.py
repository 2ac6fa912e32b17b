"""The projections' file: opened or made, caught up with its log, replaced when it is not what it should be."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from bisect import bisect_right
from collections.abc import Iterator
from operator import itemgetter
from typing import Any

import msgpack
from blake3 import blake3

from femtoclaw.projections.binding import DAMAGED, FOREIGN, digest_rows, discard, holds, is_damage, read_header, unfit
from femtoclaw.projections.derivation import STATES, Derivation, Progress, Row, take_all
from femtoclaw.projections.schema import EXECUTION_COLUMNS, ORDER, RULES, SCHEMA, SCHEMA_VERSION, STORES
from wal.reader import LogReader
from wal.record import FLAG_BATCH_END, Record

CHUNK_RECORDS = 4096
"""Records of one transaction; twice as many when an append goes on for so long."""

BATCH_RECORDS = 1024
"""Records whose audit rows have a digest together."""

WAIT_SECONDS = 30.0
TEMPORARY = ""
"""Instead of a file's path: a private database that goes away with its connection."""

MEMORY = ":memory:"
CACHE_KIBIBYTES = 65_536

_OPEN_ATTEMPTS = 3


class Projections:
    """The projections of one log. Any number of processes may use one file; a process opens it once at a time."""

    def __init__(self, file: str) -> None:
        """Open or create ``file``; ``MEMORY`` and ``TEMPORARY`` need none. Raises OSError and sqlite3.Error."""
        self._file = file
        self._private = file in (MEMORY, TEMPORARY)
        self.replaced = ""
        """Why the file that was there has been thrown away; empty when it has not."""
        if not self._private:
            os.makedirs(os.path.dirname(file), 0o700, exist_ok=True)
        self.db = self._open()
        self._progress = Progress()
        self._load()

    def _open(self) -> sqlite3.Connection:
        if self._private:
            return self._create()
        found = ""
        for _ in range(_OPEN_ATTEMPTS):
            header = read_header(self._file)
            if not header:
                return self._create()
            db = self._connect()
            try:
                found = unfit(db, header)
                if not found:
                    return db
            except sqlite3.DatabaseError as error:
                db.close()
                if not is_damage(error):
                    raise
                found = DAMAGED
                break
            db.close()  # once more: another process may have been writing between the two looks
        self._discard(found)
        return self._create()

    def _connect(self) -> sqlite3.Connection:
        if not self._private and not os.path.exists(self._file):
            os.close(os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        return sqlite3.connect(self._file, isolation_level=None, timeout=WAIT_SECONDS)

    def _create(self) -> sqlite3.Connection:
        db = self._connect()
        db.execute("BEGIN IMMEDIATE")
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self._save(db, Progress(), b"", 1)
        db.execute("COMMIT")
        return db

    def _discard(self, why: str) -> None:
        self.replaced = self.replaced or why
        discard(self._file)

    def _start_over(self, why: str) -> None:
        self.db.close()
        if not self._private:
            self._discard(why)
        self.db = self._create()
        self._load()

    def catch_up(self, reader: LogReader, size: int | None = None) -> int:
        """Project the records behind the last projected one, up to ``size`` (default: the head), and return how many;
        another log's rows are replaced.

        Raises the errors of reading the log, OSError and sqlite3.Error; for those of them that are damage
        (``is_damage``) the file should be discarded.
        """
        size = reader.size if size is None else size
        why = self._misfit(reader, size)
        if why:
            self._start_over(why)
        begun = self._progress.log_index
        while self._progress.log_index < size:
            for chunk in _chunks(reader.scan(self._progress.log_index + 1, size + 1)):
                if not self._project(chunk, reader.log_id):
                    break  # another process was quicker; go on from where it got to
        return size - begun

    def _misfit(self, reader: LogReader, size: int) -> str:
        log_id = self.db.execute("SELECT log_id FROM position").fetchone()[0]
        at = self._progress.log_index
        if not at:
            return ""
        if log_id != reader.log_id or at > size or reader.read(at).link != self._progress.link:
            return FOREIGN
        return ""

    def _load(self) -> None:
        """Take up the progress that the file holds. Raises sqlite3.DatabaseError when it holds something else."""
        self.db.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
        row = self.db.execute(
            "SELECT log_index, link, appended_records, appended_bytes, telemetry_rows, telemetry_dropped,"
            " telemetry_kept FROM position"
        ).fetchone()
        if row is None or tuple(map(type, row)) != (int, bytes, int, int, int, int, int):
            raise sqlite3.DatabaseError("the position is no position")
        progress = Progress()
        (
            progress.log_index, progress.link, progress.appended_records, progress.appended_bytes,
            progress.telemetry_rows, progress.telemetry_dropped, progress.telemetry_kept,
        ) = row  # fmt: skip
        progress.heads = {store: (index, link) for store, index, link in self.db.execute("SELECT * FROM heads")}
        rows = self.db.execute("SELECT * FROM execution_log WHERE state <> 'IDLE'")
        progress.open = {row[0]: dict(zip(EXECUTION_COLUMNS, row, strict=True)) for row in rows}
        if any(row["state"] not in STATES for row in progress.open.values()):
            raise sqlite3.DatabaseError("an execution is in no state")
        self._progress = progress

    def _project(self, chunk: list[Record], log_id: bytes) -> bool:
        """Add the rows of these records in one transaction; False, and nothing added, when they are there by now."""
        before = self._progress.log_index
        derived = take_all(self._progress, chunk)
        self.db.execute("BEGIN IMMEDIATE")
        try:
            index, changes = self.db.execute("SELECT log_index, changes FROM position").fetchone()
            if index != before:
                self.db.execute("ROLLBACK")
                self._load()
                return False
            self._insert(derived)
            self.db.executemany("INSERT INTO batches VALUES (?,?,?)", _batches(chunk, derived.audit))
            self._save(self.db, self._progress, log_id, changes + 1)
            self.db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # the first error is the one to tell
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                self._load()
            raise
        return True

    def _insert(self, derived: Derivation) -> None:
        for table, rows in (
            ("audit_log", derived.audit),
            ("telemetry", derived.telemetry),
            ("configuration", derived.configuration),
        ):
            if rows:
                self.db.executemany(f"INSERT INTO {table} VALUES ({_places(rows[0])})", rows)
        for table, rows in (
            ("execution_log", derived.rows_of_executions()),
            ("metadata", list(derived.metadata.items())),
        ):
            if rows:
                self.db.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({_places(rows[0])})", rows)
        self.db.execute("DELETE FROM telemetry WHERE number <= ?", (self._progress.telemetry_dropped,))

    @staticmethod
    def _save(db: sqlite3.Connection, progress: Progress, log_id: bytes, changes: int) -> None:
        """Within a transaction: the progress, the binding, and the change counter that the file will have after it."""
        row = (
            1, changes, RULES, log_id, progress.log_index, progress.link, progress.appended_records,
            progress.appended_bytes, progress.telemetry_rows, progress.telemetry_dropped, progress.telemetry_kept,
        )  # fmt: skip
        db.execute(f"INSERT OR REPLACE INTO position VALUES ({_places(row)})", row)
        heads = [(store, *head) for store, head in progress.heads.items()]
        db.executemany("INSERT OR REPLACE INTO heads VALUES (?,?,?)", heads)

    @property
    def telemetry_dropped(self) -> int:
        """How many of the oldest telemetry rows the configured bound has cost."""
        return self._progress.telemetry_dropped

    @property
    def log_index(self) -> int:
        """The last projected record."""
        return self._progress.log_index

    def summary(self) -> dict[str, dict[str, Any]]:
        """Each store's rows, last record, that record's link, and a digest of its whole content. Reads everything."""
        stores: dict[str, dict[str, Any]] = {}
        for store, table in STORES.items():
            index, link = self._progress.heads.get(store, (0, b""))
            rows = self.db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            stores[store] = {"rows": rows, "index": index, "link": link.hex(), "digest": self._digest(table)}
        return stores

    def _digest(self, table: str) -> str:
        hasher = blake3()
        cursor = self.db.execute(f"SELECT * FROM {table} ORDER BY {ORDER[table]}")
        while rows := cursor.fetchmany(1000):
            for row in rows:
                hasher.update(msgpack.packb(row))
        return hasher.hexdigest()

    def damaged_batches(self) -> list[int]:
        """First records of the batches whose audit rows are not those that were written. Reads the whole audit log."""
        batches = self.db.execute("SELECT first_index, last_index, digest FROM batches ORDER BY last_index").fetchall()
        return [batch[0] for batch in batches if not holds(self.db, batch)]

    def close(self) -> None:
        """Release the file."""
        self.db.close()


def _places(row: Row) -> str:
    return ",".join("?" * len(row))


def _batches(chunk: list[Record], audit: list[Row]) -> Iterator[Row]:
    """Last record, first record and digest of the audit rows, for each batch of a chunk."""
    end = 0
    for at in range(0, len(chunk), BATCH_RECORDS):
        batch = chunk[at : at + BATCH_RECORDS]
        start, end = end, bisect_right(audit, batch[-1].index, key=itemgetter(0))
        yield batch[-1].index, batch[0].index, digest_rows(audit[start:end])


def _chunks(records: Iterator[Record]) -> Iterator[list[Record]]:
    """Consecutive records in lists that end with an append wherever that is possible."""
    chunk: list[Record] = []
    for record in records:
        chunk.append(record)
        full = len(chunk) >= CHUNK_RECORDS and record.flags & FLAG_BATCH_END
        if full or len(chunk) >= 2 * CHUNK_RECORDS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
