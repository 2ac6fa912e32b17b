"""Rotations of the signing key: the record in its only spelling, at its only place, under both signatures; and the history
that they make."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wal.sample_log import (
    GENESIS,
    NEXT_SIGNER,
    ORIGIN,
    OTHER_SIGNER,
    SIGNER,
    T0,
    THIRD_SIGNER,
    bit_flips,
    golden,
)
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.errors import CorruptRecordError, ForgedSignatureError, KeyNotInForceError, SignatureError
from wal.key_history import KeyHistory, Tenure, gather_keys, trace_keys
from wal.limits import ROTATIONS_MAX
from wal.note import Ed25519Signer, Signer
from wal.record import FLAG_BATCH_END, KIND_EVENT, KIND_ROTATED, NO_LINK, Head, Record, decode, encode
from wal.rotation import COMPROMISED, SCHEDULED, Rotation, parse_rotation, sign_rotation

HEAD = Head(6, b"p" * 32)
BEGUN = KeyHistory.begin(GENESIS)


def rotation_payload(
    old: Signer = SIGNER, new: Signer = NEXT_SIGNER, *, head: Head = HEAD, before: int = 0, reason: str = SCHEDULED,
    origin: str = ORIGIN,
) -> bytes:  # fmt: skip
    return sign_rotation(origin, head, before, old=old, new=new, reason=reason)


def at_place(payload: bytes, head: Head = HEAD, kind: int = KIND_ROTATED) -> Record:
    """The record that follows ``head``; its link is not looked at."""
    return Record(head.index + 1, 1, T0, kind, payload, head.link, NO_LINK, FLAG_BATCH_END)


def two_rotations(second: str = SCHEDULED) -> KeyHistory:
    """SIGNER to 6, NEXT_SIGNER from 7 to 11, THIRD_SIGNER from 12."""
    once = BEGUN.extended(at_place(rotation_payload()), ORIGIN)
    later = Head(11, b"q" * 32)
    payload = rotation_payload(NEXT_SIGNER, THIRD_SIGNER, head=later, before=7, reason=second)
    return once.extended(at_place(payload, later), ORIGIN)


def test_the_record_is_the_documented_one() -> None:
    """Golden bytes of statement, payload and frame."""
    payload = rotation_payload(reason=COMPROMISED)
    record = at_place(payload)
    frame, _ = encode(7, 1, T0, KIND_ROTATED, payload, HEAD.link, FLAG_BATCH_END)
    golden(
        "rotation",
        {
            "origin": ORIGIN,
            "old_seed": bytes(range(32)).hex(),
            "new_seed": bytes(range(2, 34)).hex(),
            "statement": parse_rotation(record).statement(ORIGIN, HEAD).decode(),
            "payload": payload.hex(),
            "frame": frame.hex(),
        },
    )


def test_the_history_grows_by_rotations() -> None:
    """Each key with the index from which it signs, and why the one before it ended."""
    keys = two_rotations(COMPROMISED)
    expected = [
        (1, SIGNER.public, "genesis"),
        (7, NEXT_SIGNER.public, SCHEDULED),
        (12, THIRD_SIGNER.public, COMPROMISED),
    ]
    assert [tenure[:3] for tenure in keys] == expected
    assert (BEGUN.rotated, keys.rotated, keys.newest.key) == (0, 12, THIRD_SIGNER.public)
    assert [keys.at(size).first for size in (0, 1, 6, 7, 11, 12, 10**9)] == [1, 1, 1, 7, 7, 12, 12]
    assert keys.sealing(11) == [NEXT_SIGNER.public, THIRD_SIGNER.public]
    assert keys.knows(SIGNER.public)
    assert not keys.knows(OTHER_SIGNER.public)


@settings(max_examples=100)
@given(firsts=st.lists(st.integers(2, 60), unique=True, max_size=6).map(sorted), size=st.integers(0, 70))
def test_whose_size_it_is(firsts: list[int], size: int) -> None:
    """For any rotations: the last that came up to a size gives its key; a segment that ends there takes that or a later."""
    keys = KeyHistory(
        Tenure(first, Ed25519Signer("a", bytes([first]) * 32).public, SCHEDULED) for first in [1, *firsts]
    )
    reached = [tenure for tenure in keys if tenure.first <= max(size, 1)]
    assert keys.at(size) == reached[-1]
    assert keys.sealing(size) == [tenure.key for tenure in keys if tenure.first >= reached[-1].first]
    assert keys.rotated == (firsts[-1] if firsts else 0)


@pytest.mark.invariant("I10")
def test_no_other_bytes_are_a_rotation() -> None:
    """Every truncation, every flipped bit and every byte more is refused, at the place for which both keys signed."""
    payload = rotation_payload()
    assert len(BEGUN.extended(at_place(payload), ORIGIN)) == 2
    changed = [payload[:end] for end in range(len(payload))] + [payload + b"\x00", *bit_flips(payload)]
    for raw in changed:
        with pytest.raises(CorruptRecordError):
            BEGUN.extended(at_place(raw), ORIGIN)


@pytest.mark.invariant("I10")
@pytest.mark.parametrize(
    "head,origin,before",
    [
        pytest.param(Head(7, HEAD.link), ORIGIN, 0, id="another index"),
        pytest.param(Head(6, b"x" * 32), ORIGIN, 0, id="another predecessor"),
        pytest.param(HEAD, "example.org/other", 0, id="another log"),
        pytest.param(HEAD, ORIGIN, 3, id="a rotation left out before it"),
    ],
)
def test_a_rotation_fits_only_its_own_place(head: Head, origin: str, before: int) -> None:
    """The signatures name origin, index, the link before, and the rotation before: nothing can be transplanted."""
    with pytest.raises(CorruptRecordError):
        BEGUN.extended(at_place(rotation_payload(head=head, origin=origin, before=before)), ORIGIN)


class Impostor:
    """Shows one key and signs with another."""

    def __init__(self, shown: Signer, used: Signer) -> None:
        self.public = shown.public
        self.sign = used.sign


@pytest.mark.invariant("I10")
@pytest.mark.parametrize(
    "old,new",
    [
        pytest.param(Impostor(SIGNER, OTHER_SIGNER), NEXT_SIGNER, id="the old key did not sign"),
        pytest.param(SIGNER, Impostor(NEXT_SIGNER, OTHER_SIGNER), id="the new key did not sign"),
        pytest.param(OTHER_SIGNER, NEXT_SIGNER, id="a stranger hands on"),
        pytest.param(SIGNER, SIGNER, id="the same key again"),
        pytest.param(SIGNER, Ed25519Signer("another.name", bytes(range(32))), id="the same key under another name"),
    ],
)
def test_both_keys_must_sign_and_lead_on(old: Signer, new: Signer) -> None:
    """A rotation by one who lacks either key, or to a key that was in force before, is no rotation."""
    with pytest.raises(CorruptRecordError):
        BEGUN.extended(at_place(rotation_payload(old, new)), ORIGIN)


def test_a_key_never_comes_back() -> None:
    """Also not after another one: a superseded key must stay that."""
    once = BEGUN.extended(at_place(rotation_payload()), ORIGIN)
    later = Head(9, b"q" * 32)
    with pytest.raises(CorruptRecordError, match="brings back"):
        once.extended(at_place(rotation_payload(NEXT_SIGNER, SIGNER, head=later, before=7), later), ORIGIN)


def test_the_number_of_rotations_is_bounded() -> None:
    """One more than the bound is refused before anything is verified."""
    full = KeyHistory(Tenure(n, SIGNER.public, SCHEDULED) for n in range(ROTATIONS_MAX + 1))
    with pytest.raises(CorruptRecordError, match="too many"):
        full.extended(at_place(rotation_payload()), ORIGIN)


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 2**64 - 1), st.binary(max_size=70), st.text(max_size=20),
    st.sampled_from(["rotated", SCHEDULED, COMPROMISED, SIGNER.public.vkey(), NEXT_SIGNER.public.vkey()]),
)  # fmt: skip


@settings(max_examples=300)
@given(value=st.one_of(leaves, st.lists(leaves, max_size=8), st.dictionaries(leaves, leaves, max_size=2)))
def test_whatever_msgpack_says_is_judged_in_types(value: Any) -> None:
    """Other types, counts and ranges end in a typed refusal."""
    with pytest.raises(CorruptRecordError):
        BEGUN.extended(at_place(msgpack.packb(value)), ORIGIN)


@settings(max_examples=300)
@given(raw=st.binary(max_size=400))
def test_arbitrary_bytes_are_refused_in_types(raw: bytes) -> None:
    """Bytes that nobody packed, too."""
    with pytest.raises(CorruptRecordError):
        BEGUN.extended(at_place(raw), ORIGIN)


def test_another_spelling_of_the_same_fields_is_refused() -> None:
    """msgpack can say one number in several ways; the record has one."""
    payload = rotation_payload()
    assert payload[1:10] == b"\xa7rotated\x00"
    with pytest.raises(CorruptRecordError, match="does not decode"):
        BEGUN.extended(at_place(payload[:9] + b"\xcc\x00" + payload[10:]), ORIGIN)
    with pytest.raises(CorruptRecordError, match="not a rotation"):
        BEGUN.extended(at_place(payload, kind=KIND_EVENT), ORIGIN)
    with pytest.raises(CorruptRecordError, match="does not decode"):
        parse_rotation(at_place(Rotation(7, SIGNER.public, NEXT_SIGNER.public, SCHEDULED, b"", b"").payload()))


@pytest.mark.invariant("I10")
@pytest.mark.parametrize("reason", [SCHEDULED, COMPROMISED])
def test_a_checkpoint_counts_only_by_the_key_in_force_at_its_size(reason: str) -> None:
    """Before its first record, or from the next rotation on, a key vouches for nothing; after ``compromised`` what it signs
    is called forged."""
    keys = two_rotations(reason)
    for signer, first, stop in ((SIGNER, 1, 7), (NEXT_SIGNER, 7, 12), (THIRD_SIGNER, 12, 20)):
        for size in range(1, 20):
            note = sign_checkpoint(Checkpoint(ORIGIN, size, bytes(32)), [signer])
            if first <= size < stop:
                assert keys.open_checkpoint(note, ORIGIN).signers == (signer.public,)
                continue
            with pytest.raises(KeyNotInForceError) as caught:
                keys.open_checkpoint(note, ORIGIN)
            forged = reason == COMPROMISED and signer is NEXT_SIGNER and size >= stop
            assert isinstance(caught.value, ForgedSignatureError) == forged
            assert caught.value.expected == keys.at(size).key.vkey()
    with pytest.raises(SignatureError) as strange:
        keys.open_checkpoint(sign_checkpoint(Checkpoint(ORIGIN, 3, bytes(32)), [OTHER_SIGNER]), ORIGIN)
    assert type(strange.value) is SignatureError


def test_what_the_key_in_force_signed_is_refused_for_its_own_reason() -> None:
    """A checkpoint of another origin by the right key, also beside an older key's signature: not a question of keys."""
    for size, signers in ((3, [SIGNER]), (15, [THIRD_SIGNER]), (15, [SIGNER, THIRD_SIGNER])):
        note = sign_checkpoint(Checkpoint("example.org/other", size, bytes(32)), signers)
        with pytest.raises(SignatureError, match="another log") as caught:
            two_rotations().open_checkpoint(note, ORIGIN)
        assert not isinstance(caught.value, KeyNotInForceError)


