"""What must hold of all logs and workspaces of a cluster, whatever happened to it."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import NamedTuple

from femtoclaw.event_codec import decode as decode_event
from femtoclaw.events import (
    ErrorRecorded,
    ExecutionCompleted,
    ExecutionFinished,
    ExecutionStarted,
    OutcomeUnknown,
    ProtocolValidated,
)
from tests.cluster.client_load import Told
from tests.cluster.members import WRITTEN, ClusterProcesses, MemberProcess
from wal.lmdb_storage import LmdbStorage
from wal.reader import LogReader
from wal.record import KIND_EVENT, Record


class History(NamedTuple):
    """One member's log as it is on disk."""

    records: list[Record]
    lines: dict[str, str]
    """Execution id to the line that it was to write."""
    started: Counter[str]
    finished: Counter[str]
    unknown: Counter[str]
    completed: Counter[str]
    errors: list[ErrorRecorded]

    @property
    def links(self) -> list[bytes]:
        return [record.link for record in self.records]


def history_of(member: MemberProcess) -> History:
    """Read a member's log, whether it runs or not."""
    storage = LmdbStorage(member.home.log, writable=False)
    try:
        records = list(LogReader(storage).scan())
    finally:
        storage.close()
    history = History(records, {}, Counter(), Counter(), Counter(), Counter(), [])
    for record in records:
        if record.kind == KIND_EVENT:
            _take(history, decode_event(record.payload))
    return history


def _take(history: History, event: object) -> None:
    match event:
        case ProtocolValidated(execution_id=found, tool="fs.write"):
            history.lines[found] = json.loads(event.args)["content"].strip()
        case ExecutionStarted(execution_id=found):
            history.started[found] += 1
        case ExecutionFinished(execution_id=found):
            history.finished[found] += 1
        case OutcomeUnknown(execution_id=found):
            history.unknown[found] += 1
        case ExecutionCompleted(execution_id=found):
            history.completed[found] += 1
        case ErrorRecorded():
            history.errors.append(event)


def effects(cluster: ClusterProcesses) -> Counter[str]:
    """How often each line was written, on all members together."""
    found: Counter[str] = Counter()
    for member in cluster.members.values():
        file = member.node.workspace / WRITTEN
        if file.exists():
            found.update(file.read_text().splitlines())
    return found


class Findings(NamedTuple):
    """What a check counted."""

    acknowledged: int
    unknown: int
    refused: int
    lost: int
    doubled: int
    closed_as_unknown: int
    records: int
    epochs: int

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} acknowledged, {self.unknown} of unknown outcome, {self.refused} refused; {self.lost} lost, "
            f"{self.doubled} run twice, {self.closed_as_unknown} closed as unknown; {self.records} records, {self.epochs} epochs"
        )


def check(cluster: ClusterProcesses, told: list[Told]) -> Findings:
    """Fails with what does not hold. No client waits, and every member has what is committed."""
    histories = {name: history_of(cluster[name]) for name in cluster.names}
    longest = max(histories.values(), key=lambda each: len(each.records))
    one_history(histories)
    majority = sorted((len(each.records) for each in histories.values()), reverse=True)[len(histories) // 2]
    acknowledged = {each.execution_id: each for each in told if each.acknowledged}
    committed = {
        event.execution_id: record.index
        for record in longest.records
        if record.kind == KIND_EVENT and isinstance(event := decode_event(record.payload), ExecutionCompleted)
    }
    lost = [each for name, each in acknowledged.items() if committed.get(name, majority + 1) > majority]
    assert not lost, f"acknowledged and lost: {lost[:5]}"
    seen = effects(cluster)
    doubled = [line for line, count in seen.items() if count > 1]
    doubled += [name for name, count in longest.started.items() if count > 1]
    assert not doubled, f"run twice: {doubled[:5]}"
    for each in acknowledged.values():
        assert seen[each.line] == 1, f"acknowledged and not done: {each}"
        assert longest.lines[each.execution_id] == each.line
    planned = {line: name for name, line in longest.lines.items() if longest.started[name]}
    unplanned = [line for line in seen if line not in planned]
    assert not unplanned, f"done without a record that it was started: {unplanned[:5]}"
    known = set(longest.lines.values())
    taken = [each for each in told if each.refused and (each.line in known or seen[each.line])]
    assert not taken, f"refused, and yet taken: {taken[:5]}"
    cut = [name for name in longest.started if not longest.finished[name]]
    open_ones = [name for name in cut if longest.unknown[name] != 1]
    assert not open_ones, f"started, cut, and not closed as of unknown outcome: {open_ones[:5]}"
    epochs = [record.epoch for record in longest.records]
    assert epochs == sorted(epochs)
    return Findings(
        len(acknowledged), sum(not each.acknowledged and not each.refused for each in told),
        sum(each.refused for each in told), len(lost), len(doubled), len(cut), len(longest.records), len(set(epochs)),
    )  # fmt: skip


def one_history(histories: dict[str, History]) -> None:
    """Every log is the beginning of every longer one."""
    ordered = sorted(histories.items(), key=lambda each: len(each[1].records))
    for (name, shorter), (other, longer) in itertools.pairwise(ordered):
        size = len(shorter.records)
        assert size and shorter.links[-1] == longer.links[size - 1], f"{name} and {other} part at or before {size}"


def clean(member: MemberProcess) -> None:
    """`femtoclaw verify` and `replay` have nothing to say against a home that is at rest."""
    assert member.node.call("verify").body["ok"], member.name
    told = member.node.call("replay").body
    assert (told["divergences"], told["flips"]) == ([], []), member.name
