"""What each of the six steps has to find before it is taken (RUNBOOK-11.1): looks at real things, and what they say for the record.

Identify writes down where the log stands; verify looks at program, configuration, policy and log; resume proves that the log is
still the one that was identified, grown (RUNBOOK-11.2). A step that finds something wrong raises, and nothing is recorded.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from blake3 import blake3

from femtoclaw import events
from femtoclaw.errors import AnswerIsNoError, ConfigurationError, IntegrityError
from femtoclaw.goals import OpenNode, reading
from femtoclaw.incidents.files import configuration_difference, policy_difference
from femtoclaw.incidents.story import Story
from femtoclaw.launcher import start
from femtoclaw.operations import STEPS, next_step
from femtoclaw.state import Incident, Node
from wal.merkle import ProofError, verify_consistency
from wal.reader import LogReader

NODE_CONTAINED_UP_TO = 2
"""Severities for which `respond` takes the node out of service; below it stays, unless an operator says otherwise."""

RESTART_UP_TO = 1
"""Severities after which the node is restarted before it resumes, or somebody says why not."""


class OutOfOrderError(AnswerIsNoError):
    """A step whose time has not come: an earlier one was not taken."""

    code = "OUT_OF_ORDER"


class Taken(NamedTuple):
    """What a step found, for its record."""

    result: str
    detail: str
    digest: str = ""


def require_next(incident: Incident, incident_id: str, step: str) -> None:
    """Raise OutOfOrderError when another step than ``step`` comes next."""
    wanted = next_step(incident)
    if step != wanted:
        raise OutOfOrderError(
            f"the incident's next step is another: {wanted}", where=f"incident {incident_id}", expected=wanted, found=step,
            remedy=f"`femtoclaw incident {wanted} {incident_id}`, or `femtoclaw incident respond {incident_id}`",
        )  # fmt: skip


def open_one(node: Node, incident_id: str) -> Incident:
    """The open incident. Raises ConfigurationError when none of this id is open."""
    known = node.operations.incidents.get(incident_id)
    if known is None:
        raise ConfigurationError(
            "no such incident is open",
            where="incident ID",
            expected="one of `femtoclaw incident list`",
            found=incident_id[:40],
        )
    return known


def identify(started: OpenNode) -> Taken:
    """Where the log stands, and how often the node had started."""
    with reading(started) as reader:
        size = reader.size
        root = reader.tree().root(size).hex()
    return Taken("done", f"{size} records, {started.authority.state.node.boots} boots", root)


def identified(story: Story) -> tuple[int, int, bytes]:
    """Records, boots and root that the step `identify` wrote down. Raises IntegrityError where it says none."""
    told = story.step(STEPS[0])
    try:
        size, boots = (int(part.split()[0]) for part in (told.detail if told is not None else "").split(", ")[:2])
        return size, boots, bytes.fromhex(told.digest if told is not None else "")
    except (ValueError, IndexError):
        raise IntegrityError("the record of the step identify says nothing of the log", where="identify") from None


def verify(started: OpenNode, story: Story) -> Taken:
    """Program, configuration, policy, log, and that the log is the identified one. Raises IntegrityError with what is wrong."""
    from femtoclaw.distribution_watch import distribution_changed

    node, home = started.authority.state.node, started.home
    # Without a manifest nothing says what the files should be: that is told, and is no finding.
    changed = distribution_changed(home) if start.verified is not None else []
    report = _verify_log(started)
    body: dict[str, Any] = {
        "distribution": ", ".join(changed),
        "configuration": configuration_difference(home, node),
        "policy": policy_difference(home, node),
        "log": "; ".join(f"{each['code']} at {each['where']}" for each in report["findings"][:5]),
    }
    wrong = {name: found for name, found in body.items() if found}
    if wrong or not report["ok"]:
        raise IntegrityError(
            f"verification fails: {', '.join(wrong) or 'log'}", where=home.path, expected="everything as recorded and verified",
            found="; ".join(f"{name}: {found}" for name, found in wrong.items()) or "see `femtoclaw verify`",
            remedy="restore what is named; the incident stays at this step until all of it verifies",
        )  # fmt: skip
    with reading(started) as reader:
        grown = prefix(reader, story)
    sealed = "verified" if start.verified is not None else "not sealed, so not verified"
    body = {"distribution": sealed, "configuration": node.configuration.digest, "policy": node.policy.digest,
            "log": report["size"], "root": report["root"], "identified": grown}  # fmt: skip
    digest = blake3(json.dumps(body, sort_keys=True).encode()).hexdigest()
    detail = (
        f"distribution {sealed}; configuration version {node.configuration.version} and policy version {node.policy.version} as "
        f"recorded; log of {report['size']} records verified, the {grown} identified ones a prefix of it"
    )
    return Taken("done", detail, digest)


def _verify_log(started: OpenNode) -> dict[str, Any]:
    """Bytes, chain, tree, signatures and segments in a process of its own, beside this one's; then the rules. ``audit.verify_home``
    does so where nobody has the log open."""
    from femtoclaw.audit import check_rules
    from femtoclaw.subject_keys import sealer_at
    from wal.blob import read_blob
    from wal.inspection import verify_directory

    report = verify_directory(started.home.log)
    if report["ok"]:
        with reading(started) as reader:
            records = reader.scan(1, report["size"] + 1)
            found, _ = check_rules(
                records, lambda name: read_blob(reader.storage, name), sealer=sealer_at(started.home)
            )
        report |= {"ok": not found, "findings": [each._asdict() for each in found]}
    return report


def prefix(reader: LogReader, story: Story) -> int:
    """How many records the log had at `identify`, which are proven to be a prefix of it now. Raises IntegrityError."""
    size, _, root = identified(story)
    tree, now = reader.tree(), reader.size
    try:
        if now < size:
            raise ProofError("the log is shorter", expected=size, found=now)
        verify_consistency(size, now, tree.consistency(size, now), root, tree.root(now))
    except ProofError as error:
        raise IntegrityError(
            "the log is not the one that was identified, grown",
            where=f"records 1 to {size}",
            expected=root.hex(),
            found=error.what,
        ) from None
    return size


def resume(started: OpenNode, incident: Incident, story: Story, no_restart: str) -> Taken:
    """That the log is the identified one, and that the node was restarted since, or why it need not be. Raises IntegrityError,
    or ConfigurationError where a restart is asked for and was neither done nor refused with a reason."""
    with reading(started) as reader:
        size = prefix(reader, story)
        root = reader.tree().root(reader.size).hex()
    boots = started.authority.state.node.boots - identified(story)[1]
    if boots:
        told = f"restart: done, {boots} since"
    elif no_restart:
        told = f"restart: skipped: {no_restart}"
    elif incident.severity <= RESTART_UP_TO:
        raise ConfigurationError(
            "the node was not restarted since the incident was identified", where="resume", expected="a restart",
            found="the same process", remedy="restart it, or say why not: --no-restart REASON",
        )  # fmt: skip
    else:
        told = "restart: skipped: not needed at this severity"
    return Taken("done", f"{told}; the {size} identified records are a prefix of the log", root)


def resumed_before(story: Story) -> bool:
    """Whether the incident was resolved."""
    return any(isinstance(each.event, events.IncidentStepped) and each.event.step == STEPS[-1] for each in story.steps)
