"""Epochs: a member takes over the log by the promises of a majority, and by nothing less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wal.sample_cluster import (
    LEARNER_SIGNER,
    ROOT,
    SIGNERS,
    epoch_record,
    members,
    members_record,
    promise,
    three_voters,
)
from tests.wal.sample_log import (
    GENESIS,
    NEXT_SIGNER,
    ORIGIN,
    OTHER_SIGNER,
    SIGNER,
    THIRD_SIGNER,
    bit_flips,
    golden,
)
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.epoch_start import (
    Promise,
    parse_epoch_start,
    promise_statement,
    sign_epoch_start,
    sign_promise,
    verify_promise,
)
from wal.errors import (
    CorruptRecordError,
    ForgedSignatureError,
    KeyNotInForceError,
    SignatureError,
    SupersededKeyError,
    WrongKeyError,
)
from wal.key_history import KeyHistory, authority_before
from wal.limits import EPOCH_MAX
from wal.note import Signer
from wal.record import KIND_EPOCH, KIND_EVENT, KIND_ROTATED, Head
from wal.rotation import COMPROMISED, sign_rotation

HEAD = Head(9, b"p" * 32)
KEYS = three_voters()


def two(epoch: int = 7, candidate: Signer = NEXT_SIGNER, **given: Any) -> list[Promise]:
    """The promises of b and c."""
    return [promise("b", epoch, candidate, size=9), promise("c", epoch, candidate, **{"size": 8, **given})]


def begun(promises: Sequence[Promise], **given: Any) -> KeyHistory:
    record = epoch_record(
        HEAD, given.pop("before", 4), given.pop("epoch", 7), given.pop("leader", "b"), promises, **given
    )
    return KEYS.extended(record, ORIGIN)


def test_the_record_is_the_documented_one() -> None:
    """Golden bytes of both statements and of the payload."""
    payload = sign_epoch_start(ORIGIN, HEAD, 4, 7, "b", two(), NEXT_SIGNER)
    start = parse_epoch_start(epoch_record(HEAD, 4, 7, "b", two()))
    assert start.payload() == payload
    stated = promise_statement(ORIGIN, 7, NEXT_SIGNER.public, "c", 1, 8, ROOT)
    golden(
        "epoch",
        {"promise": stated.decode(), "statement": start.statement(ORIGIN, HEAD).decode(), "payload": payload.hex()},
    )


def test_a_majority_lets_a_leader_in() -> None:
    """From its record on the leader's key is in force, in its epoch, under the same members."""
    keys = begun(two())
    newest = keys.newest
    assert (newest.first, newest.key, newest.reason, newest.epoch) == (10, NEXT_SIGNER.public, "epoch", 7)
    assert newest.members == KEYS.newest.members
    assert keys.epochs() == ((1, 1), (7, 10))
    assert begun([*two(), promise("a", 7, NEXT_SIGNER)]).newest == newest
    assert begun(two()[::-1]).newest == newest


@pytest.mark.invariant("I10")
def test_no_other_bytes_are_an_epoch() -> None:
    """Every truncation, every flipped bit and every byte more is refused."""
    record = epoch_record(HEAD, 4, 7, "b", two())
    payload = record.payload
    changed = [payload[:end] for end in range(len(payload))] + [payload + b"\x00", *bit_flips(payload)]
    for raw in changed:
        with pytest.raises(CorruptRecordError):
            KEYS.extended(record._replace(payload=raw), ORIGIN)


@pytest.mark.invariant("I10")
@pytest.mark.parametrize(
    "head,origin,before",
    [
        pytest.param(Head(8, HEAD.link), ORIGIN, 4, id="another index"),
        pytest.param(Head(9, b"x" * 32), ORIGIN, 4, id="another predecessor"),
        pytest.param(HEAD, "example.org/other", 4, id="another log"),
        pytest.param(HEAD, ORIGIN, 3, id="an authority record left out before it"),
    ],
)
def test_an_epoch_fits_only_its_own_place(head: Head, origin: str, before: int) -> None:
    """The leader's signature names origin, index, the link before, and the authority record before."""
    promises = [promise(name, 7, NEXT_SIGNER, size=3) for name in "bc"]
    good = epoch_record(HEAD, 4, 7, "b", promises)
    assert KEYS.extended(good, ORIGIN)
    payload = sign_epoch_start(origin, head, before, 7, "b", promises, NEXT_SIGNER)
    with pytest.raises(CorruptRecordError):
        KEYS.extended(good._replace(payload=payload), ORIGIN)


