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

RECENT_EXECUTIONS_MAX = 64
"""Short-term memory: how many finished executions the state remembers."""


FOLD_VERSION = 1
"""Raised when the same events give another state than before: then older snapshots and hashes are not compared."""


class Claw(NamedTuple):
    """A registered capability."""

    name: str
    manifest: bytes
    digest: str
    enabled: bool


class Policy(NamedTuple):
    """The policy in force; version 0 is none, which denies everything."""

    version: int = 0
    digest: str = ""
    text: str = ""
    schema_digest: str = ""
    engine: str = ""


class Configuration(NamedTuple):
    """The configuration in force, as canonical JSON."""

    version: int = 0
    digest: str = ""
    content: bytes = b"{}"


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


class Turn(NamedTuple):
    """One entry of a run's memory window."""

    role: str
    content: str


class Run(NamedTuple):
    """One agent run in flight, with its bounded memory window."""

    brain: str
    source: str
    agent: str
    step: int
    window: tuple[Turn, ...]
    boot: int = 0


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


class State(NamedTuple):
    """All of it."""

    node: Node = Node()
    live: Live = Live()


EMPTY = State()


def to_plain(value: Any) -> Any:
    """Nested lists of plain values, maps as sorted pairs: the canonical form that is hashed and snapshotted."""
    if isinstance(value, Map):
        return [[key, to_plain(value[key])] for key in sorted(value)]
    if isinstance(value, RuntimeState):
        return value.value
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
    runtime_id, version, configuration, policy, registry, process, boot_id, boots, errors, in_doubt = node
    executions, runs, recent, totals = live
    return State(
        Node(
            runtime_id,
            version,
            Configuration(*configuration),
            Policy(*policy),
            Map({name: Claw(*claw) for name, claw in registry}),
            RuntimeState(process),
            boot_id,
            boots,
            errors,
            in_doubt,
        ),
        Live(
            Map({key: Execution(run, step, RuntimeState(s), *rest) for key, (run, step, s, *rest) in executions}),
            Map(
                {
                    key: Run(brain, source, agent, step, tuple(Turn(*turn) for turn in window), boot)
                    for key, (brain, source, agent, step, window, boot) in runs
                }
            ),
            tuple(Finished(*item) for item in recent),
            Map(dict(totals)),
        ),
    )
