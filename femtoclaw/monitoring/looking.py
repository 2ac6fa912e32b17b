"""One look at a node: every probe tried for real, each answering for itself. What goes wrong in a probe is its result."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from femtoclaw.authority import Authority
from femtoclaw.engines import EngineCache
from femtoclaw.errors import FemtoClawError
from femtoclaw.home import Home
from femtoclaw.monitoring.canary import fault
from femtoclaw.monitoring.looked import BAD, OK, WARNING, Check, Looked, shown
from femtoclaw.monitoring.tail import RECORDS_MAX, Read, Tail, registry_digest
from femtoclaw.restore import fold_records, load_state
from femtoclaw.state import EMPTY, State
from wal.errors import LogError
from wal.head import read_slots
from wal.reader import LogReader

ANSWER_S = 2.0
"""How long the authority may be busy with one decision before it counts as hung."""

DISK_FREE_BYTES_MIN = 1 << 30
"""With less, the node still works, and somebody should look."""

SILENCE_MS_MAX = 10_000
"""A follower that has not heard its leader for so long is cut off."""

TRIES, PAUSE_S = 5, 0.05
"""How often, and how far apart, the registries are compared before a difference is one."""

REST_S = 0.001
"""A look reads the log in small pieces: one that computes for long would take the interpreter from those who execute."""


class Watched(NamedTuple):
    """What a look looks at. ``authority`` is None on a member that does not lead; ``size`` is how far the log counts there, the
    commit; ``serving`` is what ``status`` says of this node. ``others`` are further checks: of telemetry, performance, monitors."""

    home: Home
    log: LogReader
    authority: Authority | None
    size: Callable[[], int]
    serving: Callable[[], dict[str, Any]]
    others: tuple[Callable[[], Check], ...] = ()


class Looking:
    """Looks at one open log again and again. Thread-safe: one look at a time."""

    def __init__(self, watched: Watched, state: State | None = None, tail: Tail | None = None) -> None:
        """``state`` is that of the whole log, ``tail`` has read none of it or all; without them both are read. Raises what folding
        the log raises."""
        self._watched = watched
        self._lock = threading.Lock()
        self._before = watched.size()
        self._state = state if state is not None else load_state(watched.log, self._before)
        self._folded = self._before
        self._tail = tail if tail is not None else Tail(self._state, self._before)
        self._engines = EngineCache()

    def look(self, at_ns: int) -> Looked:
        """Every check, in a fixed order. Does not raise for what it finds."""
        with self._lock:
            watched = self._watched
            size = watched.size()
            # The state before the log: what it knows and the log does not have yet would look like a record that is gone.
            read = self._tail.read(watched.log, size, REST_S)
            state = self._state_now(size, read)
            serving = watched.serving()
            checks = (
                _tried("responsiveness", lambda: self._responsiveness(serving)),
                _tried("authorization", lambda: self._authorization(state)),
                _tried("registry", lambda: self._registry(state)),
                _tried("memory", self._memory),
                _tried("audit_log", lambda: self._audit_log(read)),
                _tried("capabilities", self._capabilities),
                _tried("log_map", self._log_map),
                _tried("disk", self._disk),
                *([_tried("replication", lambda: _replication(serving))] if "member" in serving else []),
                *(_tried("others", each) for each in watched.others),
            )
            before, self._before = self._before, size
            leads = watched.authority is not None and watched.authority.refusal is None
            return Looked(at_ns, checks, watched.home, watched.log, state, size, before, leads, serving)

    def at_rest(self) -> tuple[Check, ...]:
        """The checks that a log alone answers."""
        with self._lock:
            read = self._tail.read(self._watched.log, self._before)
            return (
                _tried("authorization", lambda: self._authorization(self._state)),
                _tried("registry", lambda: self._registry(self._state)),
                _tried("memory", self._memory),
                _tried("audit_log", lambda: self._audit_log(read)),
                _tried("capabilities", self._capabilities),
            )

    def _state_now(self, size: int, read: Read) -> State:
        """The state: the authority's where there is one, else folded on to what is committed."""
        authority = self._watched.authority
        if authority is not None:
            return authority.state
        if size > self._folded and not read.damaged:
            self._state = fold_records(self._state, self._watched.log.scan(self._folded + 1, size + 1))
            self._folded = size
        return self._state

    def _responsiveness(self, serving: dict[str, Any]) -> Check:
        authority = self._watched.authority
        if authority is None:
            return Check("responsiveness", OK, "follows; requests go to who leads")
        if authority.refusal is not None:
            return Check("responsiveness", BAD, f"the authority takes nothing any more: {shown(authority.refusal)}")
        if not authority.answers(ANSWER_S):
            return Check("responsiveness", BAD, f"the authority has not answered within {ANSWER_S:g} s")
        return Check("responsiveness", OK, f"the authority answers within {ANSWER_S:g} s")

    def _authorization(self, state: State) -> Check:
        authority = self._watched.authority
        engines = (authority.engines if authority is not None else self._engines).engines(state.node)
        wrong = fault(state.node, engines)
        return Check("authorization", BAD if wrong else OK, wrong or "an allow and a deny came out as they must")

    def _registry(self, state: State) -> Check:
        """The registry in memory against the one that is folded from the log alone. The authority's state runs ahead of the disk
        by what is queued: a difference counts when it stays."""
        logged = held = ""
        for _ in range(TRIES):
            authority = self._watched.authority
            held = registry_digest((authority.state if authority is not None else state).node.registry)
            size = self._watched.size()
            self._tail.read(self._watched.log, size)
            logged = registry_digest(self._tail.registry)
            if logged == held:
                return Check("registry", OK, f"as the log says: {held[:16]}")
            if self._tail.size < size:
                return Check("registry", OK, "the log is read on: there is more than one look reads")
            time.sleep(PAUSE_S)
        return Check("registry", BAD, f"the registry in memory is {held[:16]}, and the log's {logged[:16]}")

    def _memory(self) -> Check:
        log, size = self._watched.log, self._watched.size()
        failure = getattr(log, "failure", None)
        if failure is not None:
            return Check("memory", BAD, f"the log has stopped: {shown(str(failure))}")
        record = log.read(size)
        return Check("memory", OK if record.index == size else BAD, "the last record can be read")

    def _audit_log(self, read: Read) -> Check:
        if read.damaged:
            return Check("audit_log", BAD, f"index {read.damaged}: {read.text}")
        slots = read_slots(self._watched.log.storage.read_slots())
        promised = slots.newest.point if slots.newest is not None else None
        if promised is None:
            return Check("audit_log", BAD, "HEAD cannot be read")
        found = self._watched.log.read(promised.size)
        if found.link != promised.link:
            return Check("audit_log", BAD, "HEAD names another record than the log holds")
        return Check("audit_log", OK, "HEAD and the chain of the last records agree")

    def _capabilities(self) -> Check:
        failing = self._tail.failing()
        if not failing:
            return Check("capabilities", OK, "no claw fails again and again")
        told = "; ".join(f"{shown(claw)} ({', '.join(map(str, at))})" for claw, at in failing.items())
        return Check("capabilities", WARNING, f"every one of the last calls failed: {told}"[:900])

    def _log_map(self) -> Check:
        if self._watched.authority is None:
            return Check("log_map", OK, "written by who leads")
        room = self._watched.log.storage.room()
        text = "there is room for new work" if room > 0 else "no room for new work: see memory.map_bytes, and the disk"
        return Check("log_map", OK if room > 0 else BAD, text)

    def _disk(self) -> Check:
        return disk_check(self._watched.home)


