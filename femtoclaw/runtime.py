"""THE LOOP: think, validate, authorize, execute, record, respond. Thin: decisions are ``decide``'s, effects the gate's.

Per tool step there are two durable commits: what the brain said, the verdicts and *execution started* before the
effect; the result and the next input after it. A message step has one (I1).
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import contextlib
import json
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from cluster.errors import ClusterError
from femtoclaw import brains, commands, events
from femtoclaw.authority import Authority, Recorded
from femtoclaw.authorization import HELD
from femtoclaw.context import context_digest
from femtoclaw.defects import contained
from femtoclaw.errors import (
    BrainError,
    CapabilityError,
    Category,
    FemtoClawError,
    SecurityError,
    Severity,
    UnavailableError,
    UsageError,
)
from femtoclaw.gate import Gate
from femtoclaw.isolation import Outcome
from femtoclaw.isolation.outcome import OutcomeUnknownError
from femtoclaw.lifecycle import UNKNOWN
from femtoclaw.memory import clip
from femtoclaw.modules.constancy import Constancy
from femtoclaw.modules.recording import record_outcome
from femtoclaw.sealing import UNSEALED, Sealer
from femtoclaw.sources import Sources
from femtoclaw.state import State
from femtoclaw.vault import EMPTY_VAULT, Vault
from wal import Log, LogError

RAW_BYTES_MAX = 512 * 1024
"""A brain's raw answer; a longer one is refused unrecorded, except for its size."""

RESULT_INLINE_BYTES_MAX = 64 * 1024
"""A longer result goes to a blob; the record holds its hash."""

INPUT_BYTES_MAX = 256 * 1024

Listener = Callable[[Recorded], None]


class ResultLostError(FemtoClawError):
    """An effect may have happened and its result is not recorded; the next start closes it as OUTCOME_UNKNOWN."""

    category = Category.RUNTIME
    severity = Severity.CRITICAL
    code = "RESULT_NOT_RECORDED"
    exit_code = 5
    default_remedy = "look at what the claw did before you repeat it; the next start records its outcome as unknown"


class StepResult(NamedTuple):
    """What one execution came to: the CLI's ``intent`` answer."""

    execution_id: str
    decision: str
    code: str
    result: Any
    outcome: str


class RunResult(NamedTuple):
    """What one run came to."""

    run_id: str
    outcome: str
    response: str | None
    steps: tuple[StepResult, ...]


