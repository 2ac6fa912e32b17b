"""The commands of operating a node and their options, as data: part of the table in ``femtoclaw.cli.options``."""

from __future__ import annotations

from femtoclaw.cli.audit_options import AUDIT, CERTIFICATE
from femtoclaw.cli.backup_options import BACKUP
from femtoclaw.cli.benching_options import BENCH
from femtoclaw.cli.complying_options import COMPLY
from femtoclaw.cli.incident_options import INCIDENT
from femtoclaw.cli.release_options import MIGRATE, RELEASE
from femtoclaw.cli.shared_options import COSIGNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SERVICE: dict[str, dict[str, Any]] = {
    "which": {"choices": ("show", "stop", "restart"), "help": "show KIND; stop or restart the process that serves the home"},
    "kind": {"nargs": "?", "choices": ("systemd", "container", "kubernetes"), "help": "show: for which of them"},
    "--wait": {"type": int, "metavar": "SECONDS", "default": 60, "help": "restart: how long until it serves again (60)"},
    "--dry-run": {"action": "store_true", "help": "stop, restart: only say which process it would be"},
    "--user": {"metavar": "NAME", "default": "femtoclaw", "help": "who serves the node (default: femtoclaw)"},
}

_DRILL: dict[str, dict[str, Any]] = COSIGNING | {
    "names": {"nargs": "*", "metavar": "NAME", "help": "drills of `drill list`, or all"},
    "--keep": {"metavar": "DIR", "help": "keep the homes of the drills in this directory"},
    "--record": {"action": "store_true", "help": "put what came of them on record in this home"},
}

_RUNBOOK: dict[str, dict[str, Any]] = {"which": {"choices": ("list",)}}

OPERATING: dict[str, tuple[str, str, dict[str, dict[str, Any]]]] = {
    "audit": (
        "what auditors ask and take away: query, trace, export, statement, retain, signatures",
        "auditing",
        AUDIT,
    ),
    "backup": ("backups of this node: keygen, create, list, verify, restore, resume, prune", "backing_up", BACKUP),
    "bench": ("what this machine does, in nine categories, beside targets and limits; compare", "benching", BENCH),
    "certificate": ("of compliance: issue, show, verify, revoke, status", "certifying", CERTIFICATE),
    "comply": ("every requirement looked at on this installation, with evidence", "complying", COMPLY),
    "drill": ("faults of the runbook, built apart and answered: list, NAME ..., all", "drilling", _DRILL),
    "incident": ("what went wrong, and its answer: list, show, contain, respond, resolve, ...", "incidents", INCIDENT),
    "runbook": ("the procedures: commands, previews, roles, and their last run", "runbook", _RUNBOOK),
    "service": ("what supervises a node: show its files; stop or restart the node", "service", _SERVICE),
    "release": ("the program as signed files: build, verify, deploy, rollback, list", "releasing", RELEASE),
    "migrate": ("a home of an earlier format: plan, run, validate, rollback, history", "migrating", MIGRATE),
}
"""Name to (help, module in femtoclaw.cli, what it takes)."""
