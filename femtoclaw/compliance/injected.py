"""Measurements of faults inside of the core: one function after the other raises, once, in a node in memory; what is recorded, what
hangs, and what is there after a fault in the middle of a commit.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import errno
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from femtoclaw import commands, events
from femtoclaw.authority import Authority
from femtoclaw.brains import Context, Thought
from femtoclaw.claws.fs_read import MANIFEST as FS_READ
from femtoclaw.compliance.executing import ALL
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.logs import findings
from femtoclaw.compliance.simulation import ORIGIN, Simulated
from femtoclaw.compliance.tracing import Watched
from femtoclaw.compliance.twin import call, say
from femtoclaw.crash_rules import interrupted
from femtoclaw.engines import Engines
from femtoclaw.key_file import SEED_BYTES, KeySigner
from femtoclaw.projections.derivation import Derivation, Progress
from femtoclaw.restore import fold_records
from femtoclaw.state import EMPTY
from femtoclaw.vault import EMPTY_VAULT
from wal.memory_storage import MemoryStorage
from wal.opening import open_log

READ = call("fs.read", path="notes.txt")
_SMALL: dict[str, Any] = {
    "runtime": {"steps_max": 8, "environment": "injected"}, "capabilities": {"fs.read": {"enabled": True}},
}  # fmt: skip
"""One claw is enough, and hundreds of such nodes are made."""

TIMES = 20
MARKER = "MARKER-of-a-defect"


class Injected(NamedTuple):
    """One fault. ``errors``: category, severity and code on record; ``failed``: phase, category, severity, code and outcome of
    ended executions; ``moves``: transitions; ``rows``: telemetry rows; ``after``: how the next call ended, by a new start where
    calls were ``refused``; ``marked``: the log holds the error's words."""

    told: str
    exit: int
    errors: list[tuple[str, str, str]]
    failed: list[tuple[str, str, str, str, str]]
    moves: list[str]
    rows: list[tuple[str, str, str, str]]
    refused: bool
    hung: int
    after: str
    sound: bool
    marked: bool


class Brain:
    """Calls once, then answers; ``broken``: raises instead."""

    name = "injected"

    def __init__(self, broken: bool) -> None:
        self._broken = broken
        self._said = 0

    def think(self, context: Context) -> Thought:
        """The next line."""
        if self._broken:
            raise RuntimeError(MARKER)
        self._said += 1
        return Thought(READ if self._said == 1 else say("done"), {})


class _Vault:
    """The empty vault of one node: what is set on it is on no other's."""

    def __getattr__(self, name: str) -> Any:
        return getattr(EMPTY_VAULT, name)


def _once(target: Any, name: str, skip: int = 0) -> None:
    """Let a function of this object raise at its next call but ``skip``, once."""
    act, count = getattr(target, name), [0]

    def failing(*arguments: Any, **named: Any) -> Any:
        count[0] += 1
        if count[0] == skip + 1:
            raise RuntimeError(MARKER)
        return act(*arguments, **named)

    setattr(target, name, failing)


def _dress(node: Simulated, name: str) -> None:
    """The validator, or the policy engine, of this node raises once."""
    left = [1]

    class Broken(Engines):
        """Engines of which one part fails."""

        __slots__ = ()

        def validate(self, raw: bytes) -> Any:
            if name == "validate" and left and left.pop():
                raise RuntimeError(MARKER)
            return super().validate(raw)

        def authorize(self, tool: str, args: dict[str, Any], context: Any) -> Any:
            if name == "authorize" and left and left.pop():
                return _without_engine(self, tool, args, context)
            return super().authorize(tool, args, context)

    node.authority.engines.dressed(lambda engines: Broken(*engines))


def _without_engine(engines: Engines, tool: str, args: dict[str, Any], context: Any) -> Any:
    """The gate's own function, with an engine that raises."""
    from femtoclaw.authorization import authorize

    class Raising:
        """An engine that only fails."""

        def evaluate(self, request: object) -> Any:
            raise RuntimeError(MARKER)

    return authorize(
        tool, args, context, registry=engines.registry, manifests=engines.manifests, schemas=engines.schemas,
        settings=engines.settings, engine=Raising(),  # type: ignore[arg-type]
    )  # fmt: skip


FAULTS: dict[str, Callable[[Simulated], object]] = {
    "input is redacted": lambda node: _once(node.runtime._vault, "redact"),
    "input is recorded": lambda node: _once(node.authority, "observer"),
    "inference": lambda node: None,
    "an answer is redacted": lambda node: _once(node.runtime._vault, "redact_message"),
    "validation": lambda node: _dress(node, "validate"),
    "authorization": lambda node: _dress(node, "authorize"),
    "deciding": lambda node: _once(node.authority.engines, "engines", skip=1),
    "sealing": lambda node: _once(node.authority.engines.sealer, "seal_all", skip=1),
    "a start is recorded": lambda node: _once(node.authority, "observer", skip=1),
    "a grant": lambda node: _once(node.gate, "grant"),
    "secrets": lambda node: _once(node.runtime._vault, "granted"),
    "capability": lambda node: _once(node.isolation, "run"),
    "an outcome is redacted": lambda node: _once(node.runtime._vault, "redact_outcome"),
    "an outcome is recorded": lambda node: _once(node.authority, "observer", skip=2),
    "memory is queued": lambda node: _once(node.log, "enqueue", skip=2),
    "memory": lambda node: _once(node.log, "settle", skip=2),
}
"""Where it fails, in a run of one call and an answer."""


