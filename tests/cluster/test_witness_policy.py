"""Witness policies: read strictly, judged as an independent reading of the format judges them."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import ClusterConfigurationError
from cluster.limits import WITNESS_POLICY_BYTES_MAX, WITNESS_POLICY_NAMES_MAX
from cluster.witness_policy import (
    PolicyLog,
    PolicyWitness,
    WitnessPolicy,
    judge_note,
    parse_policy,
    satisfied,
    threshold_policy,
)
from tests.cluster.witnessed_log import ORIGIN, SIGNER, STRANGER, TRUE, text_of
from wal.cosignature import cosign, cosigner_of
from wal.errors import SignatureError
from wal.note import Ed25519Signer

SIGNERS = [Ed25519Signer(f"witness.example/w{number}", bytes(range(number, number + 32))) for number in range(10, 16)]
KEYS = [cosigner_of(signer.public) for signer in SIGNERS]
NAMES = [f"w{number}" for number in range(6)]
LINES = [f"witness {name} {key.vkey()}" for name, key in zip(NAMES, KEYS, strict=True)]
NOTE = TRUE.note(9)


def policy(*lines: str) -> WitnessPolicy:
    return parse_policy("".join(f"{line}\n" for line in lines).encode())


def refused(raw: bytes) -> ClusterConfigurationError:
    with pytest.raises(ClusterConfigurationError) as caught:
        parse_policy(raw)
    assert str(caught.value).isprintable()
    return caught.value


def cosigned_by(numbers: tuple[int, ...], note: bytes = NOTE) -> bytes:
    return note + b"".join(cosign(text_of(note), SIGNERS[number], 5).encode() for number in numbers)


def subsets() -> list[tuple[int, ...]]:
    return [each for size in range(7) for each in combinations(range(6), size)]


def test_two_levels_of_groups() -> None:
    """Two of three here and any of three there: for all 64 sets of witnesses exactly those suffice."""
    both = policy(
        *LINES, "group X 2 w0 w1 w2", "group Y any w3 w4 w5", "group both all X Y", "quorum both"
    )  # fmt: skip
    for each in subsets():
        found = judge_note(cosigned_by(each), both)
        enough = len({0, 1, 2} & set(each)) >= 2 and bool({3, 4, 5} & set(each))
        assert found.satisfied == satisfied(cosigned_by(each), both) == enough
        assert found.cosigned == tuple(NAMES[number] for number in each)
        assert set(found.missing) == set(NAMES) - set(found.cosigned)


@pytest.mark.parametrize("required", range(7))
def test_a_number_of_named_witnesses(required: int) -> None:
    """Any so many of them; 0 asks for none. The policy has a text, which reads back."""
    witnesses = [PolicyWitness(name, key, f"http://{name}") for name, key in zip(NAMES, KEYS, strict=True)]
    made = threshold_policy(witnesses, required)
    assert parse_policy(made.encode()) == made and made.witnesses == tuple(witnesses)
    for each in subsets()[::3]:
        assert satisfied(cosigned_by(each), made) == (len(each) >= required)


def test_a_number_that_can_never_be_reached_is_refused() -> None:
    """More than there are, and one of none."""
    witnesses = [PolicyWitness("w0", KEYS[0])]
    for each, required in ((witnesses, 2), ([], 1), (witnesses, -1)):
        with pytest.raises(ClusterConfigurationError):
            threshold_policy(each, required)


def test_one_witness_signing_often_is_one() -> None:
    """Nor does a signature count that is a log's or a stranger's, or the witness's as a note key."""
    two = threshold_policy([PolicyWitness(name, key) for name, key in zip(NAMES, KEYS, strict=True)], 2)
    many = b"".join(cosign(text_of(NOTE), SIGNERS[0], time_s).encode() for time_s in (5, 6, 7))
    others = TRUE.note(9, SIGNERS[1]).partition(b"\n\n")[2] + cosign(text_of(NOTE), STRANGER, 5).encode()
    assert judge_note(NOTE + many + others, two).cosigned == ("w0",)
    assert not satisfied(NOTE + many + others, two)


def test_a_cosignature_of_another_checkpoint_refuses_the_note() -> None:
    """A known witness's line that does not hold is no mere absence."""
    wrong = NOTE + cosign(text_of(TRUE.note(8)), SIGNERS[0], 5).encode()
    with pytest.raises(SignatureError):
        satisfied(wrong, policy(*LINES, "quorum none"))


