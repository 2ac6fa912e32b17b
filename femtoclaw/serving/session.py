"""A node open for work for as long as it may: started, with its sandbox, its secrets and an executor for the API."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import contextlib
import json
from collections.abc import Callable
from typing import Any

from cluster.errors import ClusterError
from femtoclaw.api.executor import Freshness
from femtoclaw.api.local import LocalExecutor
from femtoclaw.boot import Started, start, stop
from femtoclaw.cli.execute import claws_isolation, tell_recovery
from femtoclaw.cli.render import Output
from femtoclaw.config import resolve
from femtoclaw.gate import Gate
from femtoclaw.home import Home
from femtoclaw.modules.recording import record_faults
from femtoclaw.serving.background import Backgrounds
from femtoclaw.serving.stopping import Parts, Stopped, stop_in_order
from femtoclaw.sources import Sources
from femtoclaw.verified_start import Opener
from wal import LogError


class Session:
    """One time of being open. ``executor`` answers until ``end``."""

    def __init__(
        self, home: Home, sources: Sources, output: Output, *, opener: Opener | None = None, in_doubt: bool = False,
        serving: Callable[[], dict[str, Any]] | None = None, freshness: Callable[[], Freshness] | None = None,
    ) -> None:  # fmt: skip
        """``opener`` and ``in_doubt`` as in ``boot.start``, ``serving`` and ``freshness`` as in ``LocalExecutor``. Raises the
        errors of each step; then nothing is left open but what ``opener`` opened."""
        self._output = output
        self._gate: Gate | None = None
        self.started: Started = start(home, sources, opener=opener, in_doubt=in_doubt, served=True)
        try:
            tell_recovery(self.started, output)
            recorded = json.loads(self.started.authority.state.node.configuration.content)
            self.settings = resolve(recorded, "the recorded configuration", None)
            isolation = claws_isolation(self.started, self.settings, output)
            self._gate = Gate(isolation, lambda: self.started.authority.state)
            for refusal in record_faults(self.started.authority, home.modules):
                output.note(f"{refusal.name}: {refusal.code}: {refusal.detail}; its calls are refused")
            self.concurrency_max: int = self.settings["runtime"]["concurrency_max"]
            self.executor = LocalExecutor(
                self.started, self._gate, concurrency_max=self.concurrency_max, serving=serving, freshness=freshness
            )
            self.backgrounds = Backgrounds([], output.note)
            for name in self.executor.missing:
                output.note(f"the value of secret {name} is not in the store, or not the recorded one: no claw gets it")
        except BaseException:
            self.end("start failed")
            raise

    @property
    def runtime_id(self) -> str:
        """Which node this is."""
        return self.started.authority.state.node.runtime_id

    @property
    def boot_id(self) -> str:
        """Which start of the node this is."""
        return self.started.authority.state.node.boot_id

    @property
    def drain_s(self) -> float:
        """How long a stop waits for what runs: the setting that is recorded now."""
        content = self.started.authority.state.node.configuration.content
        return float(resolve(json.loads(content), "the recorded configuration", None)["runtime"]["drain_s"])

    def stop(
        self, reason: str, refuse: Callable[[], None], close: Callable[[int], None] = lambda stuck: None
    ) -> Stopped | None:
        """Stop in the runbook's order, ``refuse`` and ``close`` as in ``Parts``; None where that could not be recorded."""
        assert self._gate is not None
        note = self._output.note
        parts = Parts(self.started, self.executor, self._gate, self.backgrounds, refuse, close, note)
        try:
            return stop_in_order(parts, reason, self.drain_s)
        except (LogError, ClusterError, OSError) as error:
            note(f"the log could not be closed in order: {error}")
            return None

    def end(self, reason: str) -> None:
        """Stop the claws and the node, in order as far as it still can be."""
        if self._gate is not None:
            self._gate.close()
        try:
            stop(self.started, reason)
        except (LogError, ClusterError, OSError) as error:
            self._output.note(f"the log could not be closed in order: {error}")

    def fence(self, why: str) -> None:
        """The right to act is lost: stop the claws at once, and record nothing more."""
        self.started.authority.contain(why)
        if self._gate is not None:
            self._gate.close()
        with contextlib.suppress(LogError):
            self.started.log.abandon()
