"""Records to rows of the five stores, by fixed rules: the same log gives the same rows, in whatever pieces it is taken.
Pure; ``femtoclaw.projections.database`` keeps the rows and the progress.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

from femtoclaw import events
from femtoclaw.config import EMBEDDED
from femtoclaw.events import Event
from femtoclaw.lifecycle import PROCESS, RuntimeState, path
from femtoclaw.projections import points
from femtoclaw.projections.reading import TRANSITION, UNKNOWN, Unread, read_event, repair_note, type_name
from femtoclaw.projections.schema import EXECUTION_COLUMNS
from wal.record import FLAG_BATCH_END, FRAME_OVERHEAD_BYTES, KIND_EVENT, KIND_RECOVERED, Record

INTEGER_MAX = (1 << 63) - 1
"""The largest integer that SQLite holds."""

Row = tuple[Any, ...]
_IDLE = RuntimeState.IDLE
STATES = {state.value: state for state in RuntimeState}


class Progress:
    """What deriving goes on from: how far the rows reach, and what the next record's rows depend on."""

    def __init__(self) -> None:
        self.log_index = 0
        self.link = b""
        self.appended_records = 0
        """Records and bytes of the append that the last record is inside of; 0 when it ended one."""
        self.appended_bytes = 0
        self.telemetry_rows = 0
        """All telemetry rows so far, the dropped ones too."""
        self.telemetry_dropped = 0
        self.telemetry_kept: int = EMBEDDED["observability"]["telemetry_retention_events"]
        """The bound in force, from the newest recorded configuration."""
        self.heads: dict[str, tuple[int, bytes]] = {}
        """Store to the last record that gave it a row, and that record's link."""
        self.open: dict[str, dict[str, Any]] = {}
        """Rows of the executions that have not ended."""


