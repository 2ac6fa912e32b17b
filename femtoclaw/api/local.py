"""The executor of a node that works itself: its runtime, and what a command of the command line does around it.

A node that is served stays open while operators change it: what a start would read anew is read anew here (secrets, subjects'
keys, the brain's settings), and what only a start can bring into force is refused before it is recorded.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from typing import Any

from femtoclaw import commands, events
from femtoclaw.api.at_work import AbandonedBrain, CurrentVault, Listeners, Traffic
from femtoclaw.api.executor import Freshness, NotTakenError, StateAt, never
from femtoclaw.api.own_files import require_secret, staged_for
from femtoclaw.api.reading import state_hash_at
from femtoclaw.authority import Recorded
from femtoclaw.boot import Started
from femtoclaw.brains.choice import brain_to_go_on_with, chosen_brain
from femtoclaw.config import resolve
from femtoclaw.config_effect import effect_of
from femtoclaw.errors import CommandError, ConfigurationError, FemtoClawError, Severity, UnavailableError, UsageError
from femtoclaw.event_codec import decode
from femtoclaw.gate import Gate
from femtoclaw.manifest import manifest_from_canonical
from femtoclaw.runtime import Listener, RunResult, Runtime, StepResult
from femtoclaw.state import Node
from femtoclaw.vault import open_vault
from wal.errors import LogError
from wal.record import KIND_EVENT

AT_REST_ONLY = ("key.rotate", "distribution.accept", "distribution.revoke")
"""What changes the process itself: it cannot be done to a node at work."""

RUN_SOURCE = "api"
STOP_FIRST = "stop `femtoclaw serve` for this home, then run this again"


class LocalExecutor:
    """``Executor`` over a started node. Thread-safe."""

    def __init__(
        self, started: Started, gate: Gate, *, concurrency_max: int,
        serving: Callable[[], dict[str, Any]] | None = None, freshness: Callable[[], Freshness] | None = None,
    ) -> None:  # fmt: skip
        """``serving`` and ``freshness`` tell of a node in a cluster; without them it is a single one. ``missing`` then names the
        secrets whose recorded value is not in the store."""
        self._started = started
        self._listeners = Listeners()
        vault, self.missing = open_vault(started.home, started.signer, started.authority.state.node)
        self._vault = CurrentVault(vault)
        self.runtime = Runtime(
            started.log, started.authority, gate, started.sources,
            concurrency_max=concurrency_max, listener=self._listeners, vault=self._vault,
        )  # fmt: skip
        self._traffic = Traffic()
        self._cut = threading.Event()
        self._reading_secrets = threading.Lock()
        self._serving = serving if serving is not None else lambda: {"executes": True, "role": "single", "leader": ""}
        self._freshness = freshness if freshness is not None else lambda: Freshness(True, 0, started.log.size)

    def intent(self, raw: bytes, subject: str) -> StepResult:
        """As ``Executor.intent``."""
        with self._traffic.shared():
            self._make_key(subject)
            return self.runtime.intent(raw, subject)

    def run(
        self, text: str, brain_spec: str, subject: str, listener: Listener, abandoned: Callable[[], bool] = never
    ) -> RunResult:
        """As ``Executor.run``."""
        with self._traffic.shared():
            settings = self._settings()["runtime"]
            brain = AbandonedBrain(chosen_brain(settings, brain_spec), abandoned, self._cut.is_set)
            self._make_key(subject)
            with self._listeners.of_this_thread(listener):
                return self.runtime.run(text, brain, source=RUN_SOURCE, agent=settings["agent"], subject=subject)

    def control(
        self, command: commands.Control, brain_spec: str, compared_size: int = 0
    ) -> tuple[Recorded, RunResult | None]:
        """As ``Executor.control``. Raises UnavailableError for what only a node at rest can do."""
        if not command.action.startswith("approval."):
            return self._change(command, compared_size), None
        with self._traffic.shared():
            state = self._started.authority.state
            held = state.live.executions.get(command.resource)
            run = state.live.runs.get(held.run_id) if held is not None else None
            chosen = brain_to_go_on_with(self._settings()["runtime"], run, brain_spec) if run is not None else None
            brain = AbandonedBrain(chosen, never, self._cut.is_set) if chosen is not None else None
            return self.runtime.control(self._received(command), brain)

    def perform(self, command: commands.Control) -> Recorded:
        """As ``Executor.perform``."""
        if command.action.startswith("approval."):
            raise CommandError("an approval may run a claw", where="the served node", expected="Executor.control")
        return self._change(command, 0)

    def close(self) -> int:
        """Take nothing new: what comes from now on was not taken. How many calls are at work."""
        self._traffic.close()
        return self._traffic.calls()

    def drain(self, seconds: float) -> int:
        """Wait until no call is at work, at most so long; how many still are."""
        return self._traffic.drained(seconds)

    def cut(self) -> None:
        """Runs end before their next thought from now on."""
        self._cut.set()

    def status(self) -> dict[str, Any]:
        """As ``Executor.status``."""
        from femtoclaw.cli.node import describe_log

        return describe_log(self._started.home, self._started.log) | {"serving": self._serving()}

    def state_at(self, index: int) -> StateAt:
        """As ``Executor.state_at``."""
        found, size = state_hash_at(self._started.log, index)
        return StateAt(found, size, self._freshness())

    def _received(self, command: commands.Control) -> commands.Control:
        """With the node's own clock: an operator's may say anything."""
        return command._replace(received_ns=self._started.sources.wall_ns())

    def _change(self, command: commands.Control, compared_size: int) -> Recorded:
        self._traffic.require_open()
        if command.action == "claw.enable":
            self._verify_module(command.resource)
        started = self._started
        refuse_at_work(command, started.authority.state.node, started.home.modules)
        if command.action == "secret.set":
            require_secret(started.home, started.signer, command)
        with staged_for(started.home, self._settings(), command) as put_in_place:
            recorded = self._perform(command, compared_size)
            if is_permitted(recorded):
                put_in_place()
                self._follow(command)
        return recorded

    def _perform(self, command: commands.Control, compared_size: int) -> Recorded:
        authority = self._started.authority
        try:
            if not compared_size:
                return authority.perform(self._received(command))
            with self._traffic.exclusive():
                self._refuse_decided_since(compared_size)
                return authority.perform(self._received(command))
        except ConfigurationError as error:
            if command.action == "configuration.set":
                self._tell_rejected(error)
            raise

    def _tell_rejected(self, error: ConfigurationError) -> None:
        """Record that an operator's configuration was none, and that the one in force stays (CONFIG-16.1); no value of it."""
        told = (error.category.value, Severity.WARNING.value, "RELOAD_REJECTED", "configuration", error.what)
        with contextlib.suppress(FemtoClawError, LogError):
            self._started.authority.perform(commands.RecordError(self._started.sources.new_id(), *told))

    def _verify_module(self, name: str) -> None:
        """Raises ModuleRejectedError, with the refusal recorded, when an installed module's files are not what was registered."""
        claw = self._started.authority.state.node.registry.get(name)
        if claw is None or not claw.publisher:
            return
        from femtoclaw.modules.recording import record
        from femtoclaw.modules.refusal import ModuleRejectedError
        from femtoclaw.modules.store import verify_installed

        fault = verify_installed(self._started.home.modules, manifest_from_canonical(claw.manifest))
        if fault is not None:
            record(self._started.authority, fault)
            raise ModuleRejectedError(fault)

    def _refuse_decided_since(self, compared_size: int) -> None:
        """What was compared must be all that was decided: a call that came after could be one that the change lets through."""
        log = self._started.log
        if compared_size > log.size:
            raise UsageError("the report is of another log", where="ControlRequest.compared_size", expected=log.size)
        for record in log.scan(compared_size + 1):
            if record.kind == KIND_EVENT and isinstance(decode(record.payload), events.AuthorizationDecided):
                raise NotTakenError(
                    "calls were decided since the comparison", where=f"index {record.index}",
                    expected=f"none after {compared_size}", remedy="run it again: it compares again",
                )  # fmt: skip

    def _follow(self, command: commands.Control) -> None:
        """What a start would do after this change."""
        started = self._started
        if command.action.startswith("secret."):
            with self._reading_secrets:
                node = started.authority.state.node
                self._vault.replace(open_vault(started.home, started.signer, node, tidy=False)[0])
        if command.action == "data.erase":
            started.subjects.destroy(command.resource)

    def _make_key(self, subject: str) -> None:
        if not subject:
            return
        if subject in self._started.authority.state.node.erased:
            raise UsageError(
                "this subject was erased", where="--subject", expected="another name", found="one that was erased"
            )
        self._started.subjects.make(subject)

    def _settings(self) -> dict[str, Any]:
        content = self._started.authority.state.node.configuration.content
        return resolve(json.loads(content), "the recorded configuration", None)


