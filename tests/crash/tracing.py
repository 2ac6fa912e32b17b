"""The tracer (``tracer.c``) from Python: compile it, switch it on inside a workload, read its trace back."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tracer.c")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_HEADER = struct.Struct("<BqqII")


class Op(IntEnum):
    """Kinds of trace records; the numbers are those of ``tracer.c``."""

    OPEN = 1
    WRITE = 2
    TRUNCATE = 3
    SYNC = 4
    CLOSE = 5
    RENAME = 6
    MKDIR = 7
    UNLINK = 8
    MARK = 9


class Fault(IntEnum):
    """What the chosen call meets; the numbers are those of ``tracer.c``."""

    NONE = 0
    IO = 1
    SPACE = 2
    SHORT = 3
    KILL_BEFORE = 4
    KILL_AFTER = 5
    IO_AFTER = 6
    INTERRUPTED = 7


class Call(NamedTuple):
    """One traced call: ``a`` and ``b`` are fd and offset, size or flags; ``one`` and ``two`` are paths or data."""

    op: Op
    a: int
    b: int
    one: bytes
    two: bytes


def compile_tracer(folder: str) -> str:
    """Build the shared library with the system's C compiler; returns its path. Raises CalledProcessError."""
    path = os.path.join(folder, "tracer.so")
    command = ["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-o", path, SOURCE, "-ldl", "-lpthread"]
    subprocess.run(command, check=True)
    return path


def environment(library: str) -> dict[str, str]:
    """The environment of a process that has the tracer loaded, asleep until ``Tracer.start``."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {"LD_PRELOAD": library, "PYTHONPATH": ROOT, "PYTHONHASHSEED": "0"}


class Tracer:
    """The tracer inside this very process, which was started with ``environment``."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.tracer_operations.restype = ctypes.c_long

    def start(self, folder: str, *, trace: str = "", marks: str = "", at: int = 0, fault: Fault = Fault.NONE) -> None:
        """Count and record calls below ``folder``; call number ``at`` meets ``fault``."""
        self._library.tracer_start(
            folder.encode(), trace.encode(), marks.encode(), ctypes.c_long(at), ctypes.c_int(fault)
        )

    def mark(self, text: str) -> None:
        """Put a line into the trace and the marks file, in order with the calls."""
        self._library.tracer_mark(text.encode())

    def stop(self) -> int:
        """Stop counting and recording; returns how many calls were met."""
        self._library.tracer_stop()
        operations: int = self._library.tracer_operations()
        return operations


def read_trace(path: str) -> list[Call]:
    """All records of a finished trace."""
    with open(path, "rb") as file:
        return list(_calls(file.read()))


def _calls(raw: bytes) -> Iterator[Call]:
    at = 0
    while at < len(raw):
        op, a, b, n1, n2 = _HEADER.unpack_from(raw, at)
        at += _HEADER.size
        yield Call(Op(op), a, b, raw[at : at + n1], raw[at + n1 : at + n1 + n2])
        at += n1 + n2
