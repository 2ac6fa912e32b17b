"""Texts of a subject in runs, digests, blobs, held calls, after crashes and under other policies."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from femtoclaw import counterfactual, events
from femtoclaw.event_codec import decode
from femtoclaw.memory import TURN_CHARACTERS_MAX
from femtoclaw.protocol import canonical_args
from femtoclaw.runtime import INPUT_BYTES_MAX, RESULT_INLINE_BYTES_MAX
from femtoclaw.sealing import NoSubjectKeyError
from tests.femtoclaw.controlled import verdict
from tests.femtoclaw.sealed_node import BOTH, PHRASE, SEALER, Digesting, Sealed, payloads, worked
from tests.femtoclaw.simulated import CountingIsolation, Simulated
from tests.femtoclaw.test_loop import SAY, Lines, call
from tests.femtoclaw.test_replay import at, history, rewritten
from wal import KIND_EVENT, Record
from wal.blob import read_blob

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.just("x" * (TURN_CHARACTERS_MAX + 10)),
    st.just("\u20ac" * 4000),
)


ANSWERS = st.one_of(
    st.binary(max_size=30),
    st.just(b"\xff\xfe"),
    st.just(b""),
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace")),
)


RESULTS = st.one_of(TEXTS, st.sampled_from(["\ud800", "a\udfffb", "", "\x00"]))


@settings(max_examples=30)
@given(TEXTS, st.lists(ANSWERS, max_size=2), RESULTS)
def test_a_run_goes_the_same_way_sealed_or_not(text: str, answers: list[bytes], result: str) -> None:
    """Whatever is said, empty, long, no UTF-8 or half of a surrogate pair: brain, claw and caller see the same, as long
    as memory holds it all (it counts what is recorded, and sealed texts are longer)."""
    seen = []
    for subject in ("", "alice"):
        isolation = CountingIsolation(lambda tool, args: {"text": result})
        node = Sealed(isolation)
        ended, brain = node.say(subject, *answers, call("fs.read", path="a"), SAY, text=text)
        seen.append((ended, brain.seen, isolation.calls))
        assert node.replayed("alice").divergences == node.replayed().divergences == ()
    assert seen[0] == seen[1]


def test_the_longest_texts_have_room_sealed() -> None:
    """The longest input, the longest result that is recorded in place, and memory that is over its bound."""
    results = iter(["y" * (RESULT_INLINE_BYTES_MAX - 20)] * 6)
    node = Sealed(CountingIsolation(lambda tool, args: {"text": next(results)}))
    ended, brain = node.say("alice", *[call("fs.read", path="a")] * 6, SAY, text="z" * INPUT_BYTES_MAX)
    assert ended.outcome == "answered"
    assert brain.seen[0].turns[0].content.startswith("z" * TURN_CHARACTERS_MAX + "\n[")
    assert all(len(turn.content) < TURN_CHARACTERS_MAX + 100 for context in brain.seen for turn in context.turns)
    assert node.replayed("alice").divergences == node.replayed().divergences == ()


def lived(pin: str, subject: str) -> Sealed:
    """A history in which a PIN is said, passed to a claw, found in a short and in a long result, denied and held."""
    long = RESULT_INLINE_BYTES_MAX
    node = Sealed(Digesting(lambda tool, args: {"pin": args.get("path", ""), "pad": "x" * long * (tool == "fs.list")}))
    read, listed = call("fs.read", path=pin), call("fs.list", path=pin)
    node.say(subject, read, listed, call("shell", bin="x", argv=[pin]), {"message": {"content": pin}}, text=pin)
    node.call_of(subject, "fs.read", path=pin)
    node.call_of(subject, "fs.write", path=pin, content=pin, mode="create")
    return node


def digests(node: Simulated) -> set[str]:
    """Every digest that the records hold: of calls, inputs, outputs, contexts, states, and the names of blobs."""
    return set(re.findall(r"[0-9a-f]{64}", payloads(node).decode("latin-1")))


def guessed(node: Simulated, pins: list[str]) -> list[str]:
    """The PINs that a reader of the whole log confirms: by living the same life with each guess, ids, times and policies
    being on record, and by the digests of the texts themselves."""
    found = digests(node)
    known = digests(lived("none", ""))
    confirmed = []
    for pin in pins:
        args = canonical_args({"path": pin})
        told = [
            pin.encode(),
            args,
            json.dumps(call("fs.read", path=pin)).encode(),
            b'{"pad":"","pin":"%s"}' % pin.encode(),
        ]
        tried = digests(lived(pin, "")) | {blake3(raw).hexdigest() for raw in told}
        if (tried - known) & found:
            confirmed.append(pin)
    return confirmed


@pytest.mark.invariant("I8")
def test_a_pin_cannot_be_guessed_from_any_digest() -> None:
    """The guesser finds it where nobody is the subject, from one digest of each kind at least; with one, from none."""
    pins = [f"pin-{number:04}" for number in range(4200, 4204)]
    plain, sealed = lived("pin-4202", ""), lived("pin-4202", "alice")
    assert guessed(plain, pins) == ["pin-4202"]
    assert guessed(sealed, pins) == []
    for node, expected in ((plain, True), (sealed, False)):
        told = digests(lived("pin-4202", "")) - digests(lived("none", ""))
        for kind, field in DIGESTS.items():
            values = {getattr(decode(r.payload), field) for r in node.log.scan() if _is(r, kind)} - {""}
            assert values
            assert bool(values & told) == expected, field


DIGESTS: dict[type[events.Event], str] = {
    events.ProtocolValidated: "call_digest",
    events.AuthorizationDecided: "inputs_digest",
    events.ApprovalRequested: "call_digest",
    events.ExecutionFinished: "output_digest",
    events.InferenceReceived: "context_digest",
}


def _is(record: Record, kind: type[events.Event]) -> bool:
    return record.kind == KIND_EVENT and isinstance(decode(record.payload), kind)


@pytest.mark.invariant("I8")
def test_a_long_result_of_a_subject_is_a_sealed_blob() -> None:
    """Its name is the digest of what is stored, which opens to the result; the plain result's digest is nowhere."""
    node = lived("pin-1", "alice")
    finished = [
        event for r in node.log.scan() if isinstance(event := _event(r), events.ExecutionFinished) and event.blob
    ]
    (event,) = finished
    stored = read_blob(node.log.storage, event.blob)
    opened = SEALER.open(stored, "alice")
    assert json.loads(opened)["pin"] == "pin-1"
    assert blake3(opened).hexdigest() not in digests(node)
    assert b"pin-1" not in stored


