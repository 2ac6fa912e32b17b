"""A cluster from the command line: made, joined, taken over from a dead owner, left; and everything that is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.replica_store import STATE_FILE, decode_durable, encode_durable
from femtoclaw.cli import member_words
from femtoclaw.cli.cluster_status import judge
from tests.cli.cluster_homes import Machine, come_in, operator_key
from tests.cli.node import SAY
from wal.reader import read_log_directory

HELLO = json.dumps(SAY)


@pytest.fixture(autouse=True)
def _nobody_is_about_to_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here `serve` listens before the next command, or nobody has started it."""
    monkeypatch.setattr(member_words, "START_S", 0.2)


@pytest.fixture(scope="module")
def leader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A cluster of one, being served and leading; its policy is in a file outside of its home."""
    machine = Machine(tmp_path_factory.mktemp("cluster"), "n1")
    machine.call("init")
    policy = shared_policy(machine)
    policy.write_bytes((machine.home / "policy.cedar").read_bytes())
    machine.call("config", "set", f'policy.file="{policy}"')
    machine.call("cluster", "init", *machine.place)
    try:
        machine.serve()
        machine.until_executing()
        yield machine
    finally:
        machine.kill()


def shared_policy(machine: Machine) -> Path:
    """Where that policy is."""
    return machine.folder / "shared.cedar"


@pytest.fixture(scope="module")
def invited(leader: Machine) -> Machine:
    """Let in, and not come in yet."""
    machine = Machine(leader.folder, "n7")
    machine.call("cluster", "request", *machine.place, "--out", machine.file("request"))
    leader.call("cluster", "join", machine.file("request"), "--out", machine.file("invitation"))
    return machine


def membership(machine: Machine) -> list[tuple[str, bool]]:
    """Names and who votes, as the machine's log says."""
    reader = read_log_directory(str(machine.home / "log"))
    try:
        members = reader.keys().newest.members
        assert members is not None
        return [(each.name, each.voter) for each in members.members]
    finally:
        reader.close()


@pytest.mark.requirement("CONFIG-7.1")
def test_requests_and_invitations_go_nowhere_else(leader: Machine) -> None:
    """A changed request, a second one of the same name, an invitation for another home, or by another key: each is refused
    before anything is changed. The same request again gets another invitation."""
    newcomer, other = Machine(leader.folder, "n8"), Machine(leader.folder, "n9")
    for machine in (newcomer, other):
        machine.call("cluster", "request", *machine.place, "--out", machine.file("request"))
        assert machine.refused("cluster", "request", *machine.place, "--out", machine.file("more"))[0] == 2
        assert machine.refused("cluster", "accept", machine.file("request"))[0] == 2
        assert machine.refused("status")[0] == 2
    changed = newcomer.folder / "changed"
    body: dict[str, Any] = json.loads(Path(newcomer.file("request")).read_text())
    body["member"]["address"] = "127.0.0.1:1"
    changed.write_text(json.dumps(body))
    assert leader.refused("cluster", "join", str(changed), "--out", newcomer.file("x"))[0] == 2
    before = membership(leader)
    for wrong in (("join", newcomer.file("request")), ("join", newcomer.file("none"), "--out", newcomer.file("x"))):
        assert leader.refused("cluster", *wrong)[0] == 2
    assert membership(leader) == before

    leader.call("cluster", "join", newcomer.file("request"), "--out", newcomer.file("invitation"))
    again = leader.call("cluster", "join", newcomer.file("request"), "--out", newcomer.file("again"))
    assert again.code == 0
    twin = Machine(leader.folder, "twin")
    twin.call("cluster", "request", "--name", "n8", "--listen", twin.address, "--out", twin.file("request"))
    assert leader.refused("cluster", "join", twin.file("request"), "--out", twin.file("x")) == (
        1,
        "MembershipRefusedError",
    )
    assert other.refused("cluster", "accept", newcomer.file("invitation")) == (2, "ConfigurationError")
    key = str(other.home / "keys" / "node.pub")
    assert newcomer.refused("cluster", "accept", newcomer.file("invitation"), "--key", key) == (2, "ConfigurationError")
    assert not (newcomer.home / "log").exists()
    policy = shared_policy(leader)
    text = policy.read_bytes()
    policy.write_bytes(b"mine")  # a file of this machine, over which a log does not decide
    assert newcomer.refused("cluster", "accept", newcomer.file("invitation")) == (3, "SecurityError")
    assert policy.read_bytes() == b"mine"
    policy.write_bytes(text)
    for name in ("invitation", "again"):  # a second time is a first time that found everything there
        done = newcomer.call("cluster", "accept", newcomer.file(name)).body
        assert done["size"] >= 30
    assert newcomer.refused("cluster", "join", other.file("request"), "--out", other.file("x")) == (
        4,
        "UnavailableError",
    )
    assert leader.call("cluster", "leave", "n8").body["code"] == "PERMITTED"


