"""What lies in an archive: the names of its objects, and their bytes. Pure but for ``zstandard``, loaded on first use.

::

    <log id>/authority/<index>-<link>          the frame of the genesis record, or of another record that says who signs
    <log id>/segments/<first>-<digest>.seg.zst a sealed segment with its seal
    <log id>/blobs/<BLAKE3>.zst                a blob that a record names
    <log id>/checkpoints/<size>-<BLAKE3>       a signed checkpoint

Numbers have 16 digits; log id, link, digest and BLAKE3 are 64 hex digits. ``.zst`` is one zstd frame that states its size
and has a checksum, and behind it a skippable frame with the BLAKE3 of the first, so that a changed bit shows even where it
would not change what comes out; ``zstd -d`` reads both. A name says what its object must hash to: nothing has to be believed.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import re
import struct
from typing import NamedTuple

from blake3 import blake3

from cluster.archive_errors import ArchiveBoundError, ArchiveDamagedError
from wal.errors import LogError
from wal.limits import PAYLOAD_BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENT_RECORDS
from wal.segment import MAGIC, ROW, Segment, decode_segment

AUTHORITY, SEGMENTS, BLOBS, CHECKPOINTS = "authority", "segments", "blobs", "checkpoints"
LEVEL = 3
"""Of zstd: what its authors take for the best of time and room."""

SEAL_BYTES_MAX = 64 * 1024
"""The signed note at the end of a segment."""

WINDOW_LOG = 21
WINDOW_BYTES = 1 << WINDOW_LOG
"""The window of a frame that holds more than that; in a smaller one it is as large as what it holds. Memory to expand it."""

_UNUSED_BIT = 0x10
_TRAILER = (0x184D2A50).to_bytes(4, "little") + (32).to_bytes(4, "little")
_TRAILER_BYTES = len(_TRAILER) + 32
_SEGMENT_HEADER = struct.Struct(">8sQI32sQ")
_LOG_ID = re.compile(r"[0-9a-f]{64}")
_NUMBERED = re.compile(r"([0-9]{16})-([0-9a-f]{64})(\.seg\.zst)?")
_BLOB = re.compile(r"([0-9a-f]{64})\.zst")


class ObjectName(NamedTuple):
    """A name of the layout, read: the kind of object, its index, first index or size (0 for a blob), and its hash."""

    log_id: bytes
    kind: str
    number: int
    digest: bytes

    def text(self) -> str:
        """The name itself."""
        digest = self.digest.hex()
        if self.kind == BLOBS:
            return f"{self.log_id.hex()}/{BLOBS}/{digest}.zst"
        return f"{folder_of(self.log_id, self.kind)}{self.number:016d}-{digest}{'.seg.zst' if self.kind == SEGMENTS else ''}"


def folder_of(log_id: bytes, kind: str) -> str:
    """The folder of one kind of object, with its slash."""
    return f"{log_id.hex()}/{kind}/"


def read_name(name: str) -> ObjectName | None:
    """The parts of a name; None for one that the layout has no place for."""
    log, _, rest = name.partition("/")
    kind, _, leaf = rest.partition("/")
    if _LOG_ID.fullmatch(log) is None:
        return None
    if kind == BLOBS:
        blob = _BLOB.fullmatch(leaf)
        return ObjectName(bytes.fromhex(log), kind, 0, bytes.fromhex(blob[1])) if blob is not None else None
    numbered = _NUMBERED.fullmatch(leaf)
    if numbered is None or kind not in (AUTHORITY, SEGMENTS, CHECKPOINTS) or bool(numbered[3]) != (kind == SEGMENTS):
        return None
    return ObjectName(bytes.fromhex(log), kind, int(numbered[1]), bytes.fromhex(numbered[2]))


def packed_limit(limit: int) -> int:
    """Bytes that ``limit`` bytes take at most when they cannot be compressed."""
    return limit + (limit >> 8) + 1024 + _TRAILER_BYTES


def with_digest(frame: bytes) -> bytes:
    """A zstd frame, and the skippable one behind it that holds its BLAKE3."""
    return frame + _TRAILER + blake3(frame).digest()


def _frame_of(packed: bytes, where: str) -> bytes:
    """The frame before the one with its digest. Raises ArchiveDamagedError when that is another's."""
    frame = packed[:-_TRAILER_BYTES]
    if with_digest(frame) != packed:
        raise ArchiveDamagedError(
            "an object is altered",
            where=where,
            expected="a zstd frame and its digest",
            found=f"{len(packed)} other bytes",
        )
    return frame


def pack(raw: bytes) -> bytes:
    """One zstd frame that states its size and has a checksum, with its digest."""
    import zstandard

    form = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, source_size=len(raw), window_log=WINDOW_LOG, write_checksum=True, write_content_size=True
    )
    return with_digest(zstandard.ZstdCompressor(compression_params=form).compress(raw))


