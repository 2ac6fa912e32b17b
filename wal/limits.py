"""Every bound of the log, with its unit (I11). Relations between bounds are checked on import."""

from __future__ import annotations

PAYLOAD_BYTES_MAX = 1024 * 1024
"""One record's payload. Larger outputs go to a blob, its hash in the record."""

BATCH_RECORDS_MAX = 1024
"""Records in one append call; all of them become durable together."""

GROUP_RECORDS_MAX = 4096
"""Records in one group commit (several callers' batches in one LMDB transaction)."""

GROUP_BYTES_MAX = 16 * 1024 * 1024
"""Payload bytes in one group commit, unless a single batch is larger."""

QUEUE_TICKETS_MAX = 65_536
"""Appends waiting for the writer; one more is refused as BoundError."""

SEGMENT_RECORDS = 4096
"""Records in a sealed segment: a power of two, so that a segment's root is a node of the RFC 6962 tree."""

TIME_NS_MAX = 2**63 - 1
"""Latest time of a record, nanoseconds since 1970: a broken clock must not write what readers cannot hold."""

SEGMENTS_MAX = 16_384
"""Sealed segments of one log (67 million records); start a new log before."""

BLOB_BYTES_MAX = 64 * 1024 * 1024
"""One content-addressed blob."""

FILE_BYTES_MAX = 256 * 1024 * 1024
"""Any one file beside the records but a segment (snapshot, manifest): refused before it is read into memory."""

SEGMENT_BYTES_MAX = SEGMENT_RECORDS * (PAYLOAD_BYTES_MAX + 64) + 64 * 1024
"""A segment file: whatever 4096 records may hold must be sealed, or a log of large ones would come to a stand."""

MAP_BYTES_DEFAULT = 64 * 1024 * 1024 * 1024
"""Address space reserved for the LMDB map (sparse: it costs no disk)."""

DISK_RESERVE_BYTES = 16 * 1024 * 1024
"""Free space below which appends are refused, so that recovery and reads always have room."""

FINISH_RESERVE_BYTES = 8 * 1024 * 1024
"""Room kept for finishing what was begun, or a quarter of the map when that is less: see ``Storage.room``."""

READ_CHUNK_RECORDS = 1024
"""Records read in one LMDB transaction: long readers would pin old pages (pitfall 10)."""

ROTATIONS_MAX = 256
"""Rotations of the signing key in one log: each opening verifies all of them."""

AUTHORITY_RECORDS_MAX = 4096
"""Rotations, epochs and memberships of one log together: each opening verifies all of them."""

EPOCH_MAX = 2**63 - 1
"""The highest epoch: revisions of a coordinator are signed 64-bit numbers."""

MEMBERS_MAX = 31
"""Members of one log, learners included."""

ADDRESS_BYTES_MAX = 255
"""Where a member is reached, in printable ASCII."""

CERTIFICATE_BYTES_MAX = 8192
"""A member's TLS certificate in DER."""

ORIGIN_BYTES_MAX = 128
"""Length of a log's origin line."""


def file_bytes_max(name: str) -> int:
    """Bound of the file ``name`` (or path) beside the records."""
    return SEGMENT_BYTES_MAX if name.endswith(".seg") else FILE_BYTES_MAX


assert SEGMENT_RECORDS & (SEGMENT_RECORDS - 1) == 0
assert BATCH_RECORDS_MAX <= GROUP_RECORDS_MAX
assert (SEGMENTS_MAX + 1) * SEGMENT_RECORDS < 1 << 32, "a HEAD slot holds an authority record's index in 4 bytes"
