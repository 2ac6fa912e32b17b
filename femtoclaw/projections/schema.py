"""Tables of the projections' file. Times are kept as 8 big-endian bytes: they order like the log's unsigned 64-bit
nanoseconds, of which SQLite's signed integers hold only half. Digests are bytes. Both leave as numbers and as hex.
"""

from __future__ import annotations

from femtoclaw.event_codec import VERSIONS

SCHEMA_VERSION = 4
RULES = f"{SCHEMA_VERSION}:" + ",".join(f"{code}.{version}" for code, version in sorted(VERSIONS.items()))
"""What the rows depend on besides the log. A file made by other rules is thrown away."""

STORES = {
    "execution": "execution_log",
    "audit": "audit_log",
    "telemetry": "telemetry",
    "configuration": "configuration",
    "metadata": "metadata",
}
"""The five stores: the operator's name and the table."""

ORDER = {
    "execution_log": "first_index, execution_id",
    "audit_log": "log_index, ordinal",
    "telemetry": "number",
    "configuration": "log_index",
    "metadata": "key",
}
"""The canonical order of each table's rows."""

DIGESTS = frozenset({"integrity", "hash"})
"""Columns that hold digests as bytes; columns that hold times end in ``_ns`` (``duration_ns`` is a plain number)."""

EXECUTION_COLUMNS = (
    "execution_id", "run_id", "step", "capability", "arguments", "result", "blob", "status", "outcome", "code",
    "decision", "state", "received_ns", "started_ns", "finished_ns", "first_index", "last_index",
)  # fmt: skip

# A record's lines beyond the first (ordinal 0) are transitions of the same execution with the same capability: the
# indexes leave them out, and ``queries`` finds them by their record.
SCHEMA = """
CREATE TABLE position (
  one INTEGER PRIMARY KEY CHECK (one = 1), changes INTEGER, rules TEXT, log_id BLOB, log_index INTEGER, link BLOB,
  appended_records INTEGER, appended_bytes INTEGER, telemetry_rows INTEGER, telemetry_dropped INTEGER,
  telemetry_kept INTEGER);
CREATE TABLE heads (store TEXT PRIMARY KEY, log_index INTEGER, link BLOB) WITHOUT ROWID;
CREATE TABLE batches (last_index INTEGER PRIMARY KEY, first_index INTEGER, digest BLOB);
CREATE TABLE execution_log (
  execution_id TEXT PRIMARY KEY, run_id TEXT, step INTEGER, capability TEXT, arguments, result, blob TEXT, status TEXT,
  outcome TEXT, code TEXT, decision TEXT, state TEXT, received_ns BLOB, started_ns BLOB, finished_ns BLOB,
  first_index INTEGER, last_index INTEGER);
CREATE INDEX execution_open ON execution_log (execution_id) WHERE state <> 'IDLE';
CREATE INDEX execution_order ON execution_log (first_index);
CREATE TABLE audit_log (
  log_index INTEGER, ordinal INTEGER, type TEXT, execution_id TEXT, component TEXT, capability TEXT, time_ns BLOB,
  outcome TEXT, integrity BLOB, PRIMARY KEY (log_index, ordinal)) WITHOUT ROWID;
CREATE INDEX audit_execution ON audit_log (execution_id) WHERE ordinal = 0;
CREATE INDEX audit_type ON audit_log (type) WHERE ordinal = 0;
CREATE INDEX audit_capability ON audit_log (capability) WHERE ordinal = 0;
CREATE TABLE telemetry (
  number INTEGER PRIMARY KEY, log_index INTEGER, event_type TEXT, class TEXT, subsystem TEXT, execution_id TEXT,
  capability TEXT, time_ns BLOB, status TEXT, store TEXT, sequence INTEGER, hash BLOB, duration_ns INTEGER,
  bytes INTEGER, detail TEXT);
CREATE TABLE configuration (
  kind TEXT, version INTEGER, digest TEXT, previous TEXT, operator TEXT, time_ns BLOB, log_index INTEGER PRIMARY KEY,
  content);
CREATE TABLE metadata (key TEXT PRIMARY KEY, value TEXT);
"""
