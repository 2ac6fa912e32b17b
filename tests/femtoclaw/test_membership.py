"""Memberships as operators change them, and the two files by which a newcomer comes in."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from femtoclaw.errors import ConfigurationError
from femtoclaw.membership import (
    ADD,
    PROMOTE,
    REMOVE,
    TRANSFER,
    Invitation,
    MembershipRefusedError,
    Terms,
    entry_of,
    member_of,
    membership_after,
    open_invitation,
    open_join_request,
    sign_invitation,
    sign_join_request,
)
from wal.chain import verify_run
from wal.genesis import Genesis
from wal.limits import MEMBERS_MAX
from wal.log import create_log
from wal.membership import Member, Membership, check_succession
from wal.memory_storage import MemoryStorage
from wal.note import Ed25519Signer
from wal.record import EMPTY

SEED = 20261121
CHANCE = random.Random(SEED)
ORIGIN = "femtoclaw.log/" + "7" * 32


def signer(number: int) -> Ed25519Signer:
    return Ed25519Signer(f"femtoclaw.node/{number:032x}", bytes([number]) * 32)


def member(number: int, voter: bool = False) -> Member:
    name = f"n{number}"
    return Member(name, signer(number).public, f"{name}.example:8440", name.encode() + bytes(40), voter)


def of(*voters: bool) -> Membership:
    return Membership(3, tuple(member(at + 1, voter) for at, voter in enumerate(voters)))


def code(current: Membership | None, action: str, wanted: Member) -> str:
    with pytest.raises(MembershipRefusedError) as caught:
        membership_after(current, action, wanted)
    return caught.value.code


# --- changes


def test_a_member_begins_as_a_learner_and_the_first_as_a_voter() -> None:
    """Add, promote, remove: each is one step further, and the log takes each step."""
    first = membership_after(None, ADD, member(1))
    assert first == Membership(1, (member(1, True),))
    second = membership_after(first, ADD, member(2, True))  # whatever the entry says of itself
    assert second == Membership(2, (member(1, True), member(2, False)))
    third = membership_after(second, PROMOTE, member(2))
    assert third == Membership(3, (member(1, True), member(2, True)))
    assert membership_after(third, TRANSFER, member(2)) == third
    fourth = membership_after(third, REMOVE, member(2))
    assert fourth == Membership(4, (member(1, True),))
    before: Membership | None = None
    for each in (first, second, third, fourth):
        assert check_succession(before, each, signer(1).public) is None
        before = each


def test_what_does_not_fit_the_members_is_refused_with_a_code() -> None:
    """Names, keys, roles: nothing is changed, and the code says what stands in the way."""
    two = of(True, False)
    assert code(two, ADD, member(2)) == "KNOWN_BEFORE"
    assert code(two, ADD, member(2)._replace(name="other", certificate=b"x")) == "KNOWN_BEFORE"  # the same key
    assert code(two, ADD, member(3)._replace(certificate=member(2).certificate)) == "KNOWN_BEFORE"
    for action in (PROMOTE, REMOVE, TRANSFER):
        assert code(two, action, member(3)) == "UNKNOWN"
        assert code(None, action, member(1)) == "UNKNOWN"
        assert code(two, action, member(2)._replace(key=signer(3).public)) == "KEY_OF_ANOTHER"
    assert code(two, PROMOTE, member(1)) == "VOTER_BEFORE"
    assert code(two, TRANSFER, member(2)) == "NOT_A_VOTER"
    assert code(two, REMOVE, member(1)) == "LAST_VOTER"
    full = Membership(40, tuple(sorted(member(at + 1, at == 0) for at in range(MEMBERS_MAX))))
    assert code(full, ADD, member(99)) == "TOO_MANY"


def test_an_entry_that_cannot_stand_in_a_membership_is_the_operators_mistake() -> None:
    """As JSON and as a value."""
    good = entry_of(member(1))
    assert member_of(good, "here") == member(1)
    bad: list[dict[str, Any]] = [
        {**good, "name": "Upper"}, {**good, "name": ""}, {**good, "name": "a" * 65}, {**good, "vkey": "none"},
        {**good, "address": "host"}, {**good, "address": "host:1/x"}, {**good, "address": ""},
        {**good, "certificate": ""}, {**good, "certificate": "a"}, {**good, "certificate": "QUJDRA"},
        {**good, "certificate": "QUJ="}, {**good, "certificate": "A" * 12_000}, {**good, "more": ""}, {"name": "a"},
        {**good, "name": 7}, {**good, "vkey": good["vkey"] + " "},
    ]  # fmt: skip
    for each in bad:
        with pytest.raises(ConfigurationError):
            member_of(each, "here")
    with pytest.raises(ConfigurationError):
        membership_after(None, ADD, member(1)._replace(name="Upper"))


# --- files


def genesis_frame() -> tuple[bytes, bytes]:
    """A log's first frame and its id."""
    storage = MemoryStorage()
    create_log(storage, Genesis(ORIGIN, signer(1).public, bytes(16)), signer=signer(1), clock=lambda: 1).close()
    frame = storage.records[1]
    return frame, verify_run(EMPTY, [(1, frame)]).head.link