def test_the_log_must_be_one_of_those_named() -> None:
    """By its key, under its own origin; without logs in the policy that is the caller's."""
    log = f"log {SIGNER.public.vkey()}"
    named = policy(log, *LINES, "quorum w0")
    assert satisfied(cosigned_by((0,)), named)
    for note in (TRUE.note(9, STRANGER), TRUE.note(9, origin="example.org/other"), b"anything\n\n"):
        with pytest.raises(SignatureError):
            judge_note(cosigned_by((0,), note) if note[:1] == b"e" else note, named)
    assert satisfied(cosigned_by((0,), TRUE.note(9, STRANGER)), policy(*LINES, "quorum w0"))
    with pytest.raises(SignatureError):
        satisfied(b"no checkpoint\n\nx\n", policy(*LINES, "quorum none"))
    assert SIGNER.public.name == ORIGIN


def test_blanks_comments_and_any_bytes_in_names() -> None:
    """Tabs, empty lines and comments are passed over; names are bytes, alike only when equal."""
    raw = (
        b"# ours\n\n \t # more\n\tlog\t" + SIGNER.public.vkey().encode() + b"  https://here \n"
        + b"witness \xff\xe2\x84\xaa " + KEYS[0].vkey().encode() + b"\nwitness K " + KEYS[1].vkey().encode()
        + b" http://w\ngroup g 1 \xff\xe2\x84\xaa K\nquorum g\n"
    )  # fmt: skip
    made = parse_policy(raw)
    assert made.logs == (PolicyLog(SIGNER.public, "https://here"),)
    assert [each.url for each in made.witnesses] == ["", "http://w"]
    assert parse_policy(made.encode()) == made
    assert satisfied(cosigned_by((0,)), made) and not satisfied(NOTE, made)


WRONG = {
    "no quorum": [*LINES],
    "two quorums": [*LINES, "quorum w0", "quorum w0"],
    "a quorum before its name": ["quorum w0", *LINES],
    "a quorum of nobody": [*LINES, "quorum w9"],
    "a group of nobody": [*LINES, "group g any", "quorum g"],
    "a group before its members": ["group g any w0", *LINES, "quorum g"],
    "a group of itself": [*LINES, "group g any g", "quorum g"],
    "a member twice": [*LINES, "group g 2 w0 w0", "quorum g"],
    "a member of two groups": [*LINES, "group g any w0", "group h any w0", "quorum g"],
    "none as a member": [*LINES, "group g any none", "quorum g"],
    "none as a name": [*LINES[:1], f"witness none {KEYS[1].vkey()}", "quorum none"],
    "more than members": [*LINES, "group g 3 w0 w1", "quorum g"],
    "fewer than one": [*LINES, "group g 0 w0 w1", "quorum g"],
    "no number": [*LINES, "group g many w0 w1", "quorum g"],
    "other digits": [*LINES, "group g \u0661 w0 w1", "quorum g"],
    "a name twice": [*LINES, f"witness w0 {STRANGER.public.vkey()}", "quorum none"],
    "a group with a witness's name": [*LINES, "group w0 any w1", "quorum none"],
    "a key twice": [*LINES, f"witness again {KEYS[0].vkey()}", "quorum none"],
    "a log's key twice": [*[f"log {SIGNER.public.vkey()}"] * 2, "quorum none"],
    "a log's key as a witness's": [f"witness w {SIGNER.public.vkey()}", "quorum none"],
    "a witness's key as a log's": [f"log {KEYS[0].vkey()}", "quorum none"],
    "no key": ["witness w", "quorum none"],
    "a word too many": [f"{LINES[0]} http://w more", "quorum none"],
    "another word": ["watcher w", "quorum none"],
    "a control character": [*LINES, "# \x0b", "quorum none"],
    "a carriage return": [*LINES, "quorum none\r"],
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_policy_is_refused(name: str) -> None:
    """Each by one mistake."""
    refused("".join(f"{line}\n" for line in WRONG[name]).encode())


def test_bounds() -> None:
    """Bytes, names, and the newline at the end."""
    refused(b"#" * WITNESS_POLICY_BYTES_MAX + b"\n")
    refused(b"quorum none")
    groups = ["group g0 any w0", *(f"group g{n} any g{n - 1}" for n in range(1, WITNESS_POLICY_NAMES_MAX))]
    refused("".join(f"{line}\n" for line in [*LINES, *groups, "quorum g9"]).encode())
    deep = policy(*LINES, *groups[: WITNESS_POLICY_NAMES_MAX - 6], f"quorum g{WITNESS_POLICY_NAMES_MAX - 7}")
    assert satisfied(cosigned_by((0,)), deep)


@given(st.binary(max_size=200))
def test_no_bytes_cause_anything_but_a_refusal(junk: bytes) -> None:
    """Junk, and junk among good lines."""
    good = "".join(f"{line}\n" for line in LINES).encode()
    for raw in (junk, good + junk + b"\nquorum none\n", good + b"group " + junk + b"\nquorum none\n"):
        try:
            made = parse_policy(raw)
        except ClusterConfigurationError:
            continue
        assert parse_policy(made.encode()) == made
