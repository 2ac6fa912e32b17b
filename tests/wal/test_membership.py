"""Memberships: the record in its only spelling, at its only place, under the key in force; and what may follow what."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faulty_storage import FaultyStorage, content
from tests.wal.sample_cluster import (
    LEARNER_SIGNER,
    STEPS,
    lead,
    log_of_three,
    member,
    members,
    members_record,
    three_voters,
)
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
    ticking_clock,
)
from wal.errors import BoundError, CorruptRecordError, LogFullError, SupersededKeyError
from wal.key_history import KeyHistory, gather_keys, trace_keys
from wal.limits import ADDRESS_BYTES_MAX, AUTHORITY_RECORDS_MAX, CERTIFICATE_BYTES_MAX, MEMBERS_MAX
from wal.log import create_log
from wal.membership import (
    Member,
    Membership,
    changed_voters,
    check_succession,
    make_membership,
    parse_members,
    sign_membership,
)
from wal.memory_storage import MemoryStorage
from wal.note import Ed25519Signer, Signer
from wal.reader import LogReader
from wal.record import FLAG_BATCH_END, KIND_EVENT, KIND_MEMBERS, NO_LINK, Head, Record
from wal.rotation import COMPROMISED, SCHEDULED, sign_rotation

HEAD = Head(6, b"p" * 32)
BEGUN = KeyHistory.begin(GENESIS)
FIRST = members(1, "a", "bc")


def at_place(payload: bytes, head: Head = HEAD, kind: int = KIND_MEMBERS) -> Record:
    """The record that follows ``head``; its link is not looked at."""
    return Record(head.index + 1, 1, T0, kind, payload, head.link, NO_LINK, FLAG_BATCH_END)


def first_payload() -> bytes:
    return sign_membership(ORIGIN, HEAD, 0, FIRST, SIGNER)


def test_the_record_is_the_documented_one() -> None:
    """Golden bytes of statement and payload."""
    payload = first_payload()
    change = parse_members(at_place(payload))
    assert change.membership == FIRST
    golden("members", {"statement": change.statement(ORIGIN, HEAD).decode(), "payload": payload.hex()})


def test_the_history_tells_who_takes_part_from_where_on() -> None:
    """The key goes on; the membership of a size is that of its newest record up to there."""
    keys = three_voters()
    assert [(tenure.first, tenure.reason, tenure.epoch) for tenure in keys] == [
        (1, "genesis", 1), (2, "members", 1), (3, "members", 1), (4, "members", 1),
    ]  # fmt: skip
    assert [keys.at(size).members for size in (1, 2, 3, 4, 9)] == [None, *STEPS, STEPS[-1]]
    assert {tenure.key for tenure in keys} == {SIGNER.public}
    assert (keys.rotated, keys.rotations, keys.epochs()) == (4, 0, ((1, 1),))
    last = STEPS[-1]
    assert ([voter.name for voter in last.voters], last.majority) == (["a", "b", "c"], 2)
    assert (last.get("b"), last.get("x"), last.by_key(THIRD_SIGNER.public)) == (member("b"), None, member("c"))


@pytest.mark.invariant("I10")
def test_no_other_bytes_are_a_membership() -> None:
    """Every truncation, every flipped bit and every byte more is refused, at the place for which the key signed."""
    payload = first_payload()
    assert len(BEGUN.extended(at_place(payload), ORIGIN)) == 2
    changed = [payload[:end] for end in range(len(payload))] + [payload + b"\x00", *bit_flips(payload)]
    for raw in changed:
        with pytest.raises(CorruptRecordError):
            BEGUN.extended(at_place(raw), ORIGIN)


@pytest.mark.invariant("I10")
@pytest.mark.parametrize(
    "head,origin,before,epoch",
    [
        pytest.param(Head(7, HEAD.link), ORIGIN, 0, 1, id="another index"),
        pytest.param(Head(6, b"x" * 32), ORIGIN, 0, 1, id="another predecessor"),
        pytest.param(HEAD, "example.org/other", 0, 1, id="another log"),
        pytest.param(HEAD, ORIGIN, 3, 1, id="an authority record left out before it"),
        pytest.param(HEAD, ORIGIN, 0, 2, id="another epoch"),
    ],
)
def test_a_membership_fits_only_its_own_place(head: Head, origin: str, before: int, epoch: int) -> None:
    """The signature names origin, index, the link before, and the authority record before."""
    record = at_place(sign_membership(origin, head, before, FIRST, SIGNER))._replace(epoch=epoch)
    with pytest.raises(CorruptRecordError):
        BEGUN.extended(record, ORIGIN)


@pytest.mark.invariant("I10")
def test_only_the_key_in_force_says_who_takes_part() -> None:
    """Neither a stranger's signature counts nor that of another member."""
    for signer in (OTHER_SIGNER, NEXT_SIGNER):
        with pytest.raises(CorruptRecordError, match="signature"):
            BEGUN.extended(members_record(HEAD, 0, FIRST, signer=signer), ORIGIN)


