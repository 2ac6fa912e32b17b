"""Held calls: what an approval is bound to, who may give it, when it is void. Pure.

A hold is of one execution. What an operator signs names that execution and the digests of the call, of the policy and of
the claw's manifest that they were shown; it counts only while these are still the ones in force and the time is not up.
With the last approval the call is judged again as it stands now, and its decision, its start and the end of the hold are
one append: an approval serves once, whatever crashes when.
"""

from __future__ import annotations

import json
from typing import Any

from femtoclaw import events
from femtoclaw.authorization import HELD, Decision, Verdict
from femtoclaw.errors import StateMachineError
from femtoclaw.events import Event
from femtoclaw.judging import Case, authorize_call, context_of, recorded_call, settle
from femtoclaw.state import Approval, State

APPROVED, REFUSED, EXPIRED, STALE = "APPROVED", "APPROVAL_REFUSED", "APPROVAL_EXPIRED", "APPROVAL_STALE"


def binding(execution_id: str, approval: Approval) -> bytes:
    """The content of an operator's statement about this held call: canonical JSON of all that the hold is bound to, but
    for who has approved before."""
    return json.dumps({"execution_id": execution_id, **approval._asdict(), "granted": []}, sort_keys=True,
                      separators=(",", ":")).encode()  # fmt: skip


def live(approval: Approval, at_ns: int) -> bool:
    """Whether the hold's time is not up, and the clock has not gone back behind its beginning."""
    return approval.requested_ns <= at_ns < approval.expires_ns


def in_force(state: State, approval: Approval) -> bool:
    """Whether policy, claw and configuration are still those that the hold is about."""
    node = state.node
    claw = node.registry.get(approval.claw)
    found = (node.policy.digest, claw.digest if claw is not None else "", node.configuration.digest)
    return found == (approval.policy_digest, approval.manifest_digest, approval.configuration_digest)


def counts(state: State, approval: Approval, operator: str) -> bool:
    """Whether this operator may approve: known when the call came in, not revoked, and of one of its roles. Who was added
    later could have been added for it."""
    known = state.node.operators.get(operator)
    if known is None or not known.active or known.added_ns > approval.requested_ns:
        return False
    return not approval.roles or bool(set(approval.roles) & set(known.roles))


def refusal(state: State, execution_id: str, content: bytes, operator: str, at_ns: int) -> str:
    """Why this operator's approval of a held call does not count; empty when it does."""
    approval = state.live.approvals.get(execution_id)
    if approval is None:
        return "NOT_HELD"
    if content != binding(execution_id, approval):
        return "ANOTHER_CALL"
    if not live(approval, at_ns):
        return EXPIRED
    if operator in approval.granted:
        return "APPROVED_BEFORE"
    if not counts(state, approval, operator):
        return "NOT_AN_APPROVER"
    return ""


def grant(case: Case, operator: str, request_id: str) -> list[Event]:
    """One operator's approval, and with the last one the decision on the call as it stands now."""
    approval = _held(case)
    granted: list[Event] = [events.ApprovalGranted(case.execution_id, operator, request_id)]
    if not in_force(case.state, approval):
        return [*granted, *_deny(case, STALE)]
    standing = [name for name in approval.granted if counts(case.state, approval, name)]
    if len(standing) + 1 < approval.needed:
        return granted
    return [*granted, *_judge_again(case, approval)]


def _judge_again(case: Case, approval: Approval) -> list[Event]:
    call = recorded_call(case, approval.claw)
    context = context_of(case, call)
    verdict = authorize_call(case, call, context)
    rule = verdict.approval
    if verdict.reason == HELD and rule is not None:
        same = (rule.count, rule.roles, verdict.determining) == (approval.needed, approval.roles, approval.policies)
        decision = Decision.AUTHORIZED if same else Decision.DENIED_POLICY_VIOLATION
        verdict = Verdict(decision, APPROVED if same else STALE, verdict.determining)
    elif verdict.decision is Decision.AUTHORIZED:
        # What asked for the approval does not ask any more: then this is another question than the one approved.
        verdict = Verdict(Decision.DENIED_POLICY_VIOLATION, STALE, verdict.determining)
    return settle(case, call, context, verdict, approval.manifest_digest)


def refuse(case: Case, operator: str, request_id: str, reason: str) -> list[Event]:
    """An operator's refusal: the call is denied."""
    _held(case)
    return [events.ApprovalRefused(case.execution_id, operator, request_id, reason), *_deny(case, REFUSED)]


def expire(case: Case) -> list[Event]:
    """The end of a hold that nobody settled in time, or that the node's changes made void. Raises StateMachineError when
    it is neither."""
    approval = _held(case)
    if live(approval, case.at_ns) and in_force(case.state, approval):
        raise StateMachineError("the hold is still good", where=case.execution_id, expected=approval.expires_ns)
    code = STALE if live(approval, case.at_ns) else EXPIRED
    return [events.ApprovalExpired(case.execution_id, case.at_ns), *_deny(case, code)]


def _deny(case: Case, code: str) -> list[Event]:
    approval = _held(case)
    call = recorded_call(case, approval.claw)
    verdict = Verdict(Decision.DENIED_POLICY_VIOLATION, code, approval.policies)
    return settle(case, call, context_of(case, call), verdict, approval.manifest_digest)


def _held(case: Case) -> Approval:
    approval = case.state.live.approvals.get(case.execution_id)
    if approval is None:
        raise StateMachineError("the call is not held", where=case.execution_id)
    return approval


def case_of(state: State, execution_id: str, at_ns: int, next_id: str, engines: Any) -> Case:
    """The case of a held call, with its run."""
    execution = state.live.executions.get(execution_id)
    if execution is None:
        raise StateMachineError("no such execution in flight", where=execution_id)
    run = state.live.runs.get(execution.run_id)
    return Case(state, execution_id, execution.run_id, run, at_ns, next_id, engines, execution.subject)