def unpack(packed: bytes, limit: int, where: str) -> bytes:
    """The bytes of one zstd frame with its digest and nothing behind it.

    Raises ArchiveBoundError, before anything is expanded, for a frame that states no size, or more than ``limit`` bytes;
    ArchiveDamagedError when it is none that ``pack`` makes, or does not expand to what it states.
    """
    import zstandard

    frame = _frame_of(packed, where)
    stated = _stated_size(frame, limit, where)
    try:
        # Into a buffer of the stated size: a frame that states less than it holds fails as damage.
        raw = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES).decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ArchiveDamagedError("an object does not expand", where=where, found=error) from None
    if len(raw) != stated:
        raise ArchiveDamagedError(
            "an object has another size than it states", where=where, expected=stated, found=len(raw)
        )
    return raw


def _stated_size(frame: bytes, limit: int, where: str) -> int:
    import zstandard

    try:
        stated = zstandard.get_frame_parameters(frame)
    except zstandard.ZstdError as error:
        raise ArchiveDamagedError("an object is no zstd frame", where=where, found=error) from None
    if stated.content_size in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR):
        raise ArchiveBoundError("an object does not state its size", where=where, expected=f"<= {limit} bytes")
    if stated.content_size > limit:
        raise ArchiveBoundError(
            "an object would expand beyond its bound", where=where, expected=f"<= {limit} bytes",
            found=f"{stated.content_size} bytes",
        )  # fmt: skip
    # One spelling: decoders pass over the unused bit, and take any window that is large enough.
    window = min(max(stated.content_size, 0), WINDOW_BYTES)
    if frame[4] & _UNUSED_BIT or not stated.has_checksum or stated.dict_id or stated.window_size != window:
        raise ArchiveDamagedError("an object's frame is none that an archive has", where=where, expected=f"window {window}",
                                  found=f"window {stated.window_size}, descriptor {frame[4]:08b}")  # fmt: skip
    return int(stated.content_size)


def unpack_segment(packed: bytes, name: ObjectName, where: str) -> tuple[bytes, Segment]:
    """A segment's file and what it holds: its digest is computed and is the one in its name, its seal is not verified.

    Only as much is expanded as its own header, read first, allows. Raises ArchiveBoundError or ArchiveDamagedError.
    """
    _check_header(packed, name, where)
    raw = unpack(packed, SEGMENT_BYTES_MAX, where)
    try:
        segment = decode_segment(raw, where)
    except LogError as error:
        raise ArchiveDamagedError(error.what, where=where, expected=error.expected, found=error.found) from error
    if (segment.first, segment.digest) != (name.number, name.digest):
        raise ArchiveDamagedError(
            "a segment is under another's name", where=where, expected=name.digest.hex(), found=segment.digest.hex()
        )
    if max(row[4] for row in segment.rows) > PAYLOAD_BYTES_MAX:
        raise ArchiveDamagedError("a record is too large", where=where, expected=f"<= {PAYLOAD_BYTES_MAX} bytes")
    return raw, segment


def _check_header(packed: bytes, name: ObjectName, where: str) -> None:
    """Compare what the frame states with what the segment's own first bytes do: a bomb is refused for a few bytes' work."""
    import zstandard

    frame = _frame_of(packed, where)
    stated = _stated_size(frame, SEGMENT_BYTES_MAX, where)
    try:
        expand = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES).stream_reader(frame)
        head = expand.read(_SEGMENT_HEADER.size)
    except zstandard.ZstdError as error:
        raise ArchiveDamagedError("an object does not expand", where=where, found=error) from None
    if len(head) < _SEGMENT_HEADER.size or head[:8] != MAGIC:
        raise ArchiveDamagedError("not a segment", where=where, expected=MAGIC.hex(), found=head[:8].hex())
    _, first, count, _, payload_bytes = _SEGMENT_HEADER.unpack(head)
    if first != name.number or count != SEGMENT_RECORDS or payload_bytes > count * PAYLOAD_BYTES_MAX:
        raise ArchiveDamagedError(
            "a segment's header is not that of a sealed segment of this name", where=where,
            expected=f"{SEGMENT_RECORDS} records from {name.number}", found=f"{count} records from {first}",
        )  # fmt: skip
    least = _SEGMENT_HEADER.size + count * ROW.size + payload_bytes + 32
    if not least <= stated <= least + SEAL_BYTES_MAX:
        raise ArchiveBoundError(
            "an object would expand beyond what its header says", where=where, expected=f"{least} bytes and a seal",
            found=f"{stated} bytes",
        )  # fmt: skip


def digest_of(raw: bytes) -> bytes:
    """BLAKE3: what blobs and checkpoints are named by."""
    return blake3(raw).digest()
