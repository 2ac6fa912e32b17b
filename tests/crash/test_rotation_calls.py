"""A crash at every call to the storage of a life that rotates its key: what survives opens with exactly one key, the right
one, and nothing acknowledged is lost, rotations included."""

from __future__ import annotations

import pytest

from tests.faulty_storage import Crash, FaultyStorage, Mode, content
from tests.wal.rotated_logs import findings
from tests.wal.sample_log import GENESIS, NEXT_SIGNER, ORIGIN, SIGNER, T0, THIRD_SIGNER, ticking_clock
from wal.errors import LogError, SupersededKeyError, WrongKeyError
from wal.limits import BATCH_RECORDS_MAX, SEGMENT_RECORDS
from wal.log import Log, create_log
from wal.memory_storage import MemoryStorage
from wal.merkle import leaf_hash, root_of
from wal.note import Ed25519Signer, Signer
from wal.opening import open_log
from wal.record import KIND_ROTATED, decode
from wal.rotation import COMPROMISED, SCHEDULED, parse_rotation
from wal.storage import Storage

LAST_SIGNER = Ed25519Signer("example.org/log", bytes(range(4, 36)))
SIGNERS: tuple[Signer, ...] = (SIGNER, NEXT_SIGNER, THIRD_SIGNER, LAST_SIGNER)
CREATION_CALLS = 3


class Life:
    """What one life of the log was promised: links, and how many rotations."""

    def __init__(self) -> None:
        self.acknowledged: list[tuple[int, bytes]] = []
        self.rotations = 0

    def append(self, log: Log, payloads: list[bytes]) -> None:
        receipt = log.append(payloads)
        self.acknowledged.append((receipt.last, receipt.link))

    def rotate(self, log: Log, reason: str) -> None:
        receipt = log.rotate(SIGNERS[self.rotations + 1], reason)
        self.acknowledged.append((receipt.last, receipt.link))
        self.rotations += 1

    def run(self, storage: Storage) -> None:
        """The workload, to its end or to the crash: rotations behind creation, at a segment's border, behind a stop."""
        log = create_log(storage, GENESIS, signer=SIGNER, clock=ticking_clock(), threaded=False)
        self.append(log, [b"first", b"second"])
        self.rotate(log, SCHEDULED)
        self.append(log, [b"under the second key"])
        log.close()
        log = reopen(storage, NEXT_SIGNER)
        while log.head.index < SEGMENT_RECORDS - 1:
            self.append(log, [b"bulk"] * min(BATCH_RECORDS_MAX, SEGMENT_RECORDS - 1 - log.head.index))
        self.rotate(log, COMPROMISED)
        self.append(log, [b"under the third key"])
        log.abandon()
        log = reopen(storage, THIRD_SIGNER)
        self.rotate(log, SCHEDULED)
        self.append(log, [b"under the last key"])
        log.close()


def reopen(storage: Storage, signer: Signer) -> Log:
    return open_log(storage, signer=signer, clock=ticking_clock(2 * T0), threaded=False)[0]


def calls_of_a_whole_life() -> list[str]:
    storage = FaultyStorage(MemoryStorage())
    Life().run(storage)
    return storage.calls


CALLS = calls_of_a_whole_life()


def in_force(storage: Storage) -> Signer:
    """Whose log it is, by its records alone."""
    records = (decode(raw) for _, raw in storage.scan(1, storage.last_index() + 1))
    keys = [SIGNER.public, *(parse_rotation(record).new for record in records if record.kind == KIND_ROTATED)]
    return next(signer for signer in SIGNERS if signer.public == keys[-1])


def assert_only(storage: MemoryStorage, right: Signer) -> None:
    """Every other key is refused, by name of the right one; nothing changes."""
    before = content(storage)
    for place, signer in enumerate(SIGNERS):
        if signer is right:
            continue
        with pytest.raises(WrongKeyError) as caught:
            reopen(storage, signer)
        assert caught.value.expected == right.public.vkey()
        assert isinstance(caught.value, SupersededKeyError) == (place < SIGNERS.index(right))
    assert content(storage) == before


