"""``certificate`` in a sealed installation: issued over evidence, denied with every reason, worth what the node still is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.auditing.certificate import (
    CHECKPOINT,
    CONFIGURATION,
    PARTS,
    REPORT,
    VERIFICATION,
    CertificateError,
    check_parts,
    open_certificate,
    read_folder,
    sign_certificate,
)
from femtoclaw.auditing.denial import Facts, check_report, denials
from femtoclaw.auditing.levels import Evidence, level, steps
from femtoclaw.compliance.register import requirements
from femtoclaw.compliance.report import digests
from femtoclaw.errors import ConfigurationError
from femtoclaw.keys import parse_public_key
from tests.femtoclaw.installed import Installed
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.note import Ed25519Signer

RECORD = """
import sys; sys.path.append({root!r})
from femtoclaw.launcher import start
sys.path.remove({root!r})
start.verified = start.verify({root!r}, {home!r})
import json
from femtoclaw import boot
from femtoclaw.compliance.report import build, digests
from femtoclaw.control import operator_signer
from femtoclaw.home import Home
from femtoclaw.procedures import procedure
from femtoclaw.sources import live
home = Home({home!r})
started = boot.start(home, live())
node = started.authority.state.node
made = []
for report in json.load(sys.stdin):
    report["build"] = build() | report["build"]
    report["installation"] = {{"runtime_id": node.runtime_id, "configuration": node.configuration.digest}} | report["installation"]
    digest = digests(report)[0]
    with procedure(started, operator_signer(home, node), "compliance.check", "all", digest) as told:
        told.content = {{"report": digest}}
    made.append(report)
