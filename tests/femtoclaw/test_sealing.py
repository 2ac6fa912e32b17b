"""Texts of a subject: sealed wherever they are recorded, derived again with their key, and gone without it (I8)."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from femtoclaw import commands, counterfactual, events
from femtoclaw.authority import Authority
from femtoclaw.errors import CommandError
from femtoclaw.event_codec import decode, encode
from femtoclaw.gate import Gate
from femtoclaw.isolation import Outcome
from femtoclaw.manifest import Manifest
from femtoclaw.memory import TURN_CHARACTERS_MAX
from femtoclaw.projections.derivation import Progress, take_all
from femtoclaw.protocol import canonical_args
from femtoclaw.replay import Replay, replay
from femtoclaw.restore import fold_records
from femtoclaw.runtime import INPUT_BYTES_MAX, RESULT_INLINE_BYTES_MAX, RunResult, Runtime
from femtoclaw.sealing import MAGIC, UNSEALED, NoSubjectKeyError, SealedError, Sealer
from femtoclaw.snapshot import encode_snapshot
from femtoclaw.state import EMPTY, state_hash
from tests.femtoclaw.controlled import HELD, Controlled, verdict
from tests.femtoclaw.simulated import CountingIsolation, Simulated
from tests.femtoclaw.test_loop import SAY, Lines, call
from tests.femtoclaw.test_replay import at, history, rewritten
from wal import KIND_EVENT, Record
from wal.blob import read_blob
from wal.record import FLAG_BATCH_END

SUBJECTS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,20}", fullmatch=True)
KEYS = st.binary(min_size=32, max_size=32)
PHRASE = "the-patient-has-gout"
POLICY = HELD + '\n@id("origin") forbid (principal, action, resource) when { context.origin.tainted && false };'
"""As ``HELD``, by a policy that asks where arguments come from: then deciding needs a run's memory opened."""


ANY = '@id("any") permit (principal, action, resource);'


class Keys:
    """Keys of subjects in memory."""

    def __init__(self, **keys: bytes) -> None:
        self.keys = keys

    def key(self, subject: str) -> bytes | None:
        return self.keys.get(subject)


BOTH = {"alice": b"a" * 32, "bob": b"b" * 32}


class Sealed(Controlled):
    """A node with the keys of alice and bob."""

    def __init__(self, isolation: CountingIsolation | None = None, policy: str = POLICY) -> None:
        super().__init__(policy=policy, isolation=isolation)
        self.keys = Keys(**BOTH)
        self.with_keys()

    def with_keys(self) -> None:
        self.authority = Authority(self.log, self.authority.state, self.recorded.append, Sealer(self.keys))
        self.gate = Gate(self.isolation, lambda: self.authority.state)
        self.runtime = Runtime(self.log, self.authority, self.gate, self.sources, concurrency_max=64)

    def restart(self, *words: Any, **more: Any) -> None:
        """The next start, which closes what was cut without any key."""
        super().restart(*words, **more)
        self.with_keys()

    def say(self, subject: str, *messages: Any, text: str = PHRASE) -> tuple[RunResult, Lines]:
        brain = Lines(*messages)
        return self.runtime.run(text, brain, source="test", agent="agent", subject=subject), brain

    def call_of(self, subject: str, tool: str, **args: Any) -> Any:
        return self.runtime.intent(json.dumps(call(tool, **args)).encode(), subject)

    def replayed(self, *subjects: str) -> Replay:
        """What replay finds with the keys of these."""
        return replay(self.log.scan(), sealer=Sealer(Keys(**{name: BOTH[name] for name in subjects})))


def worked() -> Sealed:
    """Runs and intents of alice, of bob and of nobody: done, denied, rejected, answered, held, approved and refused."""
    node = Sealed()
    messages = (
        call("fs.read", path=PHRASE),
        call("shell", bin="unknown", argv=[PHRASE]),
        f'{{"{PHRASE}":1'.encode(),
        {PHRASE: 1},
        call("fs.list", path=f"{PHRASE}/a"),
        {"message": {"content": PHRASE}},
    )
    node.say("alice", *messages)
    node.say("bob", *messages)
    node.say("", call("fs.read", path="plain"), SAY, text="plain")
    node.call_of("alice", "fs.read", path=PHRASE)
    for settle in ("approval.grant", "approval.refuse"):
        held = node.call_of("alice", "fs.write", path=PHRASE, content=PHRASE, mode="create").execution_id
        told = node.binding(held) if settle == "approval.grant" else {"reason": ""}
        node.runtime.control(node.ask(settle, held, told))
    node.authority.perform(commands.HashState())
    return node


def payloads(node: Simulated) -> bytes:
    return b"\n".join(record.payload for record in node.log.scan())


@given(st.binary(max_size=300), SUBJECTS, st.text(max_size=30), KEYS)
def test_what_was_sealed_opens_and_sealing_is_a_function(raw: bytes, subject: str, place: str, key: bytes) -> None:
    """open(seal(x)) == x; the same key, place and text give the same bytes, which are ASCII in one line."""
    sealer = Sealer(Keys(**{subject: key}))
    sealed = sealer.seal(raw, subject, place)
    assert sealer.open(sealed, subject) == raw
    assert Sealer(Keys(**{subject: key})).seal(raw, subject, place) == sealed
    assert re.fullmatch(rb"[ -~]+", sealed)
    assert len(raw) < 8 or raw not in sealed


