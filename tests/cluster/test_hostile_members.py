"""Members with good keys that lie, before real processes: no lie is an acknowledgement, injects an event, or moves a record."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from cluster import codec
from cluster.messages import (
    Ack,
    Align,
    Entries,
    Hello,
    PromiseRequest,
    Reason,
    Refused,
    SealedSegment,
    Span,
    ToFollower,
    Welcome,
)
from cluster.wire import printable
from tests.cli.node import SAY
from tests.cluster.history_checks import history_of
from tests.cluster.hostile_member import (
    FalseFollower,
    Forged,
    Hostile,
    Stored,
    acknowledges_too_much,
    has_another_history,
    refuses,
    signs_wrongly,
)
from tests.cluster.links_between import Loopback, until
from tests.cluster.members import ClusterProcesses, MemberProcess, frozen
from tests.security.attack_corpus import INJECTIONS
from wal.chain import verify_run
from wal.cosignature import cosign, cosigner_of, verify_cosignature
from wal.note import text_of
from wal.record import EMPTY, Head
from wal.segment import encode_segment

pytestmark = pytest.mark.timeout(240)

SOON_S = 20.0
ACKNOWLEDGE_S = 2


class Scene(NamedTuple):
    """``a`` leads, ``b`` follows, and ``c`` is a voter whose process is this test's."""

    cluster: ClusterProcesses
    hostile: Hostile
    false: FalseFollower


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    network = Loopback()
    cluster = ClusterProcesses(tmp_path_factory.mktemp("hostile"), network, acknowledge_s=ACKNOWLEDGE_S)
    hostile, false = Hostile(cluster, "c"), FalseFollower(cluster, "c")
    try:
        cluster.start("a", "b")
        cluster.wait_leader()
        cluster.caught_up("a", "b")
        yield Scene(cluster, hostile, false)
    finally:
        for name in ("a", "b"):
            print(f"{name}: {cluster[name].exit_code} {cluster[name].last_words()}")
        hostile.close()
        false.close()
        cluster.close()
        network.close()


def noted(member: MemberProcess) -> Counter[str]:
    """Codes of what the member has noted of its cluster. Every line of its journal is one JSON object."""
    rows = [json.loads(line) for line in (member.node.path / "boot.journal").read_text().split("\n")[:-1]]
    return Counter(row["code"] for row in rows if row["event"] == "cluster")


def recorded(member: MemberProcess) -> Counter[str]:
    return Counter(event.code for event in history_of(member).errors)


@pytest.mark.invariant("I10")
@pytest.mark.requirement("THREAT-17.1")
def test_what_a_false_follower_answers(scene: Scene) -> None:
    """Acknowledgements of what it never had, signatures that are not its own, another history, and refusals whose texts are
    injections: each is one event of the leader's, on one line of JSON, and no event of another type comes of it."""
    leader, false = scene.cluster["a"], scene.false
    start, before = len(Stored(leader).frames), recorded(leader)
    text = printable(" ".join(text for text in INJECTIONS.values() if text.isprintable()), 500)
    rounds = {
        "BAD_ACK": acknowledges_too_much,
        "OTHER_HISTORY": has_another_history,
        "PEER_DIVERGED": refuses(Reason.DIVERGED, "another record at index 3"),
        "PEER_BAD_RECORDS": refuses(Reason.BAD_RECORDS, text),
    }
    for behaviour in rounds.values():
        false.next(behaviour)
    until(
        lambda: recorded(leader) - before == Counter(list(rounds)), "all are recorded", SOON_S,
        lambda: recorded(leader) - before,
    )  # fmt: skip
    history = history_of(leader)
    new = history.errors[sum(before.values()) :]
    assert len(history.records) - start == len(new) == len(rounds)
    assert f"c: {text}" in {event.detail for event in new}
    critical = {event.code for event in new if event.severity == "CRITICAL"}
    assert critical == set(rounds) - {"PEER_BAD_RECORDS"}
    raw = leader.node.call("log", "--limit", "0").stdout
    assert all(isinstance(json.loads(line), dict) for line in raw.splitlines())
    assert raw.replace("\n", "").isprintable()
    assert set(rounds) <= set(noted(leader))
    assert leader.node.intent(SAY).body["decision"] == "AUTHORIZED"


@pytest.mark.invariant("I9")
def test_a_lie_is_no_acknowledgement(scene: Scene) -> None:
    """With the honest follower away, what the false one signs with another's key is acknowledged to nobody."""
    other = Hostile(scene.cluster, "b")
    scene.false.then = signs_wrongly(lambda note: cosign(text_of(note), other.signer, int(time.time())).encode())
    try:
        with frozen(scene.cluster["b"]):
            assert scene.cluster["a"].node.intent(SAY, expect=None).code == 5
    finally:
        scene.false.then = lambda inbound: iter(())
    scene.cluster.wait_leader()
    scene.cluster.caught_up("a", "b")


