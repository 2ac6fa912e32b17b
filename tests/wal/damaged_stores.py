"""Stores for tests of recovery: built, damaged, and opened again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faulty_storage import content
from tests.wal.sample_log import (
    GENESIS,
    SIGNER,
    T0,
    make_frames,
    ticking_clock,
)
from wal.errors import (
    LogError,
)
from wal.examination import Examination, examine
from wal.limits import SEGMENT_RECORDS
from wal.log import Log, create_log
from wal.opening import open_log
from wal.record import Head
from wal.recovery import Verdict
from wal.storage import Storage

MAP_BYTES = 64 * 1024 * 1024
Opener = Callable[[], Storage]


def build(opener: Opener, size: int = 6, *, clean: bool = False, checkpoint_at: int = 0) -> Storage:
    """A log of ``size`` promised records, closed in order or left as a crash leaves it; the store opened anew."""
    log = create_log(opener(), GENESIS, signer=SIGNER, clock=ticking_clock(), threaded=False)
    while log.head.index < size:
        log.append([b"payload %d" % (log.head.index + 1)])
        if log.head.index == checkpoint_at:
            log.checkpoint()
    if clean:
        log.close()
    else:
        log.abandon()
    return opener()


def extend(storage: Storage, payloads: list[bytes]) -> None:
    """Records above the commit point: durable, but a crash came before HEAD was written."""
    last = storage.last_index()
    storage.append(make_frames(payloads, Head(last, (storage.get(last) or b"")[-32:]), time_ns=2 * T0))


def rewrite(storage: Storage, index: int, change: Callable[[bytes], bytes]) -> None:
    """Put other bytes at ``index`` behind the back of the log."""
    frames = list(storage.scan(index, storage.last_index() + 1))
    storage.cut(index - 1)
    storage.append([(key, change(raw) if key == index else raw) for key, raw in frames])


def flip(raw: bytes) -> bytes:
    return raw[:70] + bytes([raw[70] ^ 1]) + raw[71:]


def reopen(storage: Storage) -> tuple[Log, Examination]:
    return open_log(storage, signer=SIGNER, clock=lambda: 3 * T0, threaded=False)


def assert_halts(storage: Storage, verdict: Verdict, error: type[LogError]) -> Examination:
    """``examine`` gives this verdict, opening raises this error, and neither changes a byte."""
    before = content(storage)
    examination = examine(storage, key_text=SIGNER.public.vkey())
    assert examination.case.verdict is verdict, examination.findings
    with pytest.raises(error):
        reopen(storage)
    assert content(storage) == before
    return examination


def sealed_store(opener: Opener) -> Storage:
    """A log with one sealed segment and some records behind it, left by a crash."""
    log = create_log(opener(), GENESIS, signer=SIGNER, clock=ticking_clock(), threaded=False)
    while log.head.index <= SEGMENT_RECORDS:
        log.append([b"bulk"] * 1024)
    log.abandon()
    return opener()


def no_segments(archive: Path) -> Path:
    """A new archive of what is named like segments: 1.seg is a pipe, 2.seg leads to an endless device, 3.seg is a folder."""
    archive.mkdir()
    os.mkfifo(archive / "1.seg")
    (archive / "2.seg").symlink_to("/dev/zero")
    (archive / "3.seg").mkdir()
    return archive
