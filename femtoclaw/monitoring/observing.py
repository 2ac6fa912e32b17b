"""Everything that observes a served node, put together: the monitor, telemetry, and where both are asked for.

    observing = Observing(home, sources, output, settings)
    observing.lead(started)          # or follow(log, size, serving) on a member that does not lead
    observing.start()
    ...
    observing.pause()                # before the log is closed: nothing reads it any more
    observing.stop()

Nothing of it holds up an execution, and nothing of it keeps a node from its work: what cannot be had is told and left out.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from femtoclaw import commands
from femtoclaw.errors import Category, FemtoClawError, Severity, UnavailableError
from femtoclaw.events import Observation
from femtoclaw.home import Home
from femtoclaw.monitoring.drift import drift
from femtoclaw.monitoring.looked import BAD, OK, WARNING, Check, Detector, Finding, Looked, body_of
from femtoclaw.monitoring.looking import ANSWER_S, Watched
from femtoclaw.monitoring.monitor import Monitor
from femtoclaw.sources import Sources
from femtoclaw.telemetry.following import Following
from femtoclaw.telemetry.line_file import LineFile, write_to_stderr
from femtoclaw.telemetry.lines import sample
from femtoclaw.telemetry.sink import Sink, SinkStanding
from femtoclaw.telemetry.timings import COMMIT_LIMIT_NS, REPLICATED_LIMIT_NS, Timings
from wal.errors import LogError
from wal.limits import DISK_RESERVE_BYTES
from wal.reader import LogReader

if TYPE_CHECKING:
    from femtoclaw.authority import Authority
    from femtoclaw.boot import Started
    from femtoclaw.cli.render import Output
    from femtoclaw.incidents.watching import Watching
    from femtoclaw.monitoring.endpoint import Answer, Endpoint
    from femtoclaw.state import Node

FLUSH_S = 1.0
STOP_S = 2.0


class Observing:
    """One for the life of a process, a ``Background`` of its session. Its methods are for one thread, but for what it gives out."""

    name = "observing"

    def __init__(
        self, home: Home, sources: Sources, output: Output, settings: dict[str, Any], *, runtime_id: str = "",
        incidents: bool = True, compliance: Detector | None = None, replicated: bool = False,
    ) -> None:  # fmt: skip
        """``settings`` are those of the domain ``observability``; where it is not enabled nothing is told outside. With
        ``incidents`` what is detected is opened and told; ``compliance`` stands for the comparison with what is recorded;
        ``replicated``: commits wait for other members. Raises UnavailableError where the file of lines cannot be written."""
        self._home = home
        self._sources = sources
        self._output = output
        self._settings = settings if settings["enabled"] else settings | dict.fromkeys(("listen", "log", "traces"), "")
        self._authority: Authority | None = None
        self._vouch: Callable[[], bytes] | None = None
        """Signs a checkpoint over what is recorded, where this node's log is its own to sign."""
        self._log: LogReader | None = None
        self.over = threading.Event()
        self.timings = Timings(REPLICATED_LIMIT_NS if replicated else COMMIT_LIMIT_NS)
        self._drops = (0, 0)
        """Lost before the newest round of the health monitor, and before the one before that."""
        self._lines, self._line_file = self._line_sink()
        self._spans = self._span_sink(runtime_id)
        self.following: Following | None = None
        self.watching: Watching | None = None
        detectors, others = self._detectors() if incidents else ((), ())
        self._extra = others
        self.monitor = Monitor(
            home, sources, float(settings["health_interval_s"]), self._record, detectors=detectors,
            report=self._reported if self.watching is not None else None,
            compliance=compliance if compliance is not None else lambda looked: drift(looked, self._recorded_now),
            begin=self.sample_performance, sample=self._sample_health,
        )  # fmt: skip
        self.endpoint: Endpoint | None = None
        self._newest: Looked | None = None

    # --- its life ---

    def lead(self, started: Started, serving: Callable[[], dict[str, Any]] | None = None) -> None:
        """This node executes: look at its authority, and record."""
        authority, log = started.authority, started.log
        authority.timed = self.timings.commit
        authority.engines.dressed(self.timings.dress)
        self._authority = authority
        self._vouch = log.checkpoint
        told = serving if serving is not None else lambda: {"executes": True, "role": "single", "leader": ""}
        self._watch(Watched(self._home, log, authority, lambda: log.size, told, self._others(log)))

    def follow(self, log: LogReader, size: Callable[[], int], serving: Callable[[], dict[str, Any]]) -> None:
        """This node follows: look at its log up to ``size``; nothing is recorded."""
        self._authority = self._vouch = None
        self._watch(Watched(self._home, log, None, size, serving, self._others(log)))

    def pause(self) -> None:
        """The log is about to be closed, or to be another's: read it no more. Waits for nothing that hangs."""
        self.monitor.watch(None)
        if self.following is not None:
            self.following.use(None)
        self._authority = self._vouch = None

    def ending(self) -> None:
        """The node is about to stop: nobody who asks from outside is answered any more."""
        self.over.set()
        if self.endpoint is not None:
            self.endpoint.stop()

    def start(self) -> None:
        """Begin. What cannot be had is told on standard error."""
        for sink in self._sinks():
            sink.start()
        if self.following is not None:
            self.following.start()
        if self._settings["listen"]:
            self._listen()
        self.monitor.start()

    def stop(self, seconds: float = STOP_S) -> str:
        """End: what was recorded by now is still told, within so long; what was lost, empty for nothing. Idempotent."""
        self.ending()
        self.monitor.stop()
        if self.following is not None:
            self.following.stop()
        before = sum(each.dropped for each in self._standings())
        until = time.monotonic() + seconds
        for sink in self._sinks():
            sink.stop(max(0.0, until - time.monotonic()))
        if self.watching is not None:
            self.watching.close()
        self.pause()
        lost = sum(each.dropped for each in self._standings()) - before
        return f"{lost} items were not taken by their sinks" if lost else ""

    def flush(self) -> bool:
        """Whether everything that was recorded by now has been told within ``FLUSH_S``."""
        if self.following is not None:
            while self.following.step():
                pass
        told = [sink.flush(FLUSH_S) for sink in self._sinks()]
        return all(told)

    # --- what others ask ---

    def handlers(self) -> tuple[Any, ...]:
        """What the API's server answers beside the API: the standard health protocol."""
        from femtoclaw.monitoring.grpc_health import handler

        return (handler(self.monitor.lately, self.over),)

    def health(self, record: bool) -> dict[str, Any]:
        """A look now, as ``femtoclaw health`` shows it."""
        looked = self.monitor.look("request", record=record)
        if looked is None:
            return {"healthy": False, "result": BAD, "checks": [], "monitors": self.monitor.standing()}
        return body_of(looked.checks) | {"monitors": self.monitor.standing(), "telemetry": self.telemetry()}

    def standing(self) -> dict[str, Any]:
        """What ``status`` says of the monitors."""
        return self.monitor.standing()

    def telemetry(self) -> dict[str, Any]:
        """The sinks by name, and how far telemetry is behind the log."""
        behind = self.following.behind() if self.following is not None else 0
        sinks = {each.name: each.standing()._asdict() for each in self._sinks()}
        where = self.endpoint.where if self.endpoint is not None else ""
        return {"behind_records": behind, "listens": where, "sinks": sinks}

    # --- parts ---

    def _watch(self, watched: Watched) -> None:
        if self._needs_following() and self.following is None:
            first = self._line_file.next_index(watched.log) if self._line_file is not None else None
            self.following = Following(self._failed, lines=self._lines, spans=self._spans, lines_from=first)
        if self.following is not None:
            self.following.use(watched.log, watched.size)
        self.monitor.watch(watched)

    def _detectors(self) -> tuple[tuple[Detector, ...], tuple[Callable[[], Check], ...]]:
        from femtoclaw.incidents.watching import Watching

        self.watching = watching = Watching(self._home, self._sources, self._answering)
        return (watching.detect,), (watching.check,)

    def _needs_following(self) -> bool:
        return bool(self._settings["listen"] or self._lines is not None or self._spans is not None)

    def _line_sink(self) -> tuple[Sink | None, LineFile | None]:
        where = self._settings["log"]
        if not where:
            return None, None
        if where == "stderr":
            return Sink("log", write_to_stderr, self._failed), None
        file = LineFile(self._home.inside(where))
        file.require()
        return Sink("log", file.write, self._failed), file

    def _span_sink(self, runtime_id: str) -> Sink | None:
        if not self._settings["traces"]:
            return None
        from femtoclaw.telemetry.otlp import Collector

        return Sink("traces", Collector(self._settings["traces"], runtime_id).write, self._failed)

    def _sinks(self) -> tuple[Sink, ...]:
        return tuple(sink for sink in (self._lines, self._spans) if sink is not None)

    def _listen(self) -> None:
        from femtoclaw.monitoring.endpoint import Answer, Endpoint

        try:
            from femtoclaw.telemetry.exposition import CONTENT_TYPE, Exposition, Shown
        except ImportError as error:
            self._output.note(f"metrics need the package {error.name}: install femtoclaw[observe]")
            self._tell("LISTEN", error)
            return
        assert self.following is not None
        shown = Exposition(
            Shown(self.following.figures, self.timings, self._standings, self.following.behind, lambda: self._newest)
        )
        pages = {
            "/healthz": self._healthz, "/readyz": self._readyz, "/metrics": lambda: Answer(200, CONTENT_TYPE, shown.text())
        }  # fmt: skip
        try:
            self.endpoint = Endpoint(self._settings["listen"], pages)
        except FemtoClawError as error:
            self._output.note(f"health and metrics are not served: {error}")
            self._tell("LISTEN", error)
            return
        self.endpoint.start()

    def _healthz(self) -> Answer:
        from femtoclaw.monitoring.endpoint import as_json

        looked = self.monitor.lately()
        if looked is None:
            return as_json(False, {"healthy": False, "result": BAD, "checks": []})
        return as_json(looked.result != BAD, body_of(looked.checks))

    def _readyz(self) -> Answer:
        """Whether a request sent here now would be taken: here, or by who leads."""
        from femtoclaw.monitoring.endpoint import as_json

        looked = self.monitor.lately()
        reason = "between two roles" if looked is None else _not_ready(looked)
        return as_json(not reason, {"ready": not reason, "reason": reason})

    def _others(self, log: LogReader) -> tuple[Callable[[], Check], ...]:
        from femtoclaw.monitoring.backed_up import backups_check

        age_s = self._settings["backup_age_s"]
        return (
            self._telemetry_check,
            self._performance_check,
            lambda: backups_check(self._home, log, age_s, self._sources.wall_ns()),
            *self._extra,
        )

    def _telemetry_check(self) -> Check:
        standings = self._standings()
        dropped = sum(each.dropped for each in standings)
        wrong = [f"{each.name}: {each.error}" for each in standings if each.error]
        if self.following is not None and self.following.error:
            wrong.append(f"log: {self.following.error}")
        if self.endpoint is None and self._settings["listen"] and self.monitor.started:
            wrong.append("nothing listens")
        told = f"{dropped} dropped" if dropped else "nothing dropped"
        text = f"sinks: {len(standings)}, {told}" + (f"; {', '.join(wrong)}" if wrong else "")
        return Check("telemetry", WARNING if wrong or dropped > self._drops[1] else OK, text)

    def _performance_check(self) -> Check:
        degraded = self.timings.degraded
        return Check("performance", WARNING if degraded else OK, degraded or "within the stated limits")

    def _standings(self) -> list[SinkStanding]:
        return [sink.standing() for sink in self._sinks()]

    # --- samples ---

    def sample_performance(self) -> None:
        """Before each look: what was measured since the one before."""
        self._drops = sum(each.dropped for each in self._standings()), self._drops[0]
        authority = self._authority
        live = authority.state.live if authority is not None else None
        executions = sum(live.totals.values()) if live is not None else 0
        in_flight = len(live.executions) if live is not None else 0
        appends = self.timings.histograms["memory_write"].count
        found = self.timings.sample(executions, appends, in_flight)
        if self._lines is not None:
            result = "degraded" if self.timings.degraded else OK
            self._lines.offer(sample("performance_sample", self._sources.wall_ns(), result, **found._asdict()))

    def _has_room(self) -> bool:
        """More than what appends leave free: a checkpoint that does not fit would stop the log, which a refused append does not."""
        try:
            disk = os.statvfs(self._home.log)
        except OSError:
            return False
        return disk.f_bavail * disk.f_frsize >= 2 * DISK_RESERVE_BYTES

    def _sample_health(self, looked: Looked) -> None:
        """After each look: what it found is told, and the log's newest records are vouched for, so that they can be exported."""
        self._newest = looked
        vouch = self._vouch
        if vouch is not None and self._has_room():
            with contextlib.suppress(LogError):  # closed by now, or it takes nothing: the look's own checks tell that
                vouch()
        if self._lines is not None:
            checks = {check.name: check.result for check in looked.checks}
            self._lines.offer(sample("health_sample", looked.at_ns, looked.result, checks=checks))

    # --- on record ---

    def _record(self, event: Observation) -> bool:
        authority = self._authority
        if authority is None:
            return False
        if not authority.answers(ANSWER_S):
            raise UnavailableError("the authority does not answer", expected=f"within {ANSWER_S:g} s")
        authority.perform(commands.Observe(event))
        return True

    def _answering(self) -> Authority | None:
        """The authority; None where this node follows, and while it hangs: who wants to record something would hang with it."""
        authority = self._authority
        return authority if authority is not None and authority.answers(ANSWER_S) else None

    def _recorded_now(self) -> Node | None:
        """What is recorded at this moment, where this node records."""
        authority = self._authority
        return authority.state.node if authority is not None and authority.refusal is None else None

    def _reported(self, looked: Looked, findings: list[Finding]) -> None:
        """Have it opened and told; where the log does not follow from itself any more, record that as critical, and take no
        command from then on: nothing may rest on a memory that was changed (ERROR-8.1)."""
        assert self.watching is not None
        self.watching.report(looked, findings)
        broken = [each for each in findings if each.kind == "chain_broken"]
        authority = self._answering()
        if not broken or authority is None or authority.refusal is not None:
            return
        told = commands.RecordError(
            self._sources.new_id(),
            Category.MEMORY.value,
            Severity.CRITICAL.value,
            "MEMORY_ERROR",
            "storage",
            broken[0].detail,
        )
        try:
            authority.perform(told)
        except (FemtoClawError, LogError):
            pass  # the log that does not hold together may take nothing any more either
        authority.contain("memory: the log does not follow from itself")

    def _failed(self, name: str, error: Exception) -> None:
        """A sink, or reading the log, has failed: on standard error, and in the log. Executions go on."""
        self._output.note(
            f"telemetry: {name} fails ({type(error).__name__}); what is recorded is in the log all the same"
        )
        self._tell(name.upper(), error)

    def _tell(self, name: str, error: Exception) -> None:
        authority = self._answering()
        if authority is None:
            return
        told = commands.RecordError(
            self._sources.new_id(), Category.OBSERVABILITY.value, Severity.WARNING.value, f"TELEMETRY_{name}", "telemetry",
            type(error).__name__,
        )  # fmt: skip
        try:
            authority.perform(told)
        except (FemtoClawError, LogError):
            return  # a node that takes nothing any more tells that itself


def _not_ready(looked: Looked) -> str:
    """Why a request would not be taken, empty when it would."""
    bad = [check.name for check in looked.checks if check.result == BAD]
    if bad:
        return f"bad: {', '.join(bad)}"
    if looked.state.node.contained:
        return "contained"
    if not looked.serving["executes"] and not looked.serving["leader"]:
        return "nobody leads"
    return ""
