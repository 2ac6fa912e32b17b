"""The end of the log, read again and again: its chain, what it says of the registry, and how its claws' last calls ended.

What is read is verified link by link from where the look before ended, so a record that changed behind the writer's back is found
within two looks. A node that is being looked at for the first time is read back a little.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import time
from collections import deque
from typing import NamedTuple

from blake3 import blake3
from immutables import Map

from femtoclaw.apply import fold
from femtoclaw.event_codec import CODES, decode
from femtoclaw.events import (
    ClawDisabled,
    ClawEnabled,
    ClawRegistered,
    ClawRemoved,
    ExecutionFinished,
    ExecutionStarted,
    ModuleInstalled,
    OutcomeUnknown,
    PublisherDistrusted,
    PublisherTrusted,
)
from femtoclaw.state import EMPTY, Claw, State
from wal.errors import CorruptRecordError
from wal.reader import LogReader
from wal.record import KIND_EVENT

BACK = 64
"""Records that a look reads again at least."""

RECORDS_MAX = 200_000
"""Records that one look reads at most: what is behind them is the next one's."""

CHUNK = 256

RESULTS_KEPT = 5
"""Of each claw: when all of them failed, somebody should look."""

CLAWS_MAX = 1024
STARTED_MAX = 4096
"""Calls under way that are remembered with their claw's name; one more makes the oldest forgotten."""

_REGISTRY = (
    ClawRegistered, ClawEnabled, ClawDisabled, ClawRemoved, ModuleInstalled, PublisherTrusted, PublisherDistrusted
)  # fmt: skip
_CALLS = (ExecutionStarted, ExecutionFinished, OutcomeUnknown)
_WANTED = frozenset(code for code, kind in CODES.items() if kind in (*_REGISTRY, *_CALLS))
_FIXARRAY = 0x90


class Read(NamedTuple):
    """What one reading found: from which size on, up to which, and the index of what is damaged, with its text; 0 for none."""

    first: int
    size: int
    damaged: int
    text: str


class Tail:
    """Follows one log. Not thread-safe."""

    def __init__(self, state: State, size: int) -> None:
        """``state`` is that after ``size`` records, as it was folded from the log."""
        self._node = EMPTY.node._replace(registry=state.node.registry, publishers=state.node.publishers)
        self._link = b""
        self.size = size
        self.results: dict[str, deque[tuple[bool, int]]] = {}
        """Claw to whether its last calls succeeded, and the indexes that say so."""
        self._started: dict[str, str] = {}

    @property
    def registry(self) -> Map[str, Claw]:
        """The registry at ``size``."""
        return self._node.registry

    def read(self, log: LogReader, size: int, rest_s: float = 0.0) -> Read:
        """Read up to ``size`` records, or as far as one reading goes. Damage is an answer, no error. ``rest_s``: a pause after
        every ``CHUNK`` records, for those who execute meanwhile."""
        # Inside of what was read before the link must still be the one that was seen then.
        first = max(1, min(self.size, size) - BACK)
        stop = min(size, self.size + RECORDS_MAX)
        at = first - 1
        try:
            for record in log.scan(first, stop + 1):
                at = record.index
                if rest_s and at % CHUNK == 0:
                    time.sleep(rest_s)
                if at == self.size and self._link and record.link != self._link:
                    return Read(first, stop, at, "the record is another than at the look before")
                if at <= self.size:
                    continue
                if record.kind == KIND_EVENT and _is_wanted(record.payload):
                    self._take(record.payload, at)
                self._link, self.size = record.link, at
        except CorruptRecordError as error:
            return Read(first, stop, at + 1, error.what)
        return Read(first, stop, 0, "")

    def failing(self) -> dict[str, tuple[int, ...]]:
        """Claws whose last ``RESULTS_KEPT`` calls all failed, with the indexes of the records that say so."""
        return {
            claw: tuple(index for _, index in known)
            for claw, known in sorted(self.results.items())
            if len(known) == RESULTS_KEPT and not any(good for good, _ in known)
        }

    def _take(self, payload: bytes, index: int) -> None:
        event = decode(payload)
        match event:
            case ExecutionStarted():
                if len(self._started) >= STARTED_MAX:
                    del self._started[next(iter(self._started))]
                self._started[event.execution_id] = event.claw
            case ExecutionFinished() | OutcomeUnknown():
                claw = self._started.pop(event.execution_id, "")
                if claw and (claw in self.results or len(self.results) < CLAWS_MAX):
                    good = isinstance(event, ExecutionFinished) and event.status == "success"
                    self.results.setdefault(claw, deque(maxlen=RESULTS_KEPT)).append((good, index))
            case _:
                self._node = fold(State(self._node), (event,)).node


def _is_wanted(payload: bytes) -> bool:
    """Whether the payload may be an event that is looked at: told by its first two bytes, as decoding each would cost more than
    verifying it."""
    return len(payload) > 1 and (payload[0] & 0xF0 != _FIXARRAY or payload[1] in _WANTED)


def registry_digest(registry: Map[str, Claw]) -> str:
    """BLAKE3 over every claw: name, manifest, digest, switch, publisher."""
    parts = [repr(tuple(registry[name])).encode() for name in sorted(registry)]
    body = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return blake3(b"femtoclaw registry v1\x00" + body).hexdigest()
