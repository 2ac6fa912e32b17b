"""The loop over real engines and a real log in memory: order, commits, decisions, what never happens."""

from __future__ import annotations

import itertools
import json
import threading
from typing import Any

import pytest

from femtoclaw import brains, commands, events
from femtoclaw.authority import ENGINE_CHECK_COMMANDS, Recorded
from femtoclaw.brains import Context, Thought
from femtoclaw.claws import SHIPPED
from femtoclaw.decide import CommandError
from femtoclaw.errors import CapabilityError, ConfigurationError, SecurityError, UnavailableError
from femtoclaw.gate import Gate, Grant
from femtoclaw.isolation.outcome import OutcomeUnknownError
from femtoclaw.lifecycle import RuntimeState
from femtoclaw.replay import replay
from femtoclaw.runtime import ResultLostError, Runtime
from tests.femtoclaw.simulated import CountingIsolation, Simulated
from wal import LogError
from wal.errors import LogFullError


class Lines:
    """A brain that answers with the given messages in turn."""

    name = "lines"

    def __init__(self, *messages: Any) -> None:
        self.messages = [m if isinstance(m, bytes) else json.dumps(m).encode() for m in messages]
        self.seen: list[Context] = []

    def think(self, context: Context) -> Thought:
        self.seen.append(context)
        return Thought(self.messages[len(self.seen) - 1], {})


def call(tool: str, **args: Any) -> dict[str, Any]:
    return {"tool_call": {"tool": tool, "args": args}}


SAY = {"message": {"content": "done"}}


def run(node: Simulated, *messages: Any) -> Any:
    return node.runtime.run("go", Lines(*messages), source="test", agent="agent")


@pytest.mark.invariant("I1")
@pytest.mark.requirement("WHITE-4.1", "WHITE-2.1")
def test_nothing_reaches_a_claw_before_its_start_is_durable() -> None:
    """When the claw runs, intent, verdicts and start are already in the storage; its result is not yet."""
    node = Simulated()
    seen: list[list[str]] = []

    def look(tool: str, args: dict[str, Any]) -> dict[str, Any]:
        from femtoclaw.event_codec import decode
        from wal.record import decode as decode_record

        kinds = [type(decode(decode_record(raw).payload)).__name__ for i, raw in node.storage.records.items() if i > 1]
        seen.append(kinds[-5:])
        return {}

    node.isolation.answer = look
    assert node.intent("fs.read", path="a").outcome == "success"
    assert seen == [
        ["RuntimeStarted", "InputReceived", "ProtocolValidated", "AuthorizationDecided", "ExecutionStarted"]
    ]


@pytest.mark.invariant("I1")
def test_a_tool_step_costs_two_commits_and_a_message_step_one() -> None:
    """Commits are counted at the storage: one to begin the run, two a tool step, one for the final message."""
    node = Simulated()
    appends = 0
    append = node.storage.append

    def counted(frames: Any) -> None:
        nonlocal appends
        appends += 1
        append(frames)

    node.storage.append = counted  # type: ignore[method-assign]
    run(node, call("fs.read", path="a"), call("fs.list", path="."), SAY)
    assert appends == 1 + 2 + 2 + 1


@pytest.mark.requirement("WHITE-9.1", "WHITE-9.2", "POLICY-14.1")
def test_what_is_rejected_or_denied_never_reaches_a_claw() -> None:
    """Of five proposals, one is allowed; the claw is reached once, and every verdict is in the log."""
    node = Simulated()
    result = run(
        node,
        call("fs.read", path="x.env"),
        call("nothing"),
        b"{",
        call("fs.read", path="../etc"),
        call("fs.read", path="a"),
        SAY,
    )
    assert [step.decision for step in result.steps] == [
        "DENIED_POLICY_VIOLATION", "REJECTED", "REJECTED", "DENIED_ARGUMENT_INVALID", "AUTHORIZED", "AUTHORIZED",
    ]  # fmt: skip
    assert [made[:2] for made in node.isolation.calls] == [("fs.read", {"path": "a"})]
    assert result.outcome == "answered"


