"""What a reader asks any member, and what is answered, as values. Pure; ``cluster.reading_codec`` turns them into bytes and back.

Every answer says how fresh it is. None is proof by itself: records are checked by their links, proofs against a signed
checkpoint.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from typing import NamedTuple

from cluster.messages import Span
from cluster.steps import Role
from wal.record import Head


class Freshness(NamedTuple):
    """Where the node that answers stands: its role and epoch, the size of its own log, the size that it knows to be
    committed, nanoseconds since the leader's last word (0 on the leader, None when none was heard since the start), and
    its newest signed checkpoint with all cosignatures that it has (empty where there is none)."""

    role: Role
    epoch: int
    size: int
    commit: int
    leader_age_ns: int | None
    checkpoint: bytes


class Status(NamedTuple):
    """A node: the log that it takes part in, its own name, who leads as far as it knows (or empty), where its log ends."""

    freshness: Freshness
    log_id: bytes
    member: str
    leader: str
    head: Head
    history: tuple[Span, ...]


class RecordsPage(NamedTuple):
    """Frames as they are on disk, the first of them with index ``first``."""

    freshness: Freshness
    first: int
    frames: tuple[bytes, ...]


class InclusionProof(NamedTuple):
    """RFC 6962 inclusion proof in the tree whose root is ``root``."""

    freshness: Freshness
    root: bytes
    path: tuple[bytes, ...]


class ConsistencyProof(NamedTuple):
    """RFC 6962 consistency proof between the trees with these roots."""

    freshness: Freshness
    old_root: bytes
    new_root: bytes
    path: tuple[bytes, ...]
