"""Incidents on real nodes: found while one is served, answered in six steps, with evidence that anybody can check."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.api.client import connect
from femtoclaw.cli.recorded_state import recorded_state
from femtoclaw.home import Home
from femtoclaw.operations import STEPS
from tests.cli.in_process import run_here
from tests.cli.node import READ, Node, femtoclaw
from tests.femtoclaw.alert_receiver import Receiver
from tests.femtoclaw.serving_process import serving, wait_until
from wal.note import Ed25519Signer

KINDS = ("crash", "configuration_tampering", "authorization_failures")
PUBLISHER = Ed25519Signer("acme", bytes(32)).public.vkey()
SECRET = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def watched(template: Node, tmp_path_factory: pytest.TempPathFactory) -> Node:
    """A home whose node looks at itself every second, with an operator beside the first, who only runs it."""
    node = template.copy(tmp_path_factory.mktemp("watched") / "home")
    node.call("config", "set", "observability.health_interval_s=1", "observability.denial_burst=3")
    return node


@pytest.fixture
def home(watched: Node, tmp_path: Path) -> Node:
    return watched.copy(tmp_path / "home")


Look = Callable[..., Any]


@pytest.fixture
def look(capsys: pytest.CaptureFixture[str]) -> Look:
    """A command that only reads, in this process: its JSON object."""

    def looking(node: Node, *words: str, expect: int = 0) -> Any:
        capsys.readouterr()
        assert run_here("--json", "--home", str(node.path), *words) == expect
        return json.loads(capsys.readouterr().out)

    return looking


def incidents(node: Node) -> dict[str, str]:
    """Open incidents, by id their kind. A checkout that somebody works in at the same time may drift."""
    known = recorded_state(Home(str(node.path))).node.operations.incidents
    return {name: each.kind for name, each in known.items() if each.kind != "distribution_drift"}


def found(node: Node, kind: str) -> str:
    """The open incident of this kind, once the node has found it."""
    wait_until(lambda: kind in incidents(node).values(), kind)
    return next(name for name, each in incidents(node).items() if each == kind)


def opened(node: Node, kind: str = "disk_low", *more: str) -> str:
    """An incident that the operator opens; its id."""
    return str(node.call("incident", "open", kind, "--detail", "a test", *more).body["resource"])


@contextmanager
def tampered(node: Node) -> Iterator[str]:
    """A served node whose policy file somebody edits; the id of what it finds."""
    with serving(node.path):
        policy = node.path / "policy.cedar"
        policy.write_text(policy.read_text() + '@id("all") permit (principal, action, resource);\n')
        yield found(node, "policy_tampering")


def runs(node: Node) -> int:
    """How often the served node's detectors were asked."""
    with connect(Home(str(node.path))) as client:
        return int(client.status()["serving"]["monitors"]["security"]["runs"])


def undelivered(node: Node) -> bool:
    """Whether the served node's health tells that alerts wait."""
    checks = {each["name"]: each["result"] for each in node.call("health", expect=None).body["checks"]}
    return bool(checks.get("alerts") == "warning")


def acknowledged(node: Node, look: Look, name: str) -> None:
    """The alert of an incident waits for an operator: acknowledging it is their signed act, on record, and done once."""
    alert = look(node, "incident", "show", name)["alert"]
    assert (alert["rule"], alert["source"]) == ("policy_tampering", "monitor") and alert["evidence"]
    assert alert["alert_id"] in recorded_state(Home(str(node.path))).node.operations.alerts
    (row,) = [
        each for each in node.call("incident", "list", expect=None).body["alerts"] if each["id"] == alert["alert_id"]
    ]
    assert (row["rule"], row["severity"]) == (alert["rule"], alert["severity"])
    assert (
        node.call("incident", "acknowledge", alert["alert_id"][:4], expect=2).body["error"]["what"]
        == "too little of an id"
    )
    ids = {row["incident_id"] for row in node.call("log", "--kind", "IncidentOpened", "--limit", "0").objects}
    ids |= {row["alert_id"] for row in node.call("log", "--kind", "AlertRaised", "--limit", "0").objects}
    shortest = (alert["alert_id"][:many] for many in range(6, 33))
    part = next(each for each in shortest if sum(other.startswith(each) for other in ids) == 1)
    node.call("incident", "show", part)
    node.call("incident", "acknowledge", alert["alert_id"])
    refused = node.call("incident", "acknowledge", alert["alert_id"], expect=1).body["error"]
    assert refused["what"] == "somebody has acknowledged this alert already"
    (row,) = node.call("log", "--kind", "AlertAcknowledged").objects
    assert row["alert_id"] == alert["alert_id"] and row["operator"]
    assert look(node, "incident", "show", alert["alert_id"])["alert"]["index"] == alert["index"]


