"""Members that misbehave towards real processes: each wrong word is refused with a reason, told as an event, and has no effect."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from cluster import codec
from cluster.client import Outbox, PeerClient
from cluster.errors import ClusterError, PeerRefusedError
from cluster.etcd_coordinator import EtcdCoordinator
from cluster.etcd_settings import EtcdSettings
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
    ToSource,
    Welcome,
)
from cluster.server import ReplicationServer
from cluster.tls import Identity, load_identity, make_identity
from cluster.transport import REPLICATION
from femtoclaw.api.client import connect
from femtoclaw.api.forwarding import ask_intent
from femtoclaw.cluster_home import folder_of, read_settings
from tests.cli.node import call
from tests.cluster.cluster_life import Life
from tests.cluster.history_checks import history_of
from tests.cluster.links_between import Loopback, until
from tests.cluster.members import LEASE_S, WRITTEN, MemberProcess
from tests.cluster.wire_nodes import Recording
from wal.inspection import verify_directory
from wal.lmdb_storage import LmdbStorage
from wal.membership import Member, Membership
from wal.reader import LogReader
from wal.record import Head, frame_of

pytestmark = pytest.mark.timeout(200)
ANSWER_S = 10.0


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """A cluster without load: what the tests do is all that happens."""
    life = Life(tmp_path_factory.mktemp("bad"), Loopback())
    try:
        life.cluster.start()
        yield life
    finally:
        life.close()


@pytest.fixture
def leader(life: Life) -> MemberProcess:
    for member in life.cluster.members.values():
        if not member.running:
            life.cluster.start(member.name)
    return life.cluster[life.cluster.wait_leader()]


def follower_of(life: Life, leader: MemberProcess) -> MemberProcess:
    return next(each for each in life.cluster.members.values() if each is not leader)


def identity(member: MemberProcess) -> Identity:
    return load_identity(folder_of(member.home))


def membership(member: MemberProcess) -> Membership:
    """Who takes part, as its log has it."""
    storage = LmdbStorage(member.home.log, writable=False)
    try:
        members = LogReader(storage).keys().newest.members
    finally:
        storage.close()
    assert members is not None
    return members


def entry(member: MemberProcess) -> Member:
    """The member as its log has it."""
    found = membership(member).get(member.name)
    assert found is not None
    return found


def history(member: MemberProcess) -> tuple[bytes, tuple[Span, ...], Head, list[bytes]]:
    """Log id, epochs, head and frames of a member's log."""
    records = history_of(member).records
    spans: list[Span] = []
    for record in records:
        if not spans or spans[-1].epoch != record.epoch:
            spans.append(Span(record.epoch, record.index))
    last = records[-1]
    return records[0].link, tuple(spans), Head(last.index, last.link), [frame_of(each) for each in records]


def recorded(member: MemberProcess) -> set[tuple[str, str]]:
    """(code, whom its text names first) of the errors in a member's log; what repeats is there once a minute."""
    return {(each.code, each.detail.partition(":")[0]) for each in history_of(member).errors}


def execute(member: MemberProcess, line: str) -> None:
    with connect(member.home) as client:
        message = call("fs.write", path=WRITTEN, content=line + "\n", mode="append")
        assert client.intent(json.dumps(message).encode()).outcome == "success"


def say(client: PeerClient, *messages: ToFollower) -> list[ToSource]:
    """What is answered to these on one stream, until it ends or a refusal comes."""
    outbox, answers = Outbox(), []
    for each in messages:
        outbox.put(each)
    outbox.close()
    for answer in client.follow(outbox):
        answers.append(answer)
        if isinstance(answer, Refused):
            break
    return answers


# --- towards the leader


def hello(**changes: object) -> Callable[[PeerClient, Hello], None]:
    """Say a Hello that differs from a right one; it must be refused."""

    def act(client: PeerClient, right: Hello) -> None:
        values = {name: change(right) if callable(change) else change for name, change in changes.items()}
        answers = say(client, right._replace(**values))  # type: ignore[arg-type]
        assert len(answers) == 1 and isinstance(answers[0], Refused), answers

    return act


