"""Guards of calls that wait for approvals: what an approval is of, whose it is, and how long it counts."""

from __future__ import annotations

from tests.guard import Guard

APPROVALS = "tests/femtoclaw/test_approvals.py"
APPROVERS = "tests/femtoclaw/test_approvers.py"

GUARDS = (
    Guard(
        "I5",
        "a held call gets no grant",
        "femtoclaw/gate.py",
        "if started.execution_id in live.approvals:",
        "if False:",
        APPROVALS + "::test_the_gate_grants_nothing_while_a_call_is_held",
    ),
    Guard(
        "I5",
        "an approval is of the very call that was shown",
        "femtoclaw/approvals.py",
        "if content != binding(execution_id, approval):",
        "if False:",
        APPROVALS + "::test_an_approval_never_serves_another_call",
    ),
    Guard(
        "I5",
        "an approval counts in its time",
        "femtoclaw/approvals.py",
        "    if not live(approval, at_ns):",
        "    if False:",
        APPROVALS + "::test_an_approval_counts_from_the_request_up_to_the_expiry",
    ),
    Guard(
        "I5",
        "an approval does not count before its request, by a clock that went back",
        "femtoclaw/approvals.py",
        "return approval.requested_ns <= at_ns < approval.expires_ns",
        "return at_ns < approval.expires_ns",
        APPROVALS + "::test_an_approval_counts_from_the_request_up_to_the_expiry",
    ),
    Guard(
        "I5",
        "an operator approves once",
        "femtoclaw/approvals.py",
        "    if operator in approval.granted:",
        "    if False:",
        APPROVERS + "::test_two_different_operators_are_needed",
    ),
    Guard(
        "I5",
        "what a revoked operator approved does not count",
        "femtoclaw/approvals.py",
        "known is None or not known.active or known.added_ns",
        "known is None or known.added_ns",
        APPROVERS + "::test_what_a_revoked_operator_approved_does_not_count",
    ),
    Guard(
        "I5",
        "who was added for a call does not approve it",
        "femtoclaw/approvals.py",
        " or known.added_ns > approval.requested_ns:",
        ":",
        APPROVERS + "::test_who_was_added_for_a_call_does_not_approve_it",
    ),
    Guard(
        "I5",
        "who was added for a call does not approve it, whatever the clock says",
        "femtoclaw/control_effects.py",
        "return max(request.command.received_ns, *held) if held else request.command.received_ns",
        "return request.command.received_ns",
        APPROVERS + "::test_who_was_added_for_a_call_does_not_approve_it",
    ),
    Guard(
        "I5",
        "only the roles that the permit names approve",
        "femtoclaw/approvals.py",
        "    return not approval.roles or bool(set(approval.roles) & set(known.roles))",
        "    return True",
        APPROVERS + "::test_only_the_named_roles_approve",
    ),
    Guard(
        "I5",
        "a hold is void when policy, claw or configuration is another",
        "femtoclaw/approvals.py",
        "    if not in_force(case.state, approval):",
        "    if False:",
        APPROVALS + "::test_a_hold_is_void_when_what_it_is_bound_to_changes",
    ),
    Guard(
        "I5",
        "a call is judged again at its last approval, by the same rule",
        "femtoclaw/approvals.py",
        "        decision = Decision.AUTHORIZED if same else Decision.DENIED_POLICY_VIOLATION",
        "        decision = Decision.AUTHORIZED",
        APPROVERS + "::test_an_approval_for_one_rule_does_not_serve_a_weaker_one",
    ),
    Guard(
        "I5",
        "an approval does not serve a rule that asks for none",
        "femtoclaw/approvals.py",
        "    elif verdict.decision is Decision.AUTHORIZED:",
        "    elif False:",
        APPROVERS + "::test_an_approval_for_one_rule_does_not_serve_a_weaker_one",
    ),
    Guard(
        "I5",
        "as many operators approve as the rule says",
        "femtoclaw/approvals.py",
        "    if len(standing) + 1 < approval.needed:",
        "    if False:",
        APPROVERS + "::test_two_different_operators_are_needed",
    ),
    Guard(
        "I11",
        "calls held at once are bounded",
        "femtoclaw/judging.py",
        "        if _room_to_hold(case):",
        "        if True:",
        APPROVERS + "::test_no_more_calls_are_held_than_can_be_read",
    ),
    Guard(
        "I5",
        "a contained node runs no approved call",
        "femtoclaw/judging.py",
        "    if case.state.node.contained:",
        "    if False:",
        APPROVERS + "::test_a_contained_node_runs_no_approved_call",
    ),
    Guard(
        "I7",
        "a crash does not close a held call",
        "femtoclaw/crash_rules.py",
        "    if held and not node.tail_in_doubt:",
        "    if False:",
        APPROVALS + "::test_the_crash_rules_do_not_close_a_held_call_on_sound_ground",
    ),
    Guard(
        "I7",
        "a start spares held calls",
        "femtoclaw/crash_rules.py",
        "spared = {} if state.node.tail_in_doubt else live.approvals",
        "spared = {}",
        APPROVALS + "::test_a_held_call_and_its_run_survive_kills",
    ),
    Guard(
        "I7",
        "the doubt about a lost end is over when what was in flight then is closed",
        "femtoclaw/apply.py",
        "    return any(execution.boot < boots for execution in executions.values())",
        "    return len(executions) > 0",
        APPROVALS + "::test_where_records_may_be_lost_a_held_call_has_an_unknown_outcome",
    ),
    Guard(
        "I5",
        "one key is one person",
        "femtoclaw/control_effects.py",
        (
            "    if any(_same_key(key, each.public_key) for each in node.operators.values()):\n"
            '        return "KEY_IN_USE"  # who'
        ),
        '    if False:\n        return "KEY_IN_USE"  # who',
        APPROVERS + "::test_one_key_is_one_person",
    ),
    Guard(
        "I6",
        "a held call can be settled when its claw has changed",
        "femtoclaw/approvals.py",
        "    return settle(case, call, context_of(case, call), verdict, approval.manifest_digest)",
        "    return settle(case, call, context_of(case, call), verdict, case.state.node.registry[approval.claw].digest)",
        APPROVALS + "::test_a_hold_is_void_when_what_it_is_bound_to_changes",
    ),
)
