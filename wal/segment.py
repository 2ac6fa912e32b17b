"""Sealed segments: a run of records as one file, with a root and a signature. Pure: bytes in, bytes out.

Layout (big-endian)::

    magic "FCSEG001" | first u64 | count u32 | prev 32 | payload bytes u64
    count rows of: epoch u64 | time u64 | kind u8 | flags u16 | length u32 | link 32
    payloads, one after the other
    digest 32 = BLAKE3(every byte before it)
    seal: a signed note (see ``Seal.text``)

The rows stand apart from the payloads so that replay can read a whole segment with a handful of calls: the digest is
checked once, under the seal's signature, instead of one checksum a record. ``frames`` gives the records' own frames
back, byte for byte, for whoever trusts no seal.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import base64
import struct
from collections.abc import Iterator
from typing import NamedTuple

from blake3 import blake3

from wal import record
from wal.chain import VerifiedRun
from wal.errors import CorruptFileError, SignatureError
from wal.limits import SEGMENT_RECORDS
from wal.merkle import Frontier, leaf_hash
from wal.note import PublicKey, Signer, open_note, sign_note
from wal.record import Head, Record

MAGIC = b"FCSEG001"
_HEADER = struct.Struct(">8sQI32sQ")
ROW = struct.Struct(">QQBHI32s")
_SEAL_TITLE = "femtoclaw segment v1"


class Seal(NamedTuple):
    """What the node signs about a segment."""

    origin: str
    first: int
    count: int  # type: ignore[assignment]
    root: bytes
    prev: bytes
    link: bytes
    digest: bytes

    @property
    def head(self) -> Head:
        """The chain head at the segment's end."""
        return Head(self.first + self.count - 1, self.link)

    @property
    def file_name(self) -> str:
        """Unique by content, so that two runs of the same indexes cannot replace each other."""
        return f"{self.first:016d}-{self.digest[:8].hex()}.seg"

    def text(self) -> str:
        """The note's text: title, origin, first and count, root, links, digest; one line each."""
        b64 = [base64.b64encode(value).decode() for value in (self.root, self.prev, self.link, self.digest)]
        return "\n".join([_SEAL_TITLE, self.origin, f"{self.first} {self.count}", *b64, ""])


class Segment(NamedTuple):
    """A segment file whose digest holds. Its seal may be empty (an unsigned tail) and is not verified yet."""

    first: int
    prev: bytes
    rows: tuple[tuple[int, int, int, int, int, bytes], ...]
    payloads: bytes
    digest: bytes
    seal: bytes

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """The records as (index, frame), rebuilt byte for byte; the caller verifies them (``wal.chain``)."""
        prev, offset = self.prev, 0
        for index, (epoch, time_ns, kind, flags, length, link) in enumerate(self.rows, self.first):
            payload = self.payloads[offset : offset + length]
            header = record.HEADER.pack(record.MAGIC, record.VERSION, kind, flags, length, index, epoch, time_ns, prev)
            yield index, header + payload + link
            prev, offset = link, offset + length

    def records(self) -> Iterator[Record]:
        """The records as they stand under the digest, without one hash each: for a caller who has checked the digest
        against a seal or manifest that it trusts (``LogReader.read_segment``)."""
        prev, offset = self.prev, 0
        for index, (epoch, time_ns, kind, flags, length, link) in enumerate(self.rows, self.first):
            end = offset + length
            yield Record(index, epoch, time_ns, kind, self.payloads[offset:end], prev, link, flags)
            prev, offset = link, end

    def root(self) -> bytes:
        """RFC 6962 root over this segment's links."""
        return root_of_links([row[5] for row in self.rows])


def root_of_links(links: list[bytes]) -> bytes:
    """RFC 6962 root over leaves that are record links."""
    frontier = Frontier()
    frontier.extend([leaf_hash(link) for link in links])
    return frontier.root()


def encode_segment(origin: str, run: VerifiedRun, signer: Signer | None) -> tuple[Seal, bytes]:
    """Return the seal's facts and the file's bytes; without a signer the seal is left empty."""
    records = run.records
    body = b"".join(
        (
            _HEADER.pack(
                MAGIC, run.start.index + 1, len(records), run.start.link, sum(len(r.payload) for r in records)
            ),
            *(ROW.pack(r.epoch, r.time_ns, r.kind, r.flags, len(r.payload), r.link) for r in records),
            *(r.payload for r in records),
        )
    )
    digest = blake3(body).digest()
    root = root_of_links([r.link for r in records])
    seal = Seal(origin, run.start.index + 1, len(records), root, run.start.link, run.head.link, digest)
    note = sign_note(seal.text(), [signer]) if signer is not None else b""
    return seal, body + digest + note


def decode_segment(raw: bytes, where: str) -> Segment:
    """Check framing and digest. Raises CorruptFileError."""
    if len(raw) < _HEADER.size + 32 or raw[:8] != MAGIC:
        raise CorruptFileError("not a segment file", where=where, expected=MAGIC.hex(), found=raw[:8].hex())
    _, first, count, prev, payload_bytes = _HEADER.unpack_from(raw)
    rows_end = _HEADER.size + count * ROW.size
    end = rows_end + payload_bytes
    if first < 1 or not 1 <= count <= SEGMENT_RECORDS or len(raw) < end + 32:
        raise CorruptFileError(
            "segment header does not fit the file", where=where, expected=f"{end + 32} bytes", found=len(raw)
        )
    digest = blake3(raw[:end]).digest()
    if digest != raw[end : end + 32]:
        raise CorruptFileError(
            "segment digest is wrong", where=where, expected=raw[end : end + 32].hex(), found=digest.hex()
        )
    rows = tuple(ROW.iter_unpack(raw[_HEADER.size : rows_end]))
    if sum(row[4] for row in rows) != payload_bytes:
        raise CorruptFileError("segment rows do not add up to its payload", where=where, expected=payload_bytes)
    return Segment(first, prev, rows, raw[rows_end:end], digest, raw[end + 32 :])


def first_of(raw: bytes) -> int:
    """Index of the first record of a segment file, unverified; 0 for what is none."""
    return int(_HEADER.unpack_from(raw)[1]) if len(raw) >= _HEADER.size and raw[:8] == MAGIC else 0


def open_seal(segment: Segment, known: list[PublicKey], where: str) -> Seal:
    """Verify the seal's signature and that it speaks of this very segment.

    Raises SignatureError when it is unsigned, signed by someone else, or about other bytes.
    """
    if not segment.seal:
        raise SignatureError("segment is not signed", where=where)
    text = open_note(segment.seal, known).text
    lines = text.split("\n")
    if len(lines) != 8 or lines[0] != _SEAL_TITLE:
        raise SignatureError(
            "signed text is not a segment seal", where=where, expected=_SEAL_TITLE, found=lines[0][:40]
        )
    last = segment.rows[-1][5]
    seal = Seal(lines[1], segment.first, len(segment.rows), segment.root(), segment.prev, last, segment.digest)
    if seal.text() != text:
        raise SignatureError("seal is about another segment", where=where, expected=seal.text(), found=text)
    return seal
