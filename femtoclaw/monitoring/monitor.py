"""The monitor of a served node: looks, detects, compares, each again and again on a thread of its own, and a watch over the three.

What goes into the log: the first look after a start, every look that found another result, and every tenth that did not
(``EVERY``); an alert when a check stops being ok, once until it is ok again. A node that follows records nothing: its journal does.
Nothing here holds up an execution, but for the moments of its appends.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from femtoclaw.errors import FemtoClawError
from femtoclaw.events import AlertRaised, HealthChecked, Observation
from femtoclaw.home import Home, journal
from femtoclaw.monitoring.looked import (
    BAD,
    OK,
    WARNING,
    Check,
    Detector,
    Finding,
    Looked,
    Report,
    alert,
    health_checked,
    severity_of,
)
from femtoclaw.monitoring.looking import Looking, Watched
from femtoclaw.monitoring.rounds import STOP_S, Round
from femtoclaw.sources import Sources
from wal.errors import LogError

EVERY = 10
"""Of looks that found nothing new, this one is recorded."""

LATELY_S = 1.0
"""A look that is no older answers whoever asks: probes from outside cost at most one look in this time."""

UNRECORDED_MAX = 64
"""Alerts that wait to be recorded; the oldest makes room: all of them are in the journal."""

STALLED_SEVERITY = 2
NONCOMPLIANT_SEVERITY = 3

Record = Callable[[Observation], bool]
"""Puts an event on record. False where this node cannot (it follows); raises what recording raises."""


class Monitor:
    """Three monitors over one node: health, security, compliance. Thread-safe."""

    def __init__(
        self, home: Home, sources: Sources, interval_s: float, record: Record, *, detectors: Sequence[Detector] = (),
        report: Report | None = None, compliance: Detector | None = None, begin: Callable[[], None] | None = None,
        sample: Callable[[Looked], None] | None = None,
    ) -> None:  # fmt: skip
        """``detectors`` are asked after each look, and ``report`` takes what they found. ``compliance`` is asked in rounds of its
        own; what it finds becomes alerts. ``begin`` is called before, and ``sample`` hears of, every look of the health monitor."""
        self._home = home
        self._sources = sources
        self._record = record
        self._detectors = tuple(detectors)
        self._report = report
        self._compliance = compliance
        self._begin = begin
        self._sample = sample
        self.started = False
        self._looking: tuple[Watched, Looking] | None = None
        self._watched: Watched | None = None
        self._preparing = threading.Lock()
        self._noting = threading.Lock()
        self._newest: tuple[float, Looked] | None = None
        self._recorded: tuple[str, ...] | None = None
        self._since = 0
        self._alerted: set[str] = set()
        self._unrecorded: deque[AlertRaised] = deque(maxlen=UNRECORDED_MAX)
        self._new_look = threading.Event()
        self._rounds = {
            name: Round(name, interval_s, work, sources.wall_ns, self._failed, wake)
            for name, work, wake in (
                ("health", self._health, None), ("security", self._security, self._new_look),
                ("compliance", self._compare, None),
            )
        }  # fmt: skip
        self._watch = Round("watch", interval_s / 2, self._watch_over, sources.wall_ns, self._failed)

    # --- its life ---

    def watch(self, watched: Watched | None) -> None:
        """What to look at from now on: another log, another role; None for nothing (the log is about to be closed). What a look
        that is under way finds then counts no more."""
        self._watched = watched
        self._newest = None
        self._recorded = None

    def start(self) -> None:
        """Begin."""
        self.started = True
        for each in (*self._rounds.values(), self._watch):
            each.start()

    def stop(self) -> None:
        """End, and wait a bounded time for what is under way."""
        for each in (*self._rounds.values(), self._watch):
            each.end()
        until = time.monotonic() + STOP_S
        for each in (*self._rounds.values(), self._watch):
            each.join(max(0.0, until - time.monotonic()))

    # --- what others ask ---

    def look(self, cause: str = "interval", *, record: bool = False) -> Looked | None:
        """Look now; None when there is nothing to look at. Recorded by the rule above; with ``record`` in any case."""
        with self._preparing:
            watched = self._watched
            if watched is None:
                return None
            if self._looking is None or self._looking[0] is not watched:
                self._looking = watched, Looking(watched._replace(others=(*watched.others, self.check)))
            looked = self._looking[1].look(self._sources.wall_ns())
            if self._watched is not watched:
                return None
            self._newest = time.monotonic(), looked
        self._note(looked, cause, record)
        return looked

    def lately(self) -> Looked | None:
        """The newest look when it is no older than ``LATELY_S``, else a new one."""
        newest = self._newest
        if newest is not None and time.monotonic() - newest[0] < LATELY_S:
            return newest[1]
        return self.look("change")

    def standing(self) -> dict[str, dict[str, Any]]:
        """The three monitors by name, as ``status`` tells them."""
        return {name: each.standing()._asdict() for name, each in self._rounds.items()}

    def check(self) -> Check:
        """The check of the monitors themselves."""
        stalled = self._stalled()
        return Check(
            "monitors", WARNING if stalled else OK, f"stalled: {', '.join(stalled)}" if stalled else "all at work"
        )

    def once(self) -> None:
        """One round of each, on the caller's thread: for those that do not want to wait."""
        for each in self._rounds.values():
            each.once()
        self._watch.once()

    # --- the rounds ---

    def _health(self) -> None:
        if self._begin is not None:
            self._begin()
        looked = self.look()
        if looked is not None:
            if self._sample is not None:
                self._sample(looked)
            self._new_look.set()

    def _security(self) -> None:
        """Ask the detectors about the newest look; then raise an alert for each check that is not ok and that nobody explained."""
        newest = self._newest
        if newest is None:
            return
        self._record_what_waits()
        looked, findings = newest[1], list[Finding]()
        failed: Exception | None = None
        for detector in self._detectors:
            try:
                findings += detector(looked)
            except Exception as error:
                failed = error  # the others are asked all the same; the round is none
        if findings and self._report is not None:
            self._report(looked, findings)
        explained = {finding.check for finding in findings} if self._report is not None else set()
        self._alert_checks(looked, explained)
        if failed is not None:
            raise failed

    def _compare(self) -> None:
        newest = self._newest
        if newest is None or self._compliance is None:
            return
        found = {f"noncompliance {each.kind} {each.key}": each for each in self._compliance(newest[1])}
        for rule in sorted(found.keys() - self._alerted):
            each = found[rule]
            self._alert(rule, "noncompliance", NONCOMPLIANT_SEVERITY, "compliance", f"{each.kind}: {each.detail}")
        self._forget("noncompliance ", found.keys())

    def _watch_over(self) -> None:
        stalled = {f"stalled {name}": name for name in self._stalled()}
        for rule in sorted(stalled.keys() - self._alerted):
            text = f"the {stalled[rule]} monitor has not run for more than three intervals"
            self._alert(rule, "monitor_stalled", STALLED_SEVERITY, stalled[rule], text)
        self._forget("stalled ", stalled.keys())

    def _stalled(self) -> list[str]:
        return [name for name, each in self._rounds.items() if each.standing().stalled]

    # --- on record ---

    def _note(self, looked: Looked, cause: str, record: bool) -> None:
        """Record a look by the rule."""
        told = health_checked(looked, cause)
        with self._noting:
            if self._recorded is None:
                told = told._replace(cause="start" if not record else cause)
            elif told.checks != self._recorded:
                told = told._replace(cause="change")
            else:
                self._since += 1
                if self._since < EVERY and not record:
                    return
            if self._put(told):
                self._recorded, self._since = told.checks, 0

    def _alert_checks(self, looked: Looked, explained: set[str]) -> None:
        wrong = {f"check {each.name}": each for each in looked.checks if each.result != OK and each.name != "monitors"}
        for rule in sorted(wrong.keys() - self._alerted):
            check = wrong[rule]
            if check.name in explained:
                self._alerted.add(rule)
                continue
            word = "failing" if check.result == BAD else "warns"
            text = f"{check.name} {word}: {check.text}"
            self._alert(rule, f"health.{check.name}", severity_of(check), "health", text, (str(looked.size),))
        self._forget("check ", wrong.keys())

    def _alert(
        self, key: str, rule: str, severity: int, source: str, text: str, evidence: tuple[str, ...] = ()
    ) -> None:
        """Raise an alert, once until its cause is gone. One that cannot be recorded now is in the journal, and recorded when it
        can be."""
        told = alert(self._sources.new_id(), rule, severity, source, text, self._sources.wall_ns())
        told = told._replace(evidence=evidence)
        self._alerted.add(key)
        if not self._put(told):
            journal(self._home, self._sources.wall_ns(), type(told).__name__, **told._asdict())
            self._unrecorded.append(told)

    def _record_what_waits(self) -> None:
        """Alerts that could not be recorded when they were raised, oldest first."""
        while self._unrecorded and self._put(self._unrecorded[0]):
            self._unrecorded.popleft()

    def _forget(self, prefix: str, still: Any) -> None:
        self._alerted -= {each for each in self._alerted if each.startswith(prefix) and each not in still}

    def _put(self, event: Observation) -> bool:
        """Record, or where this node follows, leave a line in the journal. False when neither is sure: it is tried again."""
        try:
            if self._record(event):
                return True
        except (FemtoClawError, LogError) as error:
            self._failed("record", error)
            return False
        if not isinstance(event, HealthChecked) or event.cause != "interval":
            journal(self._home, self._sources.wall_ns(), type(event).__name__, **event._asdict())
        return True

    def _failed(self, name: str, error: Exception) -> None:
        """Told by its sentence where the error is one of ours: the text of another may hold anything (I12)."""
        text = getattr(error, "what", None) or type(error).__name__
        journal(self._home, self._sources.wall_ns(), "monitor", monitor=name, text=str(text))
