"""Opening a log for writing: gather the evidence, decide by the table, act on the verdict.

Order: the caller already holds LOCK. HEAD slots, then genesis and key, then the records above the last sealed segment
(in a probe process when the stop was not clean: reading a damaged LMDB file can fault), then the newest checkpoint.
Acting writes only on OPEN and CUT_TAIL, and a second opening finds nothing left to do.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Callable, Iterator
from typing import NamedTuple

from blake3 import blake3

from wal.chain import follow
from wal.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from wal.errors import (
    CorruptFileError,
    CorruptRecordError,
    ForeignLogError,
    LogError,
    LogMissingError,
    RollbackError,
    StoreUnreadableError,
    UnknownFormatError,
)
from wal.genesis import Genesis, decode_genesis
from wal.head import HeadReading, Slot, read_slots
from wal.limits import SEGMENT_RECORDS
from wal.log import Clock, Log
from wal.manifest import FILE_NAME as MANIFEST_FILE
from wal.manifest import Manifest, decode_manifest, encode_manifest
from wal.merkle import Frontier, leaf_hash
from wal.note import Signer, text_of
from wal.reader import CHECKPOINT_FILE
from wal.record import EMPTY, FLAG_BATCH_END, Head, Record, decode
from wal.recovered import Cut, encode_recovered
from wal.recovery import Case, Evidence, Verdict, decide
from wal.storage import Storage
from wal.tree import SEGMENT_LEVEL, LogTree


class Examination(NamedTuple):
    """What was found on opening: the table's row, the commit point, where damage starts, and each finding as text."""

    case: Case
    evidence: Evidence
    slots: HeadReading
    last: int
    checked_from: int
    broken_at: int | None
    checkpoint: Checkpoint | None
    findings: tuple[str, ...]
    manifest_damaged: bool = False
    frontier: Frontier | None = None
    """The tree's right edge over all ``last`` records, when every one of them verified."""
    promised: int = 0
    """How many records have been promised to someone: by HEAD, the newest checkpoint, or a sealed segment."""

    @property
    def committed(self) -> int:
        """Size of the commit point by the HEAD slots, 0 when unknown."""
        return self.slots.newest.point.size if self.slots.newest is not None else 0


Probe = Callable[[], str | None]
"""Read what opening will read, in another process: None when that process survived, else how it died."""


def examine(storage: Storage, *, key_text: str | None = None, probe: Probe | None = None) -> Examination:
    """Gather evidence without changing anything, and decide. ``key_text`` is the vkey that the opener holds."""
    return _Examiner(storage, key_text, probe).run()


