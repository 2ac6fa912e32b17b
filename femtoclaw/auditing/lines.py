"""JSON lines of a range of the log, from which a stranger's program checks order, completeness and chain (AUDIT-13.1, AUDIT-8.1).

One line each: a header, the records, a trailer. A record's line holds every field of its frame, so that its link (BLAKE3 over the
frame) and the leaf of the tree (SHA-256) can be computed again, and beside it the event as it is read. The header holds the signed
checkpoint, the tree before the range as the roots of its complete subtrees, and the proof that the tree behind the range is a
prefix of the signed one (RFC 9162). ``chain`` is SHA-256 over the line before and this one: it binds also what is only shown.
``scripts/check_audit_export.py`` is such a program, and uses nothing of this package.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

from femtoclaw.errors import UsageError
from femtoclaw.event_codec import CODES, VERSIONS
from femtoclaw.projections.points import COMPONENTS
from femtoclaw.projections.reading import UNKNOWN, Unread, read_event, type_name
from wal.checkpoint import VerifiedCheckpoint
from wal.merkle import leaf_hash
from wal.reader import LogReader
from wal.record import KIND_EVENT, Record

FORMAT = "femtoclaw audit export v1"
CODE_OF = {kind: code for code, kind in CODES.items()}


class Range:
    """Records ``first`` to ``last`` under a signed checkpoint. Raises UsageError for a range that it does not cover."""

    def __init__(self, covered: VerifiedCheckpoint, first: int | None, last: int | None) -> None:
        self.covered = covered
        size = covered.checkpoint.size
        self.first = 1 if first is None else first
        self.last = size if last is None else last
        if not 1 <= self.first <= self.last <= size:
            raise UsageError(
                "this range is not covered by a signature", where="--first, --last", expected=f"records 1 to {size}",
                found=f"{self.first} to {self.last}", remedy="newer ones are signed when their segment is full, or at a stop",
            )  # fmt: skip

    @property
    def count(self) -> int:
        """How many records."""
        return self.last - self.first + 1


def export_lines(reader: LogReader, wanted: Range) -> Iterator[bytes]:
    """The lines with their ends. Raises the errors of reading the log."""
    chain = bytes(32)
    for body in _bodies(reader, wanted):
        chain = hashlib.sha256(chain + canonical(body)).digest()
        yield canonical(body | {"chain": chain.hex()}) + b"\n"


def canonical(body: dict[str, Any]) -> bytes:
    """The one spelling of a line: sorted keys, no blanks, ASCII."""
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _bodies(reader: LogReader, wanted: Range) -> Iterator[dict[str, Any]]:
    yield _header(reader, wanted)
    log_id = reader.log_id.hex()
    for record in reader.scan(wanted.first, wanted.last + 1):
        yield record_line(record, log_id)
    yield {"type": "trailer", "count": wanted.count, "first": wanted.first, "last": wanted.last}


def _header(reader: LogReader, wanted: Range) -> dict[str, Any]:
    tree, checkpoint = reader.tree(), wanted.covered.checkpoint
    before = tree.frontier(wanted.first - 1).to_bytes()[8:]
    same = wanted.last == checkpoint.size
    proof = [] if same else tree.consistency(wanted.last, checkpoint.size)
    return {
        "type": "header",
        "format": FORMAT,
        "log_id": reader.log_id.hex(),
        "origin": reader.origin,
        "first": wanted.first,
        "last": wanted.last,
        "count": wanted.count,
        "before": {
            "link": reader.head_at(wanted.first - 1).link.hex(),
            "subtrees": [before[at : at + 32].hex() for at in range(0, len(before), 32)],
        },
        "checkpoint": wanted.covered.note.decode(),
        "consistency": [part.hex() for part in proof],
        "key": reader.keys().at(checkpoint.size).key.vkey(),
    }


def record_line(record: Record, log_id: str) -> dict[str, Any]:
    """One record, without its place in the chain of lines."""
    body = {
        "type": "record",
        "id": f"{log_id[:16]}:{record.index}",
        "index": record.index,
        "epoch": record.epoch,
        "time_ns": record.time_ns,
        "kind": record.kind,
        "flags": record.flags,
        "prev": record.prev.hex(),
        "payload": base64.b64encode(record.payload).decode(),
        "link": record.link.hex(),
        "leaf": leaf_hash(record.link).hex(),
        "event_type": "",
        "execution_id": "",
        "component": "log",
        "outcome": "",
        "event": None,
    }
    event = read_event(record.payload) if record.kind == KIND_EVENT else None
    if event is None:
        return body | {"event_type": type_name(record)}
    if isinstance(event, Unread):
        return body | {"event_type": UNKNOWN}
    code = CODE_OF[type(event)]
    return body | {
        "event_type": type(event).__name__,
        "execution_id": getattr(event, "execution_id", ""),
        "component": COMPONENTS.get(type(event), "runtime"),
        "outcome": str(getattr(event, "decision", "") or getattr(event, "outcome", "") or getattr(event, "status", "")),
        "event": {"code": code, "version": VERSIONS[code], "names": list(event._fields), "fields": _fields(event)},
    }


def _fields(event: Iterable[Any]) -> list[Any]:
    """Values in their order; bytes always as base64, so that they never look like text."""
    return [{"base64": base64.b64encode(each).decode()} if isinstance(each, bytes) else each for each in event]