@given(st.binary(max_size=100), st.text(max_size=10), st.text(max_size=10), KEYS, KEYS)
def test_another_place_or_key_gives_other_bytes(raw: bytes, place: str, other: str, key: bytes, another: bytes) -> None:
    """Also of the nonce: two places that hold the same text do not show that they do."""
    sealer, strange = Sealer(Keys(a=key, b=key)), Sealer(Keys(a=another))
    sealed = sealer.seal(raw, "a", place)
    if other != place:
        moved = sealer.seal(raw, "a", other)
        assert moved[len(MAGIC) + 2 :][:32] != sealed[len(MAGIC) + 2 :][:32]
    with pytest.raises(SealedError):
        sealer.open(sealed, "b")
    with pytest.raises(SealedError):
        sealer.open(sealed.replace(b" a ", b" b ", 1), "b")
    if key != another:
        assert strange.seal(raw, "a", place) != sealed
        with pytest.raises(SealedError):
            strange.open(sealed, "a")


@settings(max_examples=20)
@given(st.binary(max_size=40), st.data())
def test_every_flipped_bit_and_every_cut_is_refused(raw: bytes, data: st.DataObject) -> None:
    """There is one spelling of a sealed text: also what base64 would decode to the same bytes is refused."""
    sealer = Sealer(Keys(**BOTH))
    sealed = sealer.seal(raw, "alice", "place")
    for number in range(8 * len(sealed)):
        flipped = bytearray(sealed)
        flipped[number // 8] ^= 1 << number % 8
        with pytest.raises(SealedError):
            sealer.open(bytes(flipped), "alice")
    for end in range(len(sealed)):
        with pytest.raises(SealedError):
            sealer.open(sealed[:end], "alice")
    more = data.draw(st.binary(min_size=1, max_size=4))
    for other in (sealed + more, more + sealed, sealed.removeprefix(MAGIC.encode()), sealed.upper(), sealed + b"="):
        with pytest.raises(SealedError):
            sealer.open(other, "alice")


def test_without_a_key_it_is_said_that_there_is_none() -> None:
    """That is no finding; what is not sealed for the subject is one, with or without the key."""
    sealed = Sealer(Keys(**BOTH)).seal(b"x", "alice", "place")
    for act in (lambda: UNSEALED.open(sealed, "alice"), lambda: UNSEALED.salt("alice")):
        with pytest.raises(NoSubjectKeyError):
            act()
    with pytest.raises(SealedError) as plain:
        UNSEALED.open(b"x", "alice")
    assert not isinstance(plain.value, NoSubjectKeyError)
    assert UNSEALED.salt("") == b""


@pytest.mark.invariant("I8")
def test_no_text_of_a_subject_is_recorded_plain() -> None:
    """Neither in a record, nor in the state, a snapshot or a row of the projections; what nobody's is stays plain."""
    node = worked()
    opened = b"\n".join(encode(event) for recorded in node.recorded for event in recorded.events)
    assert opened.count(PHRASE.encode()) > 40
    state = node.log_state()
    rows = take_all(Progress(), node.log.scan())
    told = repr([rows.rows_of_executions(), rows.telemetry, rows.audit, rows.metadata])
    for where in (payloads(node), encode_snapshot(state, node.log.head), told.encode()):
        assert PHRASE.encode() not in where
        assert base64.b64encode(PHRASE.encode())[:-4] not in where
    assert b"plain" in payloads(node)


@pytest.mark.invariant("I8", "I6")
def test_the_fold_needs_no_key() -> None:
    """State, hash and snapshot are the same with every key, with one, and with none."""
    node = worked()
    folded = fold_records(EMPTY, node.log.scan())
    assert folded == node.state
    for subjects in (("alice", "bob"), ("bob",), ()):
        report = node.replayed(*subjects)
        assert report.state_hash == state_hash(folded)
        assert encode_snapshot(report.state, node.log.head) == encode_snapshot(node.state, node.log.head)


@pytest.mark.invariant("I8", "I6")
def test_replay_derives_what_it_can_open_and_counts_the_rest() -> None:
    """With both keys everything, with one that subject's, without any what is nobody's; never a divergence."""
    node = worked()
    live = sum(
        isinstance(event, (events.ProtocolValidated, events.ProtocolRejected, events.AuthorizationDecided))
        for recorded in node.recorded
        for event in recorded.events
    )
    both, one, none = node.replayed("alice", "bob"), node.replayed("bob"), node.replayed()
    assert [report.divergences for report in (both, one, none)] == [()] * 3
    assert (both.decisions, both.sealed) == (live, ())
    assert [name for name, _ in one.sealed] == ["alice"]
    assert dict(none.sealed) == {"alice": dict(one.sealed)["alice"], "bob": 9}
    assert both.decisions > one.decisions > none.decisions > 0
    unaware = replay(node.log.scan(), policy=ANY, sealer=Sealer(node.keys))
    assert unaware.divergences == ()
    assert len(unaware.flips) > len(replay(node.log.scan(), policy=ANY).flips)


Change = Callable[[Any], events.Event]
SEALER = Sealer(Keys(**BOTH))
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


class Digesting(CountingIsolation):
    """As the sandbox does, with the digest of the result."""

    def run(self, manifest: Manifest, args: dict[str, Any], settings: dict[str, Any], **more: Any) -> Outcome:
        outcome = super().run(manifest, args, settings, **more)
        raw = json.dumps(outcome.result, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        return outcome._replace(output_digest=blake3(raw).hexdigest(), kept_bytes=len(raw))


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
