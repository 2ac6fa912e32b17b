"""Asking the projections of a home: caught up first, rebuilt once when they are damaged, in memory when need be."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from femtoclaw.projections.binding import DAMAGED, SUSPECT, discard, is_damage
from femtoclaw.projections.database import MEMORY, TEMPORARY, Projections
from wal.reader import LogReader

Answer = TypeVar("Answer")
Question = Callable[[Projections], Answer]


def consult(file: str, reader: LogReader, question: Question[Answer], note: Callable[[str], None]) -> Answer:
    """The answer from the file's projections, caught up with the log.

    A file that turns out to be damaged is replaced once. Where it cannot be used (a full or read-only disk, another
    user) the whole log is read into memory. ``note`` is told of both. Raises the errors of reading the log.
    """
    try:
        return _ask(file, reader, question, note)
    except (OSError, sqlite3.Error) as error:
        trouble: Exception = error
        if is_damage(error):
            try:
                discard(file)
                note(f"{file} {DAMAGED} ({error}): rebuilt from the log")
                return _ask(file, reader, question, note)
            except (OSError, sqlite3.Error) as again:
                trouble = again
    note(f"{file} cannot be used ({trouble}): reading the whole log instead")
    return _ask(MEMORY, reader, question, note)


def _ask(file: str, reader: LogReader, question: Question[Answer], note: Callable[[str], None]) -> Answer:
    projections = Projections(file)
    try:
        projections.catch_up(reader)
        if projections.replaced:
            note(f"{file} {projections.replaced}: rebuilt from the log")
        return question(projections)
    finally:
        projections.close()


class Comparison(NamedTuple):
    """The file's projections against fresh ones. ``replaced`` says why the file was thrown away when it was opened."""

    log_index: int
    stores: dict[str, dict[str, Any]]
    telemetry_dropped: int
    replaced: str
    different: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """The file was what the log says, or could not be expected to be."""
        return self.replaced not in SUSPECT and not self.different


def compare(file: str, reader: LogReader) -> Comparison:
    """Derive all rows again, beside the file, and compare store by store.

    The file is caught up, and replaced where it is damaged or where opening it replaces it; rows that differ stay.
    Raises the errors of reading the log, OSError and sqlite3.Error.
    """
    try:
        return _compare(file, reader)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
    discard(file)
    return _compare(file, reader)._replace(replaced=DAMAGED)


def _compare(file: str, reader: LogReader) -> Comparison:
    kept = Projections(file)
    fresh = Projections(TEMPORARY)
    try:
        kept.catch_up(reader)
        fresh.catch_up(reader, kept.log_index)
        found, expected = kept.summary(), fresh.summary()
        different = [store for store, content in expected.items() if found[store] != content]
        if "audit" not in different and kept.damaged_batches():
            different.append("audit")
        return Comparison(fresh.log_index, expected, fresh.telemetry_dropped, kept.replaced, tuple(different))
    finally:
        kept.close()
        fresh.close()


def rebuild(file: str, reader: LogReader) -> Comparison:
    """``compare``, and where anything differs replace the file by rows derived again."""
    compared = compare(file, reader)
    if compared.different:
        discard(file)
        projections = Projections(file)
        try:
            projections.catch_up(reader)
        finally:
            projections.close()
    return compared