def survivor(fail_at: int, mode: Mode) -> tuple[MemoryStorage, Life]:
    inner, life = MemoryStorage(), Life()
    with pytest.raises((Crash, LogError)):
        life.run(FaultyStorage(inner, fail_at=fail_at, mode=mode))
    return inner.copy(), life


def assert_goes_on(storage: MemoryStorage, life: Life) -> None:
    """The one right key opens it; all that was acknowledged is there; it can be used, rotated, closed, and verified."""
    right = in_force(storage)
    assert SIGNERS.index(right) - life.rotations in (0, 1)  # the acknowledged ones, or one more that was in doubt
    assert_only(storage, right)
    log = reopen(storage, right)
    links = [record.link for record in log.scan()]
    for index, link in life.acknowledged:
        assert links[index - 1] == link
    log.abandon()
    once = content(storage)
    reopen(storage, right).abandon()
    assert content(storage) == once
    log = reopen(storage, right)
    if right is not LAST_SIGNER:
        log.rotate(LAST_SIGNER, SCHEDULED)
    log.append([b"life goes on"])
    log.close()
    assert findings(storage) == []
    checkpoint = log.keys().open_checkpoint(log.checkpoint_note() or b"", ORIGIN)
    assert checkpoint.signers == (LAST_SIGNER.public,)
    assert checkpoint.checkpoint.root == root_of([leaf_hash(record.link) for record in log.scan()])


@pytest.mark.invariant("I2", "I3", "I4")
@pytest.mark.parametrize("mode", ["before", "after"])
@pytest.mark.parametrize("fail_at", range(CREATION_CALLS + 1, len(CALLS) + 1), ids=lambda at: f"{at}-{CALLS[at - 1]}")
def test_a_crash_at_this_call_leaves_exactly_one_right_key(fail_at: int, mode: Mode) -> None:
    """Failed before or after taking effect, at appends, slots, checkpoints, segments and the list of them."""
    storage, life = survivor(fail_at, mode)
    assert_goes_on(storage, life)


SLOTS = [at for at, call in enumerate(CALLS, 1) if call == "write_slot" and at > CREATION_CALLS]


@pytest.mark.invariant("I2")
@pytest.mark.parametrize("fail_at", SLOTS)
def test_a_torn_slot_leaves_exactly_one_right_key(fail_at: int) -> None:
    """Half of the old slot and half of the new one, torn in the very bytes that lead to the rotation, too."""
    before, life = survivor(fail_at, "before")
    after, _ = survivor(fail_at, "after")
    for cut in (22, 60):
        storage = before.copy()
        for slot in (0, 1):
            old, new = before.slots[slot], after.slots[slot]
            if old != new:
                storage.slots[slot] = new[:cut] + (old or bytes(len(new)))[cut:]
        assert_goes_on(storage, life)


@pytest.mark.invariant("I2", "I3")
def test_a_rotation_damaged_before_it_was_promised_is_as_if_it_never_was() -> None:
    """At every append that left a rotation unpromised: damaged, it is cut, and the key before it is the right one."""
    cut = 0
    for fail_at in SLOTS:
        storage, life = survivor(fail_at, "before")
        last = storage.last_index()
        raw = storage.records[last]
        if decode(raw).kind != KIND_ROTATED or life.acknowledged[-1][0] >= last:
            continue
        storage.records[last] = raw[:100] + bytes([raw[100] ^ 1]) + raw[101:]
        right = SIGNERS[life.rotations]
        assert_only_damaged(storage, right)
        log = reopen(storage, right)
        assert log.head.index == last  # the record of the cut
        log.close()
        assert findings(storage) == []
        cut += 1
    assert cut == 3


def assert_only_damaged(storage: MemoryStorage, right: Signer) -> None:
    """As ``assert_only``; keys that never came into force are strange, not superseded."""
    before = content(storage)
    for signer in SIGNERS[SIGNERS.index(right) + 1 :]:
        with pytest.raises(WrongKeyError) as caught:
            reopen(storage, signer)
        assert caught.value.expected == right.public.vkey()
        assert not isinstance(caught.value, SupersededKeyError)
    assert content(storage) == before
