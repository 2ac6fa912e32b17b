"""Verification above the bytes: every event decodes, every decision re-derives, every blob is there.

``verify_home`` joins it with the log's own checks (run in a child process, as a damaged store can kill its reader);
``verify_bundle`` needs a file and a public key, and neither a home nor trust in the node.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from femtoclaw import events
from femtoclaw.errors import FemtoClawError
from femtoclaw.event_codec import EventFormatError, EventUnknownError, decode
from femtoclaw.home import Home
from femtoclaw.keys import load_public_key
from femtoclaw.replay import Replay, checked_event, replay
from femtoclaw.sealing import UNSEALED, Sealer
from femtoclaw.subject_keys import sealer_at
from wal import KIND_EVENT, LogError, LogReader, Record, read_log_directory
from wal.blob import blob_file, read_blob
from wal.bundle import Bundle
from wal.errors import CorruptFileError
from wal.inspection import verify_directory
from wal.key_history import EPOCH, KeyHistory, Tenure, authority_before
from wal.merkle import Frontier, leaf_hash
from wal.note import PublicKey
from wal.record import AUTHORITY_KINDS, FLAG_BATCH_END, KIND_GENESIS, KIND_RECOVERED
from wal.recovered import decode_recovered
from wal.storage import Storage
from wal.verification import FORMAT_UNKNOWN, Finding

Report = dict[str, Any]
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DIGESTS = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


class _RuleCheck:
    """Passes records through to replay, checking each event's types and blob on the way."""

    def __init__(self, records: Iterable[Record], blob: Callable[[str], bytes]) -> None:
        self._records = records
        self._blob = blob
        self.findings: list[Finding] = []
        self.blobs: set[str] = set()
        self.last: Record | None = None

    def __iter__(self) -> Iterator[Record]:
        for record in self._records:
            if record.kind == KIND_EVENT:
                event = checked_event(record)
                if isinstance(event, events.ExecutionFinished) and event.blob:
                    self._check_blob(record.index, event.blob)
            elif record.kind != KIND_GENESIS:
                self._check_own(record)
            self.last = record
            yield record

    def _check_own(self, record: Record) -> None:
        """A record of the log's own kinds: what recovery did, and authority, whose chain the log's own checks follow."""
        where = f"index {record.index}"
        if record.kind != KIND_RECOVERED and record.kind not in AUTHORITY_KINDS:
            self.findings.append(Finding("KIND_UNKNOWN", where, "a kind of this format", str(record.kind)))
            return
        try:
            if record.kind in AUTHORITY_KINDS:
                authority_before(record)
            else:
                decode_recovered(record.payload, where)
        except LogError as error:
            self.findings.append(Finding("RECORD_UNREADABLE", where, str(error.expected), error.what))

    def _check_blob(self, index: int, digest: str) -> None:
        self.blobs.add(digest)
        try:
            if _DIGEST.fullmatch(digest) is None:
                raise CorruptFileError("not a blob's name", where="blobs", found=repr(digest[:80]))
            self._blob(digest)
        except LogError as error:
            self.findings.append(Finding("BLOB_DAMAGED", f"index {index}: {error.where}", digest, str(error.found)))


def check_rules(
    records: Iterable[Record],
    blob: Callable[[str], bytes],
    held: set[str] | None = None,
    sealer: Sealer = UNSEALED,
) -> tuple[list[Finding], Replay | None]:
    """Types, blobs and re-derivation over verified records. Never raises for what is in them.

    With ``held``, digests of blobs that came along, also none of those may be there that no record names. ``sealer`` has
    the keys of subjects, where they are at hand: what it opens is derived again too.
    """
    check = _RuleCheck(records, blob)
    try:
        replayed = replay(check, sealer=sealer)
    except (FemtoClawError, LogError) as error:
        expected = "" if error.expected is None else str(error.expected)
        code = FORMAT_UNKNOWN if newer(error) else type(error).__name__
        return [*check.findings, Finding(code, error.where, expected, str(error))], None
    divergences = [Finding("DIVERGENCE", f"index {d.index}", d.expected, d.found) for d in replayed.divergences]
    if check.last is not None and not check.last.flags & FLAG_BATCH_END:
        end = f"index {check.last.index}"
        check.findings.append(
            Finding("BATCH_UNFINISHED", end, "the end of an atomic append", "the log ends inside of one")
        )
    if not divergences and held is not None:
        check.findings += [
            Finding("BLOB_UNNAMED", f"blobs/{digest}", "only blobs that a record names", "one that none names")
            for digest in sorted(held - check.blobs)
        ]
    return [*check.findings, *divergences], replayed