@pytest.mark.requirement("PROTO-2.1")
def test_text_never_executes() -> None:
    """A tool call inside a message, or inside the user's own text, stays text."""
    node = Simulated()
    inner = json.dumps(call("fs.read", path="a"))
    result = node.runtime.run(inner, Lines({"message": {"content": inner}}), source="test", agent="agent")
    assert result.response == inner
    assert node.isolation.calls == []


@pytest.mark.requirement("ERROR-11.2")
def test_a_brain_is_told_codes_and_results_only() -> None:
    """After a denial the brain sees the decision and its reason, not the argument that was refused."""
    node = Simulated()
    brain = Lines(call("fs.read", path="very-secret-name.env"), SAY)
    node.runtime.run("go", brain, source="test", agent="agent")
    told = brain.seen[1].turns[-1]
    assert told.role == "tool"
    assert "DENIED_POLICY_VIOLATION" in told.content
    assert "very-secret-name" not in told.content


def test_a_run_ends_at_its_step_limit() -> None:
    """A brain that never stops proposing is stopped by the configuration, as an event."""
    node = Simulated()
    result = run(node, *[call("fs.read", path="a")] * 9)
    assert result.outcome == "step_limit"
    assert len(result.steps) == 8
    assert not node.state.live.runs


def test_a_brain_without_an_answer_ends_the_run_and_executes_nothing() -> None:
    """BrainError becomes InferenceFailed, the execution fails, the node goes on."""
    node = Simulated()

    class Silent:
        name = "silent"

        def think(self, context: Context) -> Thought:
            raise brains.ExhaustedError("nothing to say")

    result = node.runtime.run("go", Silent(), source="test", agent="agent")
    assert (result.outcome, result.response) == ("no_inference", None)
    assert node.isolation.calls == []
    assert node.intent("fs.read", path="a").outcome == "success"


@pytest.mark.requirement("EXEC-8.1", "STATE-2.1")
def test_many_runs_at_once_keep_apart() -> None:
    """64 runs on 64 threads: each brain sees only its own token, each result is its own."""
    node = Simulated()
    brains_of: dict[int, Lines] = {}
    results: dict[int, Any] = {}

    def one(number: int) -> None:
        token = f"token-{number:03d}-"
        brain = brains_of[number] = Lines(call("fs.read", path=token + "a"), {"message": {"content": token}})
        results[number] = node.runtime.run(token, brain, source="test", agent="agent")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, brain in brains_of.items():
        token = f"token-{number:03d}-"
        assert results[number].response == token
        assert all(token in turn.content for context in brain.seen for turn in context.turns if turn.role == "user")
        others = [turn.content for context in brain.seen for turn in context.turns if "token-" in turn.content]
        assert all(token in text for text in others)
    assert not node.state.live.executions


@pytest.mark.invariant("I5")
@pytest.mark.requirement("POLICY-3.1")
def test_a_grant_works_once_for_its_own_call_only() -> None:
    """Forged, spent and diverted grants are SecurityErrors, and the claw is not reached."""
    node = Simulated()
    recorded = node.authority.perform(commands.SubmitIntent("e1", json.dumps(call("fs.read", path="a")).encode()))
    _, _, decided, started = recorded.events
    assert isinstance(decided, events.AuthorizationDecided)
    assert isinstance(started, events.ExecutionStarted)
    fixed = node.authority.engines.engines(recorded.state.node)
    manifest = fixed.manifests["fs.read"]
    gate = Gate(node.isolation, lambda: node.state)
    with pytest.raises(SecurityError, match="forged"):
        gate.dispatch(Grant("e1", started.call_digest, 1), manifest, {"path": "a"}, {})
    grant = gate.grant(recorded)
    with pytest.raises(SecurityError, match="not the one"):
        gate.dispatch(grant, manifest, {"path": "b"}, {})
    with pytest.raises(SecurityError, match="spent"):
        gate.dispatch(grant, manifest, {"path": "a"}, {})
    assert node.isolation.calls == []
    with pytest.raises(SecurityError, match="one grant"):
        gate.grant(recorded)


