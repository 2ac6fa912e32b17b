"""Texts of a subject: sealed wherever they are recorded, derived again with their key, and gone without it (I8)."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from femtoclaw import events
from femtoclaw.event_codec import encode
from femtoclaw.projections.derivation import Progress, take_all
from femtoclaw.replay import replay
from femtoclaw.restore import fold_records
from femtoclaw.sealing import MAGIC, UNSEALED, NoSubjectKeyError, SealedError, Sealer
from femtoclaw.snapshot import encode_snapshot
from femtoclaw.state import EMPTY, state_hash
from tests.femtoclaw.sealed_node import BOTH, PHRASE, Keys, payloads, worked

SUBJECTS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,20}", fullmatch=True)
KEYS = st.binary(min_size=32, max_size=32)
ANY = '@id("any") permit (principal, action, resource);'


@given(st.binary(max_size=300), SUBJECTS, st.text(max_size=30), KEYS)
def test_what_was_sealed_opens_and_sealing_is_a_function(raw: bytes, subject: str, place: str, key: bytes) -> None:
    """open(seal(x)) == x; the same key, place and text give the same bytes, which are ASCII in one line."""
    sealer = Sealer(Keys(**{subject: key}))
    sealed = sealer.seal(raw, subject, place)
    assert sealer.open(sealed, subject) == raw
    assert Sealer(Keys(**{subject: key})).seal(raw, subject, place) == sealed
    assert re.fullmatch(rb"[ -~]+", sealed)
    assert len(raw) < 8 or raw not in sealed


@given(st.binary(max_size=100), st.text(max_size=10), st.text(max_size=10), KEYS, KEYS)
def test_another_place_or_key_gives_other_bytes(raw: bytes, place: str, other: str, key: bytes, another: bytes) -> None:
    """Also of the nonce: two places that hold the same text do not show that they do."""
    sealer, strange = Sealer(Keys(a=key, b=key)), Sealer(Keys(a=another))
    sealed = sealer.seal(raw, "a", place)
    if other != place:
        moved = sealer.seal(raw, "a", other)
        assert moved[len(MAGIC) + 2 :][:32] != sealed[len(MAGIC) + 2 :][:32]
    with pytest.raises(SealedError):
        sealer.open(sealed, "b")
    with pytest.raises(SealedError):
        sealer.open(sealed.replace(b" a ", b" b ", 1), "b")
    if key != another:
        assert strange.seal(raw, "a", place) != sealed
        with pytest.raises(SealedError):
            strange.open(sealed, "a")


@settings(max_examples=20)
@given(st.binary(max_size=40), st.data())
def test_every_flipped_bit_and_every_cut_is_refused(raw: bytes, data: st.DataObject) -> None:
    """There is one spelling of a sealed text: also what base64 would decode to the same bytes is refused."""
    sealer = Sealer(Keys(**BOTH))
    sealed = sealer.seal(raw, "alice", "place")
    for number in range(8 * len(sealed)):
        flipped = bytearray(sealed)
        flipped[number // 8] ^= 1 << number % 8
        with pytest.raises(SealedError):
            sealer.open(bytes(flipped), "alice")
    for end in range(len(sealed)):
        with pytest.raises(SealedError):
            sealer.open(sealed[:end], "alice")
    more = data.draw(st.binary(min_size=1, max_size=4))
    for other in (sealed + more, more + sealed, sealed.removeprefix(MAGIC.encode()), sealed.upper(), sealed + b"="):
        with pytest.raises(SealedError):
            sealer.open(other, "alice")


def test_without_a_key_it_is_said_that_there_is_none() -> None:
    """That is no finding; what is not sealed for the subject is one, with or without the key."""
    sealed = Sealer(Keys(**BOTH)).seal(b"x", "alice", "place")
    for act in (lambda: UNSEALED.open(sealed, "alice"), lambda: UNSEALED.salt("alice")):
        with pytest.raises(NoSubjectKeyError):
            act()
    with pytest.raises(SealedError) as plain:
        UNSEALED.open(b"x", "alice")
    assert not isinstance(plain.value, NoSubjectKeyError)
    assert UNSEALED.salt("") == b""


@pytest.mark.invariant("I8")
def test_no_text_of_a_subject_is_recorded_plain() -> None:
    """Neither in a record, nor in the state, a snapshot or a row of the projections; what nobody's is stays plain."""
    node = worked()
    opened = b"\n".join(encode(event) for recorded in node.recorded for event in recorded.events)
    assert opened.count(PHRASE.encode()) > 40
    state = node.log_state()
    rows = take_all(Progress(), node.log.scan())
    told = repr([rows.rows_of_executions(), rows.telemetry, rows.audit, rows.metadata])
    for where in (payloads(node), encode_snapshot(state, node.log.head), told.encode()):
        assert PHRASE.encode() not in where
        assert base64.b64encode(PHRASE.encode())[:-4] not in where
    assert b"plain" in payloads(node)


@pytest.mark.invariant("I8", "I6")
def test_the_fold_needs_no_key() -> None:
    """State, hash and snapshot are the same with every key, with one, and with none."""
    node = worked()
    folded = fold_records(EMPTY, node.log.scan())
    assert folded == node.state
    for subjects in (("alice", "bob"), ("bob",), ()):
        report = node.replayed(*subjects)
        assert report.state_hash == state_hash(folded)
        assert encode_snapshot(report.state, node.log.head) == encode_snapshot(node.state, node.log.head)


@pytest.mark.invariant("I8", "I6")
def test_replay_derives_what_it_can_open_and_counts_the_rest() -> None:
    """With both keys everything, with one that subject's, without any what is nobody's; never a divergence."""
    node = worked()
    live = sum(
        isinstance(event, (events.ProtocolValidated, events.ProtocolRejected, events.AuthorizationDecided))
        for recorded in node.recorded
        for event in recorded.events
    )
    both, one, none = node.replayed("alice", "bob"), node.replayed("bob"), node.replayed()
    assert [report.divergences for report in (both, one, none)] == [()] * 3
    assert (both.decisions, both.sealed) == (live, ())
    assert [name for name, _ in one.sealed] == ["alice"]
    assert dict(none.sealed) == {"alice": dict(one.sealed)["alice"], "bob": 9}
    assert both.decisions > one.decisions > none.decisions > 0
    unaware = replay(node.log.scan(), policy=ANY, sealer=Sealer(node.keys))
    assert unaware.divergences == ()
    assert len(unaware.flips) > len(replay(node.log.scan(), policy=ANY).flips)