def test_three_machines_come_together_and_outlive_their_owner(leader: Machine, invited: Machine) -> None:
    """The newcomer's path: two come in, are promoted, take over from an owner that is killed, and let it go. What was
    acknowledged before is there, on both, to the last hash."""
    second, third = (come_in(leader, name).serve() for name in ("n2", "n3"))
    try:
        assert membership(leader) == [("n1", True), ("n2", False), ("n3", False), ("n7", False)]
        assert (
            second.refused("cluster", "promote", "n2", *operator_key(leader))[0] == 4
        )  # not here: whoever leads decides
        for name in ("n2", "n3"):
            leader.until(lambda name=name: leader.call("cluster", "promote", name, expect=None).code == 0)
        for machine in (leader, second, third):
            body = machine.until_led_by("n1")
            assert (body["answering_voters"], body["majority"], body["this"]) == (3, 2, machine.name)
        assert third.call("intent", HELLO).body["decision"] == "AUTHORIZED"  # goes to the leader, and comes back
        says_its_part(third, leader)
        assert leader.call("cluster", "promote", "n2", expect=None).body["error"]["type"] == "MembershipRefusedError"
        assert leader.refused("cluster", "leave", "n1") == (1, "MembershipRefusedError")
        assert leader.refused("cluster", "transfer", "n2") == (2, "UsageError")  # static: by the owner's file
        leader.until_equal()
        size = leader.status()["commit"]

        leader.kill()
        second.until(lambda: not any(row["leader"] for row in second.status()["members"]))
        broken = second.call("cluster", "status", expect=1).body
        assert (broken["healthy"], broken["leader"], broken["answering_voters"]) == (False, "", 2)
        key = operator_key(leader)
        assert second.refused("cluster", "owner", "n4", *key) == (1, "MembershipRefusedError")
        assert second.refused("cluster", "owner", "n2", "--epoch", "1", *key) == (2, "UsageError")
        epoch = str(second.call("cluster", "owner", "n2", *key).body["epoch"])
        assert third.call("cluster", "owner", "n2", "--epoch", epoch, *key).body["needed"] == 2
        for machine in (second, third):
            assert machine.end() == 0
            machine.serve()
        second.until_executing()
        assert second.until_led_by("n2")["epoch"] >= int(epoch)
        assert third.call("intent", HELLO).body["decision"] == "AUTHORIZED"
        assert second.call("cluster", "leave", "n1", *key).body["decision"] == "AUTHORIZED"
        assert membership(second) == [("n2", True), ("n3", True), ("n7", False)]
        second.until_equal()
        for machine in (second, third):
            assert machine.end() == 0
        logs = [records(machine, size) for machine in (leader, second, third)]
        assert logs[0] == logs[1] == logs[2]
        for machine in (second, third):
            assert machine.call("verify").body["ok"]
        says_what_is_not_known_to_be_committed(third)
    finally:
        for machine in (second, third):
            machine.kill()


def says_its_part(follower: Machine, leader: Machine) -> None:
    """`status` on a follower: its own key and the one in force apart, and what it hears of its leader."""
    body = follower.call("status").body
    own, other = ((machine.home / "keys" / "node.pub").read_text().strip() for machine in (follower, leader))
    assert (body["public_key"], body["key_in_force"]) == (own, other)
    told = body["serving"]
    assert (told["served"], told["executes"], told["role"], told["member"], told["leader"]) == (
        True, False, "follower", follower.name, leader.name,
    )  # fmt: skip
    assert 0 <= told["leader_age_ms"] < 10_000 and 0 < told["commit"] <= body["size"]


def says_what_is_not_known_to_be_committed(stopped: Machine) -> None:
    """`log` and `show` at rest, by what the disk remembers: here less than there is."""
    path = stopped.home / "log" / STATE_FILE
    known = decode_durable(path.read_bytes(), str(path))
    path.write_bytes(encode_durable(known._replace(commit=7)))
    told = stopped.call("log", "--limit", "1")
    assert "records above 7 are not known to be committed" in told.stderr and len(told.objects) == 1
    assert stopped.call("status").body["serving"]["role"] == "not served"
    execution = stopped.call("log", "--kind", "ExecutionCompleted").objects[-1]["execution_id"]
    assert "records above 7" in stopped.call("show", execution).stderr
    path.write_bytes(encode_durable(known._replace(commit=10_000)))
    assert stopped.call("log", "--limit", "1").stderr == ""


