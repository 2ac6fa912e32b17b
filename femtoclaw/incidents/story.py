"""What the log says of one incident: its alert, how it was opened, and the steps taken, each with index and time."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Iterator
from typing import NamedTuple

from femtoclaw import events
from femtoclaw.event_codec import CODES
from femtoclaw.projections.reading import Unread, read_event
from wal.reader import LogReader
from wal.record import KIND_EVENT, Record

BLOCK = 4096
_KINDS = (events.AlertRaised, events.IncidentOpened, events.IncidentStepped)
_CODES = frozenset(code for code, kind in CODES.items() if kind in _KINDS)
_FIRST_OF_ARRAY, _LAST_OF_ARRAY = 0x90, 0x9F


class Entry(NamedTuple):
    """One record: ``time_ns`` since 1970."""

    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody calls on it
    time_ns: int
    event: events.Event


class Story(NamedTuple):
    """One incident. ``opened`` is None when the log holds none of this id; ``steps`` are in order."""

    opened: Entry | None = None
    alert: Entry | None = None
    steps: tuple[Entry, ...] = ()

    def step(self, word: str) -> events.IncidentStepped | None:
        """What the log says of one step."""
        found = (each.event for each in self.steps)
        return next((each for each in found if isinstance(each, events.IncidentStepped) and each.step == word), None)


def story_of(reader: LogReader, incident_id: str) -> Story:
    """Read from the newest record backwards to the incident's alert."""
    opened: Entry | None = None
    steps: list[Entry] = []
    for entry in _backwards(reader):
        event = entry.event
        if isinstance(event, events.IncidentStepped) and event.incident_id == incident_id:
            steps.append(entry)
        elif isinstance(event, events.IncidentOpened) and event.incident_id == incident_id:
            opened = entry
            if event.operator:
                break  # nobody raised an alert for what an operator opened
        elif isinstance(event, events.AlertRaised) and event.incident_id == incident_id:
            return Story(opened, entry, tuple(reversed(steps)))
    return Story(opened, None, tuple(reversed(steps)))


def all_incidents(reader: LogReader) -> list[Story]:
    """Every incident that the log holds, oldest first."""
    opened: dict[str, Entry] = {}
    alerts: dict[str, Entry] = {}
    steps: dict[str, list[Entry]] = {}
    for entry in _entries(reader, 1, reader.size):
        event = entry.event
        if isinstance(event, events.IncidentOpened):
            opened[event.incident_id] = entry
        elif isinstance(event, events.AlertRaised) and event.incident_id:
            alerts[event.incident_id] = entry
        elif isinstance(event, events.IncidentStepped):
            steps.setdefault(event.incident_id, []).append(entry)
    return [Story(entry, alerts.get(name), tuple(steps.get(name, ()))) for name, entry in opened.items()]


def names_that_begin(reader: LogReader, part: str) -> list[str]:
    """Every id of an incident or an alert of this log, open or over, that begins so: sorted."""
    found: set[str] = set()
    for entry in _entries(reader, 1, reader.size):
        event = entry.event
        if isinstance(event, events.IncidentOpened):
            found.add(event.incident_id)
        elif isinstance(event, events.AlertRaised):
            found.add(event.alert_id)
    return sorted(each for each in found if each.startswith(part))


def preserved(reader: LogReader, digest: str) -> Entry | None:
    """The record of the step that preserved a file of this digest."""
    for entry in _backwards(reader):
        event = entry.event
        if isinstance(event, events.IncidentStepped) and event.step == "preserve" and event.digest == digest:
            return entry
    return None


def alert_of(reader: LogReader, alert_id: str) -> Entry | None:
    """The record of an alert."""
    for entry in _backwards(reader):
        if isinstance(entry.event, events.AlertRaised) and entry.event.alert_id == alert_id:
            return entry
    return None


def alerts_of_names(reader: LogReader, names: frozenset[str]) -> dict[str, events.AlertRaised]:
    """The events of these alerts, as far as the log holds them; read backwards until all are found."""
    found: dict[str, events.AlertRaised] = {}
    for entry in _backwards(reader):
        if len(found) == len(names):
            break
        if isinstance(entry.event, events.AlertRaised) and entry.event.alert_id in names:
            found[entry.event.alert_id] = entry.event
    return found


def _backwards(reader: LogReader) -> Iterator[Entry]:
    last = reader.size
    while last > 0:
        first = max(1, last - BLOCK + 1)
        yield from reversed(list(_entries(reader, first, last)))
        last = first - 1


def _entries(reader: LogReader, first: int, last: int) -> Iterator[Entry]:
    for record in reader.scan(first, last + 1):
        if record.kind == KIND_EVENT and _may_be(record):
            event = read_event(record.payload)
            if isinstance(event, _KINDS) and not isinstance(event, Unread):
                yield Entry(record.index, record.time_ns, event)


def _may_be(record: Record) -> bool:
    payload = record.payload
    return not _FIRST_OF_ARRAY <= payload[0] <= _LAST_OF_ARRAY or payload[1] in _CODES
