"""Replay derives every decision again; forged, changed or causeless events are found with index, expected, found."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from femtoclaw import commands, events
from femtoclaw.crash_rules import UNKNOWN_REASON
from femtoclaw.errors import Category, Severity
from femtoclaw.event_codec import decode, encode
from femtoclaw.events import Event
from femtoclaw.replay import Replay, replay
from femtoclaw.restore import fold_records
from femtoclaw.snapshot import decode_snapshot, encode_snapshot
from femtoclaw.state import EMPTY, decode_state, encode_state, state_hash
from tests.femtoclaw.simulated import Simulated
from tests.femtoclaw.test_loop import SAY, call, run
from wal import KIND_EVENT, Record
from wal.record import FLAG_BATCH_END, KIND_RECOVERED


def history(node: Simulated) -> list[Record]:
    return list(node.log.scan())


def six_calls() -> Simulated:
    """Two denied, four done, among answers and rejections."""
    node = Simulated()
    run(
        node,
        call("fs.read", path="a"),
        call("fs.read", path="a.env"),
        b"{",
        call("fs.write", path="reports/x", content="y", mode="create"),
        SAY,
    )
    node.intent("shell", bin="echo", argv=["hello"])
    node.intent("shell", bin="sleep", argv=["1"])
    node.intent("fs.list", path=".")
    return node


def worked() -> Simulated:
    node = six_calls()
    node.authority.perform(commands.HashState())
    return node


def rewritten(records: list[Record], change: dict[int, Event | None]) -> Iterator[Record]:
    """The history with some events replaced (or removed): what a forger with the key would leave."""
    for record in records:
        if record.index not in change:
            yield record
        elif (event := change[record.index]) is not None:
            yield record._replace(payload=encode(event))


def at(records: list[Record], kind: type[Event], number: int = 0) -> tuple[int, Event]:
    found = [
        (r.index, decode(r.payload)) for r in records if r.kind == KIND_EVENT and isinstance(decode(r.payload), kind)
    ]
    return found[number]


@pytest.mark.invariant("I6")
@pytest.mark.requirement("STORAGE-25.1", "STORAGE-13.2")
def test_replay_gives_the_live_state_and_every_decision() -> None:
    """State hash and decision count equal the live ones; nothing diverges."""
    node = worked()
    report = replay(history(node))
    assert report.divergences == ()
    assert report.state_hash == state_hash(node.state)
    live = sum(
        isinstance(event, (events.ProtocolValidated, events.ProtocolRejected, events.AuthorizationDecided))
        for recorded in node.recorded
        for event in recorded.events
    )
    assert report.decisions == live == 15


@pytest.mark.requirement("STORAGE-25.1")
def test_replay_to_every_index_equals_the_fold() -> None:
    """At each index the replayed state is the one the log's prefix folds to."""
    records = history(worked())
    for end in range(1, len(records) + 1):
        report = replay(records[:end])
        assert report.divergences == ()
        assert report.state_hash == state_hash(fold_records(EMPTY, records[:end]))


FORGERIES = {
    "a denial turned into a permission": (events.AuthorizationDecided, 1, {"decision": "AUTHORIZED"}),
    "another reason": (events.AuthorizationDecided, 0, {"reason": "OTHER"}),
    "other determining policies": (events.AuthorizationDecided, 0, {"determining": ("nobody",)}),
    "a rejection's code": (events.ProtocolRejected, 0, {"code": "OTHER"}),
    "a validated argument": (events.ProtocolValidated, 0, {"args": b'{"path":"b"}'}),
    "a raw message": (events.InferenceReceived, 0, {"raw": b'{"message":{"content":"x"}}'}),
    "a started claw": (events.ExecutionStarted, 0, {"claw": "fs.write"}),
    "an inputs digest": (events.AuthorizationDecided, 0, {"inputs_digest": "0" * 64}),
    "a response": (events.ResponseRecorded, 0, {"content": "other"}),
    "a policy's digest": (events.PolicyAdopted, 0, {"digest": "0" * 64}),
    "a policy's text": (events.PolicyAdopted, 0, {"text": '@id("all") permit (principal, action, resource);'}),
    "a configuration": (events.ConfigurationAdopted, 0, {"content": b"{}"}),
    "a manifest's digest": (events.ClawRegistered, 0, {"digest": "0" * 64}),
    "what the brain was shown": (events.InferenceReceived, 1, {"context_digest": "0" * 64}),
    "a state's hash": (events.StateHashed, 0, {"state_hash": "0" * 64}),
    "a claw's status": (events.ExecutionFinished, 0, {"status": "magic"}),
}


