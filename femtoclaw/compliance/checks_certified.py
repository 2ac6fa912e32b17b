"""Checks of certification: two runs alike, denials with their reasons, one signature over four parts, and its end."""

from __future__ import annotations

import json
import os

from femtoclaw.compliance.certified import CHEAP, FAILING, certified
from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.grading import canonical
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.report import VOLATILE, digests
from femtoclaw.compliance.session import session
from femtoclaw.event_codec import decode
from femtoclaw.telemetry.figures import Figures
from femtoclaw.telemetry.lines import line
from wal.reader import read_log_directory


@shows("CERT-3.1")
def two_runs_are_alike(laboratory: Laboratory) -> str:
    """All seven kinds of verification, run twice: equal bytes but for the declared fields; each run on record with its digest."""
    found = laboratory.once(certified)
    first, second = (found["reports"][name] for name in ("first", "second"))
    need({row["id"] for row in first["verdicts"]} == set(CHEAP.values()), "a verdict of each kind", first["verdicts"])
    every(((row["id"], row["result"] == "shown") for row in first["verdicts"]), "shown")
    stable = [
        canonical({name: value for name, value in report.items() if name not in VOLATILE}) for report in (first, second)
    ]
    need(stable[0] == stable[1], "equal bytes", [name for name in first if first[name] != second[name]])
    ended = [each for each in found["trail"].of("ProcedureEnded") if each.event.procedure == "compliance.check"]
    places = {json.loads(each.event.content)["report"]: each.index for each in ended}
    need(
        all(digests(report)[0] in places for report in (first, second)),
        "each report's digest on record",
        sorted(places),
    )
    return f"{len(stable[0])} equal bytes over {', '.join(CHEAP)}; on record at certified: {ended[0].index}, {ended[1].index}"


@shows("CERT-4.1")
def certificates_have_four_parts(laboratory: Laboratory) -> str:
    """Results, verification, configuration and checkpoint under one signature: without one, with one altered, or by another key, it
    fails."""
    found = laboratory.once(certified)
    verified = found["answers"]["verify"]
    need(
        verified.code == 0 and verified.body["authority_kind"] == "independent",
        "a certificate that verifies",
        verified.body,
    )
    need(found["answers"]["another key"].code == 3, "exit 3 with another key", found["answers"]["another key"].body)
    need(len(found["parts"]) == 8, "four parts, gone and altered", sorted(found["parts"]))
    every(found["parts"].items(), "a refusal")
    return f"{', '.join(sorted(verified.body['parts']))}; signed by {verified.body['authority'].partition('+')[0]}"


@shows("CERT-5.1")
def failures_deny_a_certificate(laboratory: Laboratory) -> str:
    """One failed requirement: a denial on record that names it, and no certificate's file."""
    found = laboratory.once(certified)
    denied = found["answers"]["failing"]
    need(denied.code == 1 and denied.body.get("failing") == [FAILING], "a denial that names it", denied.body)
    need(found["files after the denial"] == [], "no certificate", found["files after the denial"])
    ended = [
        each for each in found["trail"].of("ProcedureEnded")
        if each.event.procedure == "certificate.issue" and each.event.result == "failed"
    ]  # fmt: skip
    need(ended and json.loads(ended[0].event.content)["failing"] == [FAILING], "the id in the event", ended[:1])
    partial = found["answers"]["partial"].body["reasons"]
    need("REPORT_PARTIAL" in partial, "no certificate over a part", sorted(partial)[:5])
    return f"denied at certified: {ended[0].index} for {FAILING}; a report on {len(CHEAP)} requirements: {len(partial)} reasons"


