"""Guards of policy: its text, its rules about approvals and hazards, what it reads, and reports about another one."""

from __future__ import annotations

from tests.guard import Guard

COUNTERFACTUAL = "tests/femtoclaw/test_counterfactual.py"
POLICY_TERMS = "tests/femtoclaw/test_policy_terms.py"

GUARDS = (
    Guard(
        "I11",
        "a policy's text is bounded before its parser sees it",
        "femtoclaw/policy.py",
        "check_text(text)",
        "pass",
        "tests/femtoclaw/test_policy_text.py",
    ),
    Guard(
        "I5",
        "a claw that no manifest declared is denied by the engine itself",
        "femtoclaw/policy.py",
        "if request.claw not in self._arguments:",
        "if False:",
        "tests/femtoclaw/test_policy.py",
    ),
    Guard(
        "I5",
        "a hazard of a command must be accepted by a permit that decides",
        "femtoclaw/policy.py",
        "if not frozenset(hazards) <= frozenset().union(*[each.accepts for each in asked]):",
        "if False:",
        POLICY_TERMS + "::test_a_hazardous_command_is_denied_by_the_gate",
    ),
    Guard(
        "I5",
        "only permits that decide accept hazards",
        "femtoclaw/policy.py",
        "asked = [self._terms[name] for name in verdict.determining if name in self._terms]",
        "asked = list(self._terms.values())",
        POLICY_TERMS + "::test_only_determining_permits_accept_hazards",
    ),
    Guard(
        "I5",
        "a permit with approvals holds what other permits allow",
        "femtoclaw/policy.py",
        "return verdict._replace(approval=approval)",
        "return verdict",
        POLICY_TERMS + "::test_one_held_permit_holds_what_others_permit",
    ),
    Guard(
        "I5",
        "approvers that exclude each other deny",
        "femtoclaw/policy.py",
        (
            "        if approval is None:\n"
            "            return PolicyVerdict(False, verdict.determining, (), APPROVERS_CONFLICT)"
        ),
        "        if approval is None:\n            return verdict",
        POLICY_TERMS + "::test_approvers_that_exclude_each_other_deny",
    ),
    Guard(
        "I5",
        "a held call is no authorized one",
        "femtoclaw/authorization.py",
        "return Verdict(Decision.DENIED_POLICY_VIOLATION, HELD, answer.determining, answer.approval)",
        'return Verdict(Decision.AUTHORIZED, "PERMITTED", answer.determining)',
        POLICY_TERMS + "::test_a_permit_with_approvals_holds_the_call",
    ),
    Guard(
        "I10",
        "an annotation that is no rule is refused",
        "femtoclaw/policy_annotations.py",
        "        if unknown:",
        "        if False:",
        POLICY_TERMS + "::test_a_wrong_annotation_is_refused_at_load",
    ),
    Guard(
        "I5",
        "a group that policy reads and that is missing denies",
        "femtoclaw/policy.py",
        "        if found is None:\n            return None",
        "        if found is None:\n            continue",
        POLICY_TERMS + "::test_a_group_is_needed_when_it_is_read",
    ),
    Guard(
        "I10",
        "a group's attributes are of their declared types",
        "femtoclaw/policy_groups.py",
        "        elif type(value) is not kind:\n            return None",
        "        elif False:\n            return None",
        POLICY_TERMS + "::test_a_group_is_needed_when_it_is_read",
    ),
    Guard(
        "I5",
        "run is made of the call's own context",
        "femtoclaw/authorization.py",
        "{**context.groups, RUN: run} if context.groups else {RUN: run}",
        "{RUN: run, **context.groups}",
        POLICY_TERMS + "::test_no_group_of_a_caller_stands_in_for_run",
    ),
    Guard(
        "I6",
        "the groups that a decision read are in the digest of its inputs",
        "femtoclaw/authorization.py",
        "    if not others:",
        "    if True:",
        POLICY_TERMS + "::test_groups_that_are_not_read_change_no_digest",
    ),
    Guard(
        "I6",
        "what no policy reads is not in the digest of a decision's inputs",
        "femtoclaw/authorization.py",
        "(context.groups.keys() if needs is None else needs) - {RUN}",
        "context.groups.keys() - {RUN}",
        POLICY_TERMS + "::test_groups_that_are_not_read_change_no_digest",
    ),
    Guard(
        "I6",
        "schemas keep the digests that old logs hold",
        "femtoclaw/policy.py",
        "LATER if read is None else LATER & read",
        "LATER",
        POLICY_TERMS + "::test_a_schema_digest_knows_only_what_the_policy_reads",
    ),
    Guard(
        "I6",
        "an engine that was changed in memory is found",
        "femtoclaw/policy.py",
        "self._seal == self._sealed()",
        "True",
        POLICY_TERMS + "::test_a_forced_change_of_an_engine_is_found",
    ),
    Guard(
        "I10",
        "a report about another policy is not made of a forged history",
        "femtoclaw/counterfactual.py",
        "        if recorded != judged.recorded:",
        "        if False:",
        COUNTERFACTUAL + "::test_a_forged_history_gives_no_report",
    ),
    Guard(
        "I10",
        "a report is computed again before it counts as equal",
        "femtoclaw/counterfactual.py",
        "    return sorted(name for name in again.keys() | report.keys() if again.get(name) != report.get(name))",
        "    return []",
        COUNTERFACTUAL + "::test_a_changed_report_is_found",
    ),
    Guard(
        "I5",
        "a hold that becomes an allow counts as loosening",
        "femtoclaw/counterfactual.py",
        "        return after > before",
        "        return after == 2 and before == 0",
        COUNTERFACTUAL + "::test_which_flips_loosen",
    ),
)