class Derivation:
    """Rows of consecutive records. Each list holds the rows of one table in the order of its columns."""

    def __init__(self, progress: Progress) -> None:
        """``progress`` is advanced in place."""
        self.progress = progress
        self.audit: list[Row] = []
        self.telemetry: list[Row] = []
        self.configuration: list[Row] = []
        self.metadata: dict[str, str] = {}
        self.executions: dict[str, dict[str, Any]] = {}
        self._record: Record
        self._time = b""

    def take(self, record: Record) -> None:
        """Add the rows of the record behind the last one. Whatever a verified record holds, this does not raise."""
        progress = self.progress
        told = progress.telemetry_rows
        self._record = record
        self._time = record.time_ns.to_bytes(8)
        progress.appended_records += 1
        progress.appended_bytes += len(record.payload) + FRAME_OVERHEAD_BYTES
        if record.kind == KIND_EVENT:
            event = read_event(record.payload)
            if isinstance(event, Unread):
                self._audit(0, UNKNOWN, "", "log", "", f"type {event.code} version {event.version}")
            else:
                self._event(event)
        else:
            self._log_record(record)
        if record.flags & FLAG_BATCH_END:
            self._append_ended()
        progress.log_index, progress.link = record.index, record.link
        self._touch("audit")
        if progress.telemetry_rows > told:
            self._touch("telemetry")

    def rows_of_executions(self) -> list[Row]:
        """The rows of the executions that these records began, changed or ended."""
        return [tuple(row.values()) for row in self.executions.values()]

    def drop_telemetry(self) -> None:
        """Leave the newest telemetry rows only, as many as the bound in force says. What is dropped stays dropped."""
        progress = self.progress
        progress.telemetry_dropped = max(progress.telemetry_dropped, progress.telemetry_rows - progress.telemetry_kept)
        first = progress.telemetry_rows - len(self.telemetry)
        del self.telemetry[: max(0, progress.telemetry_dropped - first)]

    def _touch(self, store: str) -> None:
        self.progress.heads[store] = (self._record.index, self._record.link)

    def _audit(self, ordinal: int, kind: str, execution_id: str, component: str, claw: str, outcome: str) -> None:
        record = self._record
        self.audit.append(
            (record.index, ordinal, kind, execution_id, component, claw, self._time, outcome, record.link)
        )

    def _tell(
        self, point: str, subsystem: str, execution_id: str = "", claw: str = "", status: str = "", *,
        store: str | None = None, sequence: int | None = None, digest: bytes | None = None,
        duration_ns: int | None = None, size: int | None = None, detail: str = "",
    ) -> None:  # fmt: skip
        """Add one telemetry row."""
        self.progress.telemetry_rows += 1
        self.telemetry.append(
            (self.progress.telemetry_rows, self._record.index, point, points.CLASSES[point], subsystem, execution_id,
             claw, self._time, status, store, sequence, digest, duration_ns, size, detail)
        )  # fmt: skip

    def _log_record(self, record: Record) -> None:
        note = repair_note(record) if record.kind == KIND_RECOVERED else ()
        what = note[0] if note else ""
        self._audit(0, type_name(record), "", "log", "", what)
        if record.kind == KIND_RECOVERED:
            self._tell(
                points.RECOVERY, "storage", status=what, store="log", sequence=record.index, digest=record.link,
                detail=" ".join(note[1:]),
            )  # fmt: skip

    def _append_ended(self) -> None:
        """An atomic append is a write and a commit; how long they took is not in the log."""
        progress, record = self.progress, self._record
        first = record.index - progress.appended_records + 1
        size = progress.appended_bytes
        self._tell(points.WRITE, "storage", status="written", store="log", sequence=first, size=size)
        self._tell(
            points.COMMIT, "storage", status="durable", store="log", sequence=record.index, digest=record.link,
            size=size, detail=f"epoch {record.epoch}",
        )  # fmt: skip
        progress.appended_records = progress.appended_bytes = 0

    def _event(self, event: Event) -> None:
        execution_id: str = getattr(event, "execution_id", "")
        known = self.progress.open.get(execution_id)
        claw: str = getattr(event, "claw", "") or getattr(event, "tool", "") or (known["capability"] if known else "")
        component = points.COMPONENTS.get(type(event), "runtime")
        outcome = str(getattr(event, "decision", "") or getattr(event, "outcome", "") or getattr(event, "status", ""))
        self._audit(0, type(event).__name__, execution_id, component, claw, outcome)
        for point in points.POINTS.get(type(event), ()):
            self._point(point, event, component, execution_id, claw, outcome)
        if execution_id:
            self._execution(event, execution_id, claw, known)
        else:
            self._node(event)

    def _point(self, point: str, event: Event, component: str, execution_id: str, claw: str, outcome: str) -> None:
        match event:
            case events.ExecutionFinished():
                self._tell(
                    point, component, execution_id, claw, outcome, duration_ns=min(event.duration_ns, INTEGER_MAX),
                    size=min(event.kept_bytes, INTEGER_MAX),
                )  # fmt: skip
            case events.ErrorRecorded():
                self._tell(point, event.subsystem, status=event.code, detail=event.detail)
                if event.subsystem == "storage":
                    self._tell(
                        points.FAILURE, "storage", status=event.code, store="log",
                        sequence=self._record.index, digest=self._record.link, detail=event.detail,
                    )  # fmt: skip
            case events.ModuleCalled():
                if points.MODULE_STAGES[point] in event.stages:
                    told = f"{event.version} {event.manifest_digest}"
                    self._tell(point, component, execution_id, claw, "entered", detail=told)
            case events.ExecutionFailed():
                # The detail may quote what a brain said; the code never does (OBSERVE-12.1).
                self._tell(point, component, execution_id, claw, outcome, detail=event.code)
            case _:
                self._tell(point, component, execution_id, claw, outcome)

    def _execution(self, event: Event, execution_id: str, claw: str, known: dict[str, Any] | None) -> None:
        """Walk the execution's machine, and bring its row up to date."""
        record = self._record
        if isinstance(event, events.InputReceived):
            known = dict.fromkeys(EXECUTION_COLUMNS, "")
            known |= {"execution_id": execution_id, "run_id": event.run_id, "step": min(event.step, INTEGER_MAX)}
            known |= {"received_ns": self._time, "started_ns": None, "finished_ns": None, "first_index": record.index}
            known["state"] = _IDLE.value
        before = STATES[known["state"]] if known is not None else _IDLE
        for ordinal, to in enumerate(path(event, before), 1):
            moved = before + ">" + to  # plain text, several times as fast as by the members' values
            self._audit(ordinal, TRANSITION, execution_id, "state_machine", claw, moved)
            self._tell(points.TRANSITION, "state_machine", execution_id, claw, moved)
            before = to
        if known is None:
            return  # of no execution that is open: nothing that this program writes
        known["state"], known["capability"], known["last_index"] = before.value, claw, record.index
        self.progress.open[execution_id] = self.executions[execution_id] = known
        self._fields(event, known)
        self._touch("execution")

    def _fields(self, event: Event, row: dict[str, Any]) -> None:
        match event:
            case events.ProtocolValidated():
                row["arguments"] = text(event.args)
            case events.AuthorizationDecided():
                row["decision"] = event.decision
            case events.ExecutionStarted():
                row["started_ns"] = self._time
            case events.ExecutionFinished():
                row |= {"status": event.status, "result": text(event.result), "blob": event.blob}
                row |= {"finished_ns": self._time, "code": event.error_class}
            case events.ResponseRecorded():
                row["result"] = event.content
            case events.ExecutionCompleted() | events.ExecutionFailed():
                row["outcome"] = event.outcome
                row["status"] = row["status"] or event.outcome
                row["finished_ns"] = row["finished_ns"] or self._time
                if isinstance(event, events.ExecutionFailed):
                    row["code"] = event.code
                del self.progress.open[row["execution_id"]]

    def _node(self, event: Event) -> None:
        """What an event says about the node: its process, configuration and metadata."""
        moves = PROCESS.get(type(event))
        if moves is not None:
            for ordinal, (before, to) in enumerate(itertools.pairwise(moves.states), 1):
                moved = f"{before.value}>{to.value}"
                self._audit(ordinal, TRANSITION, "", "state_machine", "", moved)
                self._tell(points.TRANSITION, "state_machine", status=moved)
        match event:
            case events.NodeProvisioned():
                self._know({"runtime_id": event.runtime_id, "runtime_version": event.version})
            case events.RuntimeStarted():
                self._know({"runtime_version": event.version, "python": event.python, "boot_id": event.boot_id})
                self._recovered(event)
            case events.ClawRegistered():
                self._know(
                    {f"module.{event.name}": event.digest, f"module_version.{event.name}": _version(event.manifest),
                     f"enabled.{event.name}": "false"}
                )  # fmt: skip
            case events.ClawEnabled() | events.ClawDisabled():
                self._know({f"enabled.{event.name}": str(isinstance(event, events.ClawEnabled)).lower()})
            case events.ConfigurationAdopted():
                self._adopted("configuration", event, text(event.content))
                self.drop_telemetry()  # by the bound that was in force until here
                self.progress.telemetry_kept = _retention(event.content)
            case events.PolicyAdopted():
                self._adopted("policy", event, event.text)

    def _know(self, known: dict[str, str]) -> None:
        self.metadata |= known
        self._touch("metadata")

    def _adopted(
        self, kind: str, event: events.ConfigurationAdopted | events.PolicyAdopted, content: str | bytes
    ) -> None:
        self.configuration.append(
            (kind, min(event.version, INTEGER_MAX), event.digest, event.previous, event.operator, self._time,
             self._record.index, content)
        )  # fmt: skip
        self._touch("configuration")

    def _recovered(self, event: events.RuntimeStarted) -> None:
        """A start found each store as the log's head says: its last record and that record's link."""
        for store in points.RECOVERED_STORES:
            sequence, link = self.progress.heads.get(store, (0, b""))
            self._tell(
                points.RECOVERY, "storage", status=event.verdict, store=store, sequence=sequence, digest=link,
                detail=f"{event.in_doubt} executions in doubt",
            )  # fmt: skip


def take_all(progress: Progress, records: Iterable[Record]) -> Derivation:
    """The rows of consecutive records behind ``progress``, which is advanced."""
    derivation = Derivation(progress)
    for record in records:
        derivation.take(record)
    derivation.drop_telemetry()
    return derivation


def text(raw: bytes) -> str | bytes:
    """Bytes as text where they are UTF-8, else as they are: the two never look alike."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _version(manifest: bytes) -> str:
    try:
        return str(json.loads(manifest)["version"]).encode("utf-8", "backslashreplace").decode()
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _retention(content: bytes) -> int:
    try:
        kept = json.loads(content)["observability"]["telemetry_retention_events"]
    except (ValueError, KeyError, TypeError, RecursionError):
        kept = None
    return kept if type(kept) is int and kept >= 0 else int(EMBEDDED["observability"]["telemetry_retention_events"])
