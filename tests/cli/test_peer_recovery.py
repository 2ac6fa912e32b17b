"""``recover --from-peer``: a member without a usable log gets it anew from the others, and votes again when it has all of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.replica_store import STATE_FILE, decode_durable, encode_durable
from femtoclaw.cli.peer_recovery import last_invitation
from femtoclaw.membership import open_invitation, sign_invitation
from tests.cli.node import SAY, Node
from tests.cluster.history_checks import history_of
from tests.cluster.links_between import Loopback, until
from tests.cluster.members import ClusterProcesses, MemberProcess, frozen
from tests.wal.sample_log import ORIGIN, genesis_frame
from wal.note import Ed25519Signer

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterProcesses]:
    """``a`` owns the log and leads through all of it."""
    network = Loopback()
    made = ClusterProcesses(tmp_path_factory.mktemp("recovery"), network)
    try:
        made.start()
        made.wait_leader()
        made["a"].node.intent(SAY)
        made.caught_up()
        yield made
    finally:
        for member in made.members.values():
            print(f"{member.name}: {member.exit_code} {member.last_words()}")
        made.close()
        network.close()


def state_file(member: MemberProcess) -> Path:
    return Path(member.home.log) / STATE_FILE


def remembered(member: MemberProcess) -> dict[str, object]:
    """What a member that is stopped remembers of the protocol."""
    return decode_durable(state_file(member).read_bytes(), member.name)._asdict()


def recover(member: MemberProcess, *words: str, code: int = 0) -> dict[str, object]:
    body: dict[str, object] = member.node.call("recover", "--from-peer", *words, expect=code).body
    return body


def error_of(member: MemberProcess, *words: str, code: int) -> str:
    body = recover(member, *words, code=code)
    error = body["error"]
    assert isinstance(error, dict)
    return str(error["type"])


def votes_again(cluster: ClusterProcesses, name: str) -> None:
    """Started without the leader it is a learner; with it, it gets everything, and then its signature is the one that counts."""
    member, (other,) = cluster[name], [each for each in ("b", "c") if each != name]
    assert remembered(member)["restored"]
    with frozen(cluster["a"]):
        cluster.start(name)
        assert member.status()["restored"]
    cluster.wait_leader()
    cluster.caught_up(name)
    until(lambda: not member.status()["restored"], f"{name} has caught up")
    with frozen(cluster[other]):
        assert cluster["a"].node.intent(SAY).body["decision"] == "AUTHORIZED"
    size = len(history_of(member).records)
    assert history_of(member).links == history_of(cluster["a"]).links[:size]


def flip(path: Path, record: bytes) -> None:
    """One bit of every copy of a record."""
    whole = bytearray(path.read_bytes())
    at = whole.find(record)
    assert at >= 0
    while at >= 0:
        whole[at] ^= 1
        at = whole.find(record, at + 1)
    path.write_bytes(whole)


def test_a_damaged_log_is_fetched_anew(cluster: ClusterProcesses) -> None:
    """What was here is kept; what it had promised before is not forgotten."""
    member = cluster["b"]
    member.kill()
    before = remembered(member)
    flip(Path(member.home.log) / "data" / "data.mdb", history_of(member).records[-20].link)
    member.start()
    until(lambda: not member.running, "a damaged log is not served")
    assert member.exit_code == 3
    body = recover(member)
    kept = Path(str(body["kept"]))
    assert kept.parent == Path(member.home.path) and (kept / "data" / "data.mdb").exists()
    assert body["size"] == len(history_of(member).records) and body["restored"] is True
    after = remembered(member)
    assert (after["epoch"], after["leader"]) == (before["epoch"], before["leader"])
    votes_again(cluster, "b")


def foreign_invitations(cluster: ClusterProcesses, name: str) -> list[tuple[bytes, int]]:
    """Invitations that are not for this member's log, or not by a member of it; with the exit code of each."""
    raw = Path(last_invitation(cluster[name].home)).read_bytes()
    true, _ = open_invitation(raw, "here")
    stranger = Ed25519Signer("stranger", b"s" * 32)
    member = true.membership.get(name)
    assert member is not None
    intruder = member._replace(name="s", key=stranger.public, certificate=member.certificate[:-1] + b"x")
    widened = true._replace(membership=true.membership._replace(members=(*true.membership.members, intruder)))
    frame, link = genesis_frame()
    return [
        (sign_invitation(true, stranger), 2),
        (Path(last_invitation(cluster["a"].home)).read_bytes(), 2),
        (raw[:-10], 2),
        (sign_invitation(widened, stranger), 3),
        (sign_invitation(widened._replace(origin=ORIGIN, log_id=link, genesis=frame), stranger), 4),
    ]


def test_a_log_that_is_gone_is_fetched_anew(cluster: ClusterProcesses) -> None:
    """And before that: nothing is fetched by an invitation of somebody else's, nor without one. Where nothing comes of it, what was
    here is in its place again."""
    member = cluster["c"]
    member.kill()
    invitation = Path(last_invitation(member.home))
    log, links = Path(member.home.log), history_of(member).links
    foreign = member.node.path.parent / "foreign.invitation"
    for number, (raw, code) in enumerate(foreign_invitations(cluster, "c")):
        foreign.write_bytes(raw)
        told = error_of(member, str(foreign), code=code)
        assert told in ("ConfigurationError", "SecurityError", "ClusterUnavailableError"), (number, told)
        assert history_of(member).links == links
        assert not list(log.parent.glob("log.damaged-*"))
    away = invitation.rename(invitation.with_name("away"))
    assert error_of(member, code=2) == "ConfigurationError"
    assert history_of(member).links == links
    away.rename(invitation)
    shutil.rmtree(log)
    body = recover(member)
    assert (body["kept"], body["recovered"]) == ("", "from-peer")
    votes_again(cluster, "c")


def test_a_frozen_member_gets_out_this_way(cluster: ClusterProcesses) -> None:
    """Its history may not be the cluster's: it takes that, and what it had is kept as evidence."""
    member = cluster["b"]
    member.kill()
    stored = decode_durable(state_file(member).read_bytes(), "b")
    state_file(member).write_bytes(encode_durable(stored._replace(frozen="another record at index 7")))
    cluster.start("b")
    assert (member.status()["role"], member.status()["frozen"]) == ("frozen", "another record at index 7")
    assert error_of(member, code=4)  # it is being served
    assert member.stop() == 0
    body = recover(member)
    assert (Path(str(body["kept"])) / STATE_FILE).exists()
    assert remembered(member)["frozen"] == ""
    votes_again(cluster, "b")


def test_a_home_that_is_served_keeps_its_log(cluster: ClusterProcesses) -> None:
    member = cluster["c"]
    before = history_of(member).links
    assert error_of(member, code=4) == "LogLockedError"
    assert member.status()["role"] == "follower"
    assert history_of(member).links[: len(before)] == before


def test_a_node_of_its_own_has_no_peers(tmp_path: Path) -> None:
    node = Node(tmp_path / "home")
    node.call("init")
    assert node.call("recover", "--from-peer", expect=2).body["error"]["type"] == "UsageError"
    assert node.call("verify").body["ok"]
