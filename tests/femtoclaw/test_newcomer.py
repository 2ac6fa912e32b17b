"""What a newcomer takes from a member: everything verified, everything covered by a leader's signature, nothing of another log."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from cluster.client import PeerClient
from cluster.errors import ClusterUnavailableError, DivergenceError, PeerProtocolError
from cluster.messages import Align, Entries, Heartbeat, SealedSegment, ToFollower
from cluster.tls import make_identity
from femtoclaw import events
from femtoclaw.cluster_home import check_settings, read_settings
from femtoclaw.errors import ConfigurationError, SecurityError
from femtoclaw.event_codec import encode
from femtoclaw.home import Home
from femtoclaw.keys import load_signer
from femtoclaw.membership import Invitation, Terms, open_join_request
from femtoclaw.newcomer import NOBODY, _check_admitted, check_invited, prepare, take
from femtoclaw.serving.recorded_files import check_places
from femtoclaw.state import Configuration, Node, Policy
from tests.wal.sample_cluster import SIGNERS, log_of_three, member
from tests.wal.sample_log import SIGNER
from wal.blob import blob_file, blob_name
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.errors import LogError, SignatureError
from wal.limits import SEGMENT_RECORDS
from wal.log import Log
from wal.membership import Membership
from wal.memory_storage import MemoryStorage
from wal.record import Head
from wal.replica_log import ReplicaLog
from wal.replica_opening import create_replica

BLOB = b"what a claw returned, too large for a record"


class Peer:
    """A member that has, or has not, a blob."""

    def __init__(self, blobs: dict[str, bytes]) -> None:
        self._blobs = blobs

    def blob(self, digest: bytes) -> bytes | None:
        return self._blobs.get(digest.hex())


HONEST = Peer({blob_name(BLOB): BLOB})


def finished(blob: str) -> bytes:
    return encode(events.ExecutionFinished("id", "success", b"", blob, "", "", 0, 1, 9, 9, "0" * 64))


@pytest.fixture
def log() -> Log:
    """A leader's log: memberships, an event with a blob, and a few more records."""
    log = log_of_three(MemoryStorage())
    log.append([finished(blob_name(BLOB))])
    for number in range(3):
        log.append([encode(events.RunEnded(f"run-{number}", "answered", ""))])
    return log


def newcomers(log: Log) -> ReplicaLog:
    """What accepting an invitation begins with: the first record."""
    return create_replica(MemoryStorage(), list(log.storage.scan(1, 2)))


def honest(log: Log, first: int = 2, note: bytes | None = None) -> list[ToFollower]:
    """What an honest member sends: two messages, the second with the leader's word on it."""
    frames = [raw for _, raw in log.storage.scan(first, log.size + 1)]
    half = len(frames) // 2
    start, middle = log.head_at(first - 1), log.head_at(first - 1 + half)
    signed = log.checkpoint() if note is None else note
    return [
        Align(0, start), Entries(0, start, tuple(frames[:half]), b"", 1),
        Entries(0, middle, tuple(frames[half:]), signed, 1),
    ]  # fmt: skip


def taken(replica: ReplicaLog, messages: list[ToFollower], peer: Peer = HONEST) -> list[int]:
    told: list[int] = []
    take(replica, cast(PeerClient, peer), messages, told.append)
    return told


def test_the_whole_log_comes_over_with_its_blobs(log: Log) -> None:
    """To the last link and root; a second time there is nothing left to come."""
    replica = newcomers(log)
    assert taken(replica, honest(log))[-1] == log.size
    assert (replica.head, replica.root_at(replica.head.index)) == (log.head, log.tree().root(log.size))
    assert replica.storage.get_file(blob_file(blob_name(BLOB))) == BLOB
    taken(replica, [Align(0, log.head), Entries(0, log.head, (), log.checkpoint(), 1)])
    assert replica.head == log.head