@pytest.mark.invariant("I10")
def test_what_a_member_may_not_say_to_a_follower(scene: Scene) -> None:
    """Each is refused with its reason, and noted; no byte of the log changes, and it follows on."""
    member = scene.cluster["b"]
    log, before, states = Stored(member), noted(member), member.status()
    epoch = int(states["epoch"])
    hello = Hello(log.log_id, epoch, "c", log.head, (Span(1, 1),))
    forged = Forged(log, epoch, 2)
    said: list[tuple[ToFollower, Reason]] = [
        (hello._replace(log_id=b"x" * 32), Reason.OTHER_LOG),
        (hello._replace(epoch=epoch - 1), Reason.STALE_EPOCH),
        (hello._replace(epoch=epoch + 7), Reason.NOT_ATTESTED),
        (hello._replace(epoch=epoch + 7, leader="a"), Reason.UNKNOWN_MEMBER),
        (Align(epoch, log.head_at(1)), Reason.NOT_ATTESTED),
        (forged.entries(scene.hostile.signer), Reason.NOT_ATTESTED),
    ]
    for message, reason in said:
        (answer,) = scene.hostile.says("b", message)
        assert isinstance(answer, Refused) and answer.reason is reason, (message, answer)
    request = codec.encode_promise_request(PromiseRequest(log.log_id, epoch + 1, "c"))
    for method, raw, reason in (
        ("Follow", codec.encode_to_follower(hello)[:-3], Reason.MALFORMED),
        ("Promise", request + bytes(4 << 20), Reason.TOO_LARGE),
    ):
        assert scene.hostile.refused_raw("b", method, raw) is reason
    expected = {f"REFUSED_{reason.value}" for _, reason in said} | {"REFUSED_MALFORMED", "REFUSED_TOO_LARGE"}
    until(lambda: expected <= set(noted(member) - before), "all are noted", SOON_S, lambda: noted(member) - before)
    assert Stored(member).frames == log.frames
    now = member.status()
    assert [now[key] for key in ("epoch", "leader", "frozen")] == [states[key] for key in ("epoch", "leader", "frozen")]


def flipped(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


class FalseLeader:
    """Who has the leader's keys, before ``b``: it is attested, so that only what it sends can be wrong."""

    def __init__(self, cluster: ClusterProcesses) -> None:
        self._hostile = Hostile(cluster, "a")
        self.follower = cluster["b"]
        self.signer = self._hostile.signer
        self.epoch = int(self.follower.status()["epoch"])

    def close(self) -> None:
        self._hostile.close()

    def says(self, *messages: ToFollower, epoch: int = 0, align: Head | None = None) -> object:
        """Begin as a leader does, say this, and what is answered behind the welcome."""
        log, now = Stored(self.follower), epoch or self.epoch
        history = self._hostile.client("b").status().history
        hello = Hello(log.log_id, now, "a", log.head, history)
        welcome, answer = self._hostile.says("b", hello, Align(now, align or log.head), *messages, answers=2)
        assert isinstance(welcome, Welcome) and welcome.head == log.head, "it goes on where it was acknowledged"
        return answer


@pytest.mark.invariant("I10")
@pytest.mark.requirement("AUDIT-22.1")
def test_a_leader_that_sends_what_does_not_verify(scene: Scene) -> None:
    """A flipped bit in a segment, records or a segment behind a past that was rewritten, a cut below what is committed: no byte of
    the follower's log changes. Where only the seal is wrong, the records are taken, and the segment's file is not. A record with
    right hashes and a note of another key is told, and not signed for."""
    scene.cluster["a"].kill()
    leader = FalseLeader(scene.cluster)
    follower, epoch, signer = leader.follower, leader.epoch, leader.signer
    log = Stored(follower)
    good = Forged(log, epoch, 4)
    note = good.proposal(signer)
    run = verify_run(EMPTY, list(enumerate([*log.frames, *good.frames], 1)))
    _, segment = encode_segment(log.origin, run, signer)
    past = Forged(_shorter(log), epoch, 5, "another past")
    assert past.start.index == log.head.index - 1
    other = encode_segment(
        log.origin, verify_run(past.start, list(enumerate(past.frames, past.start.index + 1))), signer
    )[1]
    for message in (
        SealedSegment(epoch, flipped(segment, len(segment) // 2), note, log.head.index),
        SealedSegment(epoch, other, past.proposal(signer), log.head.index),
        Entries(epoch, log.head, tuple(past.frames[1:]), past.proposal(signer), log.head.index),
    ):
        answer = leader.says(message)
        assert isinstance(answer, Refused) and answer.reason is Reason.BAD_RECORDS, answer
        assert Stored(follower).frames == log.frames

    answer = leader.says(SealedSegment(epoch, flipped(segment, len(segment) - 20), note, log.head.index))
    assert isinstance(answer, Ack) and answer.size == good.head.index, answer
    member = log.members.get("b")
    assert member is not None
    verify_cosignature(text_of(note), answer.cosignature.decode(), cosigner_of(member.key))
    taken = Stored(follower)
    assert taken.frames == (*log.frames, *good.frames)
    until(lambda: noted(follower)["SEAL_NOT_KEPT"] == 1, "it is noted", SOON_S)
    assert follower.running

    appended = Forged(taken, epoch, 1)
    answer = leader.says(appended.entries(scene.hostile.signer))
    assert isinstance(answer, Refused) and answer.reason is Reason.BAD_RECORDS, "nobody's signature covers it"
    taken = Stored(follower)

    committed = int(follower.status()["commit"])
    answer = leader.says(epoch=epoch + 1, align=taken.head_at(committed - 2))
    assert isinstance(answer, Refused) and answer.reason is Reason.DIVERGED, answer
    assert str(committed) in answer.detail
    assert Stored(follower).frames == taken.frames
    until(lambda: noted(follower)["DIVERGED"] == 1, "it is noted", SOON_S)
    assert follower.status()["frozen"]
    leader.close()


def _shorter(log: Stored) -> Stored:
    """The same log without its last record."""
    made = Stored.__new__(Stored)
    made.origin, made.log_id, made.members, made.frames = log.origin, log.log_id, log.members, log.frames[:-1]
    return made
