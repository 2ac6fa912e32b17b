"""The storage port: what a log needs of durable media, as a contract in prose.

Two implementations pass one contract suite (``tests/contract/test_storage.py``): ``LmdbStorage`` on disk and
``MemoryStorage`` for tests and simulation. Every method that changes something is durable when it returns and atomic
(after a crash all of it is there or nothing). When one raises ``OSError`` or a ``LogError`` other than LogFullError
or BoundError, its outcome is unknown and the caller must never write again through this object (I4). ``append``,
``cut`` and ``write_slot`` are serialized by the caller; so are calls of ``put_file``, but they may run beside the other
three; readers may call ``get``, ``scan``, ``get_file`` and ``list_files`` from any thread at any time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol


class Storage(Protocol):
    """Records by index, two HEAD slots, and named files."""

    @property
    def name(self) -> str:
        """Where this is, for error texts."""

    def append(self, frames: Sequence[tuple[int, bytes]]) -> None:
        """Store frames at consecutive new indexes, all or none.

        An index that is not the next one is a CorruptRecordError, and then nothing was written.

        Raises LogFullError when there is no room; then nothing was written and the storage stays usable.
        """

    def room(self) -> int:
        """Bytes left for new work, about; 0 or less when only ``FINISH_RESERVE_BYTES`` are left to finish what was
        begun. Appends go on until there is no room at all."""

    def get(self, index: int) -> bytes | None:
        """The frame stored at ``index``, unverified."""

    def last_index(self) -> int:
        """The highest stored index, 0 when empty."""

    def scan(self, first: int, stop: int) -> Iterator[tuple[int, bytes]]:
        """Yield (index, frame) for first <= index < stop in order, unverified, in chunks of short transactions."""

    def cut(self, after: int) -> int:
        """Remove every record above ``after`` and return how many: by recovery, or when a replica cuts an orphan, always above
        the commit point as HEAD says it then."""

    def write_slot(self, slot: int, raw: bytes) -> None:
        """Overwrite HEAD slot 0 or 1."""

    def read_slots(self) -> tuple[bytes, bytes]:
        """Both HEAD slots; empty bytes where nothing was ever written."""

    def put_file(self, name: str, raw: bytes) -> None:
        """Create or atomically replace the file ``name`` (a relative path of plain names).

        Raises BoundError over ``wal.limits.file_bytes_max``; then nothing was written.
        """

    def get_file(self, name: str) -> bytes | None:
        """The file's bytes, or None when it does not exist. Raises BoundError over ``wal.limits.file_bytes_max``."""

    def list_files(self, folder: str) -> list[str]:
        """Names of the files (not folders) directly in ``folder``, sorted; empty when there is none."""

    def close(self) -> None:
        """Release everything. Idempotent."""