@shows("AUDIT-15.1")
def three_kinds_of_evidence_are_needed(laboratory: Laboratory) -> str:
    """A report that no run made, a log that does not verify, a program that nothing verified: each alone denies a certificate."""
    answers = laboratory.once(certified)["answers"]
    wanted = {"not on record": "REPORT_NOT_ON_RECORD", "unsound": "AUDIT_UNSOUND", "not verified": "BINARY_UNVERIFIED"}
    for name, reason in wanted.items():
        body = answers[name].body
        need(answers[name].code == 1 and list(body.get("reasons", {})) == [reason], f"{reason} alone ({name})", body)
    issued = answers["verify"].body
    need(answers["issue"].code == 0 and len(issued["parts"]) == 4, "issued with all three", answers["issue"].body)
    every(((name, len(digest) == 64) for name, digest in issued["parts"].items()), "the evidence hashed in it")
    need(issued["last"] > 0 and issued["root"], "the log's range and root", issued)
    return f"{', '.join(wanted.values())}; records 1 to {issued['last']} certified with {len(issued['parts'])} hashes"


@shows("CERT-17.1")
def certificates_end(laboratory: Laboratory) -> str:
    """One more byte in a source: INVALID. Revoked with a reason: on record, told by status and health."""
    found = laboratory.once(certified)
    answers = found["answers"]
    need(answers["status"].body.get("status") == "VALID", "VALID before", answers["status"].body)
    changed = answers["changed source"].body
    need(
        changed.get("status") == "INVALID" and "build is another" in changed["why"][0],
        "INVALID for another build",
        changed,
    )
    revoked = answers["revoked"].body
    need((revoked.get("status"), answers["revoked"].code) == ("REVOKED", 1), "REVOKED", revoked)
    checks = {each["name"]: each for each in answers["health"].body["checks"]}
    need("REVOKED" in checks["certificate"]["text"], "health says so", checks["certificate"])
    ended = [each for each in found["trail"].of("ProcedureEnded") if each.event.procedure == "certificate.revoke"]
    need(ended and "withdrew" in ended[0].event.detail, "the reason on record", ended[:1])
    return f"{changed['why'][0][:80]}; revoked at certified: {ended[0].index}, {checks['certificate']['text']}"


@shows("AUDIT-19.1")
def reports_say_who_and_when(laboratory: Laboratory) -> str:
    """A report states version, certification, date, authority and build; its digest is in the log; log, check and certificate are
    told by telemetry."""
    found = laboratory.once(certified)
    report = found["reports"]["first"]
    stated = {
        "version": report["build"]["version"], "build": report["build"]["digest"], "date": report["run"]["time_ns"],
        "certification": report["installation"]["certification"], "authority": report["installation"]["authority"],
    }  # fmt: skip
    every(stated.items(), "stated")
    digest = digests(report)[0]
    told = [each for each in found["trail"].of("ProcedureEnded") if digest in each.event.content.decode()]
    need(told, "its digest in the log")
    kinds = telemetry_of(laboratory)
    every(kinds.items(), "a line of telemetry")
    return f"{', '.join(f'{name} {str(value)[:16]}' for name, value in stated.items())}; at certified: {told[0].index}; {kinds}"


def telemetry_of(laboratory: Laboratory) -> dict[str, str]:
    """The lines of telemetry that tell of a log's creation, of its verification at a start, of a certificate."""
    served, issued = laboratory.once(session), laboratory.once(certified)
    wanted = {
        "creation": (served.home, [each.index for each in served.trail.of("NodeProvisioned")]),
        "verification": (
            served.home, [each.index for each in served.trail.of("StepTaken") if each.event.step == "audit_log"]
        ),
        "certification": (
            issued["home"],
            [each.index for each in issued["trail"].of("ProcedureEnded") if each.event.procedure == "certificate.issue"],
        ),
    }  # fmt: skip
    return {name: _line(home, indexes[-1]) if indexes else "" for name, (home, indexes) in wanted.items()}


def _line(home: str, index: int) -> str:
    """What the line of telemetry of one record is called."""
    reader = read_log_directory(os.path.join(home, "log"))
    try:
        record = reader.read(index)
    finally:
        reader.close()
    return str(line(record, decode(record.payload), Figures())["event_type"])
