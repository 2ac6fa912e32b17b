"""What operators sign: one spelling for each request, and nothing else passes for it."""

from __future__ import annotations

import random
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from femtoclaw.errors import ConfigurationError
from femtoclaw.statement import (
    CONTENT_BYTES_MAX,
    TAG,
    TEXT_BYTES_MAX,
    TIME_NS_MAX,
    sign_statement,
    statement,
    verify_statement,
)
from wal.note import Ed25519Signer, open_note, sign_note

FIELDS = ("node-1", "request-1", "ada", "policy.set", "node", b"permit", 7)
ORDER = 2**252 + 27742317777372353535851937790883648493

LOW_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]
"""Points whose multiples are few: under such a key anybody could sign."""


@pytest.fixture(scope="module")
def signer() -> Ed25519Signer:
    return Ed25519Signer("ada", bytes(range(32)))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
requests = st.tuples(texts, texts, texts, texts, texts, st.binary(max_size=40), st.integers(0, TIME_NS_MAX))


@given(requests, requests)
def test_two_requests_never_share_their_bytes(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert (statement(*one) == statement(*other)) == (one == other)  # type: ignore[arg-type]


@given(st.lists(st.text("ab\x00", max_size=3), min_size=5, max_size=5), st.integers(0, 3), st.integers(1, 2))
def test_moving_text_across_a_border_changes_the_bytes(fields: list[str], at: int, count: int) -> None:
    """What one field loses the next one gains: the joined text is the same, the statement is not."""
    moved = [*fields]
    moved[at], moved[at + 1] = fields[at][:-count], fields[at][-count:] + fields[at + 1]
    same = moved == fields
    assert (statement(*moved, b"", 1) == statement(*fields, b"", 1)) == same  # type: ignore[call-arg, arg-type]


def test_the_form_is_what_it_was() -> None:
    """Signatures outlive programs: the exact bytes of one statement."""
    parts = [b"node-1", b"request-1", b"ada", b"policy.set", b"node", b"permit"]
    framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    assert statement(*FIELDS) == b"femtoclaw statement v1\x00" + (7).to_bytes(8, "big") + framed


def test_a_signature_is_good_for_its_statement_and_key_only(signer: Ed25519Signer) -> None:
    raw = statement(*FIELDS)
    signature = sign_statement(signer, raw)
    assert verify_statement(signer.public.vkey(), raw, signature)
    assert verify_statement(signer.public.raw.hex(), raw, signature)
    other = Ed25519Signer("ada", bytes(32)).public
    assert not verify_statement(other.vkey(), raw, signature)
    for place in range(len(FIELDS)):
        changed = [*FIELDS]
        value = changed[place]
        changed[place] = value + 1 if isinstance(value, int) else value + value[:1]  # type: ignore[operator]
        assert not verify_statement(signer.public.vkey(), statement(*changed), signature), place  # type: ignore[arg-type]
    for bit in range(0, 512, 7):
        flipped = bytearray(signature)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not verify_statement(signer.public.vkey(), raw, bytes(flipped)), bit


def test_a_signature_has_one_spelling(signer: Ed25519Signer) -> None:
    """The same number plus the group's order would verify in a careless implementation: a second, malleable form."""
    raw = statement(*FIELDS)
    signature = sign_statement(signer, raw)
    number = int.from_bytes(signature[32:], "little") + ORDER
    assert number < 2**256
    assert not verify_statement(signer.public.vkey(), raw, signature[:32] + number.to_bytes(32, "little"))


@pytest.mark.parametrize("key", LOW_ORDER)
def test_a_key_of_low_order_verifies_nothing(key: str) -> None:
    raw = statement(*FIELDS)
    for commitment in LOW_ORDER:
        assert not verify_statement(key, raw, bytes.fromhex(commitment) + bytes(32))


def test_bad_bytes_are_false_and_never_an_exception(signer: Ed25519Signer) -> None:
    raw = statement(*FIELDS)
    signature = sign_statement(signer, raw)
    vkey = signer.public.vkey()
    seed = secrets.randbits(32)
    print("seed", seed)
    chance = random.Random(seed)
    for length in (0, 1, 63, 65, 4096):
        assert not verify_statement(vkey, raw, chance.randbytes(length))
        assert not verify_statement(vkey, chance.randbytes(length), signature)
    upper = signer.public.raw.hex().upper()
    spaced = " ".join(signer.public.raw.hex()[at : at + 2] for at in range(0, 64, 2))
    for key in (
        "",
        "+",
        "a+b+c",
        vkey + "=",
        vkey[:-1],
        "ada",
        "é" * 64,
        "\ud800",
        upper,
        spaced,
        "00" * 31,
        "00" * 33,
    ):
        assert not verify_statement(key, raw, signature), key


def test_a_note_is_no_statement_and_a_statement_no_note(signer: Ed25519Signer) -> None:
    """One key may sign both: neither signature serves as the other."""
    import base64

    note = sign_note("femtoclaw statement v1\n", [signer])
    assert open_note(note, [signer.public]).verified
    signature = base64.b64decode(note.split()[-1])[4:]
    assert not verify_statement(signer.public.vkey(), b"femtoclaw statement v1\n", signature)
    with pytest.raises(ConfigurationError, match="not a statement"):
        sign_statement(signer, b"femtoclaw statement v1\n")
    assert TAG.endswith(b"\x00")


@pytest.mark.parametrize(
    "place, value",
    [
        (0, "\ud800"), (1, "x" * (TEXT_BYTES_MAX + 1)), (4, "é" * TEXT_BYTES_MAX), (6, -1), (6, TIME_NS_MAX + 1),
        (5, bytes(CONTENT_BYTES_MAX + 1)),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_a_typed_error(place: int, value: object) -> None:
    fields = [*FIELDS]
    fields[place] = value  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match="cannot be signed"):
        statement(*fields)  # type: ignore[arg-type]