def raw_follow(raw: bytes) -> Callable[[PeerClient, Hello], None]:
    def act(client: PeerClient, right: Hello) -> None:
        with pytest.raises(Exception, match="INVALID_ARGUMENT"):
            list(
                client._channel.stream_stream(f"/{REPLICATION}/Follow")(
                    iter([raw or codec.encode_to_follower(right)[:-9]])
                )
            )

    return act


def oversized(client: PeerClient, right: Hello) -> None:
    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        client._channel.unary_unary(f"/{REPLICATION}/Ask")(
            b"\x0a\x80\x80\xc0\x02" + bytes(5 * 1024 * 1024), timeout=ANSWER_S
        )


def promise(client: PeerClient, right: Hello) -> None:
    answer = client.promise(PromiseRequest(right.log_id, right.epoch + 1000, right.leader), ANSWER_S)
    assert isinstance(answer, Refused) and answer.reason is Reason.NOT_ATTESTED


WORDS: dict[str, tuple[Callable[[PeerClient, Hello], None], str]] = {
    "another log": (hello(log_id=b"x" * 32), "REFUSED_OTHER_LOG"),
    "an older epoch": (hello(epoch=1), "REFUSED_STALE_EPOCH"),
    "the epoch of another": (hello(), "REFUSED_STALE_EPOCH"),
    "an epoch that nobody granted": (hello(epoch=lambda right: right.epoch + 1000), "REFUSED_NOT_ATTESTED"),
    "in another's name": (hello(leader="zoe"), "REFUSED_UNKNOWN_MEMBER"),
    "a promise for an epoch that nobody granted": (promise, "REFUSED_NOT_ATTESTED"),
    "no message": (raw_follow(os.urandom(200)), "REFUSED_MALFORMED"),
    "a truncated message": (raw_follow(b""), "REFUSED_MALFORMED"),
    "an oversized message": (oversized, "REFUSED_TOO_LARGE"),
}


@pytest.mark.parametrize(("act", "code"), WORDS.values(), ids=WORDS)
def test_a_member_that_says_what_it_may_not(
    act: Callable[[PeerClient, Hello], None], code: str, life: Life, leader: MemberProcess
) -> None:
    """With its own key, to whoever leads: who goes on leading, in the same epoch."""
    rogue = follower_of(life, leader)
    log_id, spans, head, _ = history(leader)
    epoch = leader.status()["epoch"]
    with contextlib.closing(PeerClient(entry(leader), identity(rogue))) as client:
        act(client, Hello(log_id, epoch, rogue.name, head, spans))
    until(lambda: (code, rogue.name) in recorded(leader), f"{code} is on record")
    execute(leader, f"after {time.monotonic_ns()}")
    assert (leader.status()["executes"], leader.status()["epoch"]) == (True, epoch)


def test_a_stranger_s_key(life: Life, leader: MemberProcess, tmp_path: Path) -> None:
    """Well made, and no member's: it gets no connection, so not even an answer to a harmless question. (Who never gets beyond the
    handshake leaves no event either: anybody could fill the log with them.)"""
    stranger = make_identity(str(tmp_path / "stranger"), "stranger")
    before = history_of(leader).links
    with contextlib.closing(PeerClient(entry(leader), stranger)) as client, pytest.raises(ClusterError):
        client.status(ANSWER_S)
    assert history_of(leader).links == before


def forwarded(message: bytes) -> bytes:
    """The body by which a member passes this on to whoever leads."""
    bodies: list[bytes] = []

    def keep(body: bytes) -> bytes:
        bodies.append(body)
        raise LookupError

    with contextlib.suppress(LookupError):
        ask_intent(keep, message, "")
    return bodies[0]


@pytest.mark.requirement("DEPLOY-16.2")
def test_an_intent_that_is_replayed_at_a_follower_starts_nothing(life: Life, leader: MemberProcess) -> None:
    """What the leader took, said again to a member that follows: refused, and nothing is written there."""
    follower = follower_of(life, leader)
    execute(leader, "once")
    message = json.dumps(call("fs.write", path=WRITTEN, content="once\n", mode="append")).encode()
    before = len(history_of(leader).started)
    with (
        contextlib.closing(PeerClient(entry(follower), identity(leader))) as client,
        pytest.raises(PeerRefusedError) as caught,
    ):
        client.ask(forwarded(message), ANSWER_S)
    assert caught.value.reason is Reason.NOT_LEADING
    assert len(history_of(leader).started) == before
    assert (
        not (follower.node.workspace / WRITTEN).exists()
        or "once" not in (follower.node.workspace / WRITTEN).read_text()
    )