@given(raw=st.binary(max_size=300))
def test_a_note_of_any_bytes_is_refused_in_types(raw: bytes) -> None:
    """What is no note at all is SignatureError too."""
    with pytest.raises(SignatureError):
        two_rotations().open_checkpoint(raw, ORIGIN)


def test_cosignatures_do_not_change_whose_checkpoint_it_is() -> None:
    """Under both keys a checkpoint counts, by the one in force."""
    note = sign_checkpoint(Checkpoint(ORIGIN, 8, bytes(32)), [SIGNER, NEXT_SIGNER])
    assert two_rotations().open_checkpoint(note, ORIGIN).signers == (NEXT_SIGNER.public,)


def frames_of_two() -> dict[int, bytes]:
    once, _ = encode(7, 1, T0, KIND_ROTATED, rotation_payload(), HEAD.link, FLAG_BATCH_END)
    later = Head(11, b"q" * 32)
    payload = rotation_payload(NEXT_SIGNER, THIRD_SIGNER, head=later, before=7)
    twice, _ = encode(12, 1, T0, KIND_ROTATED, payload, later.link, FLAG_BATCH_END)
    return {7: once, 12: twice}


def test_the_way_back_finds_what_going_through_finds() -> None:
    """From the newest rotation to genesis, or over all frames: the same history."""
    frames = frames_of_two()
    assert trace_keys(frames.get, GENESIS, 12) == gather_keys(frames.items(), GENESIS) == two_rotations()
    assert trace_keys(frames.get, GENESIS, 7) == two_rotations()[:2]
    assert trace_keys(frames.get, GENESIS, 0) == BEGUN


def test_the_way_back_does_not_lead_past_a_lost_rotation() -> None:
    """Where one is missing, damaged, or another record, there is no history; going through takes what verifies."""
    frames = frames_of_two()
    for broken in ({12: frames[12]}, frames | {7: frames[12]}, frames | {7: frames[7][:-1] + b"?"}):
        with pytest.raises(CorruptRecordError):
            trace_keys(broken.get, GENESIS, 12)
        assert gather_keys(broken.items(), GENESIS) == BEGUN
    assert decode(frames[7]).kind == KIND_ROTATED