def records(machine: Machine, size: int) -> bytes:
    """The link of a record: everything before it is in it."""
    reader = read_log_directory(str(machine.home / "log"))
    try:
        return reader.head_at(size).link
    finally:
        reader.close()


def test_a_newcomer_whom_nobody_answers_tries_again(leader: Machine, invited: Machine) -> None:
    """Exit 4 with what each member said; the home stays as it was, and nothing of it can be served."""
    leader.kill()
    assert invited.refused("cluster", "accept", invited.file("invitation")) == (4, "ClusterUnavailableError")
    assert invited.refused("serve")[0] == 2


# --- what is refused


@pytest.fixture
def single(tmp_path: Path) -> Machine:
    """A node by itself."""
    machine = Machine(tmp_path, "n1")
    machine.call("init")
    return machine


WORDS: tuple[tuple[str, ...], ...] = (
    ("init",), ("init", "--name", "n1"), ("init", "--name", "N1", "--listen", "127.0.0.1:1"),
    ("init", "--name", "n1", "--listen", "0.0.0.0:1"), ("init", "--name", "n1", "--listen", "host"),
    ("init", "--name", "n1", "--listen", "host:0"), ("init", "--name", "n1", "--listen", "host:70000"),
    ("init", "somebody", "--name", "n1", "--listen", "127.0.0.1:1"),
    ("init", "--name", "n1", "--listen", "127.0.0.1:1", "--coordinator", "etcd"),
    ("init", "--name", "n1", "--listen", "127.0.0.1:1", "--coordinator", "static", "--etcd", "127.0.0.1:2"),
    ("init", "--name", "n1", "--listen", "127.0.0.1:1", "--mode", "witnessed"),
    ("init", "--name", "n1", "--listen", "127.0.0.1:1", "--out", "x"), ("join",), ("join", "file"), ("accept",),
    ("accept", "file"), ("promote",), ("promote", "n1", "--epoch", "3"), ("promote", "n1"), ("leave", "n1"),
    ("transfer", "n1"), ("owner", "n1"), ("status",), ("status", "n1"), ("request", *("--name", "n1")), ("unknown",),
)  # fmt: skip


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_wrong_words_and_nodes_by_themselves_are_the_operators_mistake(words: tuple[str, ...], plain: Machine) -> None:
    """Exit 2, and nothing is left behind."""
    machine = plain
    before = sorted(os.listdir(machine.home))
    code, error = machine.refused("cluster", *words)
    assert (code, error in ("UsageError", "ConfigurationError")) == (2, True)
    assert sorted(os.listdir(machine.home)) == before


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A node by itself that nothing changes."""
    machine = Machine(tmp_path_factory.mktemp("plain"), "n1")
    machine.call("init")
    return machine


def test_a_cluster_is_made_once_and_an_init_that_was_cut_is_finished(single: Machine) -> None:
    """Between the log's record of the members and the settings a crash may come: the same command puts them in place."""
    single.call("cluster", "init", *single.place)
    assert single.refused("cluster", "init", *single.place) == (2, "UsageError")
    settings = single.home / "cluster.toml"
    settings.rename(f"{settings}.next")
    single.call("cluster", "init", *single.place, expect=0)
    assert settings.exists()
    assert single.refused("run", "hello")[1] == "MembersError"  # a member's log is its leader's
    assert single.refused("cluster", "promote", "n1") == (4, "UnavailableError")
    assert single.status()["members"][0]["why"] == "it is not being served"
    assert single.call("cluster", "status", expect=4).body["healthy"] is False


def test_an_owner_is_named_by_who_may_hand_the_leadership_over(single: Machine) -> None:
    """Not by whom the control policy forbids it, though nobody may be there to record it; what was done is in the journal."""
    single.call("cluster", "init", *single.place)
    epoch = single.call("cluster", "owner", "n1").body["epoch"]
    assert epoch >= 2
    assert single.refused("cluster", "owner", "n1", "--epoch", str(epoch)) == (2, "UsageError")
    assert '"cluster_owner"' in (single.home / "boot.journal").read_text()
    stranger = single.file("key")
    single.call("operator", "keygen", "stranger", "--out", stranger)
    assert single.refused("cluster", "owner", "n1", "--operator-key", stranger) == (1, "ControlRefusedError")

    other = Machine(single.folder, "n2")
    other.call("init")
    text = other.call("policy", "show", "--control").body["text"]
    policy = single.folder / "control.cedar"
    policy.write_text(text + '@id("never") forbid (principal, action == Action::"leadership.transfer", resource);')
    other.call("policy", "set", "--control", str(policy))
    other.call("cluster", "init", *other.place)
    before = sorted(os.listdir(other.home / "cluster"))
    assert other.refused("cluster", "owner", "n2") == (1, "ControlRefusedError")
    assert sorted(os.listdir(other.home / "cluster")) == before