boot.stop(started, "recorded")
print(json.dumps(made))
"""
"""Has reports recorded as `comply` records them: a run over everything takes longer than a test may."""


def report(run: int = 1, **changes: Any) -> dict[str, Any]:
    """A report in which everything is shown."""
    rows = [
        {"id": each.id, "level": each.level, "seed": each.seed, "result": "shown", "check": "look"}
        for each in requirements().values()
    ]
    counts = {"shown": 1, "failed": 0, "not applicable": 0, "not shown": 0}
    return {
        "format": "femtoclaw compliance report v1", "volatile": ["run", "evidence"], "build": {}, "installation": {},
        "scope": ["all"], "overall": "COMPLIANT", "documents": {"AUDIT": counts}, "verdicts": rows, "evidence": {},
        "run": {"number": run},
    } | changes  # fmt: skip


def failing(**results: str) -> dict[str, Any]:
    """A report with other results for some ids (written with _ for - and .), without the one that is ``left_out``."""
    wanted = {name: results.get(name.replace("-", "_").replace(".", "_")) for name in requirements()}
    rows = [row | {"result": wanted[row["id"]] or row["result"]} for row in report()["verdicts"]]
    return report(3, verdicts=[row for row in rows if row["result"] != "left out"], overall="NON_COMPLIANT")


def recorded(place: Installed, *reports: dict[str, Any]) -> list[dict[str, Any]]:
    """The reports as they stand on record, for this build."""
    text = json.dumps(reports).encode()
    done = place.run(RECORD.format(root=str(place.root), home=str(place.home)), stdin=text)
    assert done.code == 0, done.stderr
    made: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return made


def called(place: Installed, *words: str, expect: int = 0) -> Any:
    done = place.call("--json", *words)
    assert done.code == expect, done
    return json.loads(done.stdout)


def given(place: Installed, body: dict[str, Any], name: str = "report.json") -> str:
    path = place.root.parent / name
    path.write_text(json.dumps(body))
    return str(path)


@pytest.fixture(scope="module")
def certified(installation: Installed, tmp_path_factory: pytest.TempPathFactory) -> tuple[Installed, dict[str, Any]]:
    """An installation with two good reports on record, and a certificate of another authority."""
    place = installation.copy(tmp_path_factory.mktemp("certified"))
    first, second = recorded(place, report(1), report(2))
    key = str(place.root.parent / "authority.key")
    called(place, "operator", "keygen", "auditor", "--out", key)
    made = called(
        place, "certificate", "issue", "--report", given(place, first), "--rerun", given(place, second, "again.json"),
        "--authority-key", key,
    )  # fmt: skip
    return place, made


def status(place: Installed, expect: int) -> Any:
    return called(place, "certificate", "status", expect=expect)


@pytest.mark.requirement("CERT-4.1")
@pytest.mark.requirement("AUDIT-27.1")
def test_four_parts_under_one_signature(certified: tuple[Installed, dict[str, Any]], tmp_path: Path) -> None:
    """The level is what the evidence gives; another key, a part that is away or altered, or a changed word: it proves nothing."""
    place, made = certified
    assert (made["issued"], made["level"]) == (True, 3)
    assert status(place, 0)["status"] == "VALID"
    shown = called(place, "certificate", "verify", made["folder"], "--key", made["authority"])
    assert (shown["level"], shown["authority_kind"], shown["last"]) == (3, "independent", made["last"])
    assert [met for _, _, met in shown["level_steps"]] == [True, True, True, True, False]
    node_key = (place.home / "keys" / "node.pub").read_text().strip()
    called(place, "certificate", "verify", made["folder"], "--key", node_key, expect=3)
    note, parts = read_folder(made["folder"])
    body = open_certificate(note, parse_public_key(made["authority"], "test"))
    for name in PARTS:
        for wrong in ({k: v for k, v in parts.items() if k != name}, parts | {name: parts[name] + b" "}):
            with pytest.raises(CertificateError):
                check_parts(body, wrong)
    for at in range(30, len(note), len(note) // 40):
        with pytest.raises(CertificateError):
            open_certificate(note[:at] + bytes([note[at] ^ 1]) + note[at + 1 :])


ELSEWHERE: dict[str, Any] = {
    "scope": ["AUDIT"], "build": {"digest": "0" * 64}, "installation": {"runtime_id": "other", "configuration": "0"},
}  # fmt: skip
DENIED: dict[str, tuple[Callable[[], dict[str, Any]], tuple[str, ...], set[str]]] = {
    "by verdicts": (
        lambda: failing(AUDIT_8_1="failed", AUDIT_10_1="not shown", CERT_5_1="left out", AUDIT_27_1="not shown"), (),
        {"AUDIT-8.1", "AUDIT-10.1", "CERT-5.1"},
    ),
    "of another place": (
        lambda: report(5, **ELSEWHERE), (),
        {"REPORT_PARTIAL", "ANOTHER_BUILD", "ANOTHER_NODE", "ANOTHER_CONFIGURATION"},
    ),
    "the reference tier": (lambda: report(9), ("--tier", "reference"), {"TIER_UNPUBLISHED"}),
}  # fmt: skip


@pytest.mark.requirement("CERT-5.1")
@pytest.mark.requirement("CONFORM-20.1")
@pytest.mark.requirement("AUDIT-15.1")
@pytest.mark.requirement("SUITE-12.1")
def test_a_denial_names_every_reason_on_record(certified: tuple[Installed, dict[str, Any]], tmp_path: Path) -> None:
    """No certificate file; what failed, or which kind of evidence is absent; put right, it is issued, and both are in the log."""
    place = certified[0].copy(tmp_path)
    before = sorted(path.name for path in (place.home / "certificates").iterdir())
    reports = recorded(place, *(make() for make, _, _ in DENIED.values()), report(10))
    for made, (_, words, ids) in zip(reports, DENIED.values(), strict=False):
        answer = called(place, "certificate", "issue", "--report", given(place, made), *words, expect=1)
        assert set(answer["failing"]) == ids
    assert "18, 19" in answer["reasons"]["TIER_UNPUBLISHED"] and answer["reasons"]["TIER_UNPUBLISHED"].endswith("60")
    dry = called(place, "certificate", "issue", "--report", given(place, reports[0]), "--dry-run", expect=1)
    assert dry["denied"] and set(dry["reasons"]) == DENIED["by verdicts"][2]
    by_hand = report(11, build=reports[-1]["build"], installation=reports[-1]["installation"])
    answer = called(place, "certificate", "issue", "--report", given(place, by_hand), expect=1)
    assert answer["failing"] == ["REPORT_NOT_ON_RECORD"]
    assert sorted(path.name for path in (place.home / "certificates").iterdir()) == before
    made = called(place, "certificate", "issue", "--report", given(place, reports[-1]))
    assert (made["issued"], made["level"]) == (True, 1)
    rows = called(place, "audit", "query", "--type", "ProcedureEnded")["events"]
    told = [(row["result"], json.loads(row["content"])) for row in rows if row["procedure"] == "certificate.issue"]
    assert [result for result, _ in told] == ["done", *["failed"] * (len(DENIED) + 1), "done"]
    assert set(told[1][1]["failing"]) == DENIED["by verdicts"][2]


@pytest.mark.requirement("CERT-17.1")
def test_a_certificate_is_worth_what_the_node_still_is(
    certified: tuple[Installed, dict[str, Any]], tmp_path: Path
) -> None:
    """Contained: suspended. One byte of the build: invalid. Revoked: for good, and says why, in `status` and `health` too."""
    place, made = certified[0].copy(tmp_path), certified[1]
    called(place, "contain")
    assert status(place, 1)["status"] == "SUSPENDED"
    called(place, "contain", "--lift")
    source = (place.root / "femtoclaw" / "snapshot.py").read_bytes()
    place.replace("femtoclaw/snapshot.py", source + b"#")
    place.seal(counter=8)
    called(place, "distribution", "accept", place.digest()[:16])
    body = status(place, 1)
    assert body["status"] == "INVALID" and body["why"][0].startswith("the build is another")
    # Its folder is gone: what is on record is revoked all the same, and what is not, is not.
    (folder,) = [each for each in place.root.parent.rglob(made["certificate"]) if each.is_dir()]
    shutil.rmtree(folder)
    assert place.call("certificate", "revoke", "nosuch", "--reason", "tried").code == 2
    called(place, "certificate", "revoke", made["certificate"], "--reason", "the auditor withdrew it")
    body = status(place, 1)
    assert (body["status"], body["why"]) == ("REVOKED", ["the auditor withdrew it"])
    assert called(place, "status")["certificate"] == "REVOKED"
    (check,) = [
        each for each in json.loads(place.call("--json", "health").stdout)["checks"] if each["name"] == "certificate"
    ]
    assert (check["result"], check["text"]) == ("warning", "REVOKED, the auditor withdrew it")


def test_a_log_that_begins_otherwise_is_not_the_certified_one(
    installation: Installed, certified: tuple[Installed, dict[str, Any]], tmp_path: Path
) -> None:
    """A certificate's folder carried to another home is none of its own: nothing is on record there."""
    place = installation.copy(tmp_path)
    shutil.copytree(certified[0].home / "certificates", place.home / "certificates")
    assert status(place, 1)["status"] == "NONE"


