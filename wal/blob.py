"""Content-addressed blobs: outputs too large for a record, named by their BLAKE3. Pure naming; storage is the log's."""

from __future__ import annotations

from blake3 import blake3

from wal.errors import CorruptFileError
from wal.storage import Storage


def blob_name(raw: bytes) -> str:
    """BLAKE3 of the bytes, 64 hex digits."""
    return blake3(raw).hexdigest()


def blob_file(digest: str) -> str:
    """Where a blob lies in the log's storage."""
    return f"blobs/{digest[:2]}/{digest}"


def read_blob(storage: Storage, digest: str) -> bytes:
    """The blob's bytes, verified. Raises CorruptFileError when it is missing or altered."""
    name = blob_file(digest)
    raw = storage.get_file(name)
    found = "nothing" if raw is None else blob_name(raw)
    if raw is None or found != digest:
        raise CorruptFileError("blob is missing or altered", where=name, expected=digest, found=found)
    return raw
