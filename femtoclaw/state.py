"""What the runtime knows: a fold of the log and nothing else (I6). Pure values; every map is persistent.

``Node`` changes rarely (configuration, policy, registry); ``Live`` changes with every execution. Finished executions
leave the state, so it stays as large as what is in flight; their history is the log and its projections.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from typing import Any, NamedTuple

import msgpack
from blake3 import blake3
from immutables import Map

from femtoclaw.lifecycle import RuntimeState

REQUESTS_SEEN_MAX = 256
"""Control requests of one operator whose ids the state remembers. Older ones are refused by their time."""

RECENT_EXECUTIONS_MAX = 64
"""Short-term memory: how many finished executions the state remembers."""


FOLD_VERSION = 2
"""Raised when the same events give another state than before: then older snapshots and hashes are not compared."""


class Claw(NamedTuple):
    """A registered capability. ``publisher`` signed the module it comes from; empty for those of the program itself.
    ``trusted`` is its manifest's ``trusted_output``."""

    name: str
    manifest: bytes
    digest: str
    enabled: bool
    publisher: str = ""
    trusted: bool = False


class Operator(NamedTuple):
    """Who may sign control requests. ``seen`` are the ids of the newest ones, oldest first: none
    is heard twice. By their number and not by their time, or a clock that was ahead once would silence an operator."""

    public_key: str
    roles: tuple[str, ...]
    active: bool
    added_ns: int = 0
    seen: tuple[str, ...] = ()


class Policy(NamedTuple):
    """The policy in force; version 0 is none, which denies everything."""

    version: int = 0
    digest: str = ""
    text: str = ""
    schema_digest: str = ""
    engine: str = ""


class Control(NamedTuple):
    """The control policy in force: who may do what to the node itself. Version 0 is none: a node from before there was
    one, which takes changes from its files."""

    version: int = 0
    digest: str = ""
    text: str = ""
    engine: str = ""


class Secret(NamedTuple):
    """A named secret: a mark that changes with its value, and the claws that may have it."""

    mark: str
    claws: tuple[str, ...] = ()


class Configuration(NamedTuple):
    """The configuration in force, as canonical JSON."""

    version: int = 0
    digest: str = ""
    content: bytes = b"{}"


class Incident(NamedTuple):
    """An incident that is not resolved. ``step`` is the last one taken, empty before the first."""

    kind: str
    severity: int
    step: str
    respond_by_ns: int


class Operations(NamedTuple):
    """What operators have before them: open incidents by id, and alerts that nobody has acknowledged, each with its time."""

    incidents: Map[str, Incident] = Map()
    alerts: Map[str, int] = Map()


class Node(NamedTuple):
    """Identity, configuration, policy, registry, process."""

    runtime_id: str = ""
    version: str = ""
    configuration: Configuration = Configuration()
    policy: Policy = Policy()
    registry: Map[str, Claw] = Map()
    process: RuntimeState = RuntimeState.INITIALIZING
    boot_id: str = ""
    boots: int = 0
    errors: int = 0
    tail_in_doubt: bool = False
    """Records at the end of what an earlier start wrote may be lost: nobody can say what it had begun (CR-5)."""
    control: Control = Control()
    operators: Map[str, Operator] = Map()
    publishers: Map[str, str] = Map()
    """Name to verifier key, of those whose modules may be installed and loaded."""
    secrets: Map[str, Secret] = Map()
    erased: Map[str, str] = Map()
    """Subject to reason, of those whose payloads' key was destroyed."""
    contained: str = ""
    """Why no new work is taken; empty when it is."""
    sandbox: str = ""
    """What the kernel offered for the sandbox at the newest start."""
    operations: Operations = Operations()
    """Part of the canonical form only where there is something: histories from before it hash as they did."""


class Execution(NamedTuple):
    """One execution in flight."""

    run_id: str
    step: int
    state: RuntimeState
    claw: str = ""
    args: bytes = b""
    call_digest: str = ""
    decision: str = ""
    started: bool = False
    summary: str = ""
    boot: int = 0
    """Which start of the runtime began it: another one may only close it, by the crash rules."""
    subject: str = ""
    """Whose texts these are: they are sealed then, ``args`` among them."""


class Turn(NamedTuple):
    """One entry of a run's memory window. ``source`` is user, brain, runtime, or the claw it comes from."""

    role: str
    content: str
    source: str = ""


class Trail(NamedTuple):
    """What a run has done, for rules about order, budgets and origin. Names are sorted; times in nanoseconds."""

    done: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    denied: int = 0
    last: str = ""
    calls: tuple[tuple[str, int], ...] = ()
    """Admitted calls by claw."""
    output_bytes: int = 0
    busy_ns: int = 0
    tainted: tuple[str, ...] = ()
    """Claws whose untrusted output entered this run's memory. It stays when the turn has left the window."""
    forgotten: bool = False
    """Some of that output has left the window: nobody can say any more what does not come from it."""