FORBIDDEN = [
    pytest.param(members(3, "abc", "d"), "count on", id="the same version again"),
    pytest.param(members(5, "abc", "d"), "count on", id="a version left out"),
    pytest.param(members(4, "ab"), None, id="one voter less"),
    pytest.param(members(4, "abcd"), None, id="one voter more"),
    pytest.param(members(4, "ab", "cd"), None, id="one voter turned learner, a learner more"),
    pytest.param(members(4, "abd"), "more than one voter", id="one voter for another"),
    pytest.param(members(4, "a"), "more than one voter", id="two voters less"),
    pytest.param(members(4, "a", "bc"), "more than one voter", id="two voters turned"),
    pytest.param(members(4, "bc"), "key in force", id="without the leader"),
    pytest.param(members(4, "bc", "a"), "key in force", id="the leader a learner"),
]


@pytest.mark.invariant("I10")
@pytest.mark.parametrize("following,why", FORBIDDEN)
def test_a_membership_follows_by_at_most_one_voter(following: Membership, why: str | None) -> None:
    """Refused by whoever reads the record, and by the log before anything is written."""
    keys, head = three_voters(), Head(9, b"q" * 32)
    record = members_record(head, keys.rotated, following)
    storage = MemoryStorage()
    log = log_of_three(storage)
    before = content(storage)
    if why is None:
        assert keys.extended(record, ORIGIN).newest.members == following
        log.change_members(following)
        assert LogReader(storage).keys().newest.members == following
        return
    with pytest.raises(CorruptRecordError, match=why):
        keys.extended(record, ORIGIN)
    with pytest.raises(BoundError, match=why):
        log.change_members(following)
    assert content(storage) == before


def test_a_voter_may_change_its_key_alone() -> None:
    """Another key of one voter is that one change; two at once are not."""
    keys, head = three_voters(), Head(9, b"q" * 32)
    one = make_membership(4, [member("a"), member("b", signer=OTHER_SIGNER), member("c")])
    two = make_membership(4, [member("a"), member("b", signer=OTHER_SIGNER), member("c", signer=LEARNER_SIGNER)])
    assert keys.extended(members_record(head, 4, one), ORIGIN).newest.members == one
    assert changed_voters(STEPS[-1], two) == ["b", "c"]
    with pytest.raises(CorruptRecordError, match="more than one voter"):
        keys.extended(members_record(head, 4, two), ORIGIN)


@pytest.mark.parametrize(
    "first,why",
    [
        pytest.param(members(1, "ab"), "one voter", id="two voters"),
        pytest.param(members(1, "b", "a"), "key in force", id="another voter"),
        pytest.param(members(2, "a"), "count on", id="version 2"),
    ],
)
def test_a_first_membership_has_the_leader_as_its_only_voter(first: Membership, why: str) -> None:
    """Others come as learners, and one by one."""
    with pytest.raises(CorruptRecordError, match=why):
        BEGUN.extended(members_record(HEAD, 0, first), ORIGIN)


@settings(max_examples=200)
@given(old=st.sets(st.sampled_from("abcdefg"), min_size=1), new=st.sets(st.sampled_from("abcdefg"), min_size=1))
def test_majorities_of_a_membership_and_its_follower_meet(old: set[str], new: set[str]) -> None:
    """For any two memberships that may follow each other: no majority of one can miss a majority of the other."""
    signers: dict[str, Signer] = {name: Ed25519Signer("m", bytes([ord(name)]) * 32) for name in "abcdefg"}
    before, after = (
        make_membership(version, [member(name, signer=signers[name]) for name in names])
        for version, names in ((1, old), (2, new))
    )
    leader = sorted(new)[0]
    refused = check_succession(before, after, signers[leader].public)
    assert (refused is None) == (len(old ^ new) <= 1)
    if refused is None:
        for one in combinations(sorted(old), before.majority):
            for other in combinations(sorted(new), after.majority):
                assert set(one) & set(other)