class _Sealer:
    """The sealer of one node, as above."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _one(name: str) -> Injected:
    memory = MemoryStorage()
    node = Simulated(ALL, settings=_SMALL, claws=(FS_READ,), storage=memory)
    node.runtime._vault = _Vault()
    node.authority.engines.sealer = _Sealer(node.authority.engines.sealer)  # type: ignore[assignment]
    before = len(node.recorded)
    FAULTS[name](node)
    told, code = "", 0
    try:
        node.runtime.run("go", Brain(name == "inference"), source="comply", agent="operator")
    except Exception as error:  # whatever it is, it is what the caller is told
        told, code = type(error).__name__, int(getattr(error, "exit_code", 70))
    refused = node.authority.refusal is not None
    hung = len(node.authority.state.live.executions)
    if refused:
        again = _reopened(memory, node)
        happened, hung, log = again.happened, again.hung, again.log
        after = "success" if again.opens else ""
    else:
        after = node.runtime.intent(READ).outcome
        log = node.log
        happened = [each for batch in node.recorded[before:] for each in batch.events]
    rows, moves = _derived(log)
    return Injected(
        told, code, [(each.category, each.severity, each.code) for each in happened if isinstance(each, events.ErrorRecorded)],
        [
            (each.phase, each.category, each.severity, each.code, each.outcome)
            for each in happened if isinstance(each, events.ExecutionFailed)
        ],
        moves, rows, refused, hung, after, not findings(memory),
        any(MARKER.encode() in record.payload for record in log.scan()),
    )  # fmt: skip


class _Again(NamedTuple):
    """A log that is opened after a fault, and what the crash rules made of it."""

    log: Any
    happened: list[Any]
    hung: int
    opens: bool
    authority: Authority


def _reopened(memory: MemoryStorage, node: Simulated) -> _Again:
    signer = KeySigner(ORIGIN, bytes(range(SEED_BYTES)))
    log, _ = open_log(memory.copy(), signer=signer, clock=node.sources.wall_ns, threaded=False)
    authority = Authority(log, fold_records(EMPTY, log.scan()))
    executions, runs = interrupted(authority.state)
    happened = list(authority.perform(commands.StartRuntime("again", "simulated", "python", "open")).events)
    for name in executions:
        happened += authority.perform(commands.ResolveInterrupted(name)).events
    for name in runs:
        happened += authority.perform(commands.EndRun(name)).events
    done = authority.perform(commands.SubmitIntent(node.sources.new_id(), say("again"), node.sources.wall_ns(), ""))
    opens = any(isinstance(each, events.ExecutionCompleted) for each in done.events)
    return _Again(log, happened, len(authority.state.live.executions), opens, authority)


def _derived(log: Any) -> tuple[list[tuple[str, str, str, str]], list[str]]:
    """Telemetry rows of a log (point, class, execution, status), and the transitions of executions among them."""
    derivation = Derivation(Progress())
    for record in log.scan():
        derivation.take(record)
    rows = [(row[2], row[3], row[5], row[8]) for row in derivation.telemetry]
    return rows, [row[3] for row in rows if row[0] == "state_transition" and row[2]]


def injected(laboratory: Laboratory) -> dict[str, Injected]:
    """Each fault once."""
    return {name: _one(name) for name in FAULTS}


def injected_again(laboratory: Laboratory) -> dict[str, list[tuple[Any, ...]]]:
    """What they came to, ``TIMES`` times each: what the caller is told, category, severity, code and transitions."""
    return {
        name: [(each.told, each.exit, each.errors, each.failed, each.moves, each.after) for each in map(_one, [name] * TIMES)]
        for name in FAULTS
    }  # fmt: skip


SIX = (
    "InputReceived", "InferenceReceived", "ProtocolValidated", "AuthorizationDecided", "ExecutionFinished", "ExecutionCompleted",
)  # fmt: skip


def cut_commits(laboratory: Laboratory) -> dict[str, list[str]]:
    """The events of a call's execution, after its storage failed at one call after the other and was opened again."""
    found = {}
    for at in range(1, 10):
        memory, armed, count = MemoryStorage(), [False], [0]

        def fail(name: str, at: int = at, armed: list[bool] = armed, count: list[int] = count) -> None:
            count[0] += armed[0]
            if armed[0] and count[0] >= at:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        node = Simulated(storage=Watched(memory, fail))
        armed[0] = True
        try:
            node.runtime.run("go", Brain(False), source="comply", agent="operator")
        except Exception as error:
            told = type(error).__name__
        else:
            told = "acknowledged"
        armed[0] = False
        again = _reopened(memory, node)
        found[f"{at} {told}"] = _of_first(again.log)
    return found


def _of_first(log: Any) -> list[str]:
    """Types of the events of the run's first execution; none where nothing of it was recorded."""
    from femtoclaw.event_codec import decode
    from wal.record import KIND_EVENT

    told = [decode(record.payload) for record in log.scan() if record.kind == KIND_EVENT]
    inputs = [each.execution_id for each in told if isinstance(each, events.InputReceived) and each.role == "user"]
    return [type(each).__name__ for each in told if inputs and getattr(each, "execution_id", "") == inputs[0]]