# --- a follower that lies


class Liar(Recording):
    """Stands at a member's address with its key, and acknowledges what it never stored."""

    def __init__(self, head: Head, spans: tuple[Span, ...], size: Callable[[int], int]) -> None:
        super().__init__()
        self._head, self._spans, self._size = head, spans, size

    def follow(self, peer: str, inbound: Iterable[ToFollower]) -> Iterator[ToSource]:
        for message in inbound:
            if isinstance(message, Hello):
                yield Welcome(message.epoch, self._head, self._spans, 0, 8192)
            elif isinstance(message, Entries):
                end = message.prev.index + len(message.frames)
                yield Ack(message.epoch, self._size(end), b"\xe2\x80\x94 b AAAA")


@pytest.mark.parametrize(
    "place, ahead, said", [(0, 0, "its signature for"), (1, 100, "it acknowledges")],
    ids=["with a signature that is none", "more than was sent"],
)  # fmt: skip
def test_a_follower_that_acknowledges_what_it_did_not_store(
    place: int, ahead: int, said: str, life: Life, leader: MemberProcess
) -> None:
    """Its word counts for nothing, is on record as a lie, and the other two go on. Each lie is another member's: what repeats
    is told once a minute."""
    liar = [each for each in life.cluster.members.values() if each is not leader][place]
    _, spans, head, _ = history(liar)
    liar.kill()
    listens = read_settings(liar.home).listen
    handler = Liar(head, spans, lambda end: end + ahead)
    members = membership(leader)
    server = ReplicationServer(listens, identity(liar), lambda: members, handler, lambda notice: None)
    server.start()
    try:
        execute(leader, f"despite a liar {ahead}")
        until(lambda: ("BAD_ACK", liar.name) in recorded(leader), "the lie is on record")
        execute(leader, f"after the lie {ahead}")
    finally:
        server.stop()
    lie = [each for each in history_of(leader).errors if each.code == "BAD_ACK"][-1]
    assert lie.severity == "CRITICAL" and lie.detail.startswith(f"{liar.name}: {said}")
    life.cluster.start(liar.name)
    life.cluster.caught_up()


# --- a leader that lies, towards a follower


class Impostor:
    """Leads by the coordinator's word, with a member's key, and sends what it likes to another member."""

    def __init__(self, life: Life) -> None:
        """All real members are stopped; the follower has fewer records than the one whose place is taken."""
        leader = life.cluster[life.cluster.wait_leader()]
        self.follower = follower_of(life, leader)
        self.leader = leader
        assert self.follower.stop() == 0
        execute(leader, f"without the follower {time.monotonic_ns()}")
        for member in life.cluster.members.values():
            if member.running:
                member.stop()
        self.log_id, self.spans, self.head, self.frames = history(leader)
        self._coordinator = EtcdCoordinator(
            EtcdSettings(life.etcd.endpoints, lease_s=LEASE_S, call_s=LEASE_S / 3), self.log_id
        )
        granted: list[int] = []

        def campaign() -> bool:
            epoch = self._coordinator.campaign(leader.name, above=self.spans[-1].epoch)
            granted.extend([epoch] if epoch is not None else [])
            return epoch is not None

        until(campaign, "the epoch is granted")
        self.epoch = granted[0]
        life.cluster.start(self.follower.name)

    def at(self, index: int) -> Head:
        return Head(index, self.frames[index - 1][-32:])

    def follow(self, *messages: ToFollower) -> list[ToSource]:
        """What the follower answers behind a right Hello and Align."""
        right = Hello(self.log_id, self.epoch, self.leader.name, self.head, self.spans)
        with contextlib.closing(PeerClient(entry(self.follower), identity(self.leader))) as client:
            answers = say(client, right, Align(self.epoch, self.at(self.size())), *messages)
        assert isinstance(answers[0], Welcome)
        return answers[1:]

    def size(self) -> int:
        return len(history_of(self.follower).records)

    def entries(self, first: int, frames: list[bytes]) -> Entries:
        return Entries(self.epoch, self.at(first - 1), tuple(frames), b"", 0)

    def end(self) -> None:
        self._coordinator.resign()
        self._coordinator.close()


