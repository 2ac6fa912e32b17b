"""Another policy over a recorded history: every flip, a report that others compute again, and which flips loosen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from femtoclaw import events
from femtoclaw.counterfactual import History, compare, flips_to_allow, read_report, report_digest, verify
from femtoclaw.errors import ConfigurationError, PolicyError, SecurityError
from femtoclaw.replay import replay
from tests.femtoclaw.simulated import POLICY, Simulated
from tests.femtoclaw.test_loop import SAY, call, run
from tests.femtoclaw.test_replay import at, history, rewritten, six_calls
from wal import Record
from wal.chain import follow
from wal.lmdb_storage import split_frames
from wal.record import EMPTY

ALL = '@id("all") @accepts("folder_config") permit (principal, action, resource);'
NONE = "// nothing"
HOLDS = '@id("held") @approvals("1") permit (principal, action, resource);'


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return history(six_calls())


def told(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(flip["claw"], flip["old"]["decision"], flip["new"]["decision"]) for flip in report["flips"]]


DENIED = "DENIED_POLICY_VIOLATION"


def test_every_flip_and_no_other(records: list[Record]) -> None:
    """Each recorded call is judged again; only those decided otherwise are listed, with both sides."""
    assert told(compare(records, None, POLICY)) == []
    report = compare(records, None, ALL)
    assert report["decisions"] == 6
    assert told(report) == [("fs.read", DENIED, "AUTHORIZED"), ("shell", DENIED, "AUTHORIZED")]
    first = report["flips"][0]
    index, decided = next(
        (index, event)
        for index, event in (at(records, events.AuthorizationDecided, number) for number in range(6))
        if event.execution_id == first["execution"]  # type: ignore[attr-defined]
    )
    assert first["index"] == index
    assert first["old"] == {"decision": DENIED, "reason": "FORBIDDEN", "determining": ["secrets"]}
    assert first["new"] == {"decision": "AUTHORIZED", "reason": "PERMITTED", "determining": ["all"]}
    assert decided.decision == DENIED  # type: ignore[attr-defined]
    assert len(told(compare(records, None, NONE))) == 4
    assert len(told(compare(records, NONE, ALL))) == 6


def test_a_report_is_bound_to_what_it_is_about(records: list[Record]) -> None:
    """Log, size, root, last link, policies, schemas, engine and fold are in it; recorded policies with their index."""
    report = compare(records, None, ALL)
    assert report["log"]["size"] == len(records)
    assert report["log"]["link"] == records[-1].link.hex()
    index, adopted = at(records, events.PolicyAdopted)
    assert report["old"] == {
        "policy": "recorded",
        "in_force": [
            {"index": index, "digest": adopted.digest, "schema_digest": adopted.schema_digest, "engine": adopted.engine}  # type: ignore[attr-defined]
        ],
    }
    assert report["digest"] == report_digest(report)
    assert compare(records[:-1], None, ALL)["log"] != report["log"]


def test_another_party_computes_the_same_report(records: list[Record]) -> None:
    """Through JSON and back, and again from the records: equal, byte for byte."""
    report = compare(records, POLICY, HOLDS)
    raw = json.dumps(report).encode()
    again = read_report(raw, "report")
    assert verify(again, records) == []
    assert json.dumps(compare(records, POLICY, HOLDS)).encode() == raw


@pytest.mark.parametrize(
    "change, differs",
    [
        (lambda report: report["flips"].pop(), ["flips"]),
        (lambda report: report.update(decisions=5), ["decisions"]),
        (lambda report: report["log"].update(root="0" * 64), ["log"]),
        (lambda report: report.update(engine="cedarpy 0"), ["engine"]),
        (lambda report: report["new"].update(text=ALL + " "), ["new"]),
        (lambda report: report["new"].update(digest="0" * 64), ["new"]),
        (lambda report: report["old"].update(in_force=[]), ["old"]),
        (lambda report: report.update(more=1), ["more"]),
    ],
)
def test_a_changed_report_is_found(records: list[Record], change: Any, differs: list[str]) -> None:
    """With its digest left as it was the digest tells; with a new digest the part that differs."""
    report = json.loads(json.dumps(compare(records, None, ALL)))
    change(report)
    assert verify(report, records) == ["digest"]
    found = verify(report | {"digest": report_digest(report)}, records)
    assert [name for name in found if name != "digest"] == differs


def test_a_forged_history_gives_no_report(records: list[Record]) -> None:
    """A log whose decision is not what its own policy makes says nothing about another policy."""
    index, decided = at(records, events.AuthorizationDecided, 1)
    forged = rewritten(records, {index: decided._replace(decision="AUTHORIZED")})
    with pytest.raises(SecurityError, match=f"index {index}"):
        compare(forged, None, ALL)


def test_which_flips_loosen(records: list[Record]) -> None:
    """A denial that would be held or allowed, and a hold that would be allowed; nothing that gets stricter."""
    assert [flip["new"]["decision"] for flip in flips_to_allow(compare(records, None, ALL))] == ["AUTHORIZED"] * 2
    assert [flip["new"]["decision"] for flip in flips_to_allow(compare(records, None, HOLDS))] == ["HELD", "HELD"]
    assert flips_to_allow(compare(records, None, NONE)) == []
    assert len(flips_to_allow(compare(records, HOLDS, ALL))) == 6
    assert flips_to_allow(compare(records, ALL, HOLDS)) == []


@pytest.mark.parametrize(
    "old, new, loosens",
    [
        ('@approvals("2")', '@approvals("1")', True),
        ('@approvals("1")', '@approvals("2")', False),
        ('@approvals("1") @expires("60")', '@approvals("1") @expires("61")', True),
        ('@approvals("1") @expires("61")', '@approvals("1") @expires("60")', False),
        ('@approvals("1") @approvers("SecurityOfficer")', '@approvals("1")', True),
        ('@approvals("1")', '@approvals("1") @approvers("SecurityOfficer")', False),
        ('@approvals("1") @approvers("SecurityOfficer")', '@approvals("1") @approvers("RuntimeOperator")', True),
        (
            '@approvals("1") @approvers("SecurityOfficer,RuntimeOperator")',
            '@approvals("1") @approvers("RuntimeOperator")',
            False,
        ),
    ],
)
def test_a_weaker_approval_loosens(records: list[Record], old: str, new: str, loosens: bool) -> None:
    """Fewer operators, others, or more time: listed as a flip, and as one that loosens."""
    texts = [f'@id("a") {annotations} permit (principal, action, resource);' for annotations in (old, new)]
    report = compare(records, *texts)
    assert len(report["flips"]) == 6
    assert len(flips_to_allow(report)) == (6 if loosens else 0)


def test_groups_are_those_of_the_recorded_run() -> None:
    """A budget and an order rule judge by what happened before each call in the recorded history."""
    node = Simulated()
    run(node, *[call("fs.read", path=name) for name in "abc"], call("fs.list", path="."), SAY)
    budget = '@id("two") permit (principal, action, resource) when { context.usage.run_calls < 2 };'
    assert told(compare(history(node), None, budget)) == [("fs.read", "AUTHORIZED", DENIED)]
    order = """@id("read") permit (principal, action == Action::"fs.read", resource);
      @id("after") permit (principal, action == Action::"fs.list", resource) when { context.history.done.contains("fs.read") };"""
    assert told(compare(history(node), None, order)) == []
    first = order.replace('"fs.read") };', '"fs.write") };')
    assert told(compare(history(node), None, first)) == [("fs.list", "AUTHORIZED", DENIED)]


def test_a_policy_that_does_not_load_is_refused(records: list[Record]) -> None:
    """Misspelt for the claws that are registered at the end: no report."""
    with pytest.raises(PolicyError):
        compare(records, None, '@id("a") permit (principal, action == Action::"fs.raed", resource);')


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"format": "femtoclaw policy diff v1"}', b"[" * 10_000, b"\xff"])
def test_what_is_no_report_is_refused(raw: bytes) -> None:
    """Bytes of any kind: one kind of error."""
    with pytest.raises(ConfigurationError):
        read_report(raw, "report")


@pytest.mark.invariant("I6")
def test_old_histories_can_be_judged_too() -> None:
    """The golden history of the first version: its decisions are found, and agree with replay."""
    frames = Path(__file__).resolve().parent.parent / "golden" / "history" / "v1.frames"
    golden = list(follow(EMPTY, split_frames(1, frames.read_bytes())))
    assert replay(golden).divergences == ()
    report = compare(golden, None, NONE)
    assert report["decisions"] == len(list(History(golden).judged())) == 6
    assert len(told(report)) == 4
