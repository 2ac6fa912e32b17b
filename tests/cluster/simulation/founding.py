"""The log that every simulated cluster begins with: a genesis record, and memberships up to all voters, one voter a record."""

from __future__ import annotations

from functools import lru_cache

from cluster.steps import Durable, Vouched
from tests.cluster.simulation.disk import Image, Trees
from tests.cluster.simulation.signatures import ORIGIN, signer_of
from wal.genesis import Genesis, decode_genesis
from wal.key_history import KeyHistory
from wal.membership import Member, Membership, make_membership, sign_membership
from wal.record import EMPTY, FLAG_BATCH_END, KIND_GENESIS, KIND_MEMBERS, Head, Record, decode, encode

START_NS = 1_700_000_000_000_000_000
"""Wall clock at the start of every simulation."""


def node_names(count: int) -> tuple[str, ...]:
    """``n1``, ``n2``, ..."""
    return tuple(f"n{number}" for number in range(1, count + 1))


def member(name: str, *, voter: bool, real: bool = False) -> Member:
    """A member with the simulated node's key."""
    return Member(name, signer_of(name, real).public, f"{name}:7000", b"", voter)


def first_records(voters: int, real: bool = False) -> list[tuple[Record, bytes]]:
    """Genesis and one membership for each voter, as the first node would have written them."""
    names = node_names(voters)
    signer = signer_of(names[0], real)
    genesis = Genesis(ORIGIN, signer.public, b"simulated-nonce!")
    made = [_record(EMPTY, KIND_GENESIS, genesis.payload())]
    before = 0
    for version in range(1, voters + 1):
        members = [member(name, voter=place < version, real=real) for place, name in enumerate(names)]
        last = made[-1][0]
        head = Head(last.index, last.link)
        payload = sign_membership(ORIGIN, head, before, make_membership(version, members), signer)
        made.append(_record(head, KIND_MEMBERS, payload))
        before = head.index + 1
    return made


def _record(head: Head, kind: int, payload: bytes) -> tuple[Record, bytes]:
    raw, _ = encode(head.index + 1, 1, START_NS, kind, payload, head.link, FLAG_BATCH_END)
    return decode(raw), raw


@lru_cache(maxsize=8)
def _founded(voters: int, real: bool) -> tuple[tuple[Record, bytes], ...]:
    return tuple(first_records(voters, real))


def founding_image(trees: Trees, voters: int, real: bool = False) -> Image:
    """The disk of every node at the start; for a node with nothing but the genesis record see ``only_genesis``."""
    pairs = _founded(voters, real)
    records = tuple(record for record, _ in pairs)
    keys = KeyHistory.begin(decode_genesis(records[0]))
    authority = [(1, keys)]
    for record in records:
        trees.frontier(record)
        if record.index > 1:
            keys = trees.extended(keys, record)
            authority.append((record.index, keys))
    return _image(trees, tuple(raw for _, raw in pairs), records, tuple(authority))


def only_genesis(trees: Trees, whole: Image) -> Image:
    """The disk of a node that has just been made for this log."""
    return _image(trees, whole.frames[:1], whole.records[:1], whole.authority[:1])


def _image(
    trees: Trees,
    frames: tuple[bytes, ...],
    records: tuple[Record, ...],
    authority: tuple[tuple[int, KeyHistory], ...],
) -> Image:
    last = records[-1]
    vouched = Vouched(Head(last.index, last.link), 1, trees.root(last), b"")
    return Image(frames, records, authority, vouched, Durable())


def changed(old: Membership, name: str, voter: bool | None, real: bool = False) -> Membership:
    """The membership after ``old`` in which ``name`` is a voter, a learner, or (None) nothing."""
    others = [each for each in old.members if each.name != name]
    added = [] if voter is None else [member(name, voter=voter, real=real)]
    return make_membership(old.version + 1, [*others, *added])
