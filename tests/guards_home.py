"""Guards of what a home brings to a start, of changes that are adopted, and of what operators are shown."""

from __future__ import annotations

from tests.guard import Guard

ADOPTION = "tests/cli/test_adoption.py"
HELD = "tests/cli/test_held.py"
INTEGRITY = "tests/cli/test_integrity.py"
REDACT = "tests/cli/test_redact.py"

BAD_INPUT = "tests/cli/test_bad_input.py"

GUARDS = (
    Guard(
        "I12",
        "a link is no workspace",
        "femtoclaw/home.py",
        'if os.path.islink(workspace.rstrip("/")):',
        "if False:",
        ADOPTION + "::test_a_link_is_no_workspace",
    ),
    Guard(
        "I10",
        "nothing is read through a link in a waiting file's place",
        "femtoclaw/integrity.py",
        "if os.path.islink(path + STAGED) or not os.path.isfile(path + STAGED):",
        "if False:",
        ADOPTION + "::test_a_link_in_the_place_of_a_waiting_file_stops_the_start[policy.cedar.next]",
    ),
    Guard(
        "I12",
        "an operator's key that others read stops the start",
        "femtoclaw/home.py",
        'os.listdir(home.operators) if name.endswith(".key")',
        "()",
        BAD_INPUT + "::test_a_wrong_configuration_starts_nothing[operator's key readable by all]",
    ),
    Guard(
        "I4",
        "no agent is called as the runtime itself",
        "femtoclaw/config.py",
        'if (domain, key) == ("runtime", "agent") and value in RESERVED:',
        "if False:",
        "tests/femtoclaw/test_config.py::test_a_mistake_is_told_by_file_and_key_without_the_value"
        "[an agent called as the runtime itself]",
    ),
    Guard(
        "I5",
        "no configuration is asked for that root could never start again",
        "femtoclaw/cli/configuring.py",
        "    refuse_root(effective)\n",
        "",
        INTEGRITY + "::test_root_is_refused_where_nobody_allowed_it",
    ),
    Guard(
        "I5",
        "a held call is shown to its end",
        "femtoclaw/cli/approving.py",
        "output.fields(fields, SHOWN_CHARACTERS_MAX)",
        "output.fields(fields)",
        HELD + "::test_a_long_call_is_shown_to_its_end",
    ),
    Guard(
        "I10",
        "an edited file stops the start",
        "femtoclaw/integrity.py",
        "if result == DIFFERS and not takes_files(node):",
        "if False:",
        INTEGRITY + "::test_a_file_that_is_not_the_recorded_one_stops_the_start[a looser policy]",
    ),
    Guard(
        "I10",
        "a home without the index of its keys stops the start",
        "femtoclaw/integrity.py",
        "if node.control.version and not os.path.lexists(key_index_file(home)):",
        "if False:",
        INTEGRITY + "::test_a_file_that_is_not_the_recorded_one_stops_the_start[index of the keys removed]",
    ),
    Guard(
        "I10",
        "a staged file that is not recorded goes",
        "femtoclaw/integrity.py",
        "        if recorded(raw):",
        "        if True:",
        ADOPTION + "::test_a_planted_file_beside_the_real_one_comes_into_force_never",
    ),
    Guard(
        "I3",
        "a recorded change is finished",
        "femtoclaw/integrity.py",
        "        if recorded(raw):",
        "        if False:",
        ADOPTION + "::test_a_change_that_a_crash_cut_is_finished_or_undone[policy, recorded-file]",
    ),
    Guard(
        "I10",
        "a staged configuration is judged with the other sources",
        "femtoclaw/integrity.py",
        "resolve_sources(gather(home, file=raw), None)",
        "resolve_sources(gather(home, file=raw)[-1:], None)",
        ADOPTION + "::test_a_change_that_a_crash_cut_is_finished_or_undone[configuration, recorded-manifest and file]",
    ),
    Guard(
        "I5",
        "root is refused where nobody allowed it",
        "femtoclaw/integrity.py",
        'if privilege() == "system" and not effective["security"]["allow_root"]:',
        "if False:",
        INTEGRITY + "::test_root_is_refused_where_nobody_allowed_it",
    ),
    Guard(
        "I12",
        "the workspace is apart from the node's own files",
        "femtoclaw/home.py",
        "if os.path.commonpath([place, path]) == place or inside:",
        "if False:",
        ADOPTION + "::test_a_workspace_among_the_nodes_own_files_is_refused[keys]",
    ),
    Guard(
        "I10",
        "no policy file is named that holds another policy",
        "femtoclaw/cli/configuring.py",
        "    if policy_text(home, effective) != node.policy.text and not takes_files(node):",
        "    if False:",
        ADOPTION + "::test_a_policy_file_with_another_policy_is_not_named",
    ),
    Guard(
        "I3",
        "an erasure that was cut is finished",
        "femtoclaw/verified_start.py",
        "        destroy_erased(home, signer, state.node.erased)\n",
        "",
        REDACT + "::test_an_erasure_that_a_crash_cut_is_finished_by_the_next_start[before the destruction]",
    ),
    Guard(
        "I5",
        "what operators approve is shown in ASCII",
        "femtoclaw/cli/asking.py",
        "ensure_ascii=True)",
        "ensure_ascii=False)",
        HELD + "::test_a_held_call_is_shown_as_it_will_run_in_ascii",
    ),
    Guard(
        "I5",
        "what operators approve is shown to its end",
        "femtoclaw/cli/approving.py",
        "output.fields(fields, SHOWN_CHARACTERS_MAX)",
        "output.fields(fields)",
        HELD + "::test_a_long_call_is_shown_to_its_end",
    ),
    Guard(
        "I11",
        "a log that is full gets room for the record of more room",
        "femtoclaw/verified_start.py",
        'max(room, effective["memory"]["map_bytes"])',
        'effective["memory"]["map_bytes"]',
        "tests/cli/test_bad_input.py::test_a_full_map_refuses_and_keeps_everything",
    ),
)
