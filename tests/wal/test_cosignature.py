"""Cosignatures: the bytes of the specification's formula, whose line is whose, nothing counted that does not hold."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from tests.wal.sample_log import ORIGIN, SIGNER
from wal.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from wal.cosignature import (
    TIME_MAX_S,
    Cosignature,
    CosignerKey,
    cosign,
    cosigner_key,
    cosigner_of,
    open_cosignatures,
    verify_cosignature,
    verify_cosignatures,
)
from wal.errors import SignatureError
from wal.note import Ed25519Signer, open_note

NAME, SEED = "witness.example.org/w1", bytes(range(2, 34))
WITNESS = Ed25519Signer(NAME, SEED)
KEY = cosigner_of(WITNESS.public)
OTHER = Ed25519Signer("witness.example.org/w2", bytes(range(3, 35)))
CHECKPOINT = Checkpoint(ORIGIN, 7, bytes(range(32)))
TEXT = CHECKPOINT.text()
NOTE = sign_checkpoint(CHECKPOINT, [SIGNER])
TIME_S = 1_679_315_147


def from_formula(text: str, time_s: int, name: str = NAME, seed: bytes = SEED, kind: int = 4) -> str:
    """The line as the specification spells it, with nothing of the program's own."""
    secret = SigningKey(seed)
    key_id = hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + bytes(secret.verify_key)).digest()[:4]
    message = b"cosignature/v1\ntime " + str(time_s).encode() + b"\n" + text.encode()
    blob = key_id + time_s.to_bytes(8, "big") + secret.sign(message).signature
    return "\N{EM DASH} " + name + " " + base64.b64encode(blob).decode() + "\n"


def refused(lines: Sequence[str], text: str = TEXT, known: Sequence[CosignerKey] = (KEY,)) -> SignatureError:
    with pytest.raises(SignatureError) as caught:
        verify_cosignatures(text, lines, known)
    return caught.value


@given(
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\n"), min_size=1),
    st.integers(1, TIME_MAX_S),
    st.binary(min_size=32, max_size=32),
)
def test_a_cosignature_is_the_bytes_of_the_formula(line: str, time_s: int, seed: bytes) -> None:
    """Ed25519 has one signature for a key and a message, so the whole line is determined; and it verifies."""
    text, signer = f"{line}\n7\nroot\n", Ed25519Signer(NAME, seed)
    made = cosign(text, signer, time_s)
    assert made == from_formula(text, time_s, seed=seed)
    key = cosigner_of(signer.public)
    assert verify_cosignature(text, made, key) == Cosignature(key, time_s)


def test_the_verifier_key_is_of_type_four_and_has_one_spelling() -> None:
    """Name, hash and type follow from the formula; a note key, another hash, stray bits or another length are none."""
    raw = bytes(SigningKey(SEED).verify_key)
    digest = hashlib.sha256(NAME.encode() + b"\n\x04" + raw).hexdigest()[:8]
    vkey = f"{NAME}+{digest}+{_encoded(4, raw)}"
    assert KEY.vkey() == vkey
    assert CosignerKey.parse(vkey) == KEY == cosigner_key(NAME, raw)
    wrong = [
        WITNESS.public.vkey(), vkey.upper(), vkey.replace(digest, "00000000"), vkey[:-4], vkey + "\n", "", "+", "a+b+c",
        f"{NAME}+{digest}+{_encoded(1, raw)}", f"{NAME}+{digest}+{_encoded(4, raw[1:])}", f" +{digest}+{_encoded(4, raw)}",
    ]  # fmt: skip
    for text in wrong:
        with pytest.raises(SignatureError) as caught:
            CosignerKey.parse(text)
        assert len(text) < 9 or text not in str(caught.value)


def _encoded(kind: int, raw: bytes) -> str:
    return base64.b64encode(bytes([kind]) + raw).decode()