@pytest.mark.invariant("I6")
@pytest.mark.requirement("STORAGE-6.3")
@pytest.mark.parametrize("name", FORGERIES)
def test_a_changed_event_is_a_divergence(name: str) -> None:
    """Each forgery is reported at its index, or where it first shows, with what was expected and found."""
    kind, number, change = FORGERIES[name]
    records = history(worked())
    index, event = at(records, kind, number)
    report: Replay = replay(rewritten(records, {index: event._replace(**change)}))
    assert report.divergences
    first = report.divergences[0]
    assert first.index >= index - 1
    assert first.expected != first.found


@pytest.mark.parametrize(
    "kind", [events.AuthorizationDecided, events.ExecutionStarted, events.ProtocolValidated, events.ExecutionFinished]
)
def test_a_removed_event_is_a_divergence(kind: type[Event]) -> None:
    """What a batch must hold cannot be left out."""
    records = history(worked())
    index, _ = at(records, kind)
    assert replay(rewritten(records, {index: None})).divergences


def appended(records: list[Record], *batches: list[Event]) -> list[Record]:
    """The history with further appends, as one who holds the key could write them."""
    longer = list(records)
    for batch in batches:
        for number, event in enumerate(batch, 1):
            flags = FLAG_BATCH_END if number == len(batch) else 0
            longer.append(longer[-1]._replace(index=longer[-1].index + 1, payload=encode(event), flags=flags))
    return longer


def in_flight(node: Simulated) -> None:
    """A started execution without a result, and a run that waits for its brain."""
    node.authority.perform(commands.SubmitIntent("started", json.dumps(call("fs.read", path="a")).encode()))
    node.authority.perform(commands.StartRun("run", "waiting", "lines", "test", "agent", b"go"))


RESTARTED = [events.RuntimeStarted("boot 2", "test", "python", "open", 1)]
FINISHED = events.ExecutionFinished("started", "success", b"{}", "", "", "", 0, 1, 2, 2, "")
INVENTED: dict[str, list[list[Event]]] = {
    "a run that just ends": [[events.RunEnded("run", "interrupted", "the process ended")]],
    "an unknown outcome without a crash": [
        [
            events.OutcomeUnknown("started", UNKNOWN_REASON),
            events.ExecutionFailed(
                "started", "CAPABILITY_EXECUTING", "outcome_unknown", Category.RUNTIME.value, Severity.WARNING.value,
                "OUTCOME_UNKNOWN", UNKNOWN_REASON,
            ),
        ]
    ],
    "a result that an earlier process brings": [RESTARTED, [FINISHED, events.ExecutionCompleted("started", "success")]],
    "an answer to an earlier process": [
        RESTARTED,
        [events.InferenceReceived("waiting", b"{", "0" * 64, ())],
    ],
    "half of an append": [[FINISHED], RESTARTED],
}  # fmt: skip


@pytest.mark.invariant("I6", "I7")
@pytest.mark.parametrize("name", INVENTED)
def test_what_the_key_holder_invents_about_crashes_is_a_divergence(name: str) -> None:
    """A crash closes only what an earlier start began, and only that way; nobody else's word closes anything."""
    node = Simulated()
    in_flight(node)
    records = history(node)
    assert replay(records).divergences == ()
    report = replay(appended(records, *INVENTED[name]))
    assert report.divergences
    assert report.divergences[0].index > records[-1].index


