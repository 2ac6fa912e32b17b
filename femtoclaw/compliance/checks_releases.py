"""Checks of releases: deployment, upgrade and rollback of this program on a twin, and what is refused."""

from __future__ import annotations

import json

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.checks_suite import together
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.released import released


@shows("RUNBOOK-14.1", "UPGRADE-4.1")
def a_release_is_deployed_in_order(laboratory: Laboratory) -> str:
    """Authorized, its signature and hash verified, deployed, restarted and checked: on record in this order."""
    found = laboratory.once(released)
    need(found["answers"]["deploy"].code == 0, "a deployed release", found["answers"]["deploy"].stderr[-200:])
    ended = [
        each
        for each in found["trail"].of("ProcedureEnded")
        if each.event.procedure == "release.deploy" and each.event.result == "done"
    ]
    begun = [each for each in found["trail"].of("ProcedureBegun") if each.event.procedure == "release.deploy"]
    need(ended and begun and begun[0].index < ended[0].index, "begin and end on record")
    steps = json.loads(ended[0].event.content).get("steps", [])
    need(
        steps[:1] == ["signature"] and steps.index("switched") < steps.index("checked"),
        "signature first, checked last",
        steps,
    )
    return f"twin: {begun[0].index} to {ended[0].index}: {' > '.join(steps)}"


@shows("RUNBOOK-14.2")
def foreign_releases_are_refused(laboratory: Laboratory) -> str:
    """A release by another key, with one byte changed, or without a signature is refused, and nothing is installed."""
    answers = laboratory.once(released)["answers"]
    need(answers["whole"].code == 0, "the whole one verified", answers["whole"].stderr[-200:])
    every(((name, answers[name].code != 0) for name in ("another key", "changed", "unsigned")), "a refusal")
    return ", ".join(
        f"{name}: exit {answers[name].code} {answers[name].error}" for name in ("another key", "changed", "unsigned")
    )


@shows("RUNBOOK-16.1", "RUNBOOK-16.2")
def upgrades_keep_history(laboratory: Laboratory) -> str:
    """An upgrade keeps the state first, and the root from before it is a prefix of the log after it."""
    found = laboratory.once(released)
    answer = found["answers"]["upgrade"]
    need(answer.code == 0, "an upgrade", answer.stderr[-200:])
    need(answer.body.get("kept"), "the state kept before it", sorted(answer.body))
    need(found["prefix"], "the earlier root a prefix of the log")
    size, root = found["before"]
    return f"{size} records, root {root[:16]} still a prefix; kept {json.dumps(answer.body['kept'])[:120]}"


@shows("RUNBOOK-17.1", "RUNBOOK-17.2", "UPGRADE-15.1")
def rollbacks_keep_history(laboratory: Laboratory) -> str:
    """A rollback goes back to the release before, which is verified and works; what was recorded in between stays."""
    found = laboratory.once(released)
    answers = found["answers"]
    need(answers["rollback"].code == 0, "a rollback", answers["rollback"].stderr[-200:])
    need(
        answers["afterwards"].code == 0 and answers["verify"].code == 0,
        "work and a log that verifies",
        answers["afterwards"].code,
    )
    between = [each for each in found["trail"].told if b"in between" in each.raw]
    need(between, "what was recorded in between")
    history = [row["procedure"] for row in answers["history"].body.get("history", [])]
    need(history[-1:] == ["release.rollback"], "the rollback on record", history)
    return f"recorded in between at twin: {between[0].index}; {' > '.join(history)}"


@shows("SUITE-7.1")
def one_path_through_it_all(laboratory: Laboratory) -> str:
    """Install, start, serve, report, back up, upgrade, roll back and stop: each shown in this very run."""
    from femtoclaw.compliance.session import session

    need(len(laboratory.once(session).trail.of("InputReceived")) > 100, "a hundred executions served")
    return together(laboratory, {
        "install": ("DEPLOY-2.1",), "start": ("RUNBOOK-5.1",), "serve": ("WHITE-1.1",), "incident": ("RUNBOOK-11.1",),
        "backup": ("RUNBOOK-18.1",), "upgrade": ("RUNBOOK-16.1",), "rollback": ("RUNBOOK-17.1",), "stop": ("RUNBOOK-6.1",),
    })  # fmt: skip