def _event(record: Record) -> object:
    return decode(record.payload) if record.kind == KIND_EVENT else None


@pytest.mark.invariant("I8", "I7")
def test_a_held_call_is_approved_after_a_restart_with_its_key_only() -> None:
    """Without the key nothing is recorded and nothing runs; with it the very call that was asked for runs."""
    isolation = CountingIsolation()
    node = Sealed(isolation)
    brain = Lines(call("fs.write", path="reports/x", content=PHRASE, mode="create"))
    held = node.runtime.run(PHRASE, brain, source="t", agent="a", subject="alice").steps[-1].execution_id
    node.restart()
    node.keys.keys.clear()
    size = node.log.size
    with pytest.raises(NoSubjectKeyError):
        node.approve(held)
    assert (node.log.size, isolation.calls) == (size, [])
    node.keys.keys |= BOTH
    _, result = node.approve(held, brain=Lines(SAY))
    assert result is not None
    assert result.response == "done"
    assert [(tool, args["content"]) for tool, args, _ in isolation.calls] == [("fs.write", PHRASE)]
    assert PHRASE.encode() not in payloads(node)
    assert node.replayed("alice").divergences == node.replayed().divergences == ()


@pytest.mark.invariant("I7", "I8")
def test_the_crash_rules_close_a_subjects_executions_without_a_key() -> None:
    """What was cut in the middle of a claw is OUTCOME_UNKNOWN, what had not begun is interrupted; a start needs no key."""

    class Killed(BaseException):
        pass

    def kill(tool: str, args: Mapping[str, Any]) -> dict[str, Any]:
        raise Killed

    node = Sealed(CountingIsolation(kill))
    for act in (
        lambda: node.say("alice", call("fs.read", path=PHRASE)),
        lambda: node.call_of("alice", "fs.read", path=PHRASE),
    ):
        with pytest.raises(Killed):
            act()
        node.keys.keys.clear()
        node.restart()
        node.keys.keys |= BOTH
        assert not node.state.live.executions
        assert not node.state.live.runs
        assert node.state.live.recent[-1].outcome == "outcome_unknown"
    assert node.replayed("alice").divergences == node.replayed().divergences == ()
    assert verdict(node.control("data.erase", "alice", {"reason": ""}))[0] == "AUTHORIZED"


@pytest.mark.invariant("I8")
def test_counterfactuals_judge_what_can_be_opened() -> None:
    """With the keys every call, also those that memory decides; without them nobody's, and the others are counted. A
    forged text is no sealed one."""
    node = worked()
    every = '@id("tainted") permit (principal, action, resource) when { context.origin.tainted };'
    with_keys = counterfactual.compare(node.log.scan(), None, every, SEALER)
    without = counterfactual.compare(node.log.scan(), None, every)
    assert (with_keys["sealed"], without["decisions"]) == (0, 1)
    assert with_keys["decisions"] == 1 + 2 * 3 + 3
    assert without["sealed"] > 0
    assert len(with_keys["flips"]) > len(without["flips"])
    assert counterfactual.verify(with_keys, node.log.scan(), SEALER) == []
    assert "decisions" in counterfactual.verify(with_keys, node.log.scan())
    records = history(node)
    index, event = at(records, events.InferenceReceived)
    forged = rewritten(records, {index: event._replace(raw=b"{}")})  # type: ignore[union-attr]
    with pytest.raises(counterfactual.SecurityError):
        counterfactual.compare(forged, None, every, SEALER)