@pytest.mark.invariant("I6")
def test_appends_must_be_whole() -> None:
    """An event moved from one append into the next is found although every event is the right one, in order."""
    records = history(worked())
    index, _ = at(records, events.ExecutionCompleted)
    moved = [r._replace(flags=r.flags & ~FLAG_BATCH_END) if r.index == index - 1 else r for r in records]
    assert replay(moved).divergences == ()  # it was no end before
    ends = [r.index for r in records if r.flags & FLAG_BATCH_END and r.index > 8]
    for end in ends[:5]:
        cut = [r._replace(flags=r.flags ^ FLAG_BATCH_END) if r.index == end else r for r in records]
        assert replay(cut).divergences, f"the end at {end}"
        told = Record(0, 1, 0, KIND_RECOVERED, b"", b"", b"")
        interrupted = [each for r in cut for each in ((r, told) if r.index == end else (r,))]
        assert replay(interrupted).divergences, f"nothing but a cut at {end}"
    middle = next(r.index for r in records if not r.flags & FLAG_BATCH_END)
    split = [r._replace(flags=r.flags | FLAG_BATCH_END) if r.index == middle else r for r in records]
    assert replay(split).divergences


@pytest.mark.invariant("I5")
def test_an_effect_without_a_cause_is_a_divergence() -> None:
    """A start that no decision led to is found even in a log whose chain is whole."""
    node = worked()
    forged = events.ExecutionStarted("e-forged", "shell", "m", "c", "k")
    extra = history(node)[-1]._replace(index=node.log.size + 1, payload=encode(forged))
    report = replay([*history(node), extra])
    assert [d.index for d in report.divergences] == [extra.index] * len(report.divergences)
    assert report.divergences


def test_another_policy_lists_the_flips() -> None:
    """Counterfactual replay names each decision that would change, and keeps the recorded history."""
    node = worked()
    stricter = '@id("list") permit (principal, action == Action::"fs.list", resource);'
    report = replay(history(node), policy=stricter)
    assert report.divergences == ()
    assert report.state_hash == state_hash(node.state)
    assert {(flip.claw, flip.recorded, flip.derived) for flip in report.flips} == {
        ("fs.read", "AUTHORIZED", "DENIED_POLICY_VIOLATION"),
        ("fs.write", "AUTHORIZED", "DENIED_POLICY_VIOLATION"),
        ("shell", "AUTHORIZED", "DENIED_POLICY_VIOLATION"),
    }


@pytest.mark.invariant("I6")
@pytest.mark.requirement("STORAGE-2.3", "EXEC-6.1")
def test_two_nodes_with_the_same_inputs_write_the_same_bytes() -> None:
    """Fixed clock and ids: the two logs are equal byte for byte."""
    assert worked().storage.records == worked().storage.records


@pytest.mark.invariant("I7")
@pytest.mark.requirement("STATE-9.1")
def test_crash_rules_close_what_was_cut() -> None:
    """A started execution becomes OUTCOME_UNKNOWN, a waiting one is interrupted, its run too; none is run again."""
    node = Simulated()
    node.authority.perform(commands.SubmitIntent("started", json.dumps(call("fs.read", path="a")).encode()))
    node.authority.perform(commands.StartRun("run", "waiting", "lines", "test", "agent", b"go"))
    reached = len(node.isolation.calls)
    restarted = fold_records(EMPTY, history(node))
    from femtoclaw.crash_rules import interrupted

    executions, runs = interrupted(restarted)
    assert (executions, runs) == (["started", "waiting"], ["run"])
    node.authority.perform(commands.StartRuntime("boot 2", "test", "python", "open"))
    first = node.authority.perform(commands.ResolveInterrupted("started")).events
    second = node.authority.perform(commands.ResolveInterrupted("waiting")).events
    node.authority.perform(commands.EndRun("run"))
    assert [type(event).__name__ for event in first] == ["OutcomeUnknown", "ExecutionFailed"]
    assert [type(event).__name__ for event in second] == ["ExecutionFailed"]
    assert len(node.isolation.calls) == reached
    assert interrupted(node.state) == ([], [])
    assert replay(history(node)).divergences == ()


def test_state_and_snapshot_round_trip() -> None:
    """Decode inverts encode for a state with executions in flight; damage makes a snapshot unusable, never wrong."""
    node = worked()
    node.authority.perform(commands.StartRun("run", "waiting", "lines", "test", "agent", b"go"))
    state = node.state
    assert decode_state(encode_state(state)) == state
    raw = encode_snapshot(state, node.log.head)
    assert decode_snapshot(raw) == (state, node.log.head, state_hash(state))
    for position in range(0, len(raw), 7):
        damaged = raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :]
        assert decode_snapshot(damaged) is None