def wide(count: int) -> list[Member]:
    return [member(f"m{n:02}", signer=Ed25519Signer("m", bytes([n]) * 32), voter=n == 0) for n in range(count)]


@pytest.mark.invariant("I11")
@pytest.mark.parametrize(
    "listed",
    [
        pytest.param([], id="nobody"),
        pytest.param([member("a", voter=False)], id="no voter"),
        pytest.param(wide(MEMBERS_MAX + 1), id="too many"),
        pytest.param([member("a"), member("a", signer=NEXT_SIGNER)], id="a name twice"),
        pytest.param([member("a"), member("b", signer=SIGNER)], id="a key twice"),
        pytest.param([member("a")._replace(name="")], id="no name"),
        pytest.param([member("a")._replace(name="a" * 65)], id="a long name"),
        pytest.param([member("a")._replace(name="A")], id="a name in capitals"),
        pytest.param([member("a")._replace(name="a\n")], id="a name with a line's end"),
        pytest.param([member("a")._replace(address="a b")], id="an address with a blank"),
        pytest.param([member("a")._replace(address="a\n")], id="an address with a line's end"),
        pytest.param([member("a")._replace(address="a" * (ADDRESS_BYTES_MAX + 1))], id="a long address"),
        pytest.param([member("a")._replace(certificate=bytes(CERTIFICATE_BYTES_MAX + 1))], id="a long certificate"),
    ],
)
def test_a_membership_has_bounds(listed: list[Member]) -> None:
    """Refused when it is made, and when it is read."""
    with pytest.raises(BoundError):
        make_membership(1, listed)

    payload = msgpack.packb(["members", 0, 1, [list(row(each)) for each in listed], bytes(64)])
    with pytest.raises(CorruptRecordError, match="does not decode"):
        parse_members(at_place(payload))


def test_the_widest_membership_is_a_record() -> None:
    """All members with all that they may say fit."""
    listed = [
        each._replace(address="x" * ADDRESS_BYTES_MAX, certificate=bytes(CERTIFICATE_BYTES_MAX))
        for each in wide(MEMBERS_MAX - 1)
    ]
    full = make_membership(1, [member("a"), *(each._replace(voter=False) for each in listed)])
    storage = MemoryStorage()
    log = create_log(storage, GENESIS, signer=SIGNER, clock=ticking_clock(), threaded=False)
    log.change_members(full)
    log.close()
    assert LogReader(storage).keys().newest.members == full


def test_members_in_another_order_are_another_spelling() -> None:
    """The list has one order."""
    swapped = FIRST._replace(members=FIRST.members[::-1])
    with pytest.raises(CorruptRecordError, match="does not decode"):
        parse_members(at_place(msgpack.packb(["members", 0, 1, [list(row(m)) for m in swapped.members], bytes(64)])))
    with pytest.raises(CorruptRecordError, match="not a membership"):
        parse_members(at_place(first_payload(), kind=KIND_EVENT))


def row(each: Member) -> tuple[Any, ...]:
    return each.name, each.key.vkey(), each.address, each.certificate, each.voter


@pytest.mark.invariant("I10")
def test_a_key_that_a_rotation_ended_is_no_members_key() -> None:
    """Superseded by a rotation, a key never counts again, whoever would bring it back."""
    storage = MemoryStorage()
    log = log_of_three(storage)
    log.rotate(OTHER_SIGNER, COMPROMISED)
    current = log.keys().newest.members
    assert current is not None
    assert current.get("a") == member("a", signer=OTHER_SIGNER)
    back = make_membership(4, [*current.members, member("d", signer=SIGNER, voter=False)])
    with pytest.raises(BoundError, match="rotation ended"):
        log.change_members(back)
    record = members_record(log.head, log.keys().rotated, back, signer=OTHER_SIGNER)
    with pytest.raises(CorruptRecordError, match="rotation ended"):
        log.keys().extended(record, ORIGIN)


