"""The five stores as indexed projections of the log: execution log, audit log, telemetry, configuration, metadata.

They hold nothing that the log does not: delete the file and it is rebuilt. They lag behind the log (it is caught up
before every query and at every stop) so that no index and no telemetry line sits in the path of a durable commit.
SQLite keeps them because its file may be damaged or deleted at no loss.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from femtoclaw import events
from femtoclaw.event_codec import decode
from femtoclaw.events import Event
from femtoclaw.lifecycle import RuntimeState, path
from wal import KIND_EVENT, LogReader, Record

SCHEMA_VERSION = 1
COMMIT_RECORDS = 10_000
MEMORY = ":memory:"
STORES = ("execution_log", "audit_log", "telemetry", "configuration", "metadata")

_SCHEMA = f"""
CREATE TABLE position (one INTEGER PRIMARY KEY CHECK (one = 1), log_index INTEGER, link TEXT);
CREATE TABLE execution_log (
  execution_id TEXT PRIMARY KEY, run_id TEXT, step INTEGER, capability TEXT, arguments TEXT, result TEXT, blob TEXT,
  status TEXT, outcome TEXT, decision TEXT, state TEXT, received_ns INTEGER, started_ns INTEGER, finished_ns INTEGER,
  first_index INTEGER, last_index INTEGER);
CREATE TABLE audit_log (
  log_index INTEGER, ordinal INTEGER, type TEXT, execution_id TEXT, component TEXT, capability TEXT, time_ns INTEGER,
  outcome TEXT, integrity TEXT, PRIMARY KEY (log_index, ordinal)) WITHOUT ROWID;
CREATE INDEX audit_execution ON audit_log (execution_id);
CREATE INDEX audit_type ON audit_log (type);
CREATE INDEX audit_capability ON audit_log (capability);
CREATE TABLE telemetry (
  log_index INTEGER, ordinal INTEGER, event_type TEXT, execution_id TEXT, capability TEXT, time_ns INTEGER,
  status TEXT, PRIMARY KEY (log_index, ordinal)) WITHOUT ROWID;
CREATE TABLE configuration (
  kind TEXT, version INTEGER, digest TEXT, previous TEXT, operator TEXT, time_ns INTEGER, log_index INTEGER,
  PRIMARY KEY (kind, version));