GOOD = Facts({"d": 1}, "b", "c", "r", frozenset(requirements()), True, "verified")
MADE = report(build={"digest": "b"}, installation={"configuration": "c", "runtime_id": "r"})


@pytest.mark.requirement("AUDIT-15.1")
def test_each_kind_of_evidence_is_needed() -> None:
    """Compliance on record, a log that verifies, a verified program: one that is absent is the one reason."""
    assert denials(MADE, "d", GOOD, "published") == []
    absent = {
        "REPORT_NOT_ON_RECORD": GOOD._replace(on_record={}), "AUDIT_UNSOUND": GOOD._replace(log_sound=False),
        "BINARY_UNVERIFIED": GOOD._replace(binary="changed"), "ANOTHER_BUILD": GOOD._replace(build="x"),
        "ANOTHER_CONFIGURATION": GOOD._replace(configuration="x"), "ANOTHER_NODE": GOOD._replace(runtime_id="x"),
    }  # fmt: skip
    for reason, facts in absent.items():
        assert [each.reason for each in denials(MADE, "d", facts, "published")] == [reason]
    assert [each.reason for each in denials(MADE | {"scope": ["CERT"]}, "d", GOOD, "published")] == ["REPORT_PARTIAL"]
    (tier,) = denials(MADE, "d", GOOD, "enterprise")
    assert tier.text.endswith("40") and ": 18, 19" in tier.text
    wrongs: tuple[Any, ...] = ({}, [], MADE | {"verdicts": [1]}, MADE | {"scope": "all"})
    for wrong in wrongs:
        with pytest.raises(ConfigurationError):
            check_report(wrong, "test")


