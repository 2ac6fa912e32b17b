"""The first record: its round trip, and that whatever else stands there is a typed refusal of bounded cost."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from tests.conftest import SEED
from tests.wal.hostile_values import hostile_values, mutated
from tests.wal.sample_log import GENESIS, ORIGIN, SIGNER, T0
from wal.errors import CorruptRecordError, LogError, SignatureError, UnknownFormatError
from wal.genesis import Genesis, Predecessor, decode_genesis
from wal.limits import SEGMENT_RECORDS
from wal.note import NOTE_BYTES_MAX, Ed25519Signer, PublicKey
from wal.record import FLAG_BATCH_END, KIND_EVENT, KIND_GENESIS, decode, encode

BEFORE = Predecessor("example.org/old", b"i" * 32, 7, b"l" * 32, 9, b"statement")
CONTINUED = GENESIS._replace(predecessor=BEFORE)
MUTATIONS = 20_000


def decoded(payload: bytes, kind: int = KIND_GENESIS) -> Genesis:
    frame, _ = encode(1, 1, T0, kind, payload, bytes(32), FLAG_BATCH_END)
    return decode_genesis(decode(frame))


@pytest.mark.parametrize("genesis", [GENESIS, CONTINUED], ids=["first", "after a gap"])
def test_what_is_written_is_read(genesis: Genesis) -> None:
    """All fields, with and without a predecessor, come back as they were."""
    assert decoded(genesis.payload()) == genesis


def fields() -> list[Any]:
    unpacked: list[Any] = msgpack.unpackb(CONTINUED.payload())
    return unpacked


WRONG: dict[str, list[Any]] = {
    "origin": [5, ORIGIN.encode(), "", "two words", "line\nbreak", "x" * 129, "\u00e9" * 65, None, ["x"], True],
    "vkey": [5, SIGNER.public.vkey().encode(), "", "a+b+c", SIGNER.public.vkey() + "=", "x" * 2000, None, [1]],
    "nonce": [10**14, 16, "x" * 16, b"", b"x" * 15, b"x" * 17, None, [0] * 16],
    "predecessor": [5, "x", b"", [], [1, 2], [None] * 6, {}, False],
}
PLACES = {"origin": 1, "vkey": 2, "nonce": 3, "predecessor": 5}
WRONG_BEFORE: dict[str, list[Any]] = {
    "origin": [5, b"example.org/old", "", None],
    "log_id": [10**14, 32, "x" * 32, b"x" * 31, None],
    "good_size": [-1, "7", 7.0, None, True, [7]],
    "good_link": [10**14, "x" * 32, b"x" * 33, None],
    "promised_size": [-1, "9", 9.0, None, False],
    "statement": [10**14, "text", None, b"x" * (NOTE_BYTES_MAX + 1)],
}


def wrong_payloads() -> Iterator[tuple[str, list[Any]]]:
    for name, values in WRONG.items():
        for value in values:
            payload = fields()
            payload[PLACES[name]] = value
            yield f"{name} {value!r}"[:60], payload
    for place, (name, values) in enumerate(WRONG_BEFORE.items()):
        for value in values:
            payload = fields()
            payload[5][place] = value
            yield f"predecessor's {name} {value!r}"[:60], payload
    for form in (0, -1, "1", True, None, 1.0):
        yield f"format {form!r}", [form, *fields()[1:]]
    yield "a field more", [*fields(), 1]
    yield "a field less", fields()[:-1]


@pytest.mark.parametrize("payload", [pytest.param(payload, id=name) for name, payload in wrong_payloads()])
def test_each_field_is_checked(payload: list[Any]) -> None:
    """Wrong types, lengths and ranges: refused, not believed and not allocated."""
    raw = msgpack.packb(payload)
    if len(raw) > 1 << 20:  # over a record's bound: only a bundle could hold it, and it refuses the size
        raw = raw[: 1 << 20]
    with pytest.raises(CorruptRecordError):
        decoded(raw)


def test_what_is_newer_is_called_newer() -> None:
    """Another format number, whatever follows, or segments of another size: upgrade, not damage."""
    for payload in ([2], [2, {}, "new"], [1, *fields()[1:4], 2 * SEGMENT_RECORDS, None]):
        with pytest.raises(UnknownFormatError):
            decoded(msgpack.packb(payload))


def test_only_a_genesis_record_is_one() -> None:
    """The right payload under another kind is refused."""
    with pytest.raises(CorruptRecordError):
        decoded(GENESIS.payload(), KIND_EVENT)


def test_mutated_payloads_are_refused_or_read() -> None:
    """Structures and bytes changed at random: a genesis that encodes to the same meaning, or a typed refusal."""
    chance = random.Random(SEED)
    read = 0
    for turn in range(MUTATIONS):
        if turn % 2:
            payload = msgpack.packb(mutated(fields(), chance))
        else:
            raw = bytearray(CONTINUED.payload())
            for _ in range(chance.randrange(1, 4)):
                raw[chance.randrange(len(raw))] = chance.randrange(256)
            payload = bytes(raw[: chance.choice([len(raw), chance.randrange(len(raw))])])
        try:
            genesis = decoded(payload[: 1 << 20])
        except LogError:
            continue
        read += 1
        assert decoded(genesis.payload()) == genesis, f"seed {SEED}, turn {turn}"
    assert 0 < read < MUTATIONS


def test_the_mutations_reach_every_kind_of_value() -> None:
    """The fuzzer's own check: what it puts in has all types of msgpack."""
    kinds = {type(value) for value in hostile_values()}
    assert kinds >= {int, str, bytes, list, dict, float, bool, type(None)}


def test_another_key_than_the_one_named_is_another_log() -> None:
    """The key is part of the identity."""
    other = GENESIS._replace(key=Ed25519Signer(ORIGIN, bytes(32)).public)
    assert decoded(other.payload()) != GENESIS


@pytest.mark.invariant("I12")
def test_a_text_that_is_no_public_key_is_not_repeated() -> None:
    """It may be the private key: the refusal says what is wrong and how long it was."""
    secret, vkey = bytes(range(32)).hex(), SIGNER.public.vkey()
    name, number, encoded = vkey.split("+", 2)
    wrong = [secret, f"{name}+{secret}", f"a+b+{secret}", f"{name}+{secret}+{encoded}", f"{secret} +{number}+{encoded}"]
    wrong += [f"{secret}+{number}+{encoded}", f"{name}+{number}+{secret}", f"{name}+{number.upper()}+{encoded}"]
    for text in wrong:
        with pytest.raises(SignatureError) as caught:
            PublicKey.parse(text)
        error = caught.value
        assert secret not in f"{error} {error.expected} {error.found} {error.__cause__}"
        assert str(len(text)) in str(error.found)
        assert not any(part in str(error) for part in (number.upper(), encoded))
    assert PublicKey.parse(vkey) == SIGNER.public
