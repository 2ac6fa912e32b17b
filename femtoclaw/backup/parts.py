"""What a log holds of each part of a backup, as counts and hashes: by runs of records, so that a sealed one is counted once. Pure.

Every record is of the audit log; of the others are those whose event is theirs. A run's hash is BLAKE3 over the links of the
records that count, the whole's is BLAKE3 over the runs' hashes in order. ``memory`` is the folded state: bytes and state hash.
"""

from __future__ import annotations

from collections.abc import Iterable

from blake3 import blake3

from femtoclaw import events
from femtoclaw.backup.layout import Part
from femtoclaw.event_codec import CODES
from wal.record import KIND_EVENT, Record

LOGGED = ("execution_log", "audit_log", "configuration", "metadata")
_CONFIGURATION = frozenset({events.ConfigurationAdopted, events.PolicyAdopted, events.ControlPolicyAdopted})
_METADATA = frozenset(
    {events.NodeProvisioned, events.RuntimeStarted, events.ClawRegistered, events.ClawEnabled, events.ClawDisabled}
)


def _part_of(kind: type[events.Event]) -> str:
    if kind in _CONFIGURATION:
        return "configuration"
    if kind in _METADATA:
        return "metadata"
    return "execution_log" if "execution_id" in kind._fields else ""


_PARTS = {code: _part_of(kind) for code, kind in CODES.items()}
_FIXED_ARRAY, _ARRAY_16 = 0x90, 0xDC


def _code(payload: bytes) -> int:
    """The type code that an event's bytes begin with, without reading the rest; -1 for what is none."""
    if len(payload) > 1 and payload[0] & 0xF0 == _FIXED_ARRAY:
        return payload[1]
    return payload[3] if len(payload) > 3 and payload[0] == _ARRAY_16 else -1


class Tally:
    """One run of records as it is counted."""

    def __init__(self) -> None:
        self._links: dict[str, list[bytes]] = {part: [] for part in LOGGED}

    def take(self, record: Record) -> None:
        """The next record."""
        self._links["audit_log"].append(record.link)
        if record.kind == KIND_EVENT:
            part = _PARTS.get(_code(record.payload), "")
            if part:
                self._links[part].append(record.link)

    def parts(self) -> dict[str, Part]:
        """Count and hash of each."""
        return {part: Part(len(links), blake3(b"".join(links)).hexdigest()) for part, links in self._links.items()}


def combined(runs: Iterable[dict[str, Part]]) -> dict[str, Part]:
    """Count and hash of each part over all runs in order."""
    counts = dict.fromkeys(LOGGED, 0)
    hashers = {part: blake3() for part in LOGGED}
    for run in runs:
        for part in LOGGED:
            counts[part] += run[part].count
            hashers[part].update(bytes.fromhex(run[part].digest))
    return {part: Part(counts[part], hashers[part].hexdigest()) for part in LOGGED}
