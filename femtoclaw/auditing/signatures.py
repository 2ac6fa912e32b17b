"""The audit of signatures: what the node's key signed must follow from the log, or the key is in other hands (CRYPTO-19.1).

A checkpoint is accounted for when it is one of this log's, also the one in the first line of an export; a certificate, a
statement, or whatever else the key signed, when its digest is on record of a procedure; the home's pin and its index of keys when
they are those files. Everything else that bears a signature of a key of this log is reported.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import hashlib
import json
import os
import re
from collections.abc import Iterable
from typing import NamedTuple

from femtoclaw import events
from femtoclaw.auditing.lines import FORMAT
from wal.checkpoint import parse_checkpoint
from wal.errors import LogError
from wal.key_history import KeyHistory
from wal.note import PublicKey, open_note, text_of
from wal.reader import LogReader

FOREIGN, ACCOUNTED, UNACCOUNTED = "foreign", "accounted for", "UNACCOUNTED"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Judged(NamedTuple):
    """``verdict`` on one signed thing: what it is, by which key of this log, and what accounts for it."""

    name: str
    kind: str
    key: str
    verdict: str
    why: str


def digests_on_record(procedures: Iterable[events.Event]) -> frozenset[str]:
    """Every digest that a procedure left in the log. Pure."""
    found: set[str] = set()
    for event in procedures:
        if isinstance(event, events.ProcedureBegun):
            found |= set(_DIGEST.findall(event.digest))
        elif isinstance(event, events.ProcedureEnded):
            found |= set(_DIGEST.findall(event.content.decode("utf-8", "replace")))
    return frozenset(found)


def judge(name: str, raw: bytes, reader: LogReader, on_record: frozenset[str], own: Iterable[str]) -> Judged:
    """What a signed file is to this log. ``own`` are the node's own signed files, which account for equal bytes.

    Raises the errors of reading the log only.
    """
    keys = reader.keys()
    exported = _exported(raw)
    signed = raw if exported is None else exported
    kind, key = _signer(signed, keys)
    if key is None:
        return Judged(name, kind, "", FOREIGN, "no key of this log signed it")
    digest = hashlib.sha256(raw).hexdigest()
    if digest in on_record:
        return Judged(name, kind, key.vkey(), ACCOUNTED, f"its digest is on record: {digest}")
    if any(_same(path, raw) for path in own):
        return Judged(name, kind, key.vkey(), ACCOUNTED, "it is a file of this home")
    if kind == "note":
        known = _checkpoint(signed, reader)
        if known is not None and exported is None:
            return Judged(name, "checkpoint", key.vkey(), *known)
        if known is not None:
            return Judged(name, "export", key.vkey(), known[0], f"under {known[1]}; the file itself is on record of no export")
    return Judged(name, kind, key.vkey(), UNACCOUNTED, f"nothing in the log accounts for it (SHA-256 {digest})")


def _exported(raw: bytes) -> bytes | None:
    """The signed checkpoint in the first line of an export; None for what is none."""
    first = raw.partition(b"\n")[0]
    if FORMAT.encode() not in first:
        return None
    try:
        header = json.loads(first)
    except (ValueError, RecursionError):
        return None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        return None
    return str(header.get("checkpoint", "")).encode("utf-8", "surrogatepass")


def _signer(raw: bytes, keys: KeyHistory) -> tuple[str, PublicKey | None]:
    """The form, and the key of this log whose signature on it holds."""
    known = [tenure.key for tenure in keys]
    try:
        text_of(raw)
    except LogError:
        return _of_statement(raw, known)
    for key in known:
        try:
            open_note(raw, [key])
        except LogError:
            continue
        return "note", key
    return "note", None


def _of_statement(raw: bytes, known: list[PublicKey]) -> tuple[str, PublicKey | None]:
    from femtoclaw.auditing.receipts import open_statement

    for key in known:
        try:
            open_statement(raw, key)
        except (LogError, ImportError):
            continue
        return "statement", key
    return "another form", None


def _checkpoint(raw: bytes, reader: LogReader) -> tuple[str, str] | None:
    """The verdict on a checkpoint; None for what is none."""
    try:
        checkpoint = parse_checkpoint(text_of(raw))
    except LogError:
        return None
    if checkpoint.origin != reader.origin:
        return UNACCOUNTED, f"a checkpoint of another log by this log's key: {checkpoint.origin}"
    if checkpoint.size > reader.size:
        return UNACCOUNTED, f"a checkpoint of {checkpoint.size} records: this log has {reader.size}"
    if reader.tree().root(checkpoint.size) != checkpoint.root:
        return UNACCOUNTED, f"a checkpoint of {checkpoint.size} records of another history: evidence of a fork"
    return ACCOUNTED, f"a checkpoint of this log, {checkpoint.size} records"


def _same(path: str, raw: bytes) -> bool:
    try:
        if os.path.getsize(path) != len(raw):
            return False
        with open(path, "rb") as file:
            return file.read() == raw
    except OSError:
        return False
