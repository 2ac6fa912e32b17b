"""Whether a successor is what a migration had to make: every record compared, every decision derived again."""

from __future__ import annotations

from femtoclaw.event_codec import decode
from femtoclaw.migration.formats import format_of
from femtoclaw.migration.plan import Plan
from femtoclaw.migration.refusal import MigrationUnsoundError
from femtoclaw.replay import replay
from femtoclaw.restore import load_state
from wal.reader import LogReader
from wal.record import KIND_EVENT


def verify(plan: Plan, old: LogReader, new: LogReader, size: int, root: str) -> None:
    """Raise MigrationUnsoundError unless ``new``, which has ``size`` records with Merkle root ``root`` from the migration, holds
    what ``old`` holds and what the newer format adds. The chains of both are followed on the way."""
    if new.origin != plan.new_origin or new.size < size or size <= plan.size:
        raise _unsound(
            "its size or name", f"{plan.new_origin}, more than {plan.size} records", f"{new.origin}, {new.size}"
        )
    found = new.tree().root(size).hex()
    if found != root:
        raise _unsound("its root", root, found)
    _compare_records(plan, old, new)
    before, after = replay(old.scan(1, plan.size + 1)), replay(new.scan(1, plan.size + 1))
    if after.divergences:
        first = after.divergences[0]
        raise _unsound(f"index {first.index} follows otherwise", first.expected, first.found)
    if (after.decisions, after.state_hash) != (before.decisions, before.state_hash):
        raise _unsound("its state or decisions", before.state_hash, after.state_hash)
    whole = replay(new.scan(1, size + 1))
    if whole.divergences:
        raise _unsound(f"index {whole.divergences[0].index} follows otherwise", "what the rules derive", "another")
    if format_of(load_state(new).node) != plan.target:
        raise _unsound("its format", plan.target, format_of(load_state(new).node))


def _compare_records(plan: Plan, old: LogReader, new: LogReader) -> None:
    """Every record of the old log stands at its index, at its time, saying the same."""
    counted = 0
    for before, after in zip(old.scan(2, plan.size + 1), new.scan(2, plan.size + 1), strict=True):
        where = f"index {before.index}"
        if (before.index, before.kind, before.time_ns) != (after.index, after.kind, after.time_ns):
            raise _unsound(where, f"kind {before.kind} at {before.time_ns}", f"kind {after.kind} at {after.time_ns}")
        same = before.payload == after.payload
        if before.kind == KIND_EVENT:
            counted += 1
            same = same or decode(before.payload) == decode(after.payload)
        if not same:
            raise _unsound(where, "the same event", "another")
    if counted != plan.events:
        raise _unsound("the number of its events", plan.events, counted)


def _unsound(what: str, expected: object, found: object) -> MigrationUnsoundError:
    return MigrationUnsoundError(
        "the migrated log is not what it had to be", where=what, expected=expected, found=found
    )