class _Examiner:
    """Collects the eleven facts; every question that an earlier answer makes moot is answered with True."""

    def __init__(self, storage: Storage, key_text: str | None, probe: Probe | None) -> None:
        self.storage = storage
        self.key_text = key_text
        self.probe = probe
        self.findings: list[str] = []
        self.slots = read_slots(storage.read_slots())
        self.last = 0
        self.promised = 0
        self.checkpoint: Checkpoint | None = None
        self.checked_from = 0
        self.broken_at: int | None = None
        self.manifest_damaged = False
        self.frontier: Frontier | None = None
        self.facts = dict.fromkeys(Evidence._fields, True)

    def run(self) -> Examination:
        try:
            self._gather()
        except UnknownFormatError as error:
            self.facts["known_format"] = False
            self.findings.append(str(error))
        except StoreUnreadableError as error:
            self.facts["readable"] = False
            self.findings.append(str(error))
        evidence = Evidence(**self.facts)
        return Examination(
            decide(evidence),
            evidence,
            self.slots,
            self.last,
            self.checked_from,
            self.broken_at,
            self.checkpoint,
            tuple(self.findings),
            self.manifest_damaged,
            self.frontier,
            self.promised,
        )

    def _gather(self) -> None:
        facts = self.facts
        if self.probe is not None and not self.slots.clean:
            fault = self.probe()
            if fault is not None:
                facts["readable"] = False
                self.findings.append(fault)
                return
        self.last = self.storage.last_index()
        note = self.storage.get_file(CHECKPOINT_FILE)
        manifest_raw = self.storage.get_file(MANIFEST_FILE)
        touched = self.slots.newest is not None or self.slots.damaged or note or manifest_raw
        if not self.last and not touched:
            facts["exists"] = False
            return
        if self.slots.damaged:
            facts["head_whole"] = False
            self.findings.append(f"{self.slots.damaged} of 2 HEAD slots damaged")
        slot = self.slots.newest
        facts["head_known"] = slot is not None
        manifest = self._identity(note, manifest_raw)
        committed = slot.point.size if slot is not None else 0
        signed = self.checkpoint.size if self.checkpoint is not None else 0
        self.promised = max(committed, signed, manifest.head.index)
        facts["reaches"] = self.last >= self.promised
        if not facts["reaches"]:
            self.findings.append(f"store ends at index {self.last}, but {self.promised} records were promised")
        if slot is not None and facts["same_log"]:
            self._walk(manifest, committed, slot)

    def _identity(self, note: bytes | None, manifest_raw: bytes | None) -> Manifest:
        """Read genesis, checkpoint and manifest; fill same_log and known_format."""
        facts = self.facts
        raw = self.storage.get(1)
        if raw is None:
            return Manifest()  # nothing to compare with: `reaches` tells the story
        try:
            first = decode(raw, "index 1")
            genesis = decode_genesis(first)
        except CorruptRecordError as error:
            facts["sound_below"] = False
            self.broken_at = 1
            self.findings.append(str(error))
            return Manifest()
        slot = self.slots.newest
        if slot is not None and slot.log_id != first.link:
            facts["same_log"] = False
            self.findings.append("HEAD belongs to another log")
        if self.key_text is not None and self.key_text != genesis.key.vkey():
            facts["same_log"] = False
            self.findings.append(f"the node's key is {self.key_text}, the log's key is {genesis.key.vkey()}")
        self._read_checkpoint(note, genesis)
        if manifest_raw is None:
            return Manifest()
        try:
            return decode_manifest(manifest_raw, genesis.origin)
        except CorruptFileError as error:
            self.findings.append(str(error))
            self.manifest_damaged = True  # it only costs time: records are checked from index 1, and sealed again
            return Manifest()

    def _read_checkpoint(self, note: bytes | None, genesis: Genesis) -> None:
        """Take the newest checkpoint for a promise, and for a witness when the log's key signed it."""
        if note is None:
            self.facts["vouched"] = False
            self.findings.append("there is no signed checkpoint")
            return
        try:
            claimed = parse_checkpoint(text_of(note))
            if claimed.origin != genesis.origin:
                self.facts["same_log"] = False
                self.findings.append(f"checkpoint belongs to {claimed.origin}, the log is {genesis.origin}")
                return
            self.checkpoint = claimed
            open_checkpoint(note, [genesis.key], genesis.origin)
        except LogError as error:
            self.facts["vouched"] = False
            self.findings.append(f"newest checkpoint is not to be trusted: {error}")

    def _walk(self, manifest: Manifest, committed: int, slot: Slot) -> None:
        """Verify from the last sealed segment at or below the commit point to the end of the store.

        Also behind a clean stop: what was written in order may have been changed since, and the next checkpoint would
        put the log's signature under it.
        """
        start = EMPTY
        edge = Frontier()
        for seal in manifest:
            if seal.head.index <= committed:
                start = seal.head
                edge.append_subtree(seal.root, SEGMENT_LEVEL)
        self.checked_from = start.index + 1
        root = self._follow(start, edge, committed, slot)
        if self.checkpoint is None:
            return
        if start.index > self.checkpoint.size:
            self._match_older_checkpoint(self.checkpoint, manifest)
        elif root is not None and root != self.checkpoint.root:
            self._other_root(self.checkpoint)

    def _follow(self, start: Head, edge: Frontier, committed: int, slot: Slot) -> bytes | None:
        """Read all records behind ``start``, growing the tree at ``edge``; the root at the checkpoint's size, if the
        records reach it."""
        facts = self.facts
        size = self.checkpoint.size if self.checkpoint is not None else -1
        reached, link_there = start, start.link if start.index == committed else None
        root = edge.root() if start.index == size else None
        leaves: list[bytes] = []
        try:
            for record in follow(start, self.storage.scan(start.index + 1, self.last + 1)):
                reached = Head(record.index, record.link)
                leaves.append(leaf_hash(record.link))
                if record.index == committed:
                    link_there = record.link
                if record.index == size or len(leaves) == SEGMENT_RECORDS:
                    edge.extend(leaves)
                    leaves = []
                    root = edge.root() if record.index == size else root
        except CorruptRecordError as error:
            self.findings.append(str(error))
        if reached.index < self.last:
            self.broken_at = reached.index + 1
            facts["sound_above" if self.broken_at > self.promised else "sound_below"] = False
        else:
            edge.extend(leaves)
            self.frontier = edge
        if link_there is not None and link_there != slot.point.link:
            facts["matches"] = False
            self.findings.append(
                f"record {committed} links to {link_there.hex()}, HEAD promised {slot.point.link.hex()}"
            )
        return root

    def _other_root(self, checkpoint: Checkpoint) -> None:
        self.facts["matches"] = False
        self.findings.append(f"root at size {checkpoint.size} is not the one in the newest checkpoint")

    def _match_older_checkpoint(self, checkpoint: Checkpoint, manifest: Manifest) -> None:
        """A checkpoint that ends before the records that were followed: its root from segments and records."""
        usable = Manifest(seal for seal in manifest if seal.head.index <= checkpoint.size)
        damaged_at = 0

        def scan(first: int, stop: int) -> Iterator[Record]:
            nonlocal damaged_at
            for damaged_at, raw in self.storage.scan(first, stop):
                yield decode(raw, f"index {damaged_at}")

        try:
            root = LogTree(scan, usable).root(checkpoint.size)
        except CorruptRecordError as error:
            # Inside of a sealed segment, which was not followed: still at or below a promise.
            self.facts["sound_below"] = False
            self.broken_at = damaged_at
            self.findings.append(str(error))
            return
        if root != checkpoint.root:
            self._other_root(checkpoint)