CREATE TABLE metadata (key TEXT PRIMARY KEY, value TEXT);
PRAGMA user_version = {SCHEMA_VERSION};
"""

_COMPONENTS: dict[type[Event], str] = {
    events.RunStarted: "input",
    events.InputReceived: "input",
    events.InferenceReceived: "brain_interface",
    events.InferenceFailed: "brain_interface",
    events.ProtocolValidated: "protocol_validator",
    events.ProtocolRejected: "protocol_validator",
    events.AuthorizationDecided: "capability_gate",
    events.ExecutionStarted: "capability_execution",
    events.ExecutionFinished: "capability_execution",
    events.OutcomeUnknown: "recovery",
    events.ResponseRecorded: "memory",
    events.ExecutionCompleted: "memory",
    events.ExecutionFailed: "agent_core",
    events.RunEnded: "agent_core",
}

_POINTS: dict[type[Event], tuple[str, ...]] = {
    events.InputReceived: ("input_received",),
    events.ProtocolValidated: ("protocol_validated",),
    events.ProtocolRejected: ("protocol_rejected",),
    events.AuthorizationDecided: ("authorization_decision",),
    events.ExecutionStarted: ("capability_start",),
    events.ExecutionFinished: ("capability_complete", "memory_write"),
    events.ResponseRecorded: ("memory_write",),
    events.ExecutionCompleted: ("execution_complete",),
    events.ExecutionFailed: ("execution_failed",),
    events.ErrorRecorded: ("error",),
}
"""Telemetry points of each event (OBSERVE-4.1)."""


class AuditRow(NamedTuple):
    """One audit line: an event, or a state transition that follows from it (ordinal above 0)."""

    log_index: int
    ordinal: int
    type: str
    execution_id: str
    component: str
    capability: str
    time_ns: int
    outcome: str
    integrity: str


class Projections:
    """The projections' file, caught up with a log on demand. One writer at a time; any other instance may read."""

    def __init__(self, file: str | None) -> None:
        """Without a ``file`` they live in memory: for a reader who may not write."""
        if file is not None:
            os.makedirs(os.path.dirname(file), 0o700, exist_ok=True)
        self._file = file if file is not None else MEMORY
        self._db = self._open()
        self._states: dict[str, RuntimeState] = {}
        self._claws: dict[str, str] = {}

    def _open(self) -> sqlite3.Connection:
        db = self._connect()
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == SCHEMA_VERSION:
                db.execute("SELECT log_index FROM position").fetchone()
                return db
            if version == 0:
                db.executescript(_SCHEMA)
                return db
        except sqlite3.DatabaseError:
            pass  # a damaged or foreign file is thrown away: it holds nothing that the log does not
        db.close()
        return self._fresh()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._file, isolation_level=None, timeout=30)
        if self._file != MEMORY:
            os.chmod(self._file, 0o600)
        return db

    def _fresh(self) -> sqlite3.Connection:
        for suffix in ("", "-wal", "-shm", "-journal"):
            if os.path.exists(self._file + suffix):
                os.unlink(self._file + suffix)
        db = self._connect()
        db.executescript(_SCHEMA)
        return db

    def catch_up(self, reader: LogReader, telemetry_retention: int = 1_000_000) -> int:
        """Project the records behind the stored position and return how many; rebuilds when that is another log's."""
        size = reader.size
        position = self._db.execute("SELECT log_index, link FROM position").fetchone() or (0, "")
        if position[0] > size or (position[0] and reader.read(position[0]).link.hex() != position[1]):
            self._db.close()
            self._db, position = self._fresh(), (0, "")
        self._resume()
        done = int(position[0])
        if done >= size:
            return 0
        batch: list[Record] = []
        for record in reader.scan(done + 1, size + 1):
            batch.append(record)
            if len(batch) >= COMMIT_RECORDS:
                self._project(batch)
                batch = []
        if batch:
            self._project(batch)
        self._db.execute("DELETE FROM telemetry WHERE log_index <= ?", (size - telemetry_retention,))
        return size - done

    def _resume(self) -> None:
        rows = self._db.execute("SELECT execution_id, state, capability FROM execution_log WHERE outcome = ''")
        self._states, self._claws = {}, {}
        for execution_id, state, capability in rows:
            self._states[execution_id] = RuntimeState(state)
            self._claws[execution_id] = capability

    def _project(self, batch: list[Record]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for record in batch:
                if record.kind == KIND_EVENT:
                    self._event(record, decode(record.payload))
                else:
                    self._audit(record, 0, f"log_record_{record.kind}", "", "log", "", "")
            last = batch[-1]
            self._db.execute("INSERT OR REPLACE INTO position VALUES (1, ?, ?)", (last.index, last.link.hex()))
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _event(self, record: Record, event: Event) -> None:
        execution_id: str = getattr(event, "execution_id", "")
        claw: str = getattr(event, "claw", "") or getattr(event, "tool", "") or self._claws.get(execution_id, "")
        if claw and execution_id:
            self._claws[execution_id] = claw
        component = _COMPONENTS.get(type(event), "runtime")
        outcome = str(getattr(event, "decision", "") or getattr(event, "outcome", "") or getattr(event, "status", ""))
        self._audit(record, 0, type(event).__name__, execution_id, component, claw, outcome)
        points = list(_POINTS.get(type(event), ()))
        if execution_id:
            before = self._states.get(execution_id, RuntimeState.IDLE)
            for ordinal, to in enumerate(path(event, before), 1):
                moved = f"{before.value}>{to.value}"
                self._audit(record, ordinal, "StateTransition", execution_id, "state_machine", claw, moved)
                points.append(f"state_transition {moved}")
                before = to
            self._states[execution_id] = before
            self._execution(record, event, execution_id, claw, before)
        for ordinal, point in enumerate(points):
            self._db.execute(
                "INSERT INTO telemetry VALUES (?,?,?,?,?,?,?)",
                (record.index, ordinal, point, execution_id, claw, record.time_ns, outcome),
            )
        self._node(record, event)

    def _audit(
        self, record: Record, ordinal: int, kind: str, execution_id: str, component: str, claw: str, outcome: str
    ) -> None:
        row = AuditRow(
            record.index, ordinal, kind, execution_id, component, claw, record.time_ns, outcome, record.link.hex()
        )
        self._db.execute("INSERT INTO audit_log VALUES (?,?,?,?,?,?,?,?,?)", row)

    def _execution(self, record: Record, event: Event, execution_id: str, claw: str, state: RuntimeState) -> None:
        fields: dict[str, Any] = {"state": state.value, "capability": claw, "last_index": record.index}
        match event:
            case events.InputReceived():
                self._db.execute(
                    "INSERT INTO execution_log VALUES (?,?,?,'','','','','','','',?,?,0,0,?,?)",
                    (execution_id, event.run_id, event.step, state.value, record.time_ns, record.index, record.index),
                )
                return
            case events.ProtocolValidated():
                fields["arguments"] = event.args.decode()
            case events.ProtocolRejected():
                fields["status"] = event.code
            case events.AuthorizationDecided():
                fields["decision"] = event.decision
            case events.ExecutionStarted():
                fields["started_ns"] = record.time_ns
            case events.ExecutionFinished():
                fields |= {"status": event.status, "result": event.result.decode(), "blob": event.blob}
                fields["finished_ns"] = record.time_ns
            case events.ResponseRecorded():
                fields |= {"status": "answered", "result": event.content, "finished_ns": record.time_ns}
            case events.ExecutionCompleted() | events.ExecutionFailed():
                fields["outcome"] = event.outcome
                self._states.pop(execution_id, None)
                self._claws.pop(execution_id, None)
        names = ", ".join(f"{name} = ?" for name in fields)
        self._db.execute(f"UPDATE execution_log SET {names} WHERE execution_id = ?", (*fields.values(), execution_id))

    def _node(self, record: Record, event: Event) -> None:
        known: dict[str, str] = {}
        match event:
            case events.NodeProvisioned():
                known = {"runtime_id": event.runtime_id, "runtime_version": event.version}
            case events.RuntimeStarted():
                known = {"runtime_version": event.version, "python": event.python, "boot_id": event.boot_id}
            case events.ClawRegistered():
                known = {f"module.{event.name}": event.digest, f"enabled.{event.name}": "false"}
            case events.ClawEnabled() | events.ClawDisabled():
                known = {f"enabled.{event.name}": str(isinstance(event, events.ClawEnabled)).lower()}
            case events.ConfigurationAdopted() | events.PolicyAdopted():
                kind = "policy" if isinstance(event, events.PolicyAdopted) else "configuration"
                row = (kind, event.version, event.digest, event.previous, event.operator, record.time_ns, record.index)
                self._db.execute("INSERT INTO configuration VALUES (?,?,?,?,?,?,?)", row)
            case _:
                return
        for item in known.items():
            self._db.execute("INSERT OR REPLACE INTO metadata VALUES (?,?)", item)

    def counts(self) -> dict[str, int]:
        """Rows of each of the five stores."""
        return {name: self._db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in STORES}

    def rows(self, store: str) -> Iterator[dict[str, Any]]:
        """All rows of a store in key order, as dictionaries (the canonical content of the projection)."""
        assert store in STORES
        cursor = self._db.execute(f"SELECT * FROM {store} ORDER BY 1, 2")
        names = [column[0] for column in cursor.description]
        return (dict(zip(names, row, strict=True)) for row in cursor)

    def execution(self, execution_id: str) -> dict[str, Any] | None:
        """One execution record by its id or an unambiguous beginning of it."""
        cursor = self._db.execute(
            "SELECT * FROM execution_log WHERE execution_id >= ? AND execution_id < ? LIMIT 2",
            (execution_id, execution_id + "\uffff"),
        )
        names = [column[0] for column in cursor.description]
        found = [dict(zip(names, row, strict=True)) for row in cursor]
        return found[0] if len(found) == 1 else None

    def audit(
        self,
        *,
        execution: str | None = None,
        kind: str | None = None,
        capability: str | None = None,
        since_ns: int | None = None,
        until_ns: int | None = None,
        first: int = 1,
    ) -> Iterable[AuditRow]:
        """Audit lines that match every given condition, in log order."""
        conditions, values = ["log_index >= ?"], [first]  # type: list[str], list[Any]
        for text, value in (
            ("execution_id = ?", execution),
            ("type = ? COLLATE NOCASE", kind),
            ("capability = ?", capability),
            ("time_ns >= ?", since_ns),
            ("time_ns <= ?", until_ns),
        ):
            if value is not None:
                conditions.append(text)
                values.append(value)
        query = f"SELECT * FROM audit_log WHERE {' AND '.join(conditions)} ORDER BY log_index, ordinal"
        return (AuditRow(*row) for row in self._db.execute(query, values))

    def close(self) -> None:
        """Release the file."""
        self._db.close()