def test_sealed_segments_come_over_as_far_as_their_appends_are_whole() -> None:
    """A long log comes in the files that its leader sealed; an append that reaches over a border comes with the next."""
    log = log_of_three(MemoryStorage())
    payload = encode(events.RunEnded("run", "answered", ""))
    while log.size < 2 * SEGMENT_RECORDS:
        log.append([payload] * 1000)
    log.seal()
    files = [log.storage.get_file(f"segments/{seal.file_name}") for seal in log.manifest()]
    assert len(files) == 2
    replica, sent = newcomers(log), log.checkpoint_note() or b""

    def between(first: int, last: int) -> Entries:
        frames = tuple(raw for _, raw in log.storage.scan(first, last + 1))
        return Entries(0, log.head_at(first - 1), frames, sent, 1)

    segments = [SealedSegment(0, raw or b"", sent, 1) for raw in files]
    messages = [Align(0, log.head_at(1)), segments[0], between(4005, 5004), segments[1], between(8005, log.size)]
    assert taken(replica, messages) == [4004, 5004, 8004, log.size]
    assert (replica.head, replica.root_at(log.size)) == (log.head, log.tree().root(log.size))


def flipped(entries: Entries, at: int) -> Entries:
    raw = entries.frames[at]
    return entries._replace(
        frames=(*entries.frames[:at], raw[:30] + bytes([raw[30] ^ 1]) + raw[31:], *entries.frames[at + 1 :])
    )


def other_root(log: Log) -> bytes:
    return sign_checkpoint(Checkpoint(log.origin, log.size, bytes(32)), [SIGNER])


def strangers(log: Log) -> bytes:
    root = log.tree().root(log.size)
    return sign_checkpoint(Checkpoint(log.origin, log.size, root), [SIGNERS["d"]])


LIES: dict[str, tuple[type[Exception], Callable[[Log], list[ToFollower]]]] = {
    "a flipped bit": (LogError, lambda log: [*honest(log)[:1], flipped(cast(Entries, honest(log)[1]), 0)]),
    "a record left out": (
        (LogError),
        lambda log: [*honest(log)[:1], Entries(0, log.head_at(1), (log.storage.get(3) or b"",), b"", 1)],
    ),
    "records in another order": (PeerProtocolError, lambda log: [honest(log)[0], honest(log)[2]]),
    "records before the agreement": (PeerProtocolError, lambda log: honest(log)[1:]),
    "another beginning": (DivergenceError, lambda log: [Align(0, Head(1, bytes(32)))]),
    "an earlier beginning": (DivergenceError, lambda log: [Align(0, Head(0, bytes(32)))]),
    "no signature": (PeerProtocolError, lambda log: honest(log, note=b"")),
    "nothing": (PeerProtocolError, lambda log: []),
    "a signature over another root": (DivergenceError, lambda log: honest(log, note=other_root(log))),
    "a learner's signature": (SignatureError, lambda log: honest(log, note=strangers(log))),
    "no note at all": (SignatureError, lambda log: honest(log, note=b"not a note")),
    "something else": (PeerProtocolError, lambda log: [honest(log)[0], Heartbeat(1, 1, b"")]),
}


@pytest.mark.parametrize("name", LIES)
def test_a_member_that_lies_is_not_believed(log: Log, name: str) -> None:
    """Each lie is a typed error, and nothing of it is stored as if it were true."""
    kind, lie = LIES[name]
    replica = newcomers(log)
    with pytest.raises(kind):
        taken(replica, lie(log))
    assert replica.head == log.head_at(replica.head.index)


@pytest.mark.parametrize("blobs", [{}, {blob_name(BLOB): b"something else"}])
def test_a_record_comes_with_the_blobs_that_it_names(log: Log, blobs: dict[str, bytes]) -> None:
    """A member that has not the blob, or gives another, gives not the log."""
    replica = newcomers(log)
    with pytest.raises(ClusterUnavailableError):
        taken(replica, honest(log), Peer(blobs))
    assert replica.head.index < log.size
    assert taken(replica, honest(log, replica.head.index + 1))[-1] == log.size


