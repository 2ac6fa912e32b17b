"""How grave each kind of incident is, and what that means. Pure: one table, and nothing else decides it (RUNBOOK-10.1).

1 critical: the authority itself may be compromised. 2 high: a function of the node is impaired. 3 medium: something works in
part, or somebody tries. 4 low: to be looked at some day. How soon somebody must begin is ``operations.SEVERITIES``.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from typing import NamedTuple

from femtoclaw.errors import ConfigurationError
from femtoclaw.operations import SEVERITIES


class Kind(NamedTuple):
    """What a kind of incident is: how grave, in one sentence, and what an operator does first."""

    severity: int
    sentence: str
    first: str


KINDS: dict[str, Kind] = {
    "distribution_tampering": Kind(
        1, "files of the verified program changed on disk", "reinstall the distribution; `femtoclaw distribution verify`"
    ),
    "policy_tampering": Kind(
        1, "the policy is not the one that operators put in force", "`femtoclaw incident restore ID` puts it back"
    ),
    "registry_tampering": Kind(1, "the registry is not the recorded one", "`femtoclaw verify`; keep the home"),
    "chain_broken": Kind(1, "the audit log does not follow from itself", "`femtoclaw verify`; keep the home"),
    "replication_divergence": Kind(
        1, "two members or witnesses have histories that contradict each other", "`femtoclaw cluster status`"
    ),
    "security_violation": Kind(
        1, "a worker left its sandbox, or something of the node was forged", "`femtoclaw incident show ID`: its records"
    ),
    "configuration_tampering": Kind(
        2, "the configuration is not the recorded one", "`femtoclaw incident restore ID` puts it back"
    ),
    "member_suspect": Kind(
        2, "a member lost or said what it must not; the others go on without it", "`femtoclaw cluster status`, and its journal"
    ),
    "authorization_engine_down": Kind(2, "the gate cannot decide: every call is denied", "`femtoclaw health`"),
    "crash": Kind(2, "the node ended without an orderly stop", "the boot journal, and `femtoclaw log`"),
    "audit_failure": Kind(2, "the log could not be written", "free the disk, then `femtoclaw recover`"),
    "authorization_failures": Kind(3, "many calls were denied in a short time", "`femtoclaw log --kind AuthorizationDecided`"),
    "distribution_drift": Kind(
        3, "files of a program that nobody sealed changed on disk", "restart it, or run a sealed distribution"
    ),
    "telemetry_down": Kind(3, "telemetry is lost", "`femtoclaw health`"),
    "disk_low": Kind(3, "the disk is nearly full", "free some of it: a full log takes no new work"),
    "replication_lagging": Kind(3, "other members lag behind", "`femtoclaw cluster status`"),
    "slow_health": Kind(4, "a look at the node took long", "`femtoclaw health`"),
}  # fmt: skip
"""Stable word to what it is. An operator may open incidents of other kinds and says then how grave they are."""

NAMES = {1: "critical", 2: "high", 3: "medium", 4: "low"}
"""What alerts call a severity."""

LOWEST = 4


def severity_of(kind: str) -> int:
    """1 to 4; of a kind that is not in the table the lowest."""
    known = KINDS.get(kind)
    return known.severity if known is not None else LOWEST


def chosen_severity(kind: str, asked: int | None) -> int:
    """The severity of an incident that an operator opens: the table's, or the one they state for a kind that is not in it, or a
    graver one. Raises ConfigurationError for a kind that nobody knows without a severity, and for a milder one."""
    known = KINDS.get(kind)
    if asked is None and known is None:
        raise ConfigurationError(
            "how grave is it?",
            where=kind[:40],
            expected="--severity 1 to 4, or one of " + ", ".join(KINDS),
            found="neither",
        )
    if asked is not None and (asked not in SEVERITIES or (known is not None and asked > known.severity)):
        raise ConfigurationError(
            "no such severity",
            where=kind[:40],
            expected=f"1 to {known.severity if known is not None else LOWEST}",
            found=asked,
        )
    return asked if asked is not None else severity_of(kind)


def respond_by(severity: int, at_ns: int) -> int:
    """When somebody must have begun to answer, nanoseconds since 1970."""
    return at_ns + SEVERITIES[severity] * 1_000_000_000


def opened_at(severity: int, respond_by_ns: int) -> int:
    """The reverse: when it was opened."""
    return respond_by_ns - SEVERITIES[severity] * 1_000_000_000


def overdue_periods(severity: int, respond_by_ns: int, now_ns: int) -> int:
    """How many times its time to respond has passed; 0 before. Each of them is told once."""
    if now_ns < respond_by_ns:
        return 0
    return 1 + (now_ns - respond_by_ns) // (SEVERITIES[severity] * 1_000_000_000)
