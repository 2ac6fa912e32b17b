"""Fixed inputs for tests of the log: one key, one genesis, a clock that ticks, chains of frames, golden files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from wal.genesis import Genesis
from wal.note import Ed25519Signer
from wal.record import EMPTY, FLAG_BATCH_END, KIND_EVENT, KIND_GENESIS, Head, encode

ORIGIN = "example.org/log"
SIGNER = Ed25519Signer("example.org/log", bytes(range(32)))
OTHER_SIGNER = Ed25519Signer("example.org/log", bytes(range(1, 33)))
NEXT_SIGNER = Ed25519Signer("example.org/log", bytes(range(2, 34)))
THIRD_SIGNER = Ed25519Signer("example.org/third", bytes(range(3, 35)))
GENESIS = Genesis(ORIGIN, SIGNER.public, bytes(16))
T0 = 1_700_000_000_000_000_000
GOLDEN = Path(__file__).parent.parent / "golden" / "wal"


def ticking_clock(start: int = T0, step: int = 1000) -> Callable[[], int]:
    """A clock that is ``step`` nanoseconds later at every call."""
    ticks: Iterator[int] = count(start, step)
    return lambda: next(ticks)


def make_frames(
    payloads: Sequence[bytes], start: Head = EMPTY, *, time_ns: int = T0, batch: int = 1
) -> list[tuple[int, bytes]]:
    """(index, frame) of a valid chain of events behind ``start``, in batches of ``batch`` records."""
    frames: list[tuple[int, bytes]] = []
    index, link = start
    for number, payload in enumerate(payloads, 1):
        index += 1
        flags = 0 if number % batch else FLAG_BATCH_END
        frame, link = encode(index, 1, time_ns + index, KIND_EVENT, payload, link, flags)
        frames.append((index, frame))
    return frames


def genesis_frame(genesis: Genesis = GENESIS) -> tuple[bytes, bytes]:
    """(frame, link) of a genesis record."""
    return encode(1, 1, T0, KIND_GENESIS, genesis.payload(), bytes(32), FLAG_BATCH_END)


def bit_flips(raw: bytes) -> Iterator[bytes]:
    """Every version of ``raw`` with exactly one bit changed."""
    for position in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[position >> 3] ^= 1 << (position & 7)
        yield bytes(flipped)


def golden(name: str, computed: Any) -> Any:
    """The stored vectors of ``name``, which ``computed`` must equal; FEMTOCLAW_REWRITE_GOLDEN=1 writes them anew."""
    path = GOLDEN / f"{name}.json"
    if os.environ.get("FEMTOCLAW_REWRITE_GOLDEN") == "1":
        path.write_text(json.dumps(computed, indent=1) + "\n")
    stored = json.loads(path.read_text())
    assert stored == computed, f"{path.name}: the format changed; if that is meant, it needs a new version number"
    return stored