@pytest.fixture
def impostor(life: Life, leader: MemberProcess) -> Iterator[Impostor]:
    made = Impostor(life)
    yield made
    made.end()


def flipped(raw: bytes) -> bytes:
    return raw[:-40] + bytes([raw[-40] ^ 4]) + raw[-39:]


@pytest.mark.requirement("SUITE-3.6", "DEPLOY-16.2")
@pytest.mark.invariant("I10")
def test_records_that_were_changed_on_their_way(life: Life, impostor: Impostor) -> None:
    """A flipped bit, a gap, a swap and a cut stream are refused, each with its reason, and the follower's log is as it was; a
    duplicate is none the worse; and the transfer goes on where the last acknowledged record is."""
    size = impostor.size()
    rest = impostor.frames[size:]
    assert len(rest) >= 4
    bad: dict[str, tuple[ToFollower, Reason]] = {
        "flipped": (impostor.entries(size + 1, [*rest[:2], flipped(rest[2]), *rest[3:]]), Reason.BAD_RECORDS),
        "gap": (impostor.entries(size + 2, rest[1:]), Reason.GAP),
        "swapped": (impostor.entries(size + 1, [rest[1], rest[0], *rest[2:]]), Reason.BAD_RECORDS),
        "truncated": (impostor.entries(size + 1, [*rest[:-1], rest[-1][:-1]]), Reason.BAD_RECORDS),
        "an older epoch": (impostor.entries(size + 1, rest)._replace(epoch=impostor.epoch - 1), Reason.STALE_EPOCH),
        "a segment that is none": (SealedSegment(impostor.epoch, os.urandom(500), b"", 0), Reason.BAD_RECORDS),
    }
    for name, (message, reason) in bad.items():
        before = history_of(impostor.follower).links
        answers = impostor.follow(message)
        assert [each.reason for each in answers if isinstance(each, Refused)] == [reason], (name, answers)
        assert history_of(impostor.follower).links == before, name
    whole = impostor.entries(size + 1, rest)
    answers = impostor.follow(whole, whole)
    assert answers[0] == Ack(impostor.epoch, impostor.head.index, b"")
    assert not any(isinstance(each, Refused) for each in answers)
    assert history_of(impostor.follower).links[-1] == impostor.head.link
    told = (impostor.follower.node.path / "boot.journal").read_text()
    assert all(f"REFUSED_{reason.value}" in told for _, reason in bad.values())
    assert not impostor.follower.status()["frozen"]


@pytest.mark.requirement("SUITE-3.7")
def test_another_record_at_an_index_halts_the_follower_and_cuts_nothing(life: Life, impostor: Impostor) -> None:
    """Last, as the member stays frozen: DIVERGED names the index, is kept across a restart, and nobody truncates anything."""
    size, links = impostor.size(), history_of(impostor.follower).links
    right = Hello(impostor.log_id, impostor.epoch, impostor.leader.name, impostor.head, impostor.spans)
    other = Head(size, bytes([links[-1][0] ^ 1]) + links[-1][1:])
    with contextlib.closing(PeerClient(entry(impostor.follower), identity(impostor.leader))) as client:
        answers = say(client, right, Align(impostor.epoch, other))
    refusal = answers[-1]
    assert isinstance(refusal, Refused) and refusal.reason is Reason.DIVERGED and f"index {size}" in refusal.detail
    assert history_of(impostor.follower).links == links
    impostor.end()
    impostor.follower.kill()
    life.cluster.start()
    leader = life.cluster[life.cluster.wait_leader(but=impostor.follower.name)]
    execute(leader, "with two of three")
    assert str(size) in impostor.follower.status()["frozen"]
    assert history_of(impostor.follower).links == links
    until(lambda: "PEER_FROZEN" in [each.code for each in history_of(leader).errors], "the leader has it on record")
    assert verify_directory(impostor.follower.home.log)["findings"] == []
