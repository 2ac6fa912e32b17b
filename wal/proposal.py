"""Proposals: a leader's signed checkpoint that names its epoch in an extension line. Pure.

What a leader signs before a majority stores it may be cut by the next leader, and then the same size gets another root. A
plain checkpoint of such a size would convict an honest node of a fork. So plain checkpoints, and cosignatures over them, are
made of committed sizes only; until then leader and followers sign for an epoch (ADR 0024). Two proposals of one size, one epoch
and different roots are a fork; of different epochs they are a failover.
"""

from __future__ import annotations

from wal.checkpoint import Checkpoint
from wal.errors import SignatureError

_PREFIX = "epoch "


def proposal(origin: str, epoch: int, size: int, root: bytes) -> Checkpoint:
    """The checkpoint that a leader signs for its epoch."""
    return Checkpoint(origin, size, root, (f"{_PREFIX}{epoch}",))


def epoch_of(checkpoint: Checkpoint) -> int:
    """The epoch that a proposal was made in. Raises SignatureError for a checkpoint that is no proposal."""
    line = checkpoint.extensions[0] if len(checkpoint.extensions) == 1 else ""
    digits = line.removeprefix(_PREFIX)
    if line == digits or not digits.isascii() or not digits.isdigit() or str(int(digits)) != digits:
        raise SignatureError("not a proposal", expected="one extension line with its epoch", found=line[:40])
    return int(digits)