class Run(NamedTuple):
    """One agent run in flight, with its bounded memory window."""

    brain: str
    source: str
    agent: str
    step: int
    window: tuple[Turn, ...]
    boot: int = 0
    trail: Trail = Trail()
    subject: str = ""
    """Whose texts these are: the window holds them sealed then."""


class Approval(NamedTuple):
    """A held call: fields as in ``events.ApprovalRequested``, and who has approved so far."""

    claw: str
    needed: int
    roles: tuple[str, ...]
    policies: tuple[str, ...]
    call_digest: str
    policy_digest: str
    manifest_digest: str
    configuration_digest: str
    requested_ns: int
    expires_ns: int
    granted: tuple[str, ...] = ()


class Usage(NamedTuple):
    """Admitted calls of one claw by UTC minute (of the last 60) and hour (of the last 24), oldest first; each entry is
    (number since 1970, calls). What a clock that went back wrote stays until newer entries push it out."""

    minutes: tuple[tuple[int, int], ...] = ()
    hours: tuple[tuple[int, int], ...] = ()


class Finished(NamedTuple):
    """One line of short-term memory."""

    execution_id: str
    claw: str
    outcome: str


class Live(NamedTuple):
    """Executions and runs in flight, recent results, and totals by outcome."""

    executions: Map[str, Execution] = Map()
    runs: Map[str, Run] = Map()
    recent: tuple[Finished, ...] = ()
    totals: Map[str, int] = Map()
    approvals: Map[str, Approval] = Map()
    """Held calls by execution id."""
    usage: Map[str, Usage] = Map()
    """Admitted calls by claw."""


class State(NamedTuple):
    """All of it."""

    node: Node = Node()
    live: Live = Live()


EMPTY = State()
_NOTHING_OPEN = Operations()


def to_plain(value: Any) -> Any:
    """Nested lists of plain values, maps as sorted pairs: the canonical form that is hashed and snapshotted."""
    if isinstance(value, Map):
        return [[key, to_plain(value[key])] for key in sorted(value)]
    if isinstance(value, RuntimeState):
        return value.value
    if isinstance(value, Node) and value.operations == _NOTHING_OPEN:
        return [to_plain(item) for item in value[:-1]]
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    return value


def encode_state(state: State) -> bytes:
    """Canonical bytes: equal states give equal bytes in any process."""
    raw: bytes = msgpack.packb(to_plain(state), use_bin_type=True)
    return raw


def state_hash(state: State) -> str:
    """BLAKE3 of the canonical bytes, domain-tagged, 64 hex digits."""
    return hash_of_encoded(encode_state(state))


def hash_of_encoded(raw: bytes) -> str:
    """``state_hash`` of a state by its canonical bytes."""
    return blake3(b"femtoclaw state v%d\x00" % FOLD_VERSION + raw).hexdigest()


def decode_state(raw: bytes) -> State:
    """The inverse of ``encode_state``. Raises ValueError or TypeError when the bytes are no state."""
    node, live = msgpack.unpackb(raw, strict_map_key=True)
    return State(_node(*node), _live(*live))


def _node(
    runtime_id: str, version: str, configuration: Any, policy: Any, registry: Any, process: str, boot_id: str,
    boots: int, errors: int, in_doubt: bool, control: Any, operators: Any, publishers: Any, secrets: Any, erased: Any,
    contained: str, sandbox: str, operations: Any = ((), ()),
) -> Node:  # fmt: skip
    incidents, alerts = operations
    return Node(
        runtime_id, version, Configuration(*configuration), Policy(*policy),
        Map({name: Claw(*claw) for name, claw in registry}), RuntimeState(process), boot_id, boots, errors, in_doubt,
        Control(*control),
        Map({name: Operator(*map(_hashable, each)) for name, each in operators}),
        Map(dict(publishers)), Map({name: Secret(mark, tuple(claws)) for name, (mark, claws) in secrets}),
        Map(dict(erased)), contained, sandbox,
        Operations(Map({name: Incident(*each) for name, each in incidents}), Map(dict(alerts))),
    )  # fmt: skip


def _live(executions: Any, runs: Any, recent: Any, totals: Any, approvals: Any, usage: Any) -> Live:
    return Live(
        Map({key: Execution(run, step, RuntimeState(s), *rest) for key, (run, step, s, *rest) in executions}),
        Map({key: _run(*run) for key, run in runs}),
        tuple(Finished(*item) for item in recent),
        Map(dict(totals)),
        Map({key: Approval(*map(_hashable, approval)) for key, approval in approvals}),
        Map({key: Usage(*map(_hashable, each)) for key, each in usage}),
    )


def _run(
    brain: str, source: str, agent: str, step: int, window: Any, boot: int, trail: Any, subject: str
) -> Run:  # fmt: skip
    turns = tuple(Turn(*turn) for turn in window)
    return Run(brain, source, agent, step, turns, boot, Trail(*map(_hashable, trail)), subject)


def _hashable(value: Any) -> Any:
    """Lists as tuples, at any depth."""
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
