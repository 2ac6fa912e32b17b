"""The explanation of one call for an operator's own terminal: what decided, and why each other policy did not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from femtoclaw.cli.filters import NoSuchExecutionError
from femtoclaw.cli.render import Output, printable
from femtoclaw.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from femtoclaw.counterfactual import Judged
    from femtoclaw.judging import Case
    from femtoclaw.policy_explain import Explained
    from femtoclaw.protocol import ToolCall
    from femtoclaw.sealing import Sealer
    from femtoclaw.state import State
    from wal import Record

OVERRULED, DECIDED = "overruled", "decided"


def explain_execution(records: Iterable[Record], part: str, text: str | None, sealer: Sealer) -> dict[str, Any]:
    """Of the recorded execution whose id is ``part``, or begins or ends with it: as it was proposed, under the policy in
    force then, or under ``text``. Raises NoSuchExecutionError, also for one that ``sealer`` cannot open, UsageError for
    an ambiguous part, PolicyError."""
    from femtoclaw.counterfactual import History
    from femtoclaw.engines import EngineCache

    found: dict[str, Judged] = {}
    for judged in History(records, sealer).judged():
        if part and (judged.execution_id.startswith(part) or judged.execution_id.endswith(part)):
            found[judged.execution_id] = judged
        if judged.execution_id == part:
            found = {part: judged}
            break
    if not found:
        raise NoSuchExecutionError(
            "no such call", where="--execution", expected="the id of an execution in which a call was judged",
            found=printable(part, 80), remedy="see `femtoclaw log --kind AuthorizationDecided`",
        )  # fmt: skip
    if len(found) > 1:
        raise UsageError("several executions fit", where="--execution", expected="more of the id", found=len(found))
    judged = next(iter(found.values()))
    recorded = {"execution": judged.execution_id, "index": judged.index, "recorded": judged.recorded.body()}
    case = judged.case(EngineCache(text, sealer))
    return {**recorded, **_explained(case, judged.call)}


def explain_message(state: State, raw: bytes, agent: str, text: str | None) -> dict[str, Any]:
    """Of a message as if it came now: an operator's intent, or from ``agent`` as the first step of a fresh run.

    Raises UsageError for no policy at all, PolicyError.
    """
    import time

    from femtoclaw.engines import EngineCache
    from femtoclaw.judging import Case
    from femtoclaw.protocol import Message, Rejected
    from femtoclaw.state import Run

    if text is None and not state.node.policy.text:
        raise UsageError("which policy?", where="policy explain", expected="--policy FILE, or a home with one in force")
    engines = EngineCache(text)
    run = None if agent == "operator" else Run("script", "cli", agent, 1, ())
    case = Case(state, "", "", run, time.time_ns(), "", engines)
    message = engines.engines(state.node).validate(raw)
    if isinstance(message, Rejected):
        return {"decision": "REJECTED", "reason": message.code, "claw": "", "determining": [], "policies": [],
                "told": f"no intent, so no policy is asked: {message.detail}"}  # fmt: skip
    if isinstance(message, Message):
        return {"decision": "AUTHORIZED", "reason": "BUILT_IN_ANSWER", "claw": "", "determining": [], "policies": [],
                "told": "an answer needs no capability, so no policy is asked"}  # fmt: skip
    return _explained(case, message)


def _explained(case: Case, call: ToolCall) -> dict[str, Any]:
    from femtoclaw.judging import authorize_call, context_of
    from femtoclaw.policy_cases import approval_body, decided
    from femtoclaw.policy_explain import explain, request_of

    fixed = case.engines.engines(case.state.node)
    context = context_of(case, call)
    verdict = authorize_call(case, call, context)
    engine, request = fixed.policy(), request_of(fixed, call, context)
    policies = explain(engine, request) if engine is not None and request is not None else []
    body: dict[str, Any] = {
        "claw": call.tool,
        "agent": context.agent,
        "decision": decided(verdict),
        "reason": verdict.reason,
        "determining": list(verdict.determining),
        "approval": approval_body(verdict),
        "hazards": list(request.facts.get("hazards", [])) if request is not None else [],
        "policy_digest": engine.digest if engine is not None else "",
        "policies": [_policy(each, verdict.determining) for each in policies],
    }
    if not policies:
        body["told"] = "the gate decides this before any policy is asked"
    return body


def _policy(each: Explained, determining: tuple[str, ...]) -> dict[str, Any]:
    outcome = each.outcome
    if outcome == "applies":
        outcome = DECIDED if each.policy in determining else OVERRULED
    body: dict[str, Any] = {"policy": each.policy, "effect": each.effect, "outcome": outcome, "scope": list(each.scope)}
    if each.part is not None:
        body |= {
            "clause": each.part.clause,
            "part": each.part.text,
            "failure": each.part.failure,
            "values": [value._asdict() for value in each.part.values],
        }
    return body


def print_explanation(body: dict[str, Any], output: Output) -> None:
    """For people, deciding policies first."""
    output.data(body)
    colour = {"AUTHORIZED": "green", "HELD": "yellow"}.get(body["decision"], "red")
    output.line(f"{body['decision']}  {body['reason']}  {printable(body['claw'])}", colour)
    if body.get("told"):
        output.line(f"  {printable(body['told'])}")
    approval = body.get("approval")
    if approval:
        who = " or ".join(approval["roles"]) or "any operator who may approve"
        output.line(f"  waits for {approval['count']} approval(s) by {who}, for {approval['seconds']} seconds")
    if body.get("hazards"):
        output.line(f"  hazards of the command: {', '.join(body['hazards'])}")
    order = {DECIDED: 0, "failed": 1, OVERRULED: 2}
    for each in sorted(body["policies"], key=lambda policy: order.get(policy["outcome"], 3)):
        output.line(f"  {each['outcome']:<9}  {each['effect']:<6}  {printable(each['policy'])}")
        for line in _reasons(each):
            output.line(f"               {printable(line, 1000)}", "dim")


def _reasons(each: dict[str, Any]) -> list[str]:
    if "part" not in each:
        return list(each["scope"])
    holds = "is true" if each["clause"] == "unless" else "is false"
    became = f"failed: {each['failure']}" if each["failure"] else holds
    lines = [f"{each['clause']} {{ {each['part']} }} {became}"]
    lines += [
        f"{value['attribute']} is absent" if value["type"] == "absent" else
        f"{value['attribute']} ({value['type']}) = {value['shown']}"
        for value in each["values"]
    ]  # fmt: skip
    return lines
