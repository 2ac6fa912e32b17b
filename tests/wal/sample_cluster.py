"""Fixed inputs for tests of logs with members: three voters and a learner, their promises, and a log that they hold."""

from __future__ import annotations

from collections.abc import Sequence

from tests.wal.sample_log import GENESIS, NEXT_SIGNER, ORIGIN, SIGNER, T0, THIRD_SIGNER, ticking_clock
from wal.epoch_start import Promise, sign_epoch_start, sign_promise
from wal.key_history import KeyHistory
from wal.log import Log, create_log
from wal.membership import Member, Membership, make_membership, sign_membership
from wal.note import Ed25519Signer, Signer
from wal.opening import open_log
from wal.record import FLAG_BATCH_END, KIND_EPOCH, KIND_MEMBERS, NO_LINK, Head, Record
from wal.storage import Storage

LEARNER_SIGNER = Ed25519Signer("example.org/log", bytes(range(5, 37)))
SIGNERS: dict[str, Signer] = {"a": SIGNER, "b": NEXT_SIGNER, "c": THIRD_SIGNER, "d": LEARNER_SIGNER}
ROOT = bytes(range(32))


def member(name: str, *, voter: bool = True, signer: Signer | None = None) -> Member:
    """The member ``name`` with its own key, or that of ``signer``."""
    key = (signer or SIGNERS[name]).public
    return Member(name, key, f"{name}.example.org:7000", b"certificate of " + name.encode(), voter)


def members(version: int, voters: str, learners: str = "") -> Membership:
    """The membership of members named by one letter each."""
    listed = [member(name, voter=name in voters) for name in voters + learners]
    return make_membership(version, listed)


STEPS = (members(1, "a", "bc"), members(2, "ab", "c"), members(3, "abc"))
"""How a log comes to three voters, one at a time."""


def members_record(
    head: Head, before: int, membership: Membership, *, signer: Signer = SIGNER, origin: str = ORIGIN, epoch: int = 1
) -> Record:
    """The MEMBERS record that follows ``head``; its link is not looked at."""
    payload = sign_membership(origin, head, before, membership, signer)
    return Record(head.index + 1, epoch, T0, KIND_MEMBERS, payload, head.link, NO_LINK, FLAG_BATCH_END)


def promise(
    name: str, epoch: int, candidate: Signer, *, last_epoch: int = 1, size: int = 1, origin: str = ORIGIN,
    signer: Signer | None = None,
) -> Promise:  # fmt: skip
    """What the voter ``name`` promises to the candidate."""
    used = signer or SIGNERS[name]
    return sign_promise(origin, epoch, candidate.public, name, last_epoch, size, ROOT, used)


def epoch_record(
    head: Head, before: int, epoch: int, leader: str, promises: Sequence[Promise], *, signer: Signer | None = None,
    origin: str = ORIGIN, stamped: int | None = None,
) -> Record:  # fmt: skip
    """The EPOCH record that follows ``head``; its link is not looked at."""
    payload = sign_epoch_start(origin, head, before, epoch, leader, promises, signer or SIGNERS[leader])
    stamp = epoch if stamped is None else stamped
    return Record(head.index + 1, stamp, T0, KIND_EPOCH, payload, head.link, NO_LINK, FLAG_BATCH_END)


def three_voters() -> KeyHistory:
    """Memberships at 2, 3 and 4: three voters, the first of them in force."""
    keys = KeyHistory.begin(GENESIS)
    for index, membership in enumerate(STEPS, 2):
        head = Head(index - 1, bytes([index]) * 32)
        keys = keys.extended(members_record(head, keys.rotated, membership), ORIGIN)
    return keys


def lead(storage: Storage, signer: Signer, *, start: int = 2 * T0) -> Log:
    """The log open for writing, by one who was let in to lead."""
    clock = ticking_clock(start)
    return open_log(storage, signer=signer, clock=clock, threaded=False, leading=lambda log: None)[0]


def log_of_three(storage: Storage, *, threaded: bool = False) -> Log:
    """A log of SIGNER's with three voters: memberships at 2, 3 and 4."""
    log = create_log(storage, GENESIS, signer=SIGNER, clock=ticking_clock(), threaded=threaded)
    for membership in STEPS:
        log.change_members(membership)
    return log
