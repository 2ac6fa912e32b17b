"""The query layer of the audit: which records fulfil every condition. Answers come from the index, and are not believed.

Every batch of the index's audit rows is compared with its digest before a question, and each record of an answer with its
row. A file that does not hold is thrown away and derived again from the log (``femtoclaw.projections``).
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import sqlite3
from collections.abc import Callable, Iterator

from femtoclaw import events
from femtoclaw.event_codec import CODES
from femtoclaw.projections.consulting import consult
from femtoclaw.projections.database import Projections
from femtoclaw.projections.queries import Filter, records, select
from femtoclaw.projections.reading import read_event
from wal.reader import LogReader
from wal.record import KIND_EVENT, Record

SINGLY_MAX = 256
"""Records that are read one by one."""

BY_OPERATOR = tuple(kind.__name__ for kind in CODES.values() if "operator" in kind._fields)
"""Types of events that name an operator."""


def ask(
    file: str, reader: LogReader, wanted: Filter, operator: str | None, note: Callable[[str], None]
) -> list[Record]:
    """The records that fulfil every condition, in log order, each compared with its row.

    ``operator`` is whom the event itself names. Raises the errors of reading the log.
    """

    def question(projections: Projections) -> list[tuple[int, str]]:
        check_rows(projections)
        if operator is None:
            return _found(projections, wanted)
        kinds = BY_OPERATOR if wanted.kind is None else tuple(kind for kind in BY_OPERATOR if kind == wanted.kind)
        every = [row for kind in kinds for row in _found(projections, wanted._replace(kind=kind, newest=0))]
        return sorted(every)

    kept = []
    links = dict(consult(file, reader, question, note))
    for record in read_many(reader, sorted(links)):
        if record.link.hex() != links[record.index]:
            raise sqlite3.DatabaseError(f"row {record.index} of the index is another record's")
        if operator is None or named_operator(record) == operator:
            kept.append(record)
    return kept[-wanted.newest :] if wanted.newest else kept


def read_many(reader: LogReader, indexes: list[int]) -> Iterator[Record]:
    """The records at ascending ``indexes``. Of many, in one go over what is between the first and the last: a record that is read
    by itself has its whole neighbourhood split for it."""
    if len(indexes) <= SINGLY_MAX:
        yield from map(reader.read, indexes)
    else:
        wanted = set(indexes)
        yield from (record for record in reader.scan(indexes[0], indexes[-1] + 1) if record.index in wanted)


def _found(projections: Projections, wanted: Filter) -> list[tuple[int, str]]:
    """Index and link of each record that has a row which fulfils every condition."""
    links = {row["log_index"]: row["integrity"] for row in select(projections, "audit", wanted._replace(newest=0))}
    return [(index, links[index]) for index in records(projections, wanted)]


def check_rows(projections: Projections) -> None:
    """Raise sqlite3.DatabaseError when audit rows are not those that were written: then the file is derived again."""
    damaged = projections.damaged_batches()
    if damaged:
        raise sqlite3.DatabaseError(f"rows behind record {damaged[0]} are not those that were written")


def named_operator(record: Record) -> str:
    """The operator whom an event names, empty for none."""
    event = read_event(record.payload) if record.kind == KIND_EVENT else None
    return str(getattr(event, "operator", "")) if type(event) in _KINDS else ""


_KINDS = frozenset(CODES.values())


def of_types(
    reader: LogReader, projections: Projections, *kinds: type[events.Event]
) -> Iterator[tuple[Record, events.Event]]:
    """The records of some types with their events, in log order; what cannot be read is left out."""
    indexes = sorted(index for kind in kinds for index in records(projections, Filter(kind=kind.__name__)))
    for record in read_many(reader, indexes):
        event = read_event(record.payload)
        if isinstance(event, kinds):
            yield record, event
