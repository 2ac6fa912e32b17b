"""``approvals``, ``approve``, ``deny``: held calls, shown exactly as they will run, and what operators decide on them."""

from __future__ import annotations

import json
import time
from typing import Any

from femtoclaw.approvals import binding, in_force, live
from femtoclaw.authorization import HELD
from femtoclaw.cli.asking import Asked, printable_json, signer_of, tell
from femtoclaw.cli.execute import Node, contract, open_node, tell_held
from femtoclaw.cli.options import Arguments
from femtoclaw.cli.recorded_state import recorded_state
from femtoclaw.cli.render import Output, printable
from femtoclaw.control import encode, request
from femtoclaw.errors import HistoryError, UsageError
from femtoclaw.home import locate
from femtoclaw.recorded import recorded
from femtoclaw.runtime import RunResult
from femtoclaw.sealing import NoSubjectKeyError, Sealer
from femtoclaw.state import Approval, Execution, State
from femtoclaw.subject_keys import sealer_at

SHOWN_CHARACTERS_MAX = 4 * 1024 * 1024
"""Of one part of a held call: more than any message can hold, every character escaped. Nothing is approved that was cut."""

RESPONSE_CHARACTERS_MAX = 64 * 1024
"""Of a run's answer."""

_NANOSECONDS = 1_000_000_000


def approvals(arguments: Arguments, output: Output) -> int:
    """List the held calls: 0 also when there are none."""
    home = locate(getattr(arguments, "home", None))
    state = recorded_state(home)
    sealer = sealer_at(home)
    held = [describe(state, name, approval, sealer) for name, approval in sorted(state.live.approvals.items())]
    output.data({"held": held})
    if not held:
        output.line("no call is held")
    for each in held:
        show(each, output)
    return 0