@pytest.mark.requirement("RUNBOOK-20.1")
@pytest.mark.requirement("RUNBOOK-20.2")
@pytest.mark.requirement("RUNBOOK-11.1")
@pytest.mark.requirement("RUNBOOK-11.2")
@pytest.mark.requirement("RUNBOOK-27.2")
def test_tampering_at_run_time_is_contained_and_answered_in_six_steps(home: Node, look: Look) -> None:
    """The gate denies everything; the evidence is written before the repair and still is the recorded one after a restart; policy
    and configuration are verified; the restart is on record; the log at the end has the one at the beginning as its prefix."""
    with tampered(home) as name:
        acknowledged(home, look, name)
        assert home.intent(READ, expect=1).body["code"] == "CONTAINED"
        assert home.call("incident", "resume", name, expect=1).body["error"]["type"] == "OutOfOrderError"
        assert home.call("incident", "resolve", name, expect=1).body["error"]["expected"] == "identify"
        contained = home.call("incident", "contain", name).body
        assert [each["step"] for each in contained["steps"]] == ["identify", "contain"]
        kept = home.call("incident", "preserve", name).body["steps"][0]
        assert stat.S_IMODE(os.stat(kept["file"]).st_mode) == 0o400
        assert b"altered/0000" in Path(kept["file"]).read_bytes()
        assert (
            home.call("incident", "restore", name, "--skip", "no", expect=2)
            .body["error"]["what"]
            .startswith("there is something")
        )
        restored = home.call("incident", "restore", name).body["steps"][0]
        assert restored["result"] == "done" and "policy.cedar" in restored["detail"]
        assert home.call("incident", "verify", name).body["next"] == "resume"
        assert home.call("incident", "resume", name, expect=2).body["error"]["expected"] == "a restart"
    done = home.call("incident", "resume", name[:8]).body
    assert done["resolved"]
    assert done["steps"][0]["detail"].startswith("restart: done")
    assert home.intent(READ).body["decision"] == "AUTHORIZED"
    story = look(home, "incident", "show", name)
    assert [each["step"] for each in story["steps"]] == list(STEPS)
    assert all(each["operator"] and each["time_ns"] for each in story["steps"])
    assert story["alert"]["incident_id"] == name
    assert story["opened"]["evidence"][-1] == str(story["alert"]["index"])
    evidence = look(home, "incident", "verify-evidence", kept["file"])
    assert (evidence["ok"], evidence["incident"], evidence["digest"]) == (True, name, kept["digest"])
    assert evidence["recorded_at"] == kept["index"]
    size, root = int(story["steps"][0]["detail"].split()[0]), story["steps"][0]["digest"]
    now = evidence["recorded_at"]
    assert look(home, "proof", "consistency", str(size), str(now))["old_root"] == root
    assert "policy_tampering" not in incidents(home).values()