def test_the_log_says_who_is_a_member_and_who_invited(log: Log) -> None:
    """An invitation is paper: the log's own record of the members decides."""
    replica = newcomers(log)
    taken(replica, honest(log))
    _check_admitted(replica, member("b"), SIGNER.public)
    for entry, issuer in (
        (member("d"), SIGNER.public), (member("b")._replace(key=SIGNERS["d"].public), SIGNER.public),
        (member("b")._replace(certificate=b"another"), SIGNER.public), (member("b"), SIGNERS["d"].public),
    ):  # fmt: skip
        with pytest.raises(SecurityError):
            _check_admitted(replica, entry, issuer)


# --- the home


@pytest.fixture
def home(tmp_path: Path) -> Iterator[tuple[Home, bytes]]:
    home = Home(str(tmp_path / "home"))
    settings = check_settings({"name": "n2", "listen": "127.0.0.1:8440", "owner": NOBODY}, "test")
    raw, _ = prepare(home, settings, "n2.example:8440")
    yield home, raw


def test_a_prepared_home_has_a_key_of_its_own_and_no_log(home: tuple[Home, bytes]) -> None:
    """Key, index, certificate, settings by which nobody leads, pin, workspace; the request names exactly these."""
    place, raw = home
    asked = open_join_request(raw, "request")
    signer = load_signer(place)  # with the key files as their index says
    assert (asked.name, asked.key, asked.address) == ("n2", signer.public, "n2.example:8440")
    assert signer.public.name.startswith("femtoclaw.node/")
    assert read_settings(place).owner == NOBODY
    names = {path.name for path in Path(place.path).iterdir()}
    assert names == {"keys", "cluster", "cluster.toml", "distribution.pin", "workspace"}
    assert {path.stat().st_mode & 0o077 for path in Path(place.path).rglob("*.key")} == {0}


def test_a_home_is_not_prepared_over_something(home: tuple[Home, bytes]) -> None:
    """A second time, or where anything else is, nothing is touched."""
    place, _ = home
    settings = read_settings(place)
    before = {path: path.read_bytes() for path in Path(place.path).rglob("*") if path.is_file()}
    with pytest.raises(ConfigurationError):
        prepare(place, settings, "n2.example:8440")
    assert {path: path.read_bytes() for path in Path(place.path).rglob("*") if path.is_file()} == before


def test_an_invitation_is_for_one_home(home: tuple[Home, bytes], tmp_path: Path) -> None:
    """By name, key and certificate."""
    place, raw = home
    own = open_join_request(raw, "request")
    terms = Terms("quorum", "static", "a", 1, (), "/femtoclaw", 5, 10, 1500)

    def invitation(**changes: Any) -> Invitation:
        entry = own._replace(**changes)
        members = Membership(2, tuple(sorted([member("a"), entry])))
        return Invitation("origin", bytes(32), b"frame", terms, members, entry.name)

    assert check_invited(place, invitation(), "n2").entry == own
    other = make_identity(str(tmp_path), "n2").certificate
    for wrong in ({"name": "n3"}, {"key": SIGNERS["d"].public}, {"certificate": other}):
        with pytest.raises(ConfigurationError, match="another node"):
            check_invited(place, invitation(**wrong), "n2")


@pytest.mark.parametrize(
    "file",
    [
        "/etc/shells",
        "keys/node.key",
        "../elsewhere.cedar",
        "cluster/owner",
        "femtoclaw.toml",
        "log/x.cedar",
        "link.cedar/x",
    ],
)
def test_a_log_does_not_decide_over_other_files(home: tuple[Home, bytes], tmp_path: Path, file: str) -> None:
    """Where the recorded policy would be written outside of the home, or over something of it that is no policy: refused.
    A file that an operator has put there himself is taken."""
    place, _ = home
    content = json.dumps({"policy": {"file": file}}).encode()
    node = Node(configuration=Configuration(1, "", content), policy=Policy(1, "", "permit", ""))
    with pytest.raises(SecurityError):
        check_places(place, node)
    mine = tmp_path / "mine.cedar"
    mine.write_text("permit")
    there = json.dumps({"policy": {"file": str(mine)}}).encode()
    check_places(place, node._replace(configuration=Configuration(1, "", there)))
    own = json.dumps({"policy": {"file": "policy.cedar"}}).encode()
    check_places(place, node._replace(configuration=Configuration(1, "", own)))