REFUSED = [
    pytest.param([promise("b", 7, NEXT_SIGNER)], {}, "majority", id="its own promise only"),
    pytest.param([], {}, "majority", id="no promise"),
    pytest.param([promise("a", 7, NEXT_SIGNER), promise("c", 7, NEXT_SIGNER)], {}, "majority", id="not its own"),
    pytest.param([promise("b", 7, NEXT_SIGNER)] * 2, {}, "distinct", id="one promise twice"),
    pytest.param([*two(), promise("d", 7, NEXT_SIGNER)], {}, "does not hold", id="a learner's or stranger's"),
    pytest.param(
        [promise("b", 7, NEXT_SIGNER), promise("c", 7, NEXT_SIGNER, signer=OTHER_SIGNER)], {}, "does not hold",
        id="signed by another",
    ),
    pytest.param([promise("b", 7, NEXT_SIGNER), promise("c", 6, NEXT_SIGNER)], {}, "does not hold", id="for another epoch"),
    pytest.param([promise("b", 7, NEXT_SIGNER), promise("c", 7, SIGNER)], {}, "does not hold", id="for another candidate"),
    pytest.param(
        [promise("b", 7, NEXT_SIGNER), promise("c", 7, NEXT_SIGNER, origin="example.org/other")], {}, "does not hold",
        id="for another log",
    ),
    pytest.param(two(size=10), {}, "outranks", id="a longer log promised"),
    pytest.param(two(last_epoch=2, size=1), {}, "outranks", id="a later epoch promised"),
    pytest.param(two(epoch=1), {"epoch": 1}, "later epoch", id="the same epoch again"),
    pytest.param(two(), {"stamped": 8}, "later epoch", id="a record of another epoch"),
    pytest.param(two(), {"leader": "d"}, "no voter", id="led by a stranger"),
    pytest.param(two(), {"signer": SIGNER}, "signature", id="signed by the leader before"),
]  # fmt: skip


@pytest.mark.invariant("I10")
@pytest.mark.parametrize("promises,given,why", REFUSED)
def test_an_epoch_needs_a_majority_that_the_leader_does_not_fall_behind(
    promises: list[Promise], given: dict[str, Any], why: str
) -> None:
    """Each rule by itself refuses what is otherwise right."""
    with pytest.raises(CorruptRecordError, match=why):
        begun(promises, **given)


def test_a_log_without_members_has_one_epoch() -> None:
    """Nobody is there who could let a leader in."""
    alone = KeyHistory.begin(GENESIS)
    record = epoch_record(HEAD, 0, 7, "b", two())
    with pytest.raises(CorruptRecordError, match="without members"):
        alone.extended(record, ORIGIN)


def test_a_learner_neither_leads_nor_counts() -> None:
    """It is a member, and its key is known, but only voters decide."""
    with_learner = KEYS.extended(members_record(HEAD, 4, members(4, "abc", "d")), ORIGIN)
    head = Head(10, b"r" * 32)
    led = epoch_record(head, 10, 7, "d", [promise(name, 7, LEARNER_SIGNER) for name in "bd"])
    with pytest.raises(CorruptRecordError, match="no voter"):
        with_learner.extended(led, ORIGIN)
    counted = epoch_record(head, 10, 7, "b", [promise(name, 7, NEXT_SIGNER) for name in "bd"])
    with pytest.raises(CorruptRecordError, match="does not hold"):
        with_learner.extended(counted, ORIGIN)


@settings(max_examples=200)
@given(
    names=st.lists(st.sampled_from("abcd"), max_size=4),
    leader=st.sampled_from("abc"),
    places=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 11)), min_size=4, max_size=4),
)
def test_who_is_let_in(names: list[str], leader: str, places: list[tuple[int, int]]) -> None:
    """For any promises: exactly when distinct voters, a majority with the leader, promise no more than it has."""
    promises = [
        promise(name, 7, SIGNERS[leader], last_epoch=last_epoch, size=size)
        for name, (last_epoch, size) in zip(names, places, strict=False)
    ]
    right = (
        len(set(names)) == len(names) >= 2
        and leader in names
        and "d" not in names
        and all((each.last_epoch, each.size) <= (1, 9) for each in promises)
    )
    try:
        assert begun(promises, leader=leader).newest.key == SIGNERS[leader].public
        assert right
    except CorruptRecordError:
        assert not right


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 2**64 - 1), st.binary(max_size=70), st.text(max_size=20),
    st.sampled_from(["epoch", "members", "a", "b", SIGNER.public.vkey(), bytes(32), bytes(64)]),
)  # fmt: skip


@settings(max_examples=300)
@given(value=st.recursive(leaves, lambda inner: st.lists(inner, max_size=6), max_leaves=14))
def test_whatever_msgpack_says_is_judged_in_types(value: Any) -> None:
    """Other types, counts and ranges end in a typed refusal, for both kinds of record."""
    record = epoch_record(HEAD, 4, 7, "b", two())
    for kind in (KIND_EPOCH, 5):
        with pytest.raises(CorruptRecordError):
            KEYS.extended(record._replace(payload=msgpack.packb(value), kind=kind), ORIGIN)