def test_a_grant_needs_a_durable_authorized_start_in_flight() -> None:
    """Whatever is not the authority's own record of an authorized start, still in flight, mints nothing."""
    node = Simulated()
    recorded = node.authority.perform(commands.SubmitIntent("e1", json.dumps(call("fs.read", path="a")).encode()))
    decided, started = recorded.events[-2:]
    gate = Gate(node.isolation, lambda: node.state)

    def ending(*end: Any) -> Recorded:
        return recorded._replace(events=(*recorded.events[:-2], *end))

    with pytest.raises(SecurityError, match="denied"):
        gate.grant(ending(decided._replace(decision="DENIED_POLICY_VIOLATION"), started))
    with pytest.raises(SecurityError, match="different calls"):
        gate.grant(ending(decided, started._replace(call_digest="0" * 64)))
    with pytest.raises(SecurityError, match="not one in flight"):
        other = {"execution_id": "e2"}
        gate.grant(ending(decided._replace(**other), started._replace(**other)))
    with pytest.raises(SecurityError, match="no execution was started"):
        gate.grant(ending(started, decided))
    with pytest.raises(SecurityError, match="not durable"):
        gate.grant(recorded._replace(events=recorded.events[1:]))
    node.authority.perform(commands.RecordOutcome("e1", "success", b"{}", "", "", "", 0, 1, 2, 2, "", "e3"))
    with pytest.raises(SecurityError, match="not one in flight"):
        gate.grant(recorded)
    assert node.isolation.calls == []


@pytest.mark.invariant("I4")
@pytest.mark.requirement("STORAGE-21.1", "STATE-10.1")
def test_after_a_failed_commit_nothing_is_executed_or_answered() -> None:
    """The storage fails at the start's commit: no claw is reached, and every later command is refused."""
    node = Simulated()

    def broken(frames: Any) -> None:
        raise OSError(5, "Input/output error")

    node.storage.append = broken  # type: ignore[method-assign]
    with pytest.raises(LogError):
        node.intent("fs.read", path="a")
    assert node.isolation.calls == []
    with pytest.raises(UnavailableError, match="stopped"):
        node.intent("fs.read", path="a")


@pytest.mark.invariant("I4")
def test_a_full_log_stops_the_authority_and_what_was_queued_behind_it() -> None:
    """No room for one command: it and those already decided on top of it are refused, nothing of them is recorded,
    no later command is taken, and replay of the log is whole."""
    node = Simulated()
    append, before = node.storage.append, node.log.size

    def full(frames: Any) -> None:
        raise LogFullError("no room")

    node.storage.append = full  # type: ignore[method-assign]
    with pytest.raises(LogFullError):
        node.intent("fs.read", path="a")
    node.storage.append = append  # type: ignore[method-assign]
    upon = node.log.enqueue([b"decided before the refusal was known"], after=node.authority._last)
    with pytest.raises(LogFullError):
        node.log.settle(upon)
    with pytest.raises(UnavailableError, match="no room"):
        node.intent("fs.read", path="b")
    assert node.log.size == before
    assert node.isolation.calls == []
    assert replay(node.log.scan()).divergences == ()


def test_room_for_results_is_kept_and_new_work_refused() -> None:
    """With only the reserve left, no input is recorded and nothing starts; what was begun is finished; with room again
    work goes on in the same process."""
    node = Simulated()
    begun = node.authority.perform(commands.SubmitIntent("e1", json.dumps(call("fs.read", path="a")).encode()))
    assert isinstance(begun.events[-1], events.ExecutionStarted)
    node.storage.room = lambda: 0  # type: ignore[method-assign]
    before = node.log.size
    for refused in (lambda: node.intent("fs.read", path="b"), lambda: run(node, SAY)):
        with pytest.raises(LogFullError, match="new work"):
            refused()
    assert node.log.size == before
    node.authority.perform(commands.RecordOutcome("e1", "success", b"{}", "", "", "", 0, 1, 2, 2, "", "e3"))
    del node.storage.room  # type: ignore[method-assign]
    assert node.intent("fs.read", path="b").outcome == "success"