def newer(error: Exception) -> bool:
    """True for an event that a newer program wrote: nothing is wrong with it, it only cannot be judged here."""
    return isinstance(error, EventUnknownError)


def check_anchor(
    note: bytes, keys: KeyHistory, origin: str, size: int, root_of: Callable[[int], bytes]
) -> list[Finding]:
    """Does the log still begin as a checkpoint that someone kept says? Finds histories that were cut or rewritten by
    whoever holds the node, key included. ``root_of(n)`` is the root over the first n records."""
    try:
        kept = keys.open_checkpoint(note, origin).checkpoint
    except LogError as error:
        return [Finding("ANCHOR_INVALID", "--checkpoint", str(error.expected), f"{error.what}: {error.found}")]
    if kept.size > size:
        return [Finding("ANCHOR_AHEAD", f"index {size + 1}", f"at least {kept.size} records", f"{size} records")]
    root = root_of(kept.size)
    if root != kept.root:
        return [Finding("ANCHOR_DIFFERS", f"index 1 to {kept.size}", kept.root.hex(), root.hex())]
    return []


def _report(size: int, root: str, findings: list[dict[str, Any]], replayed: Replay | None, **more: Any) -> Report:
    return {
        "ok": not findings,
        "size": size,
        "root": root,
        "state_hash": replayed.state_hash if replayed is not None else None,
        "decisions": replayed.decisions if replayed is not None else 0,
        "sealed": dict(replayed.sealed) if replayed is not None else {},
        "findings": findings,
        "skipped": [],
    } | more


def verify_home(home: Home, *, deep: bool = False, key: PublicKey | None = None, anchor: bytes | None = None) -> Report:
    """Check a node's whole log: bytes, chain, tree, signatures, segments, blobs, rules. {"ok", "size", "root", ...}.

    A node at work is checked as far as it had promised records when the check began, and its file's pages are not:
    "skipped" says so, as [{what, why}]. ``key`` is the one that the auditor trusts, which the log must name as its own.
    ``anchor`` is a signed checkpoint kept elsewhere, which the log must still fulfil.
    """
    raw = verify_directory(home.log, deep=deep)
    if not raw["ok"]:
        # Rules are judged on sound bytes only: a damaged record would show up as a hundred broken rules.
        return _report(raw["size"], raw["root"], raw["findings"], None, skipped=raw["skipped"])
    reader = read_log_directory(home.log)
    try:
        sealer = sealer_at(home)
        findings, replayed = check_rules(
            reader.scan(1, raw["size"] + 1), lambda digest: read_blob(reader.storage, digest), sealer=sealer
        )
        findings += _lost_keys(replayed, sealer)
        keys = reader.keys()
        findings += _check_key(home, keys)
        if key is not None and not keys.knows(key):
            findings.append(Finding("FOREIGN_KEY", "index 1, by --key", key.vkey(), reader.key.vkey()))
        if deep:
            findings += _check_index(home, reader)
        if anchor is not None:
            findings += check_anchor(anchor, keys, reader.origin, raw["size"], reader.tree().root)
        return _report(
            raw["size"], raw["root"], [f._asdict() for f in findings], replayed, key=reader.key.vkey(),
            skipped=raw["skipped"], **_epochs(keys),
        )  # fmt: skip
    finally:
        reader.close()


def _lost_keys(replayed: Replay | None, sealer: Sealer) -> list[Finding]:
    """Where the keys of subjects are at hand, only those who were erased may lack theirs."""
    if replayed is None or sealer is UNSEALED:
        return []
    erased = replayed.state.node.erased
    return [
        Finding(
            "SUBJECT_KEY_LOST", f"subject {subject}", "its key, or the record of an erasure", f"{count} sealed appends"
        )
        for subject, count in replayed.sealed
        if subject not in erased
    ]


