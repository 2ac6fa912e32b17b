"""Looking at a log before it is opened: the evidence for the recovery decision. Reads only.

HEAD slots, then genesis and key, then the newest checkpoint, then every record behind the last sealed segment (after an
unclean stop in a probe process first: reading a damaged LMDB file can fault).
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Callable, Iterator
from typing import NamedTuple

from wal.chain import follow
from wal.checkpoint import Checkpoint, parse_checkpoint
from wal.errors import (
    CorruptFileError,
    CorruptRecordError,
    LogError,
    StoreUnreadableError,
    UnknownFormatError,
)
from wal.genesis import Genesis, decode_genesis
from wal.head import HeadReading, Slot, read_slots
from wal.key_history import KeyHistory, gather_keys, trace_keys
from wal.limits import SEGMENT_RECORDS
from wal.manifest import FILE_NAME as MANIFEST_FILE
from wal.manifest import Manifest, decode_manifest
from wal.merkle import Frontier, leaf_hash
from wal.note import text_of
from wal.reader import CHECKPOINT_FILE
from wal.record import AUTHORITY_KINDS, EMPTY, Head, Record, decode
from wal.recovery import Case, Evidence, decide
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
    keys: KeyHistory | None = None
    """Every key of the log so far, through authority records that opening keeps; None when they cannot be read."""
    wrong_key: str = ""
    """The vkey that the opener holds, when it is not the newest of ``keys``."""

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
        self.genesis: Genesis | None = None
        self.keys: KeyHistory | None = None
        self.wrong_key = ""
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
            self.keys,
            self.wrong_key,
        )

    def _gather(self) -> None:
        facts = self.facts
        if self.probe is not None and not self.slots.clean:
            fault = self.probe()
            if fault is not None:
                facts["readable"] = False
                self.findings.append(fault)
                return
        note = self.storage.get_file(CHECKPOINT_FILE) or None
        manifest_raw = self.storage.get_file(MANIFEST_FILE)
        # After every promise was read: beside a writer there are at least as many records as were promised before.
        self.last = self.storage.last_index()
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
        # After the walk: an authority record above the commit point counts too, unless it is cut with a damaged tail.
        self._judge_checkpoint(note)
        self._judge_key()

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
        self.genesis = genesis
        self._trace_keys(genesis)
        self._read_checkpoint(note, genesis)
        if manifest_raw is None:
            return Manifest()
        try:
            return decode_manifest(manifest_raw, genesis.origin)
        except CorruptFileError as error:
            self.findings.append(str(error))
            self.manifest_damaged = True  # it only costs time: records are checked from index 1, and sealed again
            return Manifest()

    def _trace_keys(self, genesis: Genesis) -> None:
        """The keys as far as HEAD leads to them; without HEAD, by every record."""
        slot = self.slots.newest
        try:
            if slot is None:
                self.keys = gather_keys(self.storage.scan(1, self.last + 1), genesis)
            elif slot.rotated <= self.last:  # else the store is too short, which `reaches` tells
                self.keys = trace_keys(self.storage.get, genesis, slot.rotated)
        except CorruptRecordError as error:
            self.facts["sound_below"] = False
            self.findings.append(str(error))

    def _read_checkpoint(self, note: bytes | None, genesis: Genesis) -> None:
        """Take the newest checkpoint for a promise."""
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
        except LogError as error:
            self._not_vouched(error)

    def _judge_checkpoint(self, note: bytes | None) -> None:
        """Take the newest checkpoint for a witness when the key in force at its size signed it."""
        if self.checkpoint is None or self.keys is None or note is None or self.genesis is None:
            return
        try:
            self.keys.open_checkpoint(note, self.genesis.origin)
        except LogError as error:
            self._not_vouched(error)

    def _not_vouched(self, error: LogError) -> None:
        self.facts["vouched"] = False
        self.findings.append(f"newest checkpoint is not to be trusted: {error}")

    def _judge_key(self) -> None:
        """The opener must hold the key in force: not one from before a rotation or an epoch, nor one whose record of it is cut."""
        if self.key_text is None or self.keys is None or not self.facts["same_log"]:
            return
        if self.key_text == self.keys.newest.key.vkey():
            return
        self.facts["same_log"] = False
        self.wrong_key = self.key_text
        self.findings.append(f"the node's key is {self.key_text}, the key in force is {self.keys.newest.key.vkey()}")

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
                if record.kind in AUTHORITY_KINDS:
                    self._take_authority(record, committed)
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

    def _take_authority(self, record: Record, committed: int) -> None:
        """Take in an authority record above the commit point; below it, HEAD must have led to it.

        It is a whole append, so whatever a cut removes, it removes nothing below. Raises CorruptRecordError.
        """
        if self.keys is None or self.genesis is None:
            return
        if record.index > committed:
            self.keys = self.keys.extended(record, self.genesis.origin)
        elif all(tenure.first != record.index for tenure in self.keys):
            self.facts["matches"] = False
            self.findings.append(f"the authority record at {record.index} is not among those that HEAD leads to")

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
