"""Why a certificate may not be issued: every reason, not the first one only (CERT-5.1, AUDIT-15.1, CONFORM-20.1). Pure."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from femtoclaw.errors import ConfigurationError

GOOD = ("shown", "not applicable")
MUST = "MUST"
FAILED = "failed"
TIERS = {"published": 17, "enterprise": 40, "reference": 60}
"""Tier to the highest number of a specification that it asks for."""
NUMBERED_MAX = 17
"""The specifications with these numbers are published; others are published by a name, such as FC-STORAGE-0001."""


class Facts(NamedTuple):
    """What is so now, as found by whoever issues."""

    on_record: Mapping[str, int]
    """Digest of a report to the index of its record."""
    build: str
    configuration: str
    runtime_id: str
    requirements: frozenset[str]
    """Every id of the register."""
    log_sound: bool
    binary: str
    """``verified``, or what keeps the program's files from being that."""


class Denial(NamedTuple):
    """One reason: an id of the register, or a word."""

    reason: str
    text: str


def check_report(report: Any, where: str) -> dict[str, Any]:
    """The report, when it has the form of one. Raises ConfigurationError."""
    fields = {
        "format": str,
        "build": dict,
        "installation": dict,
        "scope": list,
        "verdicts": list,
        "overall": str,
        "documents": dict,
    }
    if not isinstance(report, dict) or {name: type(report.get(name)) for name in fields} != fields:
        raise ConfigurationError(
            "this is no report of `femtoclaw comply`", where=where, expected="what `femtoclaw comply --out FILE` wrote",
            found="another file",
        )  # fmt: skip
    for row in report["verdicts"]:
        if not isinstance(row, dict) or not {"id", "level", "result"} <= row.keys():
            raise ConfigurationError("a verdict of the report has another form", where=where, found="another")
    return report


def denials(report: dict[str, Any], digest: str, facts: Facts, tier: str) -> list[Denial]:
    """Every reason against a certificate; empty when it may be issued."""
    found = [*_of_evidence(report, digest, facts), *_of_verdicts(report["verdicts"], facts.requirements)]
    if TIERS[tier] > NUMBERED_MAX:
        missing = ", ".join(map(str, range(NUMBERED_MAX + 1, TIERS[tier] + 1)))
        found.append(Denial("TIER_UNPUBLISHED", f"specifications with these numbers are not published: {missing}"))
    return found


def _of_evidence(report: dict[str, Any], digest: str, facts: Facts) -> Iterable[Denial]:
    if digest not in facts.on_record:
        yield Denial("REPORT_NOT_ON_RECORD", "no run on record made this report, byte for byte")
    if report["scope"] != ["all"]:
        yield Denial("REPORT_PARTIAL", "the report does not look at everything")
    if report["build"].get("digest") != facts.build:
        yield Denial("ANOTHER_BUILD", "the report is of another build than the one that runs")
    if report["installation"].get("configuration") != facts.configuration:
        yield Denial("ANOTHER_CONFIGURATION", "the report is of another configuration than the one in force")
    if report["installation"].get("runtime_id") != facts.runtime_id:
        yield Denial("ANOTHER_NODE", "the report is of another node")
    if not facts.log_sound:
        yield Denial("AUDIT_UNSOUND", "the log does not verify: see `femtoclaw verify --deep`")
    if facts.binary != "verified":
        yield Denial("BINARY_UNVERIFIED", facts.binary)


def _of_verdicts(verdicts: list[dict[str, Any]], requirements: frozenset[str]) -> Iterable[Denial]:
    """A MUST that is not met, anything that failed, and what the report leaves out."""
    for row in verdicts:
        bad = row["result"] == FAILED or (row["level"] == MUST and row["result"] not in GOOD)
        if bad:
            yield Denial(str(row["id"]), str(row["result"]))
    for missing in sorted(requirements - {row["id"] for row in verdicts}):
        yield Denial(missing, "missing in the report")
