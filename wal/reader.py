"""Reading a log: every record that leaves this class has had its checksum and its place in the chain checked."""

from __future__ import annotations

from collections.abc import Iterator

from wal.chain import follow
from wal.errors import CorruptFileError, CorruptRecordError, LogMissingError, RangeError
from wal.genesis import Genesis, decode_genesis
from wal.head import read_slots
from wal.limits import BATCH_RECORDS_MAX
from wal.note import PublicKey
from wal.record import EMPTY, FLAG_BATCH_END, FLAGS_LOW_BYTE, Head, Record, decode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wal.key_history import KeyHistory
    from wal.manifest import Manifest
    from wal.segment import Seal, Segment
    from wal.storage import Storage
    from wal.tree import LogTree

CHECKPOINT_FILE = "checkpoints/latest"


class LogReader:
    """A log as far as it has been promised (the newest HEAD slot); safe beside a running writer."""

    def __init__(self, storage: Storage) -> None:
        """Raises LogMissingError, CorruptRecordError, UnknownFormatError or CorruptFileError (no readable HEAD)."""
        self.storage = storage
        raw = storage.get(1)
        if raw is None:
            raise LogMissingError("the log has no first record", where=storage.name)
        first = decode(raw, "index 1")
        self.log_id: bytes = first.link
        self.created_ns: int = first.time_ns
        self.genesis: Genesis = decode_genesis(first)

    @property
    def origin(self) -> str:
        """The checkpoint origin of this log."""
        return self.genesis.origin

    @property
    def key(self) -> PublicKey:
        """The key in force now. What was signed before is verified by ``keys``."""
        slot = read_slots(self.storage.read_slots()).newest
        if slot is not None and not slot.rotated:
            return self.genesis.key  # most logs, and nothing to load for it
        return self.keys().newest.key

    def keys(self) -> KeyHistory:
        """(first index, key, reason) of every key so far, oldest first, each rotation verified by its signatures.

        Found by the newest HEAD slot; where none is whole, by looking at every record. Raises CorruptRecordError.
        """
        from wal.key_history import KeyHistory, gather_keys, trace_keys

        slot = read_slots(self.storage.read_slots()).newest
        if slot is None:
            return gather_keys(self.storage.scan(1, self.storage.last_index() + 1), self.genesis)
        if not slot.rotated:
            return KeyHistory.begin(self.genesis)
        return trace_keys(self.storage.get, self.genesis, slot.rotated)

    @property
    def head(self) -> Head:
        """The commit point on disk. Raises CorruptFileError when no HEAD slot is whole."""
        slot = read_slots(self.storage.read_slots()).newest
        if slot is None:
            raise CorruptFileError(
                "no HEAD slot is readable",
                where=f"{self.storage.name}/HEAD",
                expected="at least one whole slot",
                remedy="run `femtoclaw recover` to rebuild HEAD from a signed checkpoint",
            )
        return slot.point.head

    @property
    def size(self) -> int:
        """Number of promised records."""
        return self.head.index

    def read(self, index: int) -> Record:
        """One record, its checksum verified. Raises RangeError or CorruptRecordError."""
        raw = self.storage.get(index) if index >= 1 else None
        if raw is None:
            size = self.size
            if 1 <= index <= size:
                raise CorruptRecordError("a promised record is missing", where=f"index {index}")
            raise RangeError("no such record", where=self.storage.name, expected=f"1 to {size}", found=index)
        record = decode(raw, f"index {index}")
        if record.index != index:
            raise CorruptRecordError("record is at the wrong place", where=f"index {index}", found=record.index)
        return record

    def scan(self, first: int = 1, stop: int | None = None) -> Iterator[Record]:
        """Records first <= index < stop (default: to the head), chain verified from the record before ``first``."""
        stop = self.size + 1 if stop is None else stop
        start = EMPTY if first <= 1 else self.head_at(first - 1)
        reached = yield from follow(start, self.storage.scan(start.index + 1, stop))
        if reached.index < stop - 1:
            raise CorruptRecordError(
                "a promised record is missing",
                where=f"index {reached.index + 1}",
                expected=f"records up to {stop - 1}",
                found=f"records up to {reached.index}",
            )

    def head_at(self, index: int) -> Head:
        """The chain head after ``index`` records."""
        return EMPTY if index == 0 else Head(index, self.read(index).link)

    def end_of_append(self, above: int, near: int) -> int:
        """The last index above ``above`` and at or below ``near`` at which an append ends; where there is none, the first
        behind ``near``. At most ``BATCH_RECORDS_MAX`` records are read each way.

        Raises RangeError (``above`` is the end of the log) or CorruptRecordError.
        """
        # Few first, as most appends are short; read in one go, as each single one would split a whole entry again.
        for count in (32, BATCH_RECORDS_MAX):
            ends = [at for at, raw in self.storage.scan(max(above, near - count) + 1, near + 1) if _ends_append(raw)]
            if ends:
                return self.read(ends[-1]).index
        behind = max(above, near) + 1
        self.read(behind)
        for at, raw in self.storage.scan(behind, behind + BATCH_RECORDS_MAX):
            if _ends_append(raw):
                return self.read(at).index
        raise CorruptRecordError("an append has no end", where=f"index {behind}", expected="its last record")

    def manifest(self) -> Manifest:
        """The sealed segments. Raises CorruptFileError."""
        # Here and below: what only proofs and replay need is imported by those who ask for it.
        from wal.manifest import FILE_NAME, Manifest, decode_manifest

        raw = self.storage.get_file(FILE_NAME)
        return Manifest() if raw is None else decode_manifest(raw, self.origin)

    def read_segment(self, seal: Seal) -> Segment:
        """A sealed segment, its digest checked against the manifest. Raises CorruptFileError."""
        return self.segment_file(seal)[1]

    def segment_file(self, seal: Seal) -> tuple[bytes, Segment]:
        """The file's bytes and what they say, as ``read_segment``: what is copied is what was checked."""
        from wal.segment import decode_segment

        name = f"segments/{seal.file_name}"
        raw = self.storage.get_file(name)
        if raw is None:
            raise CorruptFileError(
                "a sealed segment is missing", where=name, expected=seal.digest.hex(), found="nothing"
            )
        segment = decode_segment(raw, name)
        if segment.digest != seal.digest:
            raise CorruptFileError(
                "segment is not the one in the manifest",
                where=name,
                expected=seal.digest.hex(),
                found=segment.digest.hex(),
            )
        return raw, segment

    def tree(self) -> LogTree:
        """Roots and proofs over the records as they stand."""
        from wal.tree import LogTree

        return LogTree(self.scan, self.manifest())

    def checkpoint_note(self) -> bytes | None:
        """The newest signed checkpoint, unverified, or None."""
        return self.storage.get_file(CHECKPOINT_FILE) or None  # an empty one stands where a cut left none that holds

    def close(self) -> None:
        """Release the storage."""
        self.storage.close()


def read_log_directory(path: str) -> LogReader:
    """Open a log directory for reading, beside a running writer or not.

    Raises LogMissingError, CorruptFileError or CorruptRecordError.
    """
    from wal.lmdb_storage import LmdbStorage

    storage = LmdbStorage(path, writable=False)
    try:
        return LogReader(storage)
    except BaseException:
        storage.close()
        raise


def _ends_append(raw: bytes) -> bool:
    """What a frame says of itself, unverified."""
    return len(raw) > FLAGS_LOW_BYTE and bool(raw[FLAGS_LOW_BYTE] & FLAG_BATCH_END)