@pytest.mark.invariant("I1", "I7")
def test_a_result_that_cannot_be_recorded_is_told_as_such() -> None:
    """The claw was reached and the log failed afterwards: exit 5 with the execution's id, never "nothing happened"."""
    node = Simulated()
    append = node.storage.append

    def look(tool: str, args: dict[str, Any]) -> dict[str, Any]:
        def full(frames: Any) -> None:
            raise LogFullError("no room")

        node.storage.append = full  # type: ignore[method-assign]
        return {}

    node.isolation.answer = look
    with pytest.raises(ResultLostError) as caught:
        node.intent("fs.read", path="a")
    assert caught.value.exit_code == 5
    (in_flight,) = node.log_state().live.executions
    assert in_flight in caught.value.where
    node.storage.append = append  # type: ignore[method-assign]


@pytest.mark.invariant("I5")
def test_a_breach_of_the_gate_is_recorded_and_ends_all_work() -> None:
    """A SecurityError leaves an ErrorRecorded in the log, is what the caller sees, and no command is taken after it."""
    node = Simulated()

    def breach(recorded: Recorded) -> Grant:
        raise SecurityError("a start is good for one grant", where="e1")

    node.gate.grant = breach  # type: ignore[method-assign]
    with pytest.raises(SecurityError, match="one grant"):
        node.intent("fs.read", path="a")
    told = node.recorded[-1].events[0]
    assert isinstance(told, events.ErrorRecorded)
    assert (told.subsystem, told.detail) == ("gate", "a start is good for one grant")
    assert node.isolation.calls == []
    with pytest.raises(UnavailableError, match="security"):
        node.intent("fs.read", path="a")


class Failing(CountingIsolation):
    """An isolation that raises."""

    error: Exception = RuntimeError("defect")

    def run(self, *args: Any, **kwargs: Any) -> Any:
        raise self.error


@pytest.mark.invariant("I7")
@pytest.mark.parametrize(
    "error,outcome",
    [
        (RuntimeError("a defect of ours"), "outcome_unknown"),
        (OutcomeUnknownError("nobody reported the claw's end"), "outcome_unknown"),
        (CapabilityError("no process could be had"), "unavailable"),
    ],
)
def test_every_started_execution_gets_an_outcome(error: Exception, outcome: str) -> None:
    """Whatever the isolation raises becomes what is known about the execution; the run goes on, replay agrees."""
    isolation = Failing()
    isolation.error = error
    node = Simulated(isolation=isolation)
    assert node.intent("fs.read", path="a").outcome == outcome
    result = run(node, call("fs.read", path="a"), SAY)
    assert [step.outcome for step in result.steps] == [outcome, "answered"]
    assert not node.state.live.executions
    assert replay(node.log.scan()).divergences == ()


def test_a_brain_with_a_defect_ends_its_run_only() -> None:
    """An exception that is no BrainError is recorded by its type, without its text."""
    node = Simulated()

    class Broken(Lines):
        def think(self, context: Context) -> Thought:
            raise KeyError("a secret in a defect's text")

    result = node.runtime.run("go", Broken(), source="test", agent="agent")
    assert result.outcome == "no_inference"
    failed = next(e for r in node.recorded for e in r.events if isinstance(e, events.InferenceFailed))
    assert (failed.code, failed.detail) == ("BRAIN_DEFECT", "the brain failed with KeyError")
    assert run(node, SAY).outcome == "answered"


def test_who_watches_a_run_cannot_break_it() -> None:
    """A listener that raises after the durable start is dropped; the claw runs and its outcome is recorded."""
    node = Simulated()

    def listen(recorded: Recorded) -> None:
        raise BrokenPipeError

    runtime = Runtime(node.log, node.authority, node.gate, node.sources, concurrency_max=4, listener=listen)
    result = runtime.run("go", Lines(call("fs.read", path="a"), SAY), source="test", agent="agent")
    assert result.outcome == "answered"
    assert len(node.isolation.calls) == 1