def at_rest(home: Home, log: LogReader, state: State) -> tuple[Check, ...]:
    """The probes of a node that no process serves, of its log as it lies there. ``state`` is that at its head."""
    size = log.size
    # The whole of a log that one look can read; of a longer one what comes behind its snapshot.
    tail = Tail(EMPTY, 0) if size <= RECORDS_MAX else Tail(state, size)
    return Looking(Watched(home, log, None, lambda: size, dict), state, tail).at_rest()


def disk_check(home: Home) -> Check:
    """Whether the file system of the home's log has room to spare. Raises OSError."""
    disk = os.statvfs(home.log if os.path.isdir(home.log) else home.path)
    least = f"{DISK_FREE_BYTES_MIN >> 30} GiB"
    if disk.f_bavail * disk.f_frsize >= DISK_FREE_BYTES_MIN:
        return Check("disk", OK, f"at least {least} free")
    return Check("disk", WARNING, f"less than {least} free")


def _replication(serving: dict[str, Any]) -> Check:
    """Role, leader and its silence, as ``MemberNode`` tells them."""
    role, leader = serving["role"], serving["leader"]
    if serving.get("frozen"):
        return Check("replication", BAD, "frozen: this member's log contradicts what is committed")
    if serving["executes"]:
        return Check("replication", OK, f"leads epoch {serving['epoch']}")
    if not leader:
        return Check("replication", WARNING, f"{role}: nobody leads")
    if serving["leader_age_ms"] > SILENCE_MS_MAX:
        return Check("replication", WARNING, f"{role}: {leader} was not heard for {SILENCE_MS_MAX // 1000} s")
    return Check("replication", OK, f"{role} of {leader}")


def _tried(name: str, probe: Callable[[], Check]) -> Check:
    """A probe's answer. Of an error that nobody foresaw only the type is told: its text may hold anything (I12)."""
    try:
        return probe()
    except (FemtoClawError, LogError) as error:
        return Check(name, BAD, shown(error.what))
    except Exception as error:
        return Check(name, BAD, f"the probe failed: {type(error).__name__}")
