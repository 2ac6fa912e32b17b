"""Damaged logs, and their repair without an interpreter's start for each look."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest

import wal.inspection
import wal.repair
import wal.replacement
import wal.writer_lock
from tests.wal.sample_log import GENESIS, ORIGIN, SIGNER, T0, make_frames, ticking_clock
from wal.chain import verify_run
from wal.directory import create_log_directory, open_log_directory
from wal.inspection import Finding
from wal.lmdb_storage import LmdbStorage
from wal.note import Signer
from wal.record import Head, decode
from wal.repair import Rebuilt, install, rebuild
from wal.replacement import Replacement
from wal.segment import encode_segment

SIZE = 31
"""Records of the sample log: the first one and ten batches of three."""


def make_log(where: str) -> str:
    """A log that was closed in order; its path."""
    create_log_directory(where, GENESIS, signer=SIGNER, clock=ticking_clock())
    log, _ = open_log_directory(where, signer=SIGNER, clock=ticking_clock(T0 + 10**6))
    for number in range(10):
        log.append([b"record %d %d" % (number, part) for part in range(3)])
    log.close()
    return where


def frames_of(path: str) -> list[bytes]:
    storage = LmdbStorage(path, writable=False)
    try:
        return [raw for _, raw in storage.scan(1, 1 << 62)]
    finally:
        storage.close()


def head_of(path: str) -> Head:
    last = decode(frames_of(path)[-1])
    return Head(last.index, last.link)


def lose_pages(path: str) -> None:
    """Both meta pages are gone: LMDB reaches nothing, every record is still in the file."""
    with open(os.path.join(path, "data", "data.mdb"), "rb+") as file:
        for page in (0, 4096):
            file.seek(page + 16)
            file.write(b"\xff" * 8)


def damage(path: str, payload: bytes) -> None:
    """One bit of each copy of a record."""
    file = Path(path, "data", "data.mdb")
    raw = file.read_bytes()
    assert payload in raw
    file.write_bytes(raw.replace(payload, bytes([payload[0] ^ 1]) + payload[1:]))


def write_segment(folder: str, start: Head, payloads: list[bytes], signer: Signer | None) -> str:
    """A segment file that continues ``start``; returns its path."""
    os.makedirs(folder, exist_ok=True)
    seal, raw = encode_segment(ORIGIN, verify_run(start, make_frames(payloads, start, time_ns=2 * T0)), signer)
    file = os.path.join(folder, seal.file_name)
    Path(file).write_bytes(raw)
    return file


def repair(path: str, archives: list[str] | None = None, key: Signer = SIGNER) -> Rebuilt:
    with Replacement(path) as attempt:
        rebuilt = rebuild(attempt, archives or [], key=key.public)
        install(attempt, rebuilt, signer=key, clock=ticking_clock(3 * T0), reason="test")
    return rebuilt


def only_rebuild(path: str, archives: list[str] | None = None) -> Rebuilt:
    with Replacement(path) as attempt:
        return rebuild(attempt, archives or [], key=SIGNER.public)


def beside(path: str, infix: str) -> list[str]:
    return [name for name in os.listdir(os.path.dirname(path)) if name.startswith(f"log.{infix}")]


def in_fork(act: Callable[[], None], stdout: int = -1) -> int:
    """How a fork of this process that runs ``act`` ended."""
    pid = os.fork()
    if pid == 0:
        try:
            if stdout >= 0:
                os.dup2(stdout, 1)
                sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False))
            act()
            sys.stdout.flush()
            os._exit(0)
        finally:
            os._exit(70)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def inspect_in_fork(command: str, path: str, *arguments: str) -> tuple[Any, Finding | None]:
    """As ``wal.inspection.inspect``, without an interpreter's start."""
    with TemporaryFile() as output:
        code = in_fork(lambda: wal.inspection.main([command, path, *arguments]), output.fileno())
        output.seek(0)
        text = output.read()
    return (json.loads(text), None) if code == 0 else (None, Finding("STORE_UNREADABLE", path, "", str(code)))


def quick_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a repair has a process of its own look at is looked at in a fork."""
    monkeypatch.setattr(wal.inspection, "inspect", inspect_in_fork)
    monkeypatch.setattr(wal.repair, "inspect", inspect_in_fork)