def test_a_manifest_that_the_gate_could_not_judge_is_not_registered() -> None:
    """Two path targets on one claw: policy would see only one of them. Refused, and nothing is recorded."""
    node = Simulated()
    two = SHIPPED[0]._replace(name="fs.copy", targets={"path": "path", "to": "path"})
    before = node.log.size
    with pytest.raises(ConfigurationError):
        node.authority.perform(commands.RegisterClaw(two.canonical()))
    assert node.log.size == before
    assert node.intent("fs.read", path="a").outcome == "success"


@pytest.mark.requirement("POLICY-11.1")
def test_a_fresh_node_denies_every_claw() -> None:
    """With nothing enabled each shipped claw is denied as disabled, whatever policy permits."""
    permit_all = '@id("all") permit (principal, action, resource);'
    node = Simulated(policy=permit_all, settings={})
    calls = {
        "fs.read": {"path": "a"},
        "fs.list": {"path": "a"},
        "fs.write": {"path": "a", "content": "", "mode": "create"},
        "shell": {"bin": "echo"},
    }
    for tool, args in calls.items():
        assert node.intent(tool, **args).decision == "DENIED_CAPABILITY_DISABLED"
    assert node.isolation.calls == []


def test_commands_that_make_no_sense_are_refused_and_not_recorded() -> None:
    """A result for an execution that is not executing changes nothing."""
    node = Simulated()
    size = node.log.size
    outcome = commands.RecordOutcome("nobody", "success", b"", "", "", "", 0, 0, 0, 0, "", "n")
    with pytest.raises(CommandError, match="not in the state"):
        node.authority.perform(outcome)
    assert node.log.size == size


@pytest.mark.requirement("STATE-7.1", "STATE-8.1", "STATE-9.1", "STATE-18.1")
def test_every_execution_walks_the_published_states() -> None:
    """The transitions that follow from the events link up from IDLE to IDLE on each of the paths."""
    from femtoclaw.lifecycle import LEGAL, path

    node = Simulated()
    run(node, call("fs.read", path="a"), call("fs.read", path="a.env"), b"[]", SAY)
    node.intent("fs.read", path="b")
    walks: dict[str, list[RuntimeState]] = {}
    for recorded in node.recorded:
        for event in recorded.events:
            execution_id = getattr(event, "execution_id", "")
            if execution_id:
                walk = walks.setdefault(execution_id, [RuntimeState.IDLE])
                walk.extend(path(event, walk[-1]))
    assert len(walks) == 5
    for walk in walks.values():
        assert walk[0] is walk[-1] is RuntimeState.IDLE
        assert all(after in LEGAL[before] for before, after in itertools.pairwise(walk))


@pytest.mark.requirement("EXEC-4.7")
def test_a_large_result_goes_to_a_blob_and_comes_back_whole() -> None:
    """Over the inline bound the record holds the hash; the blob holds every byte."""
    node = Simulated(isolation=CountingIsolation(lambda tool, args: {"data": "z" * 300_000}))
    step = node.intent("fs.read", path="a")
    from wal.blob import read_blob

    raw = read_blob(node.storage, step.result["blob"])
    assert json.loads(raw) == {"data": "z" * 300_000}


@pytest.mark.requirement("POLICY-18.1")
def test_a_policy_engine_that_was_changed_in_memory_stops_everything() -> None:
    """At the next look the change is recorded as critical, and no command is taken any more."""
    node = Simulated()
    engine = node.authority.engines.engines(node.state.node).policy()
    assert engine is not None
    object.__setattr__(engine, "digest", "f" * 64)
    with pytest.raises(SecurityError, match="not the one that was loaded"):
        for _ in range(ENGINE_CHECK_COMMANDS + 1):
            node.intent("fs.read", path="a")
    told = [event for recorded in node.recorded for event in recorded.events if isinstance(event, events.ErrorRecorded)]
    assert [(event.code, event.severity) for event in told] == [("POLICY_ENGINE_CHANGED", "CRITICAL")]
    with pytest.raises(UnavailableError):
        node.intent("fs.read", path="a")