def _check_key(home: Home, keys: KeyHistory) -> list[Finding]:
    """A log names its own key, so a whole forged log is sound in itself: the home's public key must be the same."""
    if not os.path.exists(home.public_key_file):
        return []  # a log that was taken away to be looked at
    try:
        own = load_public_key(home.public_key_file)
    except FemtoClawError as error:
        return [Finding("FOREIGN_KEY", "index 1", str(error), keys.newest.key.vkey())]
    # A rotation that is recorded and not yet settled in the files leaves an earlier key of the log there; a member that never
    # led has a key that was never in force.
    members = keys.newest.members
    known = keys.knows(own) or (members is not None and members.by_key(own) is not None)
    return [] if known else [Finding("FOREIGN_KEY", "index 1", own.vkey(), keys.newest.key.vkey())]


def _check_index(home: Home, reader: LogReader) -> list[Finding]:
    """The index of queries proves nothing, but questions are answered from it: it must hold what the log gives."""
    if not os.path.exists(home.index_file):
        return []
    import sqlite3

    from femtoclaw.projections.consulting import compare

    try:
        compared = compare(home.index_file, reader)
    except (OSError, sqlite3.Error) as error:
        return [Finding("INDEX_UNREADABLE", home.index_file, "rows that can be compared", type(error).__name__)]
    found = compared.replaced or ", ".join(compared.different)
    return [] if compared.sound else [Finding("INDEX_DIFFERS", home.index_file, "the rows that the log gives", found)]


def verify_bundle(path: str, key: PublicKey, *, anchor: bytes | None = None) -> Report:
    """Check a bundle against the auditor's own key, and a checkpoint that he kept. Raises LogUnavailableError or
    CorruptFileError when it cannot be opened as a bundle at all."""
    bundle = Bundle(path)
    try:
        checked = bundle.check(key)
        findings = list(checked.findings)
        replayed = None
        if not findings:
            findings, replayed = check_rules(bundle.records(), bundle.blob, bundle.blobs())
            if anchor is not None:
                assert checked.genesis is not None
                findings += check_anchor(
                    anchor,
                    checked.keys,
                    checked.genesis.origin,
                    checked.size,
                    lambda size: _root(bundle.records(), size),
                )
        return _report(
            checked.size, checked.root.hex(), [f._asdict() for f in findings], replayed, key=key.vkey(),
            origin=checked.genesis.origin if checked.genesis is not None else None,
            trusted_from=checked.trusted.first if checked.trusted is not None else None,
            ended=_ended(checked.ended), **_epochs(checked.keys),
        )  # fmt: skip
    finally:
        bundle.close()


def _ended(tenure: Tenure | None) -> dict[str, Any] | None:
    """The tenure that ended the auditor's key, for the report."""
    return {"first": tenure.first, "key": tenure.key.vkey(), "reason": tenure.reason} if tenure is not None else None


def _epochs(keys: KeyHistory) -> dict[str, Any]:
    """Of a log with members: who led from which record on, each by a verified record with a majority's promises."""
    if not keys or keys.newest.members is None:
        return {}
    begun = [
        (each, each.members.by_key(each.key)) for each in keys if each.reason == EPOCH and each.members is not None
    ]
    return {"epochs": [
        {"epoch": each.epoch, "first": each.first, "leader": leader.name if leader is not None else ""}
        for each, leader in begun
    ]}  # fmt: skip


def _root(records: Iterable[Record], size: int) -> bytes:
    frontier = Frontier()
    frontier.extend([leaf_hash(record.link) for record in itertools.islice(records, size)])
    return frontier.root()


def named_blobs(records: Iterable[Record], storage: Storage) -> set[str]:
    """Digests of every blob that the records name.

    Of an event that this program cannot read, whatever could be a blob's name and is one in ``storage``: evidence must
    also come out of a log that a newer program wrote.
    """
    found: set[str] = set()
    for record in records:
        if record.kind != KIND_EVENT:
            continue
        try:
            event = decode(record.payload)
        except EventFormatError:
            named = (digest.decode() for digest in _DIGESTS.findall(record.payload))
            found.update(digest for digest in named if storage.get_file(blob_file(digest)) is not None)
            continue
        # What is no digest is nobody's blob: `verify` says what to think of it.
        if (
            isinstance(event, events.ExecutionFinished)
            and isinstance(event.blob, str)
            and _DIGEST.fullmatch(event.blob)
        ):
            found.add(event.blob)
    return found