@pytest.mark.requirement("CERT-5.1")
def test_what_a_verdict_denies() -> None:
    """A MUST that failed or was not shown, anything that failed, anything left out; not a SHOULD that is not shown."""
    found = denials(failing(AUDIT_8_1="failed", AUDIT_27_1="not shown", CERT_5_1="left out"), "d", GOOD, "published")
    assert {each.reason for each in found} & requirements().keys() == {"AUDIT-8.1", "CERT-5.1"}


def test_a_part_or_a_word_that_is_another_is_refused() -> None:
    """Made here by hand, so that nothing else is in the way."""
    signer, other = Ed25519Signer("auditor", bytes(32)), Ed25519Signer("eve", bytes(31) + b"1")
    node = Ed25519Signer("log", bytes(31) + b"2")
    results = json.dumps(MADE).encode()
    parts = {
        REPORT: results,
        VERIFICATION: b"{}",
        CONFIGURATION: b"{}",
        CHECKPOINT: sign_checkpoint(Checkpoint("log", 1, bytes(32)), [node]),
    }
    body = {
        "id": "1", "issued_ns": 1, "authority_kind": "independent", "runtime_id": "r", "log": "log",
        "node_key": node.public.vkey(), "version": "0", "build": "b", "configuration": "c", "policy": "p", "first": 1, "last": 1,
        "root": bytes(32).hex(), "level": 1, "level_steps": [], "tier": "published", "documents": {},
        "report": digests(json.loads(results))[0],
    }  # fmt: skip
    note = sign_certificate(body, parts, signer)
    check_parts(open_certificate(note, signer.public), parts)
    with pytest.raises(CertificateError):
        open_certificate(note, other.public)
    for name in (VERIFICATION, CONFIGURATION):
        with pytest.raises(CertificateError):
            check_parts(open_certificate(note), parts | {name: b"[]"})
    for raw in (b"[]", b"{}", b'{"build":1}', b"\xff", b"[" * 100_000):
        other_parts = parts | {REPORT: raw}
        with pytest.raises(CertificateError):
            check_parts(open_certificate(sign_certificate(body, other_parts, signer)), other_parts)
    for field, value in (
        ("last", 2),
        ("root", "00"),
        ("build", "x"),
        ("report", "x"),
        ("node_key", other.public.vkey()),
    ):
        wrong = open_certificate(sign_certificate(body | {field: value}, parts, signer))
        with pytest.raises(CertificateError):
            check_parts(wrong, parts)


@pytest.mark.requirement("AUDIT-27.1")
def test_a_level_needs_every_step_below() -> None:
    """Each step taken away lowers it to the level before; nothing else can raise it."""
    whole = Evidence(*[True] * 5)
    assert level(whole) == 4
    for name, step in zip(Evidence._fields, steps(whole), strict=True):
        assert level(whole._replace(**{name: False})) == step.level - 1
    assert level(Evidence(*[False] * 5)) == 0


def test_the_stable_digest_leaves_out_what_differs_between_runs() -> None:
    """Two runs with the same verdicts are each other's rerun; one verdict less is not."""
    assert digests(report(1))[1] == digests(report(2))[1] != digests(failing(AUDIT_8_1="failed"))[1]
    assert digests(report(1))[0] != digests(report(2))[0]
