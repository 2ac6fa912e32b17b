"""Incidents of a cluster of three real members: what one of them does wrong is an incident at the leader, and its answer is given
from any member. Containment holds wherever an execution is asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.messages import Align, Hello, Reason, Refused
from tests.cli.node import SAY, call
from tests.cluster.history_checks import effects, history_of
from tests.cluster.hostile_member import FalseFollower, Hostile, Stored, acknowledges_too_much
from tests.cluster.links_between import Loopback, until
from tests.cluster.members import WRITTEN, ClusterProcesses, MemberProcess
from wal.record import Head

pytestmark = pytest.mark.timeout(120)
FOUND_S = 20.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterProcesses]:
    """``a`` owns the log and leads; every member looks at itself each second."""
    network = Loopback()
    made = ClusterProcesses(
        tmp_path_factory.mktemp("incidents"), network, configured=("observability.health_interval_s=1",)
    )
    try:
        made.start()
        made.wait_leader()
        made.caught_up()
        yield made
    finally:
        for member in made.members.values():
            print(f"{member.name}: {member.exit_code} {member.last_words()}")
        made.close()
        network.close()


def key_of_operator(member: MemberProcess) -> tuple[str, str]:
    """The words by which ``a``'s operator signs."""
    (path,) = (member.node.path / "keys" / "operators").glob("*.key")
    return "--operator-key", str(path)


def open_ones(member: MemberProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = member.node.call("incident", "list", expect=None).body["incidents"]
    return found


def wait_incident(member: MemberProcess, kind: str, said: str) -> dict[str, Any]:
    """The incident of that kind whose alert says ``said``; fails when there is none in time."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        for row in open_ones(member):
            if row["kind"] == kind:
                told = member.node.call("incident", "show", row["id"]).body
                found.extend([told] * (said in told["opened"]["detail"]))
        return bool(found)

    until(there, f"{kind}: {said}", FOUND_S, lambda: open_ones(member))
    return found[0]


def asked_at(member: MemberProcess, line: str) -> tuple[int, str, str]:
    """Exit code, decision and code of one execution that is asked for at this member."""
    message = call("fs.write", path=WRITTEN, content=line + "\n", mode="append")
    answer = member.node.intent(message, expect=None)
    if answer.code != 0:
        print(answer)  # shown where this was not expected
    return answer.code, answer.body["decision"], answer.body["code"]


def written(cluster: ClusterProcesses) -> list[str]:
    """What executions have written, on all machines together."""
    return sorted(effects(cluster))


def test_a_member_that_lies_is_an_incident_that_is_answered_from_another_member(cluster: ClusterProcesses) -> None:
    """It acknowledges what it never had: the leader opens an incident with the record of the lie as its evidence. Contained from a
    member that follows, the node denies every call, wherever it is asked; the evidence that is preserved there verifies there and
    at the leader, and its digest is on record; nobody lifts it before the incident is resolved, and then work goes on."""
    a, b, c = (cluster[name] for name in "abc")
    c.kill()
    shutil.copytree(c.home.log, cluster.folder / "older")
    false = FalseFollower(cluster, "c")
    try:
        false.next(acknowledges_too_much)
        a.node.intent(SAY)
        found = wait_incident(a, "member_suspect", "BAD_ACK in cluster: c: ")
    finally:
        false.close()
    errors = {str(record.index) for record in history_of(a).records if b"BAD_ACK" in record.payload}
    assert found["opened"]["operator"] == "" and found["opened"]["evidence"][0] in errors
    assert found["opened"]["severity"] == 2 and asked_at(a, "before") == (0, "AUTHORIZED", "PERMITTED")
    cluster.start("c")
    cluster.caught_up()
    as_operator, incident = key_of_operator(a), found["id"]

    b.node.call("incident", "contain", incident, *as_operator)
    for member in (a, b, c):
        assert asked_at(member, "contained") == (1, "DENIED_POLICY_VIOLATION", "CONTAINED")
    (step,) = b.node.call("incident", "preserve", incident, *as_operator).body["steps"]
    copy = shutil.copy(step["file"], cluster.folder / "of-b.evidence")
    cluster.caught_up()
    for member, file in ((b, step["file"]), (a, copy)):
        verified = member.node.call("incident", "verify-evidence", str(file)).body
        assert (verified["ok"], verified["incident"], verified["digest"]) == (True, incident, step["digest"])
        assert verified["recorded_at"] == step["index"]

    assert c.node.call("contain", "--lift", "--reason", "oops", *as_operator, expect=1).body["code"] == "INCIDENT_OPEN"
    a.node.call("incident", "resolve", incident)
    for member in (a, b, c):
        assert asked_at(member, f"after, at {member.name}") == (0, "AUTHORIZED", "PERMITTED")
    assert written(cluster) == ["after, at a", "after, at b", "after, at c", "before"]
    assert not open_ones(b)


def test_a_member_whose_disk_was_put_back_is_an_incident(cluster: ClusterProcesses) -> None:
    """What it had acknowledged is gone from its disk: the leader opens an incident, contains nothing, and the member comes back."""
    a, c = cluster["a"], cluster["c"]
    c.kill()
    shutil.rmtree(c.home.log)
    shutil.copytree(cluster.folder / "older", c.home.log)
    cluster.start("c")
    found = wait_incident(a, "member_suspect", "ROLLED_BACK in cluster: c ")
    assert found["opened"]["severity"] == 2 and asked_at(cluster["b"], "with a suspect")[0] == 0
    cluster.caught_up()
    a.node.call("incident", "respond", found["id"])
    assert not open_ones(a)


def test_a_history_that_forked_stops_the_cluster_where_an_operator_says_so(cluster: ClusterProcesses) -> None:
    """Whoever has the leader's key shows a member another record where it has one: it freezes, and the leader has an incident of
    it. Opened as what it is, at a member that follows, it contains the node in the same append: all calls are denied until the six
    steps are taken."""
    a, b, c = (cluster[name] for name in "abc")
    a.kill()
    hostile, log, epoch = Hostile(cluster, "a"), Stored(c), int(c.status()["epoch"])
    other = Head(log.head.index, bytes([log.head.link[0] ^ 1]) + log.head.link[1:])
    hello = Hello(log.log_id, epoch, "a", log.head, hostile.client("c").status().history)
    *_, refused = hostile.says("c", hello, Align(epoch, other), answers=2)
    hostile.close()
    assert isinstance(refused, Refused) and refused.reason is Reason.DIVERGED and c.status()["frozen"]
    cluster.start("a")
    cluster.wait_leader()
    found = wait_incident(a, "member_suspect", "PEER_FROZEN in cluster: c")
    as_operator = key_of_operator(a)
    b.node.call("incident", "open", "replication_divergence", "--detail", "c was shown a fork", *as_operator)
    opened = wait_incident(a, "replication_divergence", "c was shown a fork")
    contained = [each for each in history_of(a).records if each.index == opened["opened"]["index"] + 1]
    assert b"incident " + opened["id"].encode() in contained[0].payload
    for member in (a, b):
        assert asked_at(member, "forked") == (1, "DENIED_POLICY_VIOLATION", "CONTAINED")
    for incident in (found["id"], opened["id"]):
        a.node.call("incident", "respond", incident, "--no-restart", "c is let in anew")
    assert asked_at(b, "resumed") == (0, "AUTHORIZED", "PERMITTED")
    assert "resumed" in written(cluster) and "forked" not in written(cluster)