@pytest.mark.requirement("RUNBOOK-9.1")
@pytest.mark.requirement("RUNBOOK-9.2")
@pytest.mark.requirement("RUNBOOK-15.2")
def test_a_served_node_finds_a_kill_a_burst_and_an_edited_configuration(home: Node, look: Look) -> None:
    """One incident each, however often it looks, with the records that it rests on; what was edited is not in force. While nobody
    takes the alerts they are on record all the same, health says so, and they arrive when somebody does."""
    receiver = Receiver()
    receiver.answer = 500
    home.call("config", "set", f'observability.alert_webhook="{receiver.url}"')
    with serving(home.path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with serving(home.path):
        crash = found(home, "crash")
        config = home.path / "femtoclaw.toml"
        config.write_text(config.read_text().replace("health_interval_s = 1", "health_interval_s = 2"))
        in_force = recorded_state(Home(str(home.path))).node.configuration.version
        for _ in range(3):
            home.intent({"tool_call": {"tool": "system.info", "args": {}}}, expect=1)
        told = {crash, found(home, "configuration_tampering"), found(home, "authorization_failures")}
        looks = runs(home)
        wait_until(lambda: runs(home) >= looks + 2, "two more looks")
        assert sorted(incidents(home)[name] for name in told) == sorted(KINDS)
        assert sorted(kind for kind in incidents(home).values() if kind in KINDS) == sorted(KINDS)
        assert recorded_state(Home(str(home.path))).node.configuration.version == in_force
        wait_until(lambda: undelivered(home), "health says that alerts are not delivered")
        assert not receiver.batches
        receiver.answer = 200
        wait_until(lambda: told <= {each["labels"].get("incident") for each in receiver.alerts}, "delivery", 90)
        for name in told:
            body = look(home, "incident", "show", name)
            assert body["alert"]["evidence"] and body["opened"]["evidence"][:-1] == body["alert"]["evidence"]
        config.write_text(config.read_text().replace("health_interval_s = 2", "health_interval_s = 1"))
    receiver.close()


def test_every_step_in_one_command(home: Node, look: Look) -> None:
    """`respond` on a node at rest: an incident of severity 3 leaves the node in service, and says so on record."""
    name = opened(home)
    assert look(home, "incident", "list", expect=1)["incidents"][0]["next"] == "identify"
    answer = home.call("incident", "respond", name).body
    assert [each["step"] for each in answer["steps"]] == list(STEPS)
    results = {each["step"]: each["result"] for each in answer["steps"]}
    assert (results["contain"], results["restore"]) == ("skipped", "skipped")
    assert look(home, "incident", "list") == {"incidents": [], "alerts": [], "contained": "no"}
    assert [each["id"] for each in look(home, "incident", "list", "--all")["resolved"]] == [name]
    human = home.call("incident", "show", name, human=True).stdout
    assert "resolved" in human and "severity 3 (medium)" in human


def test_a_step_refuses_what_does_not_verify(home: Node, look: Look) -> None:
    """Of a home that cannot start: an edited policy is put back by `restore`; a damaged log is no step's to pass."""
    name = opened(home)
    home.call("incident", "contain", name, "--skip", "a test")
    kept = home.call("incident", "preserve", name, "--sign-as-operator").body["steps"][0]
    assert look(home, "incident", "verify-evidence", kept["file"])["signed_by"] == kept["key"]
    assert kept["key"] == look(home, "operator", "list")["operators"][0]["public_key"]
    policy = home.path / "policy.cedar"
    before = policy.read_bytes()
    policy.write_bytes(before + b"\n")
    home.intent(READ, expect=3)
    assert "policy.cedar" in home.call("incident", "restore", name).body["steps"][0]["detail"]
    assert policy.read_bytes() == before
    policy.write_bytes(before + b"\n")
    refused = home.call("incident", "verify", name, expect=3).body["error"]
    assert refused["what"] == "verification fails: policy"
    policy.write_bytes(before)
    assert home.call("incident", "resolve", name).body["resolved"]


def test_containing_only_what_is_to_blame(home: Node, tmp_path: Path) -> None:
    """A claw, an operator, a publisher and a key are dealt with by the control plane's own acts, each signed; the node stays in
    service, and the step says what was done. An act that is refused takes no step."""
    key = str(tmp_path / "eve.key")
    public = home.call("operator", "keygen", "eve", "--out", key).body["public_key"]
    home.call("operator", "add", "eve", "--role", "ComplianceOfficer", "--public-key", public)
    home.call("publisher", "trust", "acme", "--public-key", PUBLISHER)
    name = opened(home, "authorization_failures")
    home.call("incident", "contain", name, "--operator", "nobody", expect=1)
    both = home.call("incident", "contain", name, "--claw", "fs.list", "--skip", "nothing to contain", expect=2)
    assert both.body["error"]["expected"] == "--skip alone", "neither is heard by itself"
    blamed = ("--claw", "fs.list", "--operator", "eve", "--publisher", "acme", "--distribution-key", PUBLISHER)
    (step,) = home.call("incident", "contain", name, *blamed).body["steps"]
    assert step["detail"] == (
        "the node stays in service: claw fs.list disabled, operator eve revoked, publisher acme distrusted, "
        f"distribution key {PUBLISHER} revoked"
    )
    node = recorded_state(Home(str(home.path))).node
    assert (node.registry["fs.list"].enabled, node.operators["eve"].active, "acme" in node.publishers) == (
        False,
        False,
        False,
    )
    assert node.contained == ""
    grave = opened(home, "security_violation")
    (*_, step) = home.call("incident", "contain", grave, "--claw", "fs.read").body["steps"]
    assert step["detail"].startswith("the node was contained before: ") and step["detail"].endswith("; claw fs.read disabled")


def test_a_resolved_incident_is_shown_by_its_first_characters(home: Node) -> None:
    """As an open one; four characters are too few, and said so."""
    home.call("incident", "open", "telemetry_down", "--detail", "tried")
    (row,) = home.call("incident", "list", expect=1).body["incidents"]
    home.call("incident", "respond", row["id"], "--skip", "nothing to repair", expect=None)
    for words in (("restore", "--skip", "nothing"), ("verify",), ("resume",)):
        home.call("incident", words[0], row["id"], *words[1:], expect=None)
    told = home.call("incident", "show", row["id"][:10]).body
    assert (told["id"], told["open"]) == (row["id"], False)
    assert home.call("incident", "show", row["id"][:4], expect=2).body["error"]["what"] == "too little of an id"
    assert "holds no such" in home.call("incident", "show", "ffffffffff", expect=2).body["error"]["what"]


def test_a_grave_incident_of_an_operator_contains_at_once(home: Node) -> None:
    """And is over with its last step."""
    name = opened(home, "security_violation")
    assert home.intent(READ, expect=1).body["code"] == "CONTAINED"
    answer = home.call("incident", "respond", name, "--no-restart", "nothing ran").body
    assert "restart: skipped: nothing ran" in answer["steps"][-1]["detail"]
    assert recorded_state(Home(str(home.path))).node.contained == ""


def test_evidence_is_whole_and_holds_no_secret(home: Node, look: Look, tmp_path: Path) -> None:
    """The value of a secret that somebody wrote into a policy's comment is struck out; no key and no environment is in it; one
    flipped byte is found, and a copy of the file is checked with the key alone."""
    home.call("secret", "set", "token", stdin=SECRET.encode())
    policy = tmp_path / "new.cedar"
    policy.write_text((home.path / "policy.cedar").read_text() + f"// {SECRET}\n")
    home.call("policy", "set", str(policy))
    name = opened(home)
    home.call("incident", "contain", name)
    kept = home.call("incident", "preserve", name, "--out", str(tmp_path / "case.evidence")).body["steps"][0]
    raw = Path(kept["file"]).read_bytes()
    seed = json.dumps((home.path / "keys" / "node.key").read_text().strip())[1:40].encode()
    assert seed not in raw
    members = raw.count(b"PK\x03\x04")
    assert members > 15
    policy_member = raw[raw.index(b"policy/policy.cedar") :][:2000]
    assert SECRET.encode() not in policy_member
    body = femtoclaw("--json", "--home", str(tmp_path / "none"), "incident", "verify-evidence", kept["file"], "--key", kept["key"],
                     cwd=tmp_path).body  # fmt: skip
    assert body["ok"] and body["records"] + body["tail"] > 20
    for place in (raw.index(b"policy/policy.cedar") + 40, raw.index(b"log/bundle.0000") + 5000, len(raw) - 700):
        bad = tmp_path / "bad.evidence"
        bad.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        look(home, "incident", "verify-evidence", str(bad), expect=3)
    look(home, "incident", "verify-evidence", kept["file"], "--key", PUBLISHER, expect=3)
    home.call("incident", "preserve", name, "--out", kept["file"], expect=1)


def test_words_that_make_no_sense(home: Node, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is a usage error, and nothing is recorded."""
    words = (
        ("show",),
        ("show", "abc"),
        ("contain",),
        ("verify-evidence",),
        ("open", "odd_smell"),
        ("frobnicate",),
        ("open", "crash", "--evidence", "x"),
    )
    size = home.call("status", expect=None).body["size"]
    assert [run_here("--json", "--home", str(home.path), "incident", *each) for each in words] == [2] * len(words)
    assert all(json.loads(line)["error"]["remedy"] for line in capsys.readouterr().out.splitlines())
    assert home.call("status", expect=None).body["size"] == size
    home.call("incident", "respond", "0" * 32, expect=2)
