"""The report: one verdict each, the same bytes for the same verdicts, a page that needs nothing else, and its digest on record."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from femtoclaw.compliance.checking import (
    CHECKS,
    FAILED,
    NOT_APPLICABLE,
    NOT_SHOWN,
    SHOWN,
    NotSoError,
    Verdict,
    judge,
    need,
    shows,
)
from femtoclaw.compliance.grading import Standing, grade, overall
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.load import load_checks
from femtoclaw.compliance.measuring import scope_of
from femtoclaw.compliance.page import page
from femtoclaw.compliance.register import requirements
from femtoclaw.compliance.report import VOLATILE, deviations, digests, make_report, reasons
from femtoclaw.errors import CommandError, UsageError
from femtoclaw.home import Home
from tests.cli.node import Node


def made(evidence: str = "log: 3 at 7", at: int = 1, result: str = SHOWN) -> dict[str, object]:
    verdicts = [Verdict(name, SHOWN, evidence) for name in requirements()]
    verdicts[0] = verdicts[0]._replace(result=result)
    register = requirements()
    graded = grade(verdicts, register, Standing(False, False))
    installation = {"runtime_id": "r", "log": "l", "configuration": "c", "policy": "p"}
    run = {"time_ns": at, "seconds": 1.0, "size": 7, "link": "00"}
    return make_report(verdicts, register, graded, installation, run, ["all"])


@pytest.mark.requirement("CERT-3.1")
def test_two_runs_differ_in_the_declared_fields_only() -> None:
    """Time and evidence are declared; everything else is byte for byte the same, and a verdict changes it."""
    one, two, other = made(), made("log: 4 at 9", at=2), made(result=FAILED)
    assert {name for name in one if one[name] != two[name]} == set(VOLATILE)
    assert digests(one)[1] == digests(two)[1] and digests(one)[0] != digests(two)[0]
    assert digests(one)[1] != digests(other)[1]


def test_the_page_is_of_one_piece() -> None:
    """Nothing is loaded from anywhere; what is red stands first; what a brain said cannot become markup."""
    report = made("<script>alert(1)</script>", result=FAILED)
    text = page(report, "d" * 64, requirements(), deviations())
    assert not re.search(
        r"<script|<link|<img|<iframe|url\(|@import|https?://(?!www\.w3)", text.replace("&lt;script", "")
    )
    first = text.index("<details")
    assert text.index("DEPLOY-2.1", first) < text.index("DEPLOY-2.2", first)
    assert text.count("<details") >= 449


@pytest.mark.parametrize(
    "result, level, word",
    [
        (SHOWN, 2, "COMPLIANT"),
        (FAILED, 0, "NON_COMPLIANT"),
        (NOT_SHOWN, 1, "INCOMPLETE"),
        (NOT_APPLICABLE, 2, "COMPLIANT"),
    ],
)
def test_words_and_levels_follow_from_verdicts(result: str, level: int, word: str) -> None:
    """One verdict of one MUST changes the whole."""
    register = requirements()
    verdicts = [Verdict(name, SHOWN, "") for name in register]
    verdicts[0] = verdicts[0]._replace(result=result)
    assert overall(verdicts, register) == word
    assert grade(verdicts, register, Standing(False, False)).level == level
    certified = grade(verdicts, register, Standing(True, True)).level
    assert certified == (4 if level == 2 else level)  # no certificate stands in for what is missing below it


def test_a_requirement_has_one_check() -> None:
    """A second one for the same id is refused, and what a check raises is its verdict, never a shown one."""
    load_checks()
    with pytest.raises(CommandError, match="two checks"):
        shows("WHITE-2.1")(lambda laboratory: "")
    with pytest.raises(NotSoError):
        need(False, "something")


def test_a_check_that_breaks_shows_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An unforeseen error, and no evidence, are failures."""
    from femtoclaw.compliance import checking
    from femtoclaw.compliance.load import load_checks

    load_checks()
    for broken in (lambda laboratory: 1 / 0, lambda laboratory: ""):
        monkeypatch.setitem(checking.CHECKS, "WHITE-2.1", checking.CHECKS["WHITE-2.1"]._replace(look=broken))
        assert judge("WHITE-2.1", Laboratory(Home(str(tmp_path))), {}).result == FAILED
    assert judge("WHITE-2.1", Laboratory(Home(str(tmp_path))), {"WHITE-2.1": "because"}).result == NOT_APPLICABLE


def test_scopes() -> None:
    """By document, id, domain, the seeds, all; anything else is a usage error."""
    assert len(scope_of([])) == 449 and len(scope_of(["seed"])) == 199
    assert [each.id for each in scope_of(["white-2.1"])] == ["WHITE-2.1"]
    assert {each.document for each in scope_of(["STORAGE", "protocol"])} == {"STORAGE", "PROTO"}
    with pytest.raises(UsageError, match="scope"):
        scope_of(["NOTHING"])


@pytest.fixture
def node(installation: Node, tmp_path: Path) -> Node:
    return installation.copy(tmp_path / "home")


@pytest.mark.requirement("RUNBOOK-21.2", "AUDIT-19.1", "SUITE-9.2")
def test_a_run_is_on_record(node: Node, tmp_path: Path) -> None:
    """One requirement: exit 0, evidence, both files, and the digest of the report in the procedure's record."""
    out, html = tmp_path / "report.json", tmp_path / "report.html"
    body = node.call("comply", "--domain", "WHITE-2.5", "--out", str(out), "--html", str(html)).body
    assert body["overall"] == "COMPLIANT" and "lines" in body["evidence"]["WHITE-2.5"]
    assert digests(json.loads(out.read_text()))[0] == body["digest"] and "WHITE-2.5" in html.read_text()
    rows = node.call("log", "--kind", "ProcedureEnded").objects
    assert json.loads(rows[-1]["content"])["report"] == body["digest"] and rows[-1]["procedure"] == "compliance.check"
    assert (
        node.call("status").body["compliance"]["compliance"] == "UNVERIFIED"
    )  # a part of the register says nothing of all of it


def test_a_dry_run_records_nothing(node: Node) -> None:
    """The log is as it was; what nothing looks at is not shown, and ends with exit 1."""
    load_checks()
    unseen = next(
        each.id for each in requirements().values() if each.level == "MUST" and each.id not in {*CHECKS, *reasons()}
    )
    before = node.call("status").body["size"]
    answer = node.call("comply", "--domain", unseen, "--dry-run", expect=1).body
    assert answer["overall"] == "INCOMPLETE" and answer["recorded"] == 0
    assert node.call("status").body["size"] == before


def test_coverage_is_told(node: Node) -> None:
    """Figures by document and domain, exit 0 as long as nothing is missing."""
    body = node.call("comply", "coverage").body
    assert set(body["domains"]) >= {"core", "protocol"} and body["documents"]["WHITE"]["check"] > 30