class Runtime:
    """Runs brains against the authority. Thread-safe: each run lives on its caller's thread."""

    def __init__(
        self,
        log: Log,
        authority: Authority,
        gate: Gate,
        sources: Sources,
        *,
        concurrency_max: int,
        listener: Listener | None = None,
        vault: Vault = EMPTY_VAULT,
    ) -> None:
        """``vault`` holds the secrets that operators granted to claws."""
        self._log = log
        self._authority = authority
        self._gate = gate
        self._sources = sources
        self._slots = threading.BoundedSemaphore(concurrency_max)
        self._listener = listener
        self._vault = vault
        self._constancy = Constancy()

    def run(
        self, text: str, brain: brains.Brain, *, source: str, agent: str, subject: str = ""
    ) -> RunResult:  # fmt: skip
        """One agent run to its end, or to a call that is held for operators; a brain's failure is a result. The texts of
        a ``subject`` are recorded sealed under its key, which must be there.

        Raises UsageError for a text over ``INPUT_BYTES_MAX``, UnavailableError, LogError or SecurityError.
        """
        with contained(self._authority, self._sources, lambda name, execution: False):  # nothing is under way yet
            content = self._vault.redact(text.encode())
        if len(content) > INPUT_BYTES_MAX:
            raise UsageError(
                "input is too long", expected=f"<= {INPUT_BYTES_MAX} bytes", found=len(content), remedy="shorten it"
            )
        with self._slots:
            run_id, execution_id = self._sources.new_id(), self._sources.new_id()
            at_ns = self._sources.wall_ns()
            with contained(self._authority, self._sources, lambda _, execution: execution.run_id == run_id):
                begun = commands.StartRun(run_id, execution_id, brain.name, source, agent, content, at_ns, subject)
                return self._loop(run_id, brain, self._perform(begun), [])

    def _loop(self, run_id: str, brain: brains.Brain, recorded: Recorded, steps: list[StepResult]) -> RunResult:
        """Think and act until the run ends or waits for operators."""
        while run_id in recorded.state.live.runs and not _is_held(recorded):
            recorded = self._think(brain, run_id, _waiting(recorded), recorded.state)
            steps.append(step_result(recorded.events))
            if isinstance(recorded.events[-1], events.ExecutionStarted):
                recorded = self._execute(recorded)
                steps[-1] = step_result(recorded.events, steps[-1])
        ended = [event.outcome for event in recorded.events if isinstance(event, events.RunEnded)]
        response = [event.content for event in recorded.events if isinstance(event, events.ResponseRecorded)]
        return RunResult(run_id, ended[0] if ended else HELD, response[0] if response else None, tuple(steps))

    def intent(self, raw: bytes, subject: str = "") -> StepResult:
        """Gate exactly one raw protocol message; ``subject`` as for ``run``."""
        with self._slots:
            execution_id = self._sources.new_id()
            with contained(self._authority, self._sources, lambda name, _: name == execution_id):
                told = commands.SubmitIntent(
                    execution_id, self._vault.redact_message(raw), self._sources.wall_ns(), subject
                )
                recorded = self._perform(told)
                result = step_result(recorded.events)
                if isinstance(recorded.events[-1], events.ExecutionStarted):
                    recorded = self._execute(recorded)
                    result = step_result(recorded.events, result)
                return result

    def control(
        self, command: commands.Control, brain: brains.Brain | None = None
    ) -> tuple[Recorded, RunResult | None]:
        """An operator's request, and what it sets going: the last approval of a held call runs it, and with ``brain``
        its run goes on. Without one the run ends there.

        Raises ControlRefusedError, ConfigurationError or PolicyError when nothing was recorded; otherwise as ``run``.
        """
        held = self._authority.state.live.executions.get(command.resource)
        run_id = held.run_id if held is not None else ""
        with self._slots, contained(
            self._authority, self._sources,
            lambda name, execution: name == command.resource or bool(run_id and execution.run_id == run_id),
        ):  # fmt: skip
            next_id = self._sources.new_id() if brain is not None else ""
            asked = recorded = self._perform(command._replace(next_id=next_id))
            steps: list[StepResult] = []
            if isinstance(recorded.events[-1], events.ExecutionStarted):
                recorded = self._execute(recorded, goes_on=brain is not None)
                steps = [step_result(recorded.events, step_result(asked.events))]
            if brain is not None and any(isinstance(event, events.InputReceived) for event in recorded.events):
                return asked, self._loop(run_id, brain, recorded, steps)
            if steps or isinstance(asked.events[-1], (events.ExecutionFailed, events.RunEnded)):
                ended = [event.outcome for event in recorded.events if isinstance(event, events.RunEnded)]
                return asked, RunResult(run_id, ended[0] if ended else "", None, tuple(steps))
            return asked, None

    def _perform(self, command: commands.Command) -> Recorded:
        recorded = self._authority.perform(command)
        if self._listener is not None:
            try:
                self._listener(recorded)
            except Exception:  # who watches must not decide: a started execution would be left without its outcome
                self._listener = None
        return recorded

    def _think(self, brain: brains.Brain, run_id: str, execution_id: str, state: State) -> Recorded:
        """Ask the brain and record what it said with the verdicts on it, or that it failed."""
        context, digest = assemble_context(state, run_id, self._authority.engines.sealer)
        try:
            thought = brain.think(context)
            if len(thought.raw) > RAW_BYTES_MAX:
                raise brains.OversizeError("brain answer is too long", expected=RAW_BYTES_MAX, found=len(thought.raw))
        except BrainError as error:
            return self._perform(commands.FailInference(execution_id, error.code, self._redacted(str(error))))
        except Exception as error:  # a brain's defect is the brain's: the run ends, the node does not
            detail = f"the brain failed with {type(error).__name__}"
            return self._perform(commands.FailInference(execution_id, "BRAIN_DEFECT", detail))
        provenance = tuple(self._redacted(item) for pair in sorted(thought.provenance.items()) for item in pair)
        raw, at_ns, next_id = self._vault.redact_message(thought.raw), self._sources.wall_ns(), self._sources.new_id()
        return self._perform(commands.RecordInference(execution_id, raw, digest, provenance, at_ns, next_id))

    def _redacted(self, text: str) -> str:
        return self._vault.redact(text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")

    def _execute(self, recorded: Recorded, *, goes_on: bool = True) -> Recorded:
        """Spend the grant for a durable start, and record what the claw did."""
        started = recorded.events[-1]
        assert isinstance(started, events.ExecutionStarted)
        execution, sealer = recorded.state.live.executions[started.execution_id], self._authority.engines.sealer
        args = json.loads(sealer.open(execution.args, execution.subject) if execution.subject else execution.args)
        fixed = self._authority.engines.engines(recorded.state.node)
        manifest = fixed.manifests[started.claw]
        settings = dict(fixed.settings.get(started.claw, {}))
        refused = self._constancy.refuses(manifest)
        try:
            if refused is None:
                grant = self._gate.grant(recorded)
                secrets = self._vault.granted(recorded.state.node, manifest)
                salt = sealer.salt(execution.subject)
                outcome = self._gate.dispatch(grant, manifest, args, settings, secrets, salt)
                outcome = self._constancy.judge(manifest, args, outcome)
            else:
                outcome = refused
        except SecurityError as error:
            self._contain(error)
            raise
        except OutcomeUnknownError as error:
            outcome = without_result(UNKNOWN, "EnvironmentError", error.what)
        except CapabilityError as error:
            self._tell_system(error)
            outcome = without_result("unavailable", "EnvironmentError", error.what)
        except Exception as error:  # a defect of ours: the claw may or may not have run, and that is what is recorded
            outcome = without_result(UNKNOWN, "EnvironmentError", f"the isolation failed: {type(error).__name__}")
        try:
            record_outcome(self._authority, manifest, outcome)
            told = self._vault.redact_outcome(outcome)
            command = self._outcome_command(started.execution_id, told, goes_on, execution.subject)
            called = (manifest.version, manifest.digest(), *outcome.stages) if manifest.files else ()
            return self._perform(command._replace(called=called))
        except (LogError, ClusterError, UnavailableError) as error:
            raise ResultLostError(
                "the claw was reached, but what it did could not be recorded", where=f"execution {started.execution_id}",
                found=error,
            ) from error  # fmt: skip

    def _tell_system(self, error: CapabilityError) -> None:
        """Record that the system had no process, descriptor or memory: beside the call's own end, which only says that it was not
        executed."""
        if error.category is Category.SYSTEM:
            told = (error.category.value, error.severity.value, error.code, "isolation", f"{error.what}: {error.found}")
            with contextlib.suppress(FemtoClawError, LogError, ClusterError):
                self._authority.perform(commands.RecordError(self._sources.new_id(), *told))

    def _contain(self, error: SecurityError) -> None:
        """Record a breach of the gate's own rules, and take no command any more."""
        told = commands.RecordError(
            self._sources.new_id(), error.category.value, error.severity.value, error.code, "gate", error.what
        )
        try:
            self._authority.perform(told)
        except (FemtoClawError, LogError):
            pass  # the breach itself is what must be raised
        self._authority.contain(f"security: {error.what}")

    def _outcome_command(
        self, execution_id: str, outcome: Outcome, goes_on: bool, subject: str
    ) -> commands.RecordOutcome:  # fmt: skip
        result, blob = b"", ""
        if outcome.result is not None:
            result = json.dumps(outcome.result, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
                "utf-8", "surrogatepass"
            )
            if len(result) > RESULT_INLINE_BYTES_MAX:
                if subject:
                    result = self._authority.engines.sealer.seal(result, subject, f"{execution_id} blob")
                result, blob = b"", self._log.put_blob(result)
        error = outcome.error or {}
        return commands.RecordOutcome(
            execution_id,
            outcome.status,
            result,
            blob,
            str(error.get("class", "")),
            str(error.get("message", "")),
            outcome.exit_status if outcome.exit_status is not None else -1,
            max(0, outcome.ended_ns - outcome.started_ns),
            outcome.original_bytes,
            outcome.kept_bytes,
            outcome.output_digest,
            self._sources.new_id() if goes_on else "",
        )


def without_result(status: str, kind: str, message: str) -> Outcome:
    """The outcome of a claw that nobody heard from; ``kind`` is the error's class."""
    return Outcome(status, None, {"class": kind, "message": message}, None, 0, 0, 0, 0, "")


def _is_held(recorded: Recorded) -> bool:
    return isinstance(recorded.events[-1], events.ApprovalRequested)


def _waiting(recorded: Recorded) -> str:
    """The execution that this batch left waiting for its inference."""
    received = [event for event in recorded.events if isinstance(event, events.InputReceived)]
    assert received, "a run that has not ended has an input to think about"
    return received[-1].execution_id


def assemble_context(state: State, run_id: str, sealer: Sealer = UNSEALED) -> tuple[brains.Context, str]:
    """What the brain gets to see, and the digest of what is recorded of it: a function of the state, and of a subject's
    key where the state holds their texts."""
    run = state.live.runs[run_id]
    node = state.node
    turns = tuple(
        brains.Turn(turn.role, clip(sealer.text(turn.content, run.subject)) if run.subject else turn.content)
        for turn in run.window
    )
    tools = tuple(brains.describe(claw.manifest) for _, claw in sorted(node.registry.items()) if claw.enabled)
    return brains.Context(turns, tools), context_digest(state, run_id)


def step_result(batch: tuple[events.Event, ...], before: StepResult | None = None) -> StepResult:
    """The contract's view of a batch: decision, code, execution id, result; ``before`` is the batch it completes."""
    execution_id, decision, code, result, outcome = before if before is not None else ("", "", "", None, "")
    for event in batch:
        match event:
            case events.InferenceReceived() | events.InferenceFailed():
                execution_id = event.execution_id
            case events.InputReceived() if event.role == "intent":
                execution_id = event.execution_id
            case events.ProtocolRejected():
                decision, code, result = (
                    "REJECTED",
                    event.code,
                    {"kind": event.kind, "detail": event.detail, "pointer": event.pointer},
                )
            case events.AuthorizationDecided():
                decision, code = event.decision, event.reason
            case events.ApprovalRequested():
                decision, code, outcome = HELD, "APPROVAL_REQUIRED", HELD
                result = {"approvals": event.needed, "roles": list(event.roles), "expires_ns": event.expires_ns}
            case events.ApprovalGranted() | events.ApprovalRefused():
                execution_id = event.execution_id
            case events.ResponseRecorded():
                result = {"message": event.content}
            case events.ExecutionFinished():
                result = _result_of(event)
            case events.ExecutionCompleted() | events.ExecutionFailed():
                outcome = event.outcome
            case _:
                continue
    return StepResult(execution_id, decision, code, result, outcome)


def _result_of(event: events.ExecutionFinished) -> dict[str, Any]:
    body: dict[str, Any] = {"status": event.status}
    if event.result:
        body["result"] = json.loads(event.result)
    if event.blob:
        body["blob"] = event.blob
        body["bytes"] = event.kept_bytes
    if event.error_class:
        body["error"] = {"class": event.error_class, "message": event.error_message}
    return body
