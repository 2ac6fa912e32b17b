"""Sealed segments: they give every frame back byte for byte, and no changed byte gets past digest and signature."""

from __future__ import annotations

from itertools import islice

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wal.sample_log import ORIGIN, OTHER_SIGNER, SIGNER, T0, bit_flips, golden, make_frames
from wal.chain import VerifiedRun, verify_run
from wal.errors import CorruptFileError, LogError, SignatureError
from wal.limits import SEGMENT_RECORDS
from wal.merkle import leaf_hash, root_of
from wal.note import sign_note
from wal.record import EMPTY, FLAG_CLOCK_CLAMPED, Head, encode
from wal.segment import decode_segment, encode_segment, open_seal, root_of_links

PAYLOADS = [b"", b"one", bytes(40), b"FCR1", b"last"]


def run_of(payloads: list[bytes], start: Head = EMPTY) -> VerifiedRun:
    return verify_run(start, make_frames(payloads, start))


@settings(max_examples=50)
@given(payloads=st.lists(st.binary(max_size=60), min_size=1, max_size=20), skip=st.integers(0, 5))
def test_frames_come_back_byte_for_byte(payloads: list[bytes], skip: int) -> None:
    """A segment from any point of a chain gives back the very frames it was made of, and they verify."""
    start = run_of([b"before"] * skip).head
    frames = make_frames(payloads, start)
    seal, raw = encode_segment(ORIGIN, verify_run(start, frames), SIGNER)
    segment = decode_segment(raw, "test")
    assert list(segment.frames()) == frames
    assert tuple(segment.records()) == verify_run(start, segment.frames()).records
    assert open_seal(segment, [SIGNER.public], "test") == seal
    assert seal.head == verify_run(start, frames).head
    assert seal.root == root_of([leaf_hash(raw[-32:]) for _, raw in frames])


def test_every_bit_flip_is_refused() -> None:
    """Any bit of a sealed segment, its signature included, makes it fail."""
    _, raw = encode_segment(ORIGIN, run_of(PAYLOADS[:2]), SIGNER)
    for flipped in bit_flips(raw):
        with pytest.raises(LogError):
            open_seal(decode_segment(flipped, "test"), [SIGNER.public], "test")


def test_every_truncation_is_refused() -> None:
    """A sealed segment cut at any byte fails; cut exactly behind the digest it is an unsigned segment."""
    _, raw = encode_segment(ORIGIN, run_of(PAYLOADS[:2]), SIGNER)
    _, unsigned = encode_segment(ORIGIN, run_of(PAYLOADS[:2]), None)
    assert raw.startswith(unsigned)
    for size in range(len(raw)):
        with pytest.raises(LogError):
            open_seal(decode_segment(raw[:size], "test"), [SIGNER.public], "test")
    for size in range(len(unsigned)):
        with pytest.raises(CorruptFileError):
            decode_segment(unsigned[:size], "test")


def test_a_seal_about_another_segment_or_of_another_key_is_refused() -> None:
    """A right signature on the wrong bytes, a wrong signature on the right bytes, and no signature all fail."""
    mine, raw = encode_segment(ORIGIN, run_of(PAYLOADS), SIGNER)
    other, other_raw = encode_segment(ORIGIN, run_of([b"another"]), SIGNER)
    swapped = decode_segment(raw, "test")._replace(seal=decode_segment(other_raw, "test").seal)
    with pytest.raises(SignatureError, match="another segment"):
        open_seal(swapped, [SIGNER.public], "test")
    _, foreign = encode_segment(ORIGIN, run_of(PAYLOADS), OTHER_SIGNER)
    with pytest.raises(SignatureError):
        open_seal(decode_segment(foreign, "test"), [SIGNER.public], "test")
    with pytest.raises(SignatureError, match="not signed"):
        open_seal(swapped._replace(seal=b""), [SIGNER.public], "test")
    with pytest.raises(SignatureError, match="not a segment seal"):
        open_seal(swapped._replace(seal=sign_note("anything\n", [SIGNER])), [SIGNER.public], "test")
    assert mine.file_name != other.file_name


@pytest.mark.invariant("I11")
def test_header_counts_are_bounded_before_they_are_believed() -> None:
    """First index 0, no record, too many records, or more than the file holds: refused, the digest being right."""
    _, raw = encode_segment(ORIGIN, run_of(PAYLOADS), None)
    wrong_headers = [
        raw[:8] + bytes(8) + raw[16:],
        raw[:16] + bytes(4) + raw[20:],
        raw[:16] + (SEGMENT_RECORDS + 1).to_bytes(4, "big") + raw[20:],
        raw[:16] + (len(PAYLOADS) + 1).to_bytes(4, "big") + raw[20:],
        raw[:52] + (1 << 40).to_bytes(8, "big") + raw[60:],
    ]
    for wrong in wrong_headers:
        body = wrong[:-32]
        with pytest.raises(CorruptFileError):
            decode_segment(body + blake3(body).digest(), "test")


def test_rows_must_add_up_to_the_payloads() -> None:
    """Row lengths that do not sum to the payload bytes are refused even under a right digest."""
    _, raw = encode_segment(ORIGIN, run_of(PAYLOADS), None)
    length_at = 60 + 19
    body = raw[:length_at] + (9).to_bytes(4, "big") + raw[length_at + 4 : -32]
    with pytest.raises(CorruptFileError, match="add up"):
        decode_segment(body + blake3(body).digest(), "test")


def test_a_full_segment_is_a_node_of_the_tree() -> None:
    """4096 records seal into one file whose root is the plain RFC 6962 root over their links."""
    run = run_of([b"%d" % number for number in range(SEGMENT_RECORDS)])
    seal, raw = encode_segment(ORIGIN, run, SIGNER)
    segment = decode_segment(raw, "test")
    assert seal.count == SEGMENT_RECORDS
    assert seal.root == segment.root() == root_of_links([record.link for record in run.records])
    assert list(islice(segment.frames(), 3)) == make_frames([b"0", b"1", b"2"])


def test_golden_segment() -> None:
    """A fixed run with a clamped clock and a fixed key has the file that version 1 of the format gave it."""
    frames = make_frames(PAYLOADS)
    head = verify_run(EMPTY, frames).head
    frames.append((6, encode(6, 2, T0 + 9, 16, b"new epoch", head.link, FLAG_CLOCK_CLAMPED)[0]))
    seal, raw = encode_segment(ORIGIN, verify_run(EMPTY, frames), SIGNER)
    stored = golden(
        "segment",
        {"vkey": SIGNER.public.vkey(), "file_name": seal.file_name, "seal": seal.text(), "root": seal.root.hex(),
         "frames": [frame.hex() for _, frame in frames], "raw": raw.hex()},
    )  # fmt: skip
    segment = decode_segment(bytes.fromhex(stored["raw"]), "test")
    assert [frame.hex() for _, frame in segment.frames()] == stored["frames"]
    assert open_seal(segment, [SIGNER.public], "test").text() == stored["seal"]