@pytest.mark.invariant("I10")
def test_a_rotation_takes_no_other_members_key() -> None:
    """Two members with one key could not be told apart."""
    log = log_of_three(MemoryStorage())
    with pytest.raises(BoundError):
        log.rotate(NEXT_SIGNER, SCHEDULED)
    head, keys = log.head, log.keys()
    payload = sign_rotation(ORIGIN, head, keys.rotated, old=SIGNER, new=NEXT_SIGNER, reason=SCHEDULED)
    record = Record(head.index + 1, 1, T0, 4, payload, head.link, NO_LINK, FLAG_BATCH_END)
    with pytest.raises(CorruptRecordError, match="member's key"):
        keys.extended(record, ORIGIN)


def test_a_log_with_members_lives_on() -> None:
    """Memberships and rotations in one list, found from HEAD, by going through, and by opening again."""
    storage = MemoryStorage()
    log = log_of_three(storage)
    log.append([b"one"])
    log.rotate(OTHER_SIGNER, SCHEDULED)
    log.change_members(make_membership(4, [member("a", signer=OTHER_SIGNER), member("b"), member("d", voter=False)]))
    log.close()
    frames = dict(storage.records)
    keys = log.keys()
    assert [tenure.reason for tenure in keys] == ["genesis", "members", "members", "members", SCHEDULED, "members"]
    assert trace_keys(frames.get, GENESIS, 7) == gather_keys(frames.items(), GENESIS) == log.keys()
    again = lead(storage, OTHER_SIGNER)
    assert (again.keys(), again.epoch) == (log.keys(), 1)
    again.abandon()
    with pytest.raises(SupersededKeyError, match=re.escape("(scheduled) by the rotation at index 6")):
        lead(storage, SIGNER)


def test_without_room_the_membership_stays() -> None:
    """LogFullError: nothing was written, and the change can be asked for again."""
    inner = MemoryStorage()
    log_of_three(inner).close()
    full = FaultyStorage(inner, fail_at=1, only="append", once=True, error=lambda: LogFullError("no room"))
    log = lead(full, SIGNER)
    before = content(inner)
    with pytest.raises(LogFullError):
        log.change_members(members(4, "ab"))
    assert content(inner) == before
    log.change_members(members(4, "ab"))
    assert log.keys().newest.members == members(4, "ab")


def test_the_number_of_authority_records_is_bounded() -> None:
    """One more than the bound is refused before anything is verified."""
    full = KeyHistory([BEGUN[0]] * (AUTHORITY_RECORDS_MAX + 1))
    with pytest.raises(CorruptRecordError, match="too many authority"):
        full.extended(at_place(first_payload()), ORIGIN)


def test_groups_are_shipped_once_they_are_promised_and_receipts_acknowledged() -> None:
    """What is shipped is what is stored, in order; what a receipt goes through decides what the caller gets."""
    storage = MemoryStorage()
    log = create_log(storage, GENESIS, signer=SIGNER, clock=ticking_clock(), threaded=False)
    shipped: list[tuple[int, bytes]] = []

    def ship(frames: list[tuple[int, bytes]]) -> None:
        assert LogReader(storage).size == frames[-1][0]  # promised
        shipped.extend(frames)

    log.shipped = ship
    log.acknowledge = lambda receipt: receipt._replace(mode="quorum")
    receipts = [log.append([b"a", b"b"]), log.append_recovered([b"r"]), log.settle(log.enqueue([b"c"]))]
    receipts += [log.change_members(FIRST), log.rotate(OTHER_SIGNER, SCHEDULED)]
    assert {receipt.mode for receipt in receipts} == {"quorum"}
    assert shipped == list(storage.scan(2, 99))


def test_whoever_is_shipped_a_membership_finds_it_in_force() -> None:
    """A leader counts by the new majority, and dials the new member, from the record on that says so."""
    log = log_of_three(MemoryStorage())
    found: list[Membership | None] = []
    log.shipped = lambda frames: found.append(log.keys().newest.members)
    log.change_members(make_membership(4, [member("a"), member("b"), member("d", voter=False)]))
    assert found == [log.keys().newest.members]
    full = FaultyStorage(log.storage, fail_at=1, only="append", once=True, error=lambda: LogFullError("no room"))
    log.close()
    again = lead(full, SIGNER)
    with pytest.raises(LogFullError):
        again.change_members(members(5, "ab"))
    assert again.keys().newest.members == found[0]