def refuse(examination: Examination, where: str) -> LogError:
    """The error that a halting verdict ends in."""
    verdict, what = examination.case.verdict, examination.case.reason
    found = "; ".join(examination.findings) or None
    if verdict is Verdict.CREATE:
        return LogMissingError("there is no log here", where=where)
    if verdict is Verdict.REFUSE_FORMAT:
        return UnknownFormatError(f"cannot open the log: {what}", where=where, found=found)
    if verdict is Verdict.HALT_FOREIGN:
        return ForeignLogError(f"cannot open the log: {what}", where=where, found=found)
    if verdict in (Verdict.HALT_ROLLED_BACK, Verdict.HALT_FORKED, Verdict.HALT_UNVOUCHED):
        return RollbackError(f"cannot open the log: {what}", where=where, found=found)
    if verdict in (Verdict.HALT_DAMAGED, Verdict.HALT_UNCERTAIN):
        return CorruptRecordError(f"cannot open the log: {what}", where=where, found=found)
    if verdict is Verdict.HALT_HEAD_MISSING:
        return CorruptFileError(
            f"cannot open the log: {what}",
            where=f"{where}/HEAD",
            expected="at least one whole slot",
            found=found,
            remedy="restore HEAD, or run `femtoclaw recover` to rebuild it from the signed checkpoint",
        )
    return CorruptFileError(f"cannot open the log: {what}", where=where, found=found)


def open_log(
    storage: Storage, *, signer: Signer, clock: Clock, probe: Probe | None = None, threaded: bool = True
) -> tuple[Log, Examination]:
    """Examine, then open for writing, or cut an unpromised damaged tail first, or raise the halting error."""
    examination = examine(storage, key_text=signer.public.vkey(), probe=probe)
    verdict = examination.case.verdict
    if verdict not in (Verdict.OPEN, Verdict.CUT_TAIL):
        raise refuse(examination, storage.name)
    if verdict is Verdict.CUT_TAIL:
        _cut_tail(storage, examination)
    if examination.manifest_damaged:
        _forget_manifest(storage)
    slot = examination.slots.newest
    assert slot is not None
    last = storage.last_index()
    raw = storage.get(last)
    if raw is None:  # LMDB meets it in order and does not find it by its key
        raise CorruptRecordError("the last record cannot be found", where=f"{storage.name}, index {last}")
    record = decode(raw, f"index {last}")
    log = Log(
        storage,
        head=Head(last, record.link),
        slot=slot,
        time_ns=record.time_ns,
        signer=signer,
        clock=clock,
        threaded=threaded,
        frontier=examination.frontier if last == examination.last else None,
    )
    # Also behind a clean slot: a crash may have come between the first commit after it and the next slot. When HEAD
    # says all of it already, nothing is written: opening again must change nothing.
    if slot.point.head != log.head or examination.slots.damaged:
        log.confirm()
    cuts = _unrecorded_cuts(storage, last)
    if cuts:
        log.append_recovered(cuts)  # in one append: a crash between two would leave the second cut untold
    return log, examination


def _cut_tail(storage: Storage, examination: Examination) -> None:
    """Preserve what follows the last whole batch before the damage as evidence, then remove it.

    A batch is one atomic append: a part of one was never anybody's decision, so none is left behind.
    """
    assert examination.broken_at is not None
    first, last = _batch_start(storage, examination.broken_at, examination.promised), examination.last
    assert first > examination.promised
    frames = b"".join(raw for _, raw in storage.scan(first, last + 1))
    storage.put_file(f"evidence/cut-{first}-{last}-{blake3(frames).hexdigest()}.frames", frames)
    storage.cut(first - 1)


def _batch_start(storage: Storage, broken_at: int, promised: int) -> int:
    """The first index behind the last whole batch that ends at or above the promise and below the damage."""
    after = promised
    for index, raw in storage.scan(promised + 1, broken_at):
        if decode(raw, f"index {index}").flags & FLAG_BATCH_END:
            after = index
    return after + 1


def _forget_manifest(storage: Storage) -> None:
    """Keep a damaged list of segments as evidence and begin an empty one.

    The list is derived: sealing goes through all records again, verifies them, and writes the same segments.
    """
    raw = storage.get_file(MANIFEST_FILE)
    assert raw is not None
    storage.put_file(f"evidence/manifest-{blake3(raw).hexdigest()}", raw)
    storage.put_file(MANIFEST_FILE, encode_manifest(()))


def _unrecorded_cuts(storage: Storage, last: int) -> list[bytes]:
    """Payloads for cuts that no record tells of yet: the record of a cut is always the first one after it."""
    payloads: list[bytes] = []
    for name in storage.list_files("evidence"):
        kind, *numbers = name.removesuffix(".frames").split("-")
        if kind == "cut" and len(numbers) == 3 and int(numbers[0]) == last + 1:
            payloads.append(encode_recovered(Cut(int(numbers[0]), int(numbers[1]), numbers[2])))
    return payloads