def is_permitted(recorded: Recorded) -> bool:
    """Whether the gate permitted an operator's request."""
    decided = next(event for event in recorded.events if isinstance(event, events.ControlDecided))
    return decided.decision == "AUTHORIZED"


def refuse_at_work(command: commands.Control, node: Node, modules: str) -> None:
    """Raise UnavailableError for a change that a node at work could not follow, ConfigurationError for a module whose files
    are not in the store ``modules``. Content that is malformed is the gate's to refuse."""
    if command.action in AT_REST_ONLY:
        raise UnavailableError(
            "this cannot be done to a node that is being served", where=command.action, expected="a node at rest",
            remedy=STOP_FIRST,
        )  # fmt: skip
    if command.action == "configuration.set":
        keys = _keys_at_rest(node, command.content)
        if keys:
            raise UnavailableError(
                "a node that is being served cannot take over these settings", where=", ".join(keys),
                expected="a node at rest", remedy=STOP_FIRST,
            )  # fmt: skip
    if command.action == "claw.install":
        _require_files(command, modules)


def _keys_at_rest(node: Node, content: bytes) -> tuple[str, ...]:
    """Keys that differ and that no process may see change."""
    try:
        before = resolve(json.loads(node.configuration.content), "the recorded configuration", None)
        after = resolve(json.loads(content), "the request", None)
    except (ValueError, TypeError, AttributeError, ConfigurationError):
        return ()
    return effect_of(before, after).at_rest


def _require_files(command: commands.Control, modules: str) -> None:
    from femtoclaw.modules.store import verify_installed

    try:
        manifest = manifest_from_canonical(json.loads(command.content)["manifest"].encode())
    except (ValueError, TypeError, KeyError, AttributeError, ConfigurationError):
        return
    fault = verify_installed(modules, manifest)
    if fault is not None:
        raise ConfigurationError(
            "the module's files are not in the node's store", where=manifest.name[:80], expected="the files of its manifest",
            found=fault.code, remedy="install it with `femtoclaw claw install DIR`, which puts them there",
        )  # fmt: skip