def invitation(**changes: Any) -> Invitation:
    frame, log_id = genesis_frame()
    terms = Terms("quorum", "static", "n1", 1, (), "/femtoclaw", 5, 10, 1500)
    return Invitation(ORIGIN, log_id, frame, terms, of(True, False), "n2")._replace(**changes)


def test_a_join_request_is_signed_by_the_key_that_asks() -> None:
    """It comes back as it was; one by another key, or changed on its way, is refused."""
    raw = sign_join_request(member(2), signer(2))
    assert open_join_request(raw, "request") == member(2)
    with pytest.raises(ConfigurationError, match="signature"):
        open_join_request(sign_join_request(member(2), signer(3)), "request")
    body = json.loads(raw)
    body["member"]["address"] = "elsewhere:1"
    with pytest.raises(ConfigurationError, match="signature"):
        open_join_request(json.dumps(body).encode(), "request")


def test_an_invitation_is_signed_by_a_voter_and_is_of_its_log() -> None:
    """It comes back as it was, with the key that signed it."""
    raw = sign_invitation(invitation(), signer(1))
    assert open_invitation(raw, "invitation") == (invitation(), signer(1).public)
    for wrong, issuer in (
        (invitation(), signer(2)),  # a learner
        (invitation(), signer(9)),  # a stranger
        (invitation(invited="n9"), signer(1)),
        (invitation(log_id=bytes(32)), signer(1)),
        (invitation(origin="femtoclaw.log/other"), signer(1)),
        (invitation(genesis=genesis_frame()[0][:-1]), signer(1)),
    ):
        with pytest.raises(ConfigurationError):
            open_invitation(sign_invitation(wrong, issuer), "invitation")


FILES: dict[str, tuple[Callable[[], bytes], Callable[[bytes, str], Any]]] = {
    "request": (lambda: sign_join_request(member(2), signer(2)), open_join_request),
    "invitation": (lambda: sign_invitation(invitation(), signer(1)), open_invitation),
}


@pytest.mark.parametrize("name", FILES)
def test_every_changed_value_of_a_file_is_noticed(name: str) -> None:
    """Each leaf of the JSON, replaced by one of another value, and each field removed or added."""
    make, read = FILES[name]
    body = json.loads(make())
    for path in leaves(body):
        changed = json.loads(json.dumps(body))
        at = changed
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = another(at[path[-1]])
        with pytest.raises(ConfigurationError):
            read(json.dumps(changed).encode(), name)
    for changed in ({**body, "more": 1}, *({key: body[key] for key in body if key != gone} for gone in body)):
        with pytest.raises(ConfigurationError):
            read(json.dumps(changed).encode(), name)


def leaves(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    return [above] if steps is None else [leaf for key, each in steps for leaf in leaves(each, (*above, key))]


def another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return value[:-1] + ("1" if not value.endswith("1") else "2") if value else "x"


@settings(max_examples=60)
@given(raw=st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["format", "member", "members", "terms", "signature", "name", "genesis"]), inner, max_size=4),
).map(lambda body: json.dumps(body).encode()))  # fmt: skip
@pytest.mark.parametrize("name", FILES)
def test_other_bytes_are_a_typed_error(name: str, raw: bytes) -> None:
    """Whatever is handed in as a file."""
    with pytest.raises(ConfigurationError) as caught:
        FILES[name][1](raw, name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", FILES)
def test_cut_files_and_flipped_bits_are_typed_errors(name: str) -> None:
    """As a copy over a bad line would be; white space is the only thing that may change."""
    make, read = FILES[name]
    raw = make()
    good = read(raw, name)
    print("seed", SEED)
    for _ in range(200):
        at = CHANCE.randrange(len(raw))
        flipped = raw[:at] + bytes([raw[at] ^ (1 << CHANCE.randrange(8))]) + raw[at + 1 :]
        for damaged in (flipped, raw[:at]):
            try:
                assert read(damaged, name) == good
            except ConfigurationError:
                continue
