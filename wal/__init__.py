"""A Merkle-chained write-ahead log: durable, append-only, checkable by anyone. Knows nothing of what it records.

The front door. Names are loaded on first use: a command that only needs an error type does not pay for the store.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wal.directory import create_log_directory, examine_directory, open_log_directory
    from wal.errors import LogError
    from wal.examination import Examination
    from wal.genesis import Genesis
    from wal.log import Log, create_log
    from wal.memory_storage import MemoryStorage
    from wal.opening import open_log
    from wal.reader import LogReader, read_log_directory
    from wal.record import KIND_EVENT, Head, Record
    from wal.recovery import Verdict
    from wal.writer import Receipt, Ticket

_WHERE = {
    "KIND_EVENT": "record",
    "Examination": "examination",
    "Genesis": "genesis",
    "Head": "record",
    "Log": "log",
    "LogError": "errors",
    "LogReader": "reader",
    "MemoryStorage": "memory_storage",
    "Receipt": "writer",
    "Record": "record",
    "Ticket": "writer",
    "Verdict": "recovery",
    "create_log": "log",
    "create_log_directory": "directory",
    "examine_directory": "directory",
    "open_log": "opening",
    "open_log_directory": "directory",
    "read_log_directory": "reader",
}

__all__ = [
    "KIND_EVENT",
    "Examination",
    "Genesis",
    "Head",
    "Log",
    "LogError",
    "LogReader",
    "MemoryStorage",
    "Receipt",
    "Record",
    "Ticket",
    "Verdict",
    "create_log",
    "create_log_directory",
    "examine_directory",
    "open_log",
    "open_log_directory",
    "read_log_directory",
]


def __getattr__(name: str) -> object:
    module = _WHERE.get(name)
    if module is None:
        raise AttributeError(f"module 'wal' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"wal.{module}"), name)
    globals()[name] = value
    return value