def describe(state: State, execution_id: str, approval: Approval, sealer: Sealer) -> dict[str, Any]:
    """A held call as it will run: claw, arguments, the program that a name resolves to, who asked, what it is bound to.

    Arguments of a subject whose key is not at hand are None: they cannot be shown, and so not be approved."""
    from femtoclaw.engines import EngineCache
    from femtoclaw.facts import Facts, facts

    if execution_id not in state.live.executions:
        raise HistoryError("a call is held of which no execution is in flight", where=printable(execution_id, 80))
    execution = state.live.executions[execution_id]
    run = state.live.runs.get(execution.run_id)
    fixed = EngineCache().engines(state.node)
    args = _arguments(execution, sealer)
    manifest = fixed.manifests.get(approval.claw)
    found = None
    if manifest is not None and args is not None:
        found = facts(manifest, args, fixed.settings.get(approval.claw, {}))
    now = time.time_ns()
    good = live(approval, now) and in_force(state, approval)
    return {
        "execution_id": execution_id,
        "claw": approval.claw,
        "args": args,
        "subject": execution.subject,
        "facts": found.attributes if isinstance(found, Facts) else {},
        "asked_by": {"run_id": execution.run_id, "brain": run.brain, "agent": run.agent} if run else {"intent": True},
        "tainted_by": list(run.trail.tainted) if run is not None else [],
        "policies": list(approval.policies),
        "needed": approval.needed,
        "roles": list(approval.roles),
        "granted": list(approval.granted),
        "requested_ns": approval.requested_ns,
        "expires_ns": approval.expires_ns,
        "seconds_left": max(0, (approval.expires_ns - now) // _NANOSECONDS),
        "state": "held" if good else "void",
        "call_digest": approval.call_digest,
        "policy_digest": approval.policy_digest,
        "manifest_digest": approval.manifest_digest,
        "configuration_digest": approval.configuration_digest,
    }


def _arguments(execution: Execution, sealer: Sealer) -> dict[str, Any] | None:
    try:
        raw = sealer.open(execution.args, execution.subject) if execution.subject else execution.args
    except NoSubjectKeyError:
        return None
    return recorded("a held call's arguments", lambda: dict(json.loads(raw)))


def show(held: dict[str, Any], output: Output) -> None:
    """One held call on the terminal, in ASCII."""
    output.line(
        f"{held['execution_id']}  {held['claw']}  {held['state']}", "bold" if held["state"] == "held" else "dim"
    )
    roles = " or ".join(held["roles"]) or "whom the control policy lets"
    asked = held["asked_by"]
    args = printable_json(held["args"]) if held["args"] is not None else f"sealed for subject {held['subject']}"
    fields: list[tuple[str, object]] = [("arguments", args)]
    fields += [(name, printable_json(value)) for name, value in held["facts"].items()]
    fields += [
        ("asked by", f"run {asked['run_id']} of {asked['brain']}" if "run_id" in asked else "an operator's intent"),
        ("tainted by", ", ".join(held["tainted_by"]) or "nothing untrusted"),
        ("held by", ", ".join(held["policies"])),
        (
            "approvals",
            f"{len(held['granted'])} of {held['needed']} ({', '.join(held['granted']) or 'nobody yet'}), {roles}",
        ),
        ("time left", f"{held['seconds_left']} s"),
    ]
    output.fields(fields, SHOWN_CHARACTERS_MAX)  # a cut at fewer would hide what is approved


def approve(arguments: Arguments, output: Output) -> int:
    """Approve a held call; the last approval runs it. Exit as ``intent`` does; 0 when more approvals are needed."""
    with open_node(getattr(arguments, "home", None), output) as node:
        execution_id, approval = _find(node, arguments.execution)
        state = node.started.authority.state
        show(describe(state, execution_id, approval, node.started.authority.engines.sealer), output)
        asked, result = _settle(node, arguments, "approval.grant", execution_id, binding(execution_id, approval))
        return _told(asked, result, output, "approval.grant", execution_id)


def deny(arguments: Arguments, output: Output) -> int:
    """Refuse a held call: 0 when it is refused."""
    with open_node(getattr(arguments, "home", None), output) as node:
        execution_id, _ = _find(node, arguments.execution)
        content = encode({"reason": arguments.reason or ""})
        asked, _ = _settle(node, arguments, "approval.refuse", execution_id, content)
        return tell(asked, output, "approval.refuse", execution_id)


def _find(node: Node, wanted: str) -> tuple[str, Approval]:
    held = node.started.authority.state.live.approvals
    if wanted not in held:
        raise UsageError(
            "no such call is held", where="EXECUTION_ID", expected="one of those in `femtoclaw approvals`",
            found=printable(wanted), remedy="it may have been settled, or its time may be up: `femtoclaw show` tells",
        )  # fmt: skip
    return wanted, held[wanted]


def _settle(
    node: Node, arguments: Arguments, action: str, execution_id: str, content: bytes
) -> tuple[Asked, RunResult | None]:
    started = node.started
    state = started.authority.state
    told = request(state.node, signer_of(node, arguments), started.sources, action, execution_id, content)
    recorded, result = node.control(told, getattr(arguments, "brain", None))
    return Asked(node, recorded), result


def _told(asked: Asked, result: RunResult | None, output: Output, action: str, execution_id: str) -> int:
    if not asked.permitted or result is None:
        code = tell(asked, output, action, execution_id)
        if asked.permitted:
            output.note("more approvals are needed before it runs")
        return code
    output.data(
        {"approved": execution_id, "run_id": result.run_id, "outcome": result.outcome, "response": result.response,
         "steps": [contract(step) for step in result.steps]}
    )  # fmt: skip
    for step in result.steps:
        good = step.outcome in ("success", "answered")
        output.line(f"{step.decision} ({step.code}): {step.outcome}", "green" if good else "red")
        output.line(f"  execution  {step.execution_id}")
        if step.result is not None:
            output.line(f"  result     {printable(json.dumps(step.result, ensure_ascii=False), 4000)}")
    if result.outcome == HELD:
        tell_held(result.steps[-1], output)
    if result.response is not None:
        output.line(printable(result.response, RESPONSE_CHARACTERS_MAX), "green")
    if not result.steps:
        output.line("the call was denied: what was approved is not what is in force now", "red")
        return 1
    first = result.steps[0].outcome
    return 5 if first == "outcome_unknown" else 0 if first == "success" else 1
