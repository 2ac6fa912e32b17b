"""Texts of a subject, forged: divergences for who has the key; nothing of an erased subject can follow."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from blake3 import blake3

from femtoclaw import events
from femtoclaw.errors import CommandError
from femtoclaw.event_codec import encode
from femtoclaw.replay import replay
from femtoclaw.sealing import MAGIC, Sealer
from tests.femtoclaw.controlled import verdict
from tests.femtoclaw.sealed_node import PHRASE, SEALER, Digesting, Keys, Sealed
from tests.femtoclaw.simulated import CountingIsolation
from tests.femtoclaw.test_loop import SAY, call
from tests.femtoclaw.test_replay import at, history, rewritten
from wal import Record
from wal.record import FLAG_BATCH_END

Change = Callable[[Any], events.Event]
STRANGER = Sealer(Keys(alice=b"x" * 32))
FORGED: dict[str, tuple[type[events.Event], int, Change, bool]] = {
    "an answer left plain": (events.InferenceReceived, 0, lambda e: e._replace(raw=SEALER.open(e.raw, "alice")), True),
    "another plain one": (events.ProtocolValidated, 0, lambda e: e._replace(args=b"{}"), True),
    "an input left plain": (events.InputReceived, 0, lambda e: e._replace(content=b"hello"), True),
    "of another subject": (
        events.InferenceReceived, 0,
        lambda e: e._replace(raw=SEALER.seal(SEALER.open(e.raw, "alice"), "bob", f"{e.execution_id} x")), True,
    ),
    "under another key": (
        events.InferenceReceived, 0,
        lambda e: e._replace(raw=STRANGER.seal(b"{}", "alice", f"{e.execution_id} InferenceReceived.raw")), False,
    ),
    "another text under the right key": (
        events.ProtocolValidated, 0,
        lambda e: e._replace(args=SEALER.seal(b"{}", "alice", f"{e.execution_id} ProtocolValidated.args")), False,
    ),
    "the right text of another place": (
        events.ProtocolValidated, 0,
        lambda e: e._replace(args=SEALER.seal(SEALER.open(e.args, "alice"), "alice", "elsewhere")), False,
    ),
    "spelled another way": (
        events.InferenceReceived, 0, lambda e: e._replace(raw=e.raw + b"=" if e.raw[-1:] != b"=" else e.raw[:-1]), True,
    ),
    "a digest that tells the result": (
        events.ExecutionFinished, 0, lambda e: e._replace(output_digest=blake3(b"{}").hexdigest()), True,
    ),
    "a later input of nobody": (events.InputReceived, 1, lambda e: e._replace(subject="", content=b"hello"), True),
    "a later input of another": (
        events.InputReceived, 1,
        lambda e: e._replace(subject="bob", content=SEALER.seal(b"x", "bob", f"{e.execution_id} InputReceived.content")),
        True,
    ),
    "a later input that says nobody's": (events.InputReceived, 1, lambda e: e._replace(subject=""), True),
    "a later input that says another's": (events.InputReceived, 1, lambda e: e._replace(subject="bob"), True),
    "another context": (events.InferenceReceived, 1, lambda e: e._replace(context_digest="0" * 64), True),
    "another decision": (events.AuthorizationDecided, 0, lambda e: e._replace(reason="FORBIDDEN"), False),
    "another call's digest": (events.ProtocolValidated, 0, lambda e: e._replace(call_digest="0" * 64), True),
}  # fmt: skip
"""What a forger with the node's key changes in which event of alice's run, and whether it takes no key to find it."""


def append_of(records: list[Record], index: int) -> tuple[int, int]:
    """The indexes of the append that a record belongs to, from and up to."""
    ends = [record.index for record in records if record.flags & FLAG_BATCH_END]
    return max(end for end in ends if end < index) + 1, min(end for end in ends if end >= index) + 1


@pytest.mark.invariant("I8")
@pytest.mark.parametrize("name", FORGED)
def test_forged_texts_of_a_subject_are_divergences(name: str) -> None:
    """At the forged record, with the key; without it what the form tells."""
    kind, number, change, plain_to_see = FORGED[name]
    isolation = Digesting()
    node = Sealed(isolation)
    node.say("alice", call("fs.read", path=PHRASE), call("fs.read", path="b"), SAY)
    records = history(node)
    index, event = at(records, kind, number)
    forged = change(event)
    assert forged != event
    changed = list(rewritten(records, {index: forged}))
    of_its_append = range(*append_of(records, index))
    with_keys, without = replay(changed, sealer=SEALER).divergences, replay(changed).divergences
    assert with_keys[0].index in of_its_append
    assert PHRASE not in repr([with_keys, without])
    # What only a key tells may still be told later on, by a digest of something that followed.
    assert bool(without and without[0].index in of_its_append) == plain_to_see, without


@pytest.mark.invariant("I8")
def test_nothing_of_an_erased_subject_can_follow() -> None:
    """Neither asked for, nor written into the log by a forger: the fold refuses it without any key."""
    node = Sealed()
    node.say("alice", SAY)
    assert verdict(node.control("data.erase", "alice", {"reason": ""}))[0] == "AUTHORIZED"
    for act in (lambda: node.say("alice", SAY), lambda: node.call_of("alice", "fs.read", path="a")):
        with pytest.raises(CommandError):
            act()
    del node.keys.keys["alice"]
    assert node.replayed("bob").divergences == ()
    content = SEALER.seal(b"x", "alice", "e InputReceived.content")
    forged = (
        events.RunStarted("r", "b", "s", "a"),
        events.InputReceived("e", "r", 1, "user", content, "user", 0, "alice"),
    )
    node.log.append([encode(event) for event in forged])
    assert [each.index for each in node.replayed("bob").divergences] == [node.log.size]


@pytest.mark.invariant("I8")
def test_an_erasure_waits_for_what_is_in_flight() -> None:
    """A held call of the subject needs its key to be settled: until then the erasure is refused, and recorded as that."""
    node = Sealed()
    held = node.call_of("alice", "fs.write", path="a", content="b", mode="create").execution_id
    assert verdict(node.control("data.erase", "alice", {"reason": ""})) == ("DENIED_POLICY_VIOLATION", "IN_FLIGHT")
    assert verdict(node.control("data.erase", "bob", {"reason": ""}))[0] == "AUTHORIZED"
    node.control("approval.refuse", held, {"reason": ""})
    assert verdict(node.control("data.erase", "alice", {"reason": ""}))[0] == "AUTHORIZED"
    assert node.replayed("alice", "bob").divergences == ()


SPOOFS = [
    SEALER.seal(b"secret of bob", "bob", "somewhere").decode(),
    SEALER.seal(b"secret of alice", "alice", "somewhere").decode(),
    MAGIC,
    f"{MAGIC}bob ",
    f"{MAGIC}bob AAAA",
    f"{MAGIC}../bob {'A' * 80}",
]


@pytest.mark.invariant("I8")
@pytest.mark.parametrize("subject", ["", "alice"])
@pytest.mark.parametrize("spoof", SPOOFS, ids=range(len(SPOOFS)))
def test_a_text_that_looks_sealed_is_a_text(subject: str, spoof: str) -> None:
    """Said by a user, a brain or a claw, in a run of nobody and in one of alice: passed on as it is, and never opened,
    though the keys are there."""
    isolation = CountingIsolation(lambda tool, args: {"said": spoof})
    node = Sealed(isolation)
    answered, brain = node.say(
        subject, call("fs.read", path=spoof), spoof.encode(), {"message": {"content": spoof}}, text=spoof
    )
    assert answered.response == spoof
    assert [call[1] for call in isolation.calls] == [{"path": spoof}]
    first, *_, last = brain.seen
    assert first.turns[0].content == spoof
    assert [
        json.loads(turn.content)["tool_result"]["result"] for turn in last.turns if "tool_result" in turn.content
    ] == [{"said": spoof}]
    assert last.turns[3].content == spoof
    assert "secret of" not in repr([answered, brain.seen, isolation.calls])
    assert node.replayed("alice", "bob").divergences == node.replayed().divergences == ()
