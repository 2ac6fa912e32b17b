"""Which notices of the replication become events, and how grave they are. The rest is for the journal. Pure."""

from __future__ import annotations

from cluster.steps import Notice
from femtoclaw.errors import Severity

CRITICAL = frozenset(
    {
        "DIVERGED", "ROLLED_BACK", "BAD_ACK", "PEER_DIVERGED", "PEER_FROZEN", "REFUSED_DIVERGED", "OTHER_HISTORY",
        "WITNESS_DISAGREES",
    }
)  # fmt: skip
"""Somebody's history contradicts another's, or somebody lies."""

_ERRORS = frozenset(
    {
        "REFUSED_BAD_RECORDS",
        "PEER_BAD_RECORDS",
        "BAD_PROMISE",
        "PROMISE_NOT_SHOWN",
        "EPOCH_REGRESSION",
        "COORDINATOR",
        "WITNESS",
        "ARCHIVE",
    }
)
_WARNINGS = frozenset(
    {
        "ORPHAN", "EPOCH_BEGUN", "STEPPED_DOWN", "NO_MAJORITY", "ADOPTING", "RESTORED_CAUGHT_UP", "BEHIND_REGISTER",
        "REFUSED_STALE_EPOCH", "REFUSED_NOT_ATTESTED", "REFUSED_OTHER_LOG", "REFUSED_UNKNOWN_MEMBER", "PEER_REFUSED",
        "REFUSED_MALFORMED", "REFUSED_TOO_LARGE",
    }
)  # fmt: skip


def told_as(notice: Notice) -> Severity | None:
    """The severity of the event, None for what is not recorded."""
    if notice.code in CRITICAL:
        return Severity.CRITICAL
    if notice.code in _ERRORS:
        return Severity.ERROR
    return Severity.WARNING if notice.code in _WARNINGS else None
