"""A compliance run: every requirement of the scope judged once, graded, and put into a report."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from femtoclaw.compliance.checking import Verdict, judge
from femtoclaw.compliance.grading import Standing, grade
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.load import load_checks
from femtoclaw.compliance.register import DOMAINS, Requirement, domain_of, requirements
from femtoclaw.compliance.report import make_report, reasons
from femtoclaw.errors import FemtoClawError, UsageError
from femtoclaw.home import Home
from wal.errors import LogError

if TYPE_CHECKING:
    from femtoclaw.compliance.checklist import Found

EVERYTHING = "all"
SEEDS = "seed"
CHECKLIST = "CERT-6.1"


def scope_of(words: list[str]) -> list[Requirement]:
    """The requirements that are asked for: by document, id, domain, ``seed`` or ``all``. Raises UsageError."""
    register = requirements()
    wanted = [word.strip() for word in words] or [EVERYTHING]
    found: dict[str, Requirement] = {}
    for word in wanted:
        chosen = [each for each in register.values() if _is_of(each, word)]
        if not chosen:
            known = sorted({each.document for each in register.values()})
            raise UsageError(
                "no requirement is of that scope", where="--domain", found=word[:64],
                expected=f"seed, all, an id, a domain, or one of {', '.join(known)}",
            )  # fmt: skip
        found |= {each.id: each for each in chosen}
    return [each for each in register.values() if each.id in found]


def _is_of(requirement: Requirement, word: str) -> bool:
    if word == EVERYTHING or word.upper() in (requirement.document, requirement.id):
        return True
    if word == SEEDS:
        return requirement.seed
    return word in DOMAINS and domain_of(requirement) == word


def measure(
    home: Home, scope: list[Requirement], laboratory: Laboratory, told: Callable[[Verdict], None] | None = None
) -> list[Verdict]:
    """Judge them in the register's order; ``told`` hears each verdict."""
    load_checks()
    exempt = reasons()
    found = []
    ahead = _begin_ahead(scope, laboratory)
    try:
        for each in scope:
            verdict = judge(each.id, laboratory, exempt)
            found.append(verdict)
            if told is not None:
                told(verdict)
    finally:
        if ahead is not None:
            ahead.join()
    return found


WIDE = 100
"""Requirements from which on everything is measured sooner or later."""


def _begin_ahead(scope: list[Requirement], laboratory: Laboratory) -> threading.Thread | None:
    """Begin what takes long and mostly waits beside the rest; None for a scope that may not need it."""
    if len(scope) < WIDE:
        return None
    from femtoclaw.compliance.clustered import cluster
    from femtoclaw.compliance.migrating import cuts
    from femtoclaw.compliance.monitored import monitored
    from femtoclaw.compliance.released import released
    from femtoclaw.compliance.tried_releases import tried

    def work() -> None:
        for measure in (cluster, monitored, released, cuts, tried):
            with contextlib.suppress(Exception):  # told to whoever asks for it
                laboratory.once(measure)

    thread = threading.Thread(target=work, name="comply-ahead")
    thread.start()
    return thread


def items_of(scope: list[Requirement], laboratory: Laboratory) -> list[Found]:
    """The checklist, for a scope that has it; empty where it cannot be measured: then its requirement is not shown."""
    from femtoclaw.compliance.checklist import checklist

    if not any(each.id == CHECKLIST for each in scope):
        return []
    try:
        return checklist(laboratory)
    except (FemtoClawError, LogError, OSError):
        return []


def report_on(
    home: Home,
    scope: list[Requirement],
    words: list[str],
    verdicts: list[Verdict],
    begun: float,
    items: Iterable[Found] = (),
) -> dict[str, Any]:
    """The report of a run; the log is read for what installation it is. ``items`` are those of the checklist. Raises LogError for
    a log that cannot be read."""
    from femtoclaw.auditing.standing import VALID
    from femtoclaw.auditing.standing import standing as certified
    from femtoclaw.restore import load_state
    from wal.reader import read_log_directory

    reader = read_log_directory(home.log)
    try:
        node, head, origin = load_state(reader).node, reader.head, reader.origin
        members = reader.keys().newest.members
        certificate = certified(home, reader, node)
        valid = certificate["status"] == VALID
        standing = Standing(valid, members is not None and reader.checkpoint_note() is not None)
    finally:
        reader.close()
    register = requirements()
    installation = {
        "runtime_id": node.runtime_id, "log": origin, "configuration": node.configuration.digest, "policy": node.policy.digest,
        "certification": str(certificate["status"]), "authority": str(certificate.get("authority", "none")),
    }  # fmt: skip
    run = {
        "time_ns": time.time_ns(), "seconds": round(time.monotonic() - begun, 3), "size": head.index, "link": head.link.hex(),
    }  # fmt: skip
    return make_report(
        verdicts, register, grade(verdicts, register, standing), installation, run, words or [EVERYTHING], items
    )
