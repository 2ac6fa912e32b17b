"""What a new log takes over from the one that it quotes: whoever was kept out stays out, and what was stopped stays stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.backed import Backed, Here, ended, make
from tests.cli.node import READ, Node, call
from tests.cli.test_backup_restore import restored, size_and_root
from tests.cli.test_published_contract import install

POLICY = '\n@id("sums") permit (principal, action == Action::"text.checksum", resource);\n'


def key_of(node: Node, name: str) -> tuple[str, str]:
    """A new operator's key: its file and its public half."""
    path = str(node.path.parent / f"{name}.key")
    return path, str(node.call("operator", "keygen", name, "--out", path).body["public_key"])


@pytest.fixture(scope="module")
def made(template: Node, tmp_path_factory: pytest.TempPathFactory) -> Backed:
    """With somebody revoked, a publisher and its module, and then an incident that contains the node."""
    node = make(template, tmp_path_factory.mktemp("inherited") / "at")
    _, public = key_of(node, "ada")
    node.call("operator", "add", "ada", "--public-key", public, "--role", "SecurityOfficer")
    node.call("operator", "revoke", "ada", "--reason", "left")
    install(node, node.path.parent)
    node.call("claw", "enable", "text.checksum")
    policy = node.path.parent / "sums.cedar"
    policy.write_text((node.path / "policy.cedar").read_text() + POLICY)
    node.call("policy", "set", str(policy))
    (node.path.parent / "calm").write_text(str(size_and_root(node)[0]))
    node.call("incident", "open", "security_violation", "--detail", "a claw reached what it must not")
    name = node.call("incident", "list", expect=1).body["incidents"][0]["id"]
    node.call("incident", "identify", name, "--detail", "seen")
    node.backup()
    return node


@pytest.fixture
def backed(made: Backed, tmp_path: Path) -> Backed:
    return made.moved(tmp_path / "at")


def listed(node: Node) -> dict[str, Any]:
    """What a node says of whoever and whatever it trusts, and of what is open."""
    incidents = node.call("incident", "list", expect=None).body
    return {
        "incidents": [(each["id"], each["severity"], each["next"]) for each in incidents["incidents"]],
        "contained": incidents["contained"],
        "publishers": node.call("publisher", "list").body["publishers"],
        "operators": [(each["name"], each["active"]) for each in node.call("operator", "list").body["operators"]],
        "secrets": [each["name"] for each in node.call("secret", "list").body["secrets"]],
        "module": node.call("claw", "show", "text.checksum").body,
    }


@pytest.mark.invariant("I2")
def test_what_protected_the_node_is_in_force_in_the_new_log(backed: Backed, tmp_path: Path) -> None:
    """The containment, the open incident, who was revoked, publisher, module, secret: as they were; each is told in
    the log and in the record of the restore. The log replays, and the incident is answered to its end."""
    before = listed(backed)
    restored(backed, tmp_path / "new")
    node = Here(tmp_path / "new")
    resumed = node.call("backup", "resume").body
    assert resumed["way"] == "new log"
    name, severity, following = before["incidents"][0]
    assert following == "contain"
    # What was identified and preserved was the other log.
    assert listed(node) == before | {"incidents": [(name, severity, "identify")]}
    assert (severity, resumed["contained"]) == (1, f"incident {name}")
    told = [text.partition(":")[0] for text in resumed["taken_over"]]
    assert told == ["revoked operators", "publishers", "modules", "secrets", "open incidents", "containment"]
    assert json.loads(ended(node, "backup.restore").content)["taken_over"] == resumed["taken_over"]
    assert node.intent(READ, expect=1).body["code"] == "CONTAINED"
    _, public = key_of(backed, "ada2")
    ada = public.replace("ada2", "ada", 1)
    refused = node.call("operator", "add", "ada", "--public-key", ada, "--role", "SecurityOfficer", expect=None)
    assert refused.code != 0
    for step in ("identify", "contain", "preserve", "restore", "verify", "resume"):
        node.call("incident", step, name, *(("--skip", "nothing was changed") if step == "restore" else ()))
    assert node.intent(call("text.checksum", text="word")).body["result"]["status"] == "success"
    node.call("replay")  # exit 0: every event of the new log follows from a command
    assert node.call("verify").body["ok"]


@pytest.mark.invariant("I2")
def test_where_records_are_lost_the_node_begins_contained(backed: Backed, tmp_path: Path) -> None:
    """Back to before the incident: that something was stopped stands in what is left out, and nobody says so. An operator looks and
    releases it."""
    calm = (tmp_path / "at" / "calm").read_text()
    restored(backed, tmp_path / "new", "--at-index", calm)
    node = Here(tmp_path / "new")
    resumed = node.call("backup", "resume", "--accept-gap").body
    assert resumed["lost_last"] > resumed["lost_first"] == int(calm) + 1
    assert f"records behind {calm} are lost" in resumed["contained"]
    assert json.loads(ended(node, "backup.restore").content)["contained"] == resumed["contained"]
    assert node.intent(READ, expect=1).body["code"] == "CONTAINED"
    node.call("contain", "--lift", "--reason", "looked at it")
    assert node.intent(READ, expect=None).body["decision"] == "AUTHORIZED"


def test_who_may_restore_may_say_how_it_goes_on(backed: Backed, tmp_path: Path) -> None:
    """An Infrastructure Operator, who may not change the control policy; and it is their word that is on record."""
    path, public = key_of(backed, "bob")
    backed.call("operator", "add", "bob", "--public-key", public, "--role", "InfrastructureOperator")
    backed.backup()
    restored(backed, tmp_path / "new")
    node = Here(tmp_path / "new")
    node.call("backup", "resume", "--operator-key", path)
    assert ended(node, "backup.restore").operator == "bob"
