"""A Merkle-chained write-ahead log: durable, append-only, checkable by anyone. Knows nothing of what it records."""

from __future__ import annotations

from wal.directory import create_log_directory, examine_directory, open_log_directory, read_log_directory
from wal.errors import LogError
from wal.genesis import Genesis
from wal.log import Log, create_log
from wal.memory_storage import MemoryStorage
from wal.opening import Examination, open_log
from wal.reader import LogReader
from wal.record import KIND_EVENT, Head, Record
from wal.recovery import Verdict
from wal.writer import Receipt, Ticket

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