def test_readers_of_notes_pass_a_cosignature_over() -> None:
    """Even one of the very key that they know: its id is another, so its line is an unknown key's."""
    note = NOTE + cosign(TEXT, WITNESS, TIME_S).encode() + cosign(TEXT, SIGNER, TIME_S).encode()
    opened = open_note(note, [SIGNER.public, WITNESS.public])
    assert opened.verified == (SIGNER.public,)
    assert opened.unknown == (NAME, SIGNER.public.name)
    assert open_checkpoint(note, [SIGNER.public], ORIGIN).checkpoint == CHECKPOINT


def test_lines_of_other_types_and_keys_are_passed_over() -> None:
    """A post-quantum cosignature, a note signature, a stranger, and a key that shares the name or the id only."""
    long = b"\x01\x02\x03\x04" + bytes(8 + 2420)
    strange = f"\N{EM DASH} {NAME} {base64.b64encode(long).decode()}\n"
    same_id = f"\N{EM DASH} elsewhere {base64.b64encode(KEY.key_id + bytes(72)).decode()}\n"
    lines = [strange, same_id, cosign(TEXT, OTHER, TIME_S), from_formula(TEXT, TIME_S, kind=1)]
    assert verify_cosignatures(TEXT, lines, [KEY]) == ()
    assert verify_cosignatures(TEXT, [*lines, cosign(TEXT, WITNESS, TIME_S)], [KEY]) == (Cosignature(KEY, TIME_S),)
    with pytest.raises(SignatureError):
        verify_cosignature(TEXT, cosign(TEXT, OTHER, TIME_S), KEY)


def test_each_cosigner_counts_once_with_its_newest() -> None:
    """Whoever signs twice is not two."""
    other = cosigner_of(OTHER.public)
    lines = [cosign(TEXT, WITNESS, t) for t in (5, 9, 7)] + [cosign(TEXT, OTHER, 3)]
    assert verify_cosignatures(TEXT, lines, [other, KEY, KEY]) == (Cosignature(other, 3), Cosignature(KEY, 9))


def test_a_line_of_a_known_key_that_does_not_hold_refuses_all() -> None:
    """Another text, another time, another length, no time, and every flipped bit behind the key's id."""
    line = cosign(TEXT, WITNESS, TIME_S)
    refused([line], Checkpoint(ORIGIN, 8, CHECKPOINT.root).text())
    refused([line], TEXT + "extension\n")
    blob = base64.b64decode(line.split(" ")[2])
    changed = [blob[:4] + (TIME_S + 1).to_bytes(8, "big") + blob[12:], blob[:-1], blob + b"\x00", blob[:4] + bytes(1)]
    changed += [blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :] for at in range(4, len(blob))]
    for each in changed:
        refused([f"\N{EM DASH} {NAME} {base64.b64encode(each).decode()}\n", cosign(TEXT, WITNESS, TIME_S)])


@pytest.mark.parametrize("time_s", [0, TIME_MAX_S + 1])
def test_times_that_say_nothing_are_refused(time_s: int) -> None:
    """Without a time a cosignature makes no statement of the largest tree; beyond the bound it is malformed."""
    with pytest.raises(SignatureError):
        cosign(TEXT, WITNESS, time_s)
    refused([from_formula(TEXT, time_s)])


@given(st.binary(max_size=400))
def test_no_bytes_cause_anything_but_a_refusal(junk: bytes) -> None:
    """Whatever stands where a note should: SignatureError, or nothing found."""
    for raw in (junk, TEXT.encode() + b"\n" + junk, NOTE + junk):
        try:
            assert open_cosignatures(raw, [KEY]) == ()
        except SignatureError:
            pass


def test_a_whole_note_is_read_for_its_cosignatures() -> None:
    """The line may stand anywhere among the signatures."""
    line = cosign(TEXT, WITNESS, TIME_S).encode()
    text, separator, rest = NOTE.partition(b"\n\n")
    for note in (NOTE + line, text + separator + line + rest):
        assert open_cosignatures(note, [KEY]) == (Cosignature(KEY, TIME_S),)
    assert open_cosignatures(NOTE, [KEY]) == ()
