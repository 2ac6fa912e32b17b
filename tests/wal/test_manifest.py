"""The list of sealed segments: gap-free from index 1, and refused with any bit changed."""

from __future__ import annotations

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from tests.wal.sample_log import ORIGIN, bit_flips, golden
from wal.errors import BoundError, CorruptFileError
from wal.limits import SEGMENTS_MAX
from wal.manifest import Manifest, decode_manifest, encode_manifest
from wal.record import EMPTY
from wal.segment import Seal


def manifest_of(counts: list[int]) -> Manifest:
    """A manifest of segments with these record counts and made-up hashes."""
    seals: list[Seal] = []
    head = EMPTY
    for number, count in enumerate(counts):
        root, link, digest = (blake3(b"%d %d" % (number, part)).digest() for part in range(3))
        seals.append(Seal(ORIGIN, head.index + 1, count, root, head.link, link, digest))
        head = seals[-1].head
    return Manifest(seals)


@given(counts=st.lists(st.integers(1, 4096), max_size=6))
def test_round_trip(counts: list[int]) -> None:
    """Every seal comes back, its previous link restored from the one before."""
    manifest = manifest_of(counts)
    assert decode_manifest(encode_manifest(manifest), ORIGIN) == manifest
    assert manifest.head.index == sum(counts)


def test_every_bit_flip_and_truncation_is_refused() -> None:
    """A manifest with any bit changed or cut anywhere is damaged."""
    raw = encode_manifest(manifest_of([4096, 4096]))
    for flipped in bit_flips(raw):
        with pytest.raises(CorruptFileError):
            decode_manifest(flipped, ORIGIN)
    for size in range(len(raw)):
        with pytest.raises(CorruptFileError):
            decode_manifest(raw[:size], ORIGIN)


@pytest.mark.parametrize("first", [0, 1, 4096, 4098])
def test_gaps_and_overlaps_are_refused(first: int) -> None:
    """The second segment must begin right behind the first, whatever the checksum says."""
    good = manifest_of([4096, 4096])
    with pytest.raises(CorruptFileError, match="gap"):
        decode_manifest(encode_manifest([good[0], good[1]._replace(first=first)]), ORIGIN)
    with pytest.raises(CorruptFileError, match="gap"):
        decode_manifest(encode_manifest([good[0]._replace(count=0)]), ORIGIN)


def test_a_header_that_does_not_fit_is_refused() -> None:
    """A wrong magic, or a row count that is not the file's, fails under a right checksum."""
    raw = encode_manifest(manifest_of([4096]))
    for body in (b"FCMAN002" + raw[8:-32], raw[:8] + (2).to_bytes(4, "big") + raw[12:-32]):
        with pytest.raises(CorruptFileError, match="header"):
            decode_manifest(body + blake3(body).digest(), ORIGIN)


@pytest.mark.invariant("I11")
def test_the_number_of_segments_is_bounded() -> None:
    """The last segment allowed is taken; one more is a BoundError that says what to do."""
    manifest = manifest_of([1] * (SEGMENTS_MAX - 1))
    following = Seal(ORIGIN, SEGMENTS_MAX, 1, bytes(32), manifest.head.link, b"x" * 32, bytes(32))
    full = manifest.extended(following)
    assert len(full) == SEGMENTS_MAX
    one_more = Seal(ORIGIN, SEGMENTS_MAX + 1, 1, bytes(32), full.head.link, b"y" * 32, bytes(32))
    with pytest.raises(BoundError) as caught:
        full.extended(one_more)
    assert caught.value.remedy == "start a new log"


def test_golden_manifest() -> None:
    """A fixed list has the bytes that version 1 of the format gave it."""
    manifest = manifest_of([4096, 4096, 17])
    stored = golden(
        "manifest",
        {"seals": [[s.first, s.count, s.root.hex(), s.link.hex(), s.digest.hex()] for s in manifest],
         "raw": encode_manifest(manifest).hex()},
    )  # fmt: skip
    assert decode_manifest(bytes.fromhex(stored["raw"]), ORIGIN) == manifest