def test_an_init_that_the_control_policy_refuses_leaves_a_node_by_itself(single: Machine) -> None:
    """On record as refused; the node works on."""
    text = single.call("policy", "show", "--control").body["text"]
    policy = single.folder / "control.cedar"
    policy.write_text(text + '@id("alone") forbid (principal, action == Action::"member.add", resource);')
    single.call("policy", "set", "--control", str(policy))
    assert single.call("cluster", "init", *single.place, expect=1).body["code"] == "FORBIDDEN"
    assert not [name for name in os.listdir(single.home) if name.startswith("cluster.toml")]
    assert single.call("intent", HELLO).body["decision"] == "AUTHORIZED"


# --- the verdict of status


def rows(*told: tuple[str, bool, str, int]) -> list[dict[str, Any]]:
    """Rows of name, voter, role (empty: silent), epoch; followers name the leader of their epoch."""
    leaders = {epoch: name for name, _, role, epoch in told if role == "leader"}
    return [
        {
            "name": name,
            "voter": voter,
            "answers": bool(role),
            "role": role,
            "leader": leaders.get(epoch, ""),
            "epoch": epoch,
            "size": 10 * epoch,
            "commit": 1,
        }
        for name, voter, role, epoch in told
    ]


@pytest.mark.parametrize(
    ("told", "healthy", "leads"),
    [
        ((("a", True, "leader", 3), ("b", True, "follower", 3), ("c", True, "", 0)), True, "a"),
        ((("a", True, "leader", 3), ("b", True, "", 0), ("c", True, "", 0)), False, "a"),
        ((("a", True, "leader", 3), ("b", False, "follower", 3), ("c", True, "", 0)), False, "a"),
        ((("a", True, "leader", 2), ("b", True, "leader", 3), ("c", True, "follower", 3)), True, "b"),
        ((("a", True, "leader", 2), ("b", True, "follower", 3), ("c", True, "follower", 3)), False, ""),
        ((("a", True, "follower", 4), ("b", True, "leader", 3), ("c", True, "follower", 3)), True, "b"),
        ((("a", True, "leader", 4), ("b", True, "leader", 3), ("c", True, "follower", 3)), True, "b"),
        ((("a", True, "leader", 3), ("b", True, "follower", 2), ("c", True, "candidate", 3)), False, "a"),
        ((("a", True, "follower", 3), ("b", True, "candidate", 4), ("c", True, "frozen", 3)), False, ""),
        ((("a", True, "", 0), ("b", True, "", 0), ("c", True, "", 0)), False, ""),
    ],
)
def test_a_cluster_works_when_a_majority_answers_and_one_leads(
    told: tuple[tuple[str, bool, str, int], ...], healthy: bool, leads: str
) -> None:
    """An old leader is none, learners are no majority, and whoever is alone with a newer epoch takes nothing from the others."""
    found = rows(*told)

    class Three:
        voters = (None, None, None)
        majority = 2

    verdict = judge(found, Three())  # type: ignore[arg-type]
    assert (verdict["healthy"], verdict["leader"]) == (healthy, leads)
    ahead = max(
        (row["size"] for row in found if row["role"] == "leader" and row["epoch"] == verdict["epoch"]), default=None
    )
    if ahead is not None:
        assert all(row["behind"] == max(0, ahead - row["size"]) for row in found if row["answers"])


def test_a_leader_that_executes_nothing_is_no_cluster_that_works() -> None:
    """It leads, a majority follows, and no request would be taken; who does not say so is believed to work."""
    found = rows(("a", True, "leader", 3), ("b", True, "follower", 3), ("c", True, "", 0))

    class Three:
        voters = (None, None, None)
        majority = 2

    for executes, healthy in ((True, True), (None, True), (False, False)):
        found[0]["executes"] = executes
        verdict = judge(found, Three())  # type: ignore[arg-type]
        assert (verdict["healthy"], verdict["leader"], verdict["followed"]) == (healthy, "a", True)
