"""Check everything a log holds, reporting all findings instead of stopping at the first. Reads only.

Runs beside a writer at work: ``read_promises`` comes first, then the records are read, which can only have become more.
``check_range`` looks at a range of records; ranges can be checked in different processes and joined by
``join_ranges``. Nothing here maps a suspect file into the caller: ``wal.inspection`` runs it in child processes.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from wal.blob import blob_name
from wal.chain import follow
from wal.errors import (
    CorruptFileError,
    ForgedSignatureError,
    KeyNotInForceError,
    LogError,
    UnknownFormatError,
)
from wal.head import HeadReading, read_slots
from wal.key_history import KeyHistory, Tenure, gather_keys
from wal.limits import SEGMENT_RECORDS
from wal.manifest import Manifest
from wal.merkle import Frontier, leaf_hash
from wal.reader import CHECKPOINT_FILE, LogReader
from wal.record import AUTHORITY_KINDS, EMPTY, KIND_EPOCH, KIND_GENESIS, KIND_MEMBERS, Head, Record, decode
from wal.segment import decode_segment
from wal.storage import Storage

FORMAT_UNKNOWN = "FORMAT_UNKNOWN"
"""The one finding that is no damage: something newer than this program wrote it."""

FINDINGS_MAX = 1000
"""Findings reported for one range; what is beyond it is left out."""

SLOT_READINGS_MAX = 100
"""Readings of HEAD until two of a damaged slot agree: a writer at work can be met in the middle of writing one."""


class Finding(NamedTuple):
    """One thing that is wrong: a stable code, where, expected, found."""

    code: str
    where: str
    expected: str
    found: str


class RangeReport(NamedTuple):
    """Records first..last of a log: the link before and after, roots of its full segment-sized runs, leaf hashes of the
    run after them, what is wrong, where the authority records are, and (index, epoch) of each record of another epoch than
    the one before it."""

    first: int
    last: int
    prev: bytes
    link: bytes
    roots: tuple[bytes, ...]
    tail: tuple[bytes, ...]
    findings: tuple[Finding, ...]
    authority: tuple[int, ...] = ()
    epochs: tuple[tuple[int, int], ...] = ()


def check_range(frames: Iterable[tuple[int, bytes]], first: int, stop: int) -> RangeReport:
    """Check records first <= index < stop; ``first - 1`` is a multiple of the segment size."""
    assert (first - 1) % SEGMENT_RECORDS == 0
    checker = _RangeChecker(first)
    stream = iter(frames)
    while chunk := list(itertools.islice(stream, SEGMENT_RECORDS)):
        if not checker.whole(chunk):
            checker.one_by_one(chunk)
        if len(checker.findings) > FINDINGS_MAX:
            break
    return checker.report(first, stop)


class _RangeChecker:
    """A whole run of sound records in one sweep; whatever is not sound record by record, to say what is wrong with it."""

    def __init__(self, first: int) -> None:
        self.findings: list[Finding] = []
        self.roots: list[bytes] = []
        self.leaves: list[bytes] = []
        self.authority: list[int] = []
        self.epochs: list[tuple[int, int]] = []
        self.prev: bytes | None = None
        self.link = b""
        self.time_ns = self.epoch = 0
        self.expected = first

    def whole(self, chunk: list[tuple[int, bytes]]) -> bool:
        """True when every record of ``chunk`` is sound and follows what came before; then all of it is taken in."""
        try:
            head = Head(self.expected - 1, decode(chunk[0][1]).prev if self.prev is None else self.link)
            records = list(follow(head, chunk))
        except LogError:
            return False
        begin, end = records[0], records[-1]
        if begin.time_ns < self.time_ns or begin.epoch < self.epoch:
            return False
        if [record.index for record in records if record.kind == KIND_GENESIS] != ([1] if self.expected == 1 else []):
            return False
        self.prev = begin.prev if self.prev is None else self.prev
        self._note_epochs(records if end.epoch != begin.epoch else records[:1])
        self.link, self.time_ns, self.epoch, self.expected = end.link, end.time_ns, end.epoch, end.index + 1
        self.authority += [record.index for record in records if record.kind in AUTHORITY_KINDS]
        self._grow([leaf_hash(record.link) for record in records])
        return True

    def _note_epochs(self, records: Iterable[Record]) -> None:
        epoch = self.epoch
        for record in records:
            if record.epoch != epoch:
                epoch = record.epoch
                self.epochs.append((record.index, epoch))

    def _grow(self, leaves: list[bytes]) -> None:
        self.leaves.extend(leaves)
        while len(self.leaves) >= SEGMENT_RECORDS:
            self.roots.append(_root(self.leaves[:SEGMENT_RECORDS]))
            del self.leaves[:SEGMENT_RECORDS]

    def one_by_one(self, chunk: list[tuple[int, bytes]]) -> None:
        """Say what is wrong with each record of ``chunk``."""
        for key, raw in chunk:
            where = f"index {key}"
            if key != self.expected:
                self._find("RECORD_MISSING", f"index {self.expected}", f"index {self.expected}", where)
            self.expected = key + 1
            try:
                record = decode(raw, where)
            except LogError as error:
                code = FORMAT_UNKNOWN if isinstance(error, UnknownFormatError) else "RECORD_DAMAGED"
                self._find(code, where, str(error.expected), f"{error.what}: {error.found}")
                self.link = raw[-32:]
                self._grow([leaf_hash(self.link)])
                continue
            self._judge(record, key, where)

    def _judge(self, record: Record, key: int, where: str) -> None:
        if self.prev is None:
            self.prev = record.prev
        elif record.prev != self.link:
            self._find("CHAIN_BROKEN", where, self.link.hex(), record.prev.hex())
        if record.index != key:
            self._find("RECORD_MISPLACED", where, str(key), str(record.index))
        if record.time_ns < self.time_ns or record.epoch < self.epoch:
            found = f"{record.epoch}/{record.time_ns}"
            self._find("ORDER_BACKWARDS", where, f"{self.epoch}/{self.time_ns}", found)
        if (record.kind == KIND_GENESIS) != (key == 1):
            self._find("GENESIS_MISPLACED", where, "only index 1", f"kind {record.kind}")
        if record.kind in AUTHORITY_KINDS:
            self.authority.append(key)
        self._note_epochs([record])
        self.link, self.time_ns, self.epoch = record.link, record.time_ns, record.epoch
        self._grow([leaf_hash(record.link)])

    def _find(self, code: str, where: str, expected: str, found: str) -> None:
        self.findings.append(Finding(code, where, expected, found))

    def report(self, first: int, stop: int) -> RangeReport:
        """What was found, with what is missing at the end."""
        if self.expected < stop and len(self.findings) <= FINDINGS_MAX:
            last = str(self.expected - 1)
            self._find("RECORD_MISSING", f"index {self.expected}", f"records up to {stop - 1}", last)
        return RangeReport(
            first,
            self.expected - 1,
            self.prev or b"",
            self.link,
            tuple(self.roots),
            tuple(self.leaves),
            tuple(self.findings[:FINDINGS_MAX]),
            tuple(self.authority),
            tuple(self.epochs),
        )


def _root(leaves: list[bytes]) -> bytes:
    frontier = Frontier()
    frontier.extend(leaves)
    return frontier.root()


class ChainReport(NamedTuple):
    """The whole chain: head, tree root, roots of each full segment-sized run, findings, indexes of authority records, and
    (index, epoch) where each epoch begins."""

    head: Head
    root: bytes
    segment_roots: tuple[bytes, ...]
    findings: tuple[Finding, ...]
    authority: tuple[int, ...] = ()
    epochs: tuple[tuple[int, int], ...] = ()

    def frontier(self, size: int, tail: Sequence[bytes]) -> Frontier:
        """The tree's frontier at ``size``, given the leaf hashes behind the last full run."""
        frontier = Frontier()
        for root in self.segment_roots[: size // SEGMENT_RECORDS]:
            frontier.append_subtree(root, SEGMENT_RECORDS.bit_length() - 1)
        frontier.extend(list(tail))
        return frontier


def join_ranges(ranges: Sequence[RangeReport]) -> ChainReport:
    """Join reports of adjacent ranges: their borders must link, and their roots make the tree's root."""
    findings: list[Finding] = []
    head = EMPTY
    roots: list[bytes] = []
    for part in ranges:
        findings.extend(part.findings)
        if part.prev and part.prev != head.link:
            findings.append(Finding("CHAIN_BROKEN", f"index {part.first}", head.link.hex(), part.prev.hex()))
        if part.last >= part.first:
            head = Head(part.last, part.link)
        roots.extend(part.roots)
    authority = tuple(index for part in ranges for index in part.authority)
    epochs: list[tuple[int, int]] = []
    for begun in (begun for part in ranges for begun in part.epochs):
        if not epochs or epochs[-1][1] != begun[1]:  # each range tells the epoch that it begins in
            epochs.append(begun)
    chain = ChainReport(head, b"", tuple(roots), tuple(findings), authority, tuple(epochs))
    tail = ranges[-1].tail if ranges else ()
    return chain._replace(root=chain.frontier(len(roots) * SEGMENT_RECORDS, tail).root())


class Promises(NamedTuple):
    """What a log had promised at one moment: HEAD slots, newest checkpoint, list of segments (None: it is damaged), and
    the keys that signed until then."""

    slots: HeadReading
    note: bytes | None
    manifest: Manifest | None
    keys: KeyHistory


def read_promises(storage: Storage) -> Promises:
    """Read all promises before any record that must fulfil them: what a writer adds meanwhile is no contradiction.

    Raises as ``LogReader`` does.
    """
    reader = LogReader(storage)
    note = storage.get_file(CHECKPOINT_FILE) or None
    try:
        manifest: Manifest | None = reader.manifest()
    except CorruptFileError:
        manifest = None
    return Promises(_read_head(storage), note, manifest, known_keys(storage))


def known_keys(storage: Storage) -> KeyHistory:
    """Every key by HEAD and by the records above it; by all records where an authority record that HEAD leads to is
    damaged.

    Raises as ``LogReader`` does.
    """
    reader = LogReader(storage)
    slot = _read_head(storage).newest
    behind = slot.point.size + 1 if slot is not None else 1
    try:
        keys: Sequence[Tenure] = reader.keys()
    except LogError:
        keys, behind = (), 1
    return gather_keys(storage.scan(behind, storage.last_index() + 1), reader.genesis, keys)


def check_keys(storage: Storage, chain: ChainReport, promises: Promises) -> Iterator[Finding]:
    """Every authority record among the checked records leads on from the one before, every epoch was begun by one, and HEAD
    leads to all that it promises."""
    reader = LogReader(storage)
    keys = KeyHistory.begin(reader.genesis)
    for index in chain.authority:
        where, code = f"index {index}", "ROTATION_INVALID"
        try:
            record = reader.read(index)
            code = _INVALID.get(record.kind, code)
            keys = keys.extended(record, reader.origin)
        except LogError as error:
            yield Finding(code, where, str(error.expected), str(error))
    begun = keys.epochs()
    for index, epoch in chain.epochs:
        first = next((first for each, first in begun if each == epoch), 0)
        if not 1 <= first <= index:
            yield Finding("EPOCH_UNFOUNDED", f"index {index}", "a record that began this epoch", f"epoch {epoch}")
    slot = promises.slots.newest
    newest = keys.at(slot.point.size) if slot is not None else keys[0]
    promised = newest.first if newest != keys[0] else 0
    if slot is not None and slot.rotated != promised:
        yield Finding(
            "HEAD_ROTATION", "HEAD", f"newest authority record {promised}", f"newest authority record {slot.rotated}"
        )


_INVALID = {KIND_EPOCH: "EPOCH_INVALID", KIND_MEMBERS: "MEMBERS_INVALID"}


def _read_head(storage: Storage) -> HeadReading:
    """The slots; a damaged one only counts when its bytes stay as they are."""
    raws = storage.read_slots()
    for _ in range(SLOT_READINGS_MAX):
        reading = read_slots(raws)
        again = storage.read_slots() if reading.damaged else raws
        if again == raws:
            break
        raws = again
    return reading


def check_promises(storage: Storage, chain: ChainReport, promises: Promises | None = None) -> Iterator[Finding]:
    """HEAD slots and the newest checkpoint, as read before the chain was, against the checked chain.

    Records may go beyond what was promised, also behind a clean slot: a crash can come between the first commit of the
    next life and its slot.
    """
    promises = promises if promises is not None else read_promises(storage)
    reader = LogReader(storage)
    reading = promises.slots
    if reading.damaged:
        yield Finding("HEAD_DAMAGED", "HEAD", "2 whole slots", f"{reading.damaged} damaged")
    slot = reading.newest
    if slot is None:
        yield Finding("HEAD_MISSING", "HEAD", "at least one whole slot", "none")
    else:
        if slot.log_id != reader.log_id:
            yield Finding("HEAD_FOREIGN", "HEAD", reader.log_id.hex(), slot.log_id.hex())
        if slot.point.size > chain.head.index:
            yield Finding("ROLLED_BACK", "HEAD", f">= {slot.point.size} records", str(chain.head.index))
        elif (storage.get(slot.point.size) or slot.point.link)[-32:] != slot.point.link:
            # The bare link: a record that is damaged or missing there has its own finding already.
            yield Finding("FORKED", f"index {slot.point.size}", slot.point.link.hex(), "another link")
    note = promises.note
    if note is None:
        yield Finding("CHECKPOINT_MISSING", CHECKPOINT_FILE, "a signed checkpoint", "nothing")
        return
    try:
        checkpoint = promises.keys.open_checkpoint(note, reader.origin).checkpoint
    except LogError as error:
        yield Finding(_code("CHECKPOINT", "INVALID", error), CHECKPOINT_FILE, str(error.expected), str(error))
        return
    if checkpoint.size > chain.head.index:
        yield Finding("ROLLED_BACK", CHECKPOINT_FILE, f">= {checkpoint.size} records", str(chain.head.index))
        return
    first = checkpoint.size // SEGMENT_RECORDS * SEGMENT_RECORDS + 1
    tail = [leaf_hash(raw[-32:]) for _, raw in storage.scan(first, checkpoint.size + 1)]
    root = chain.frontier(checkpoint.size, tail).root()
    if root != checkpoint.root:
        yield Finding("ROOT_MISMATCH", CHECKPOINT_FILE, checkpoint.root.hex(), root.hex())


def _code(what: str, other: str, error: LogError) -> str:
    """A signature by a key that had been declared compromised, by one not in force, or anything else."""
    if isinstance(error, ForgedSignatureError):
        return f"{what}_FORGED"
    return f"{what}_KEY" if isinstance(error, KeyNotInForceError) else f"{what}_{other}"


def check_segments(
    storage: Storage,
    roots: Sequence[bytes],
    numbers: range | None = None,
    promises: Promises | None = None,
) -> Iterator[Finding]:
    """The listed segments whose numbers (from 0) are in ``numbers``, or all: present, digest, signature, and the same
    root as the records have. ``roots`` are those of the records, from the first of ``numbers`` on."""
    promises = promises if promises is not None else read_promises(storage)
    manifest = promises.manifest
    if manifest is None:
        return  # `check_listing` tells it, once
    first = numbers.start if numbers is not None else 0
    for number, seal in enumerate(manifest):
        if numbers is not None and number not in numbers:
            continue
        where = f"segments/{seal.file_name}"
        raw = storage.get_file(where)
        if raw is None:
            yield Finding("SEGMENT_MISSING", where, seal.digest.hex(), "nothing")
            continue
        try:
            segment = decode_segment(raw, where)
            signed = promises.keys.open_seal(segment, where)
        except LogError as error:
            yield Finding(_code("SEGMENT", "DAMAGED", error), where, str(error.expected), str(error))
            continue
        if signed != seal:
            yield Finding("SEGMENT_FOREIGN", where, seal.text(), signed.text())
        elif number - first >= len(roots) or roots[number - first] != seal.root:
            yield Finding("SEGMENT_MISMATCH", where, seal.root.hex(), "other records in the store")


def check_listing(storage: Storage, segment_roots: Sequence[bytes]) -> Iterator[Finding]:
    """The list of segments is whole, and lists every segment that is there."""
    names = storage.list_files("segments")  # before the list: what is sealed meanwhile is then in the list only
    try:
        manifest = LogReader(storage).manifest()
    except CorruptFileError as error:
        yield Finding("MANIFEST_DAMAGED", error.where, str(error.expected), error.what)
        return
    listed = {"MANIFEST", *(seal.file_name for seal in manifest)}
    unlisted = [name for name in names if name not in listed]
    root = _root_behind(storage, manifest, segment_roots) if unlisted else None
    for name in unlisted:
        if not storage.get_file(f"segments/{name}"):
            continue  # set aside: a replica cut its records, and what it held is evidence
        if not _not_listed_yet(storage, name, root):
            yield Finding("SEGMENT_UNLISTED", f"segments/{name}", "only files in the manifest", name)


def _root_behind(storage: Storage, manifest: Manifest, roots: Sequence[bytes]) -> bytes | None:
    """Root of the run of records that is sealed next; None when it is not full."""
    number = len(manifest)
    if number < len(roots):
        return roots[number]
    first = number * SEGMENT_RECORDS + 1
    leaves = [leaf_hash(raw[-32:]) for _, raw in storage.scan(first, first + SEGMENT_RECORDS)]
    return _root(leaves) if len(leaves) == SEGMENT_RECORDS else None


def _not_listed_yet(storage: Storage, name: str, root: bytes | None) -> bool:
    """True for the next segment, whole and of these very records: it is written before its line in the manifest, and
    a crash, or this look at a writer at work, came between the two."""
    where = f"segments/{name}"
    raw = storage.get_file(where)
    try:
        seal = known_keys(storage).open_seal(decode_segment(raw or b"", where), where)
    except LogError:
        return False
    return seal.file_name == name and seal.root == root


def check_blobs(storage: Storage) -> Iterator[Finding]:
    """Every stored blob hashes to its name."""
    for number in range(256):
        folder = f"blobs/{number:02x}"
        for name in storage.list_files(folder):
            raw = storage.get_file(f"{folder}/{name}")
            if raw is not None and blob_name(raw) != name:
                yield Finding("BLOB_DAMAGED", f"{folder}/{name}", name, blob_name(raw))