def test_fields_out_of_range_and_other_kinds_are_refused() -> None:
    """Also when the leader signed them."""
    for epoch, size, root in ((EPOCH_MAX + 1, 1, ROOT), (7, -1, ROOT), (7, 1 << 62 | 1, ROOT), (7, 1, ROOT[:31])):
        said = Promise("b", 1, size, root, bytes(64))
        record = epoch_record(HEAD, 4, epoch, "b", [said])
        with pytest.raises(CorruptRecordError, match="does not decode"):
            authority_before(record)
    with pytest.raises(CorruptRecordError, match="not an epoch"):
        parse_epoch_start(epoch_record(HEAD, 4, 7, "b", two())._replace(kind=KIND_EVENT))


def test_a_promise_is_a_voters_word_for_one_candidate_and_epoch() -> None:
    """The statement has a title with blanks, so it is no checkpoint; it verifies for exactly what it says."""
    voters = KEYS.newest.members
    assert voters is not None
    said = sign_promise(ORIGIN, 7, NEXT_SIGNER.public, "c", 1, 8, ROOT, THIRD_SIGNER)
    assert verify_promise(said, ORIGIN, 7, NEXT_SIGNER.public, voters) == voters.get("c")
    for changed in (
        said._replace(member="b"), said._replace(member="x"), said._replace(size=9), said._replace(last_epoch=2),
        said._replace(root=bytes(32)), said._replace(signature=bytes(64)), said._replace(signature=b""),
    ):  # fmt: skip
        with pytest.raises(SignatureError):
            verify_promise(changed, ORIGIN, 7, NEXT_SIGNER.public, voters)
    for origin, epoch, candidate in (("o", 7, NEXT_SIGNER), (ORIGIN, 8, NEXT_SIGNER), (ORIGIN, 7, SIGNER)):
        with pytest.raises(SignatureError):
            verify_promise(said, origin, epoch, candidate.public, voters)


def there_and_back() -> KeyHistory:
    """SIGNER leads to 9, NEXT_SIGNER in epoch 7 from 10 to 19, SIGNER again in epoch 8 from 20 on."""
    keys = begun(two())
    promises = [promise(name, 8, SIGNER, last_epoch=7, size=19) for name in "ab"]
    return keys.extended(epoch_record(Head(19, b"s" * 32), 10, 8, "a", promises), ORIGIN)


@pytest.mark.invariant("I10")
def test_a_key_may_come_back_by_an_epoch() -> None:
    """A, B, A: each signs for the sizes of its own epochs, and may seal what came before them."""
    keys = there_and_back()
    assert keys.epochs() == ((1, 1), (7, 10), (8, 20))
    for signer, sizes in ((SIGNER, (1, 9, 20, 30)), (NEXT_SIGNER, (10, 19))):
        for size in (1, 9, 10, 19, 20, 30):
            note = sign_checkpoint(Checkpoint(ORIGIN, size, bytes(32)), [signer])
            if size in sizes:
                assert keys.open_checkpoint(note, ORIGIN).signers == (signer.public,)
                continue
            with pytest.raises(KeyNotInForceError) as caught:
                keys.open_checkpoint(note, ORIGIN)
            assert not isinstance(caught.value, ForgedSignatureError)
    assert set(keys.sealing(5)) == {SIGNER.public, NEXT_SIGNER.public}
    assert keys.sealing(25) == [SIGNER.public]
    ended = keys.end_of(NEXT_SIGNER.public)
    assert ended is not None
    assert (ended.first, keys.end_of(SIGNER.public)) == (20, None)
    error = keys.wrong_key(NEXT_SIGNER.public.vkey(), "here")
    assert isinstance(error, SupersededKeyError)
    assert "epoch at index 20" in str(error)
    assert type(keys.wrong_key(THIRD_SIGNER.public.vkey(), "here")) is WrongKeyError
    assert [len(keys.up_to(size)) for size in (0, 3, 9, 10, 19, 20)] == [1, 3, 4, 5, 5, 6]


@pytest.mark.invariant("I10")
def test_a_key_declared_compromised_after_it_came_back_forges() -> None:
    """What counts is how it ended for good, not how it stepped down before."""
    keys, head = there_and_back(), Head(29, b"t" * 32)
    payload = sign_rotation(ORIGIN, head, 20, old=SIGNER, new=OTHER_SIGNER, reason=COMPROMISED)
    record = epoch_record(head, 20, 8, "a", [])._replace(kind=KIND_ROTATED, payload=payload)
    rotated = keys.extended(record, ORIGIN)
    assert (rotated.newest.epoch, rotated.newest.key) == (8, OTHER_SIGNER.public)
    note = sign_checkpoint(Checkpoint(ORIGIN, 40, bytes(32)), [SIGNER])
    with pytest.raises(ForgedSignatureError, match="compromised at 30"):
        rotated.open_checkpoint(note, ORIGIN)
    members_now = rotated.newest.members
    assert members_now is not None
    assert members_now.by_key(OTHER_SIGNER.public) is not None
    with pytest.raises(CorruptRecordError, match="another epoch"):
        keys.extended(record._replace(epoch=9), ORIGIN)
