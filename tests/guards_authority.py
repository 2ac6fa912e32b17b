"""Guards of the loop, the gate, replay and the crash rules."""

from __future__ import annotations

from tests.guard import Guard

LOOP = "tests/femtoclaw/test_loop.py"
REPLAY = "tests/femtoclaw/test_replay.py"

GUARDS = (
    Guard(
        "I1",
        "the effect waits until its start is durable",
        "femtoclaw/authority.py",
        "receipt = self._log.settle(ticket)",
        "receipt = Receipt(1, 1, b'', 1, 0)",
        LOOP + "::test_nothing_reaches_a_claw_before_its_start_is_durable",
    ),
    Guard(
        "I4",
        "after a failed commit the authority refuses every command",
        "femtoclaw/authority.py",
        '            self._refusal = f"{type(error).__name__}: {error}"\n            raise',
        "            raise",
        LOOP + "::test_after_a_failed_commit_nothing_is_executed_or_answered",
    ),
    Guard(
        "I5",
        "a grant is known and unspent",
        "femtoclaw/gate.py",
        "if grant not in self._open:",
        "if False:",
        LOOP + "::test_a_grant_works_once_for_its_own_call_only",
    ),
    Guard(
        "I5",
        "a grant is for this very call",
        "femtoclaw/gate.py",
        "if digest != grant.call_digest:",
        "if False:",
        LOOP + "::test_a_grant_works_once_for_its_own_call_only",
    ),
    Guard(
        "I5",
        "a start is good for one grant",
        "femtoclaw/gate.py",
        "            if started.execution_id in self._granted:",
        "            if False:",
        LOOP + "::test_a_grant_works_once_for_its_own_call_only",
    ),
    Guard(
        "I5",
        "a grant needs a start that is in flight",
        "femtoclaw/gate.py",
        "if execution is None or not execution.started or execution.call_digest != started.call_digest:",
        "if False:",
        LOOP + "::test_a_grant_needs_a_durable_authorized_start_in_flight",
    ),
    Guard(
        "I6",
        "an append in the log is what one decision gave, no less and no more",
        "femtoclaw/replay.py",
        "        elif not batch.whole and not batch.last:",
        "        elif False:",
        REPLAY + "::test_appends_must_be_whole",
    ),
    Guard(
        "I10",
        "a snapshot counts only when the log has its hash",
        "femtoclaw/restore.py",
        "return record.prev == snapshot.head.link and event == StateHashed(FOLD_VERSION, snapshot.state_hash)",
        "return record.prev == snapshot.head.link",
        "tests/femtoclaw/test_boot.py::test_a_snapshot_that_the_log_does_not_vouch_for_is_not_trusted",
    ),
    Guard(
        "I6",
        "the brain was shown what the state says",
        "femtoclaw/replay.py",
        "        if command.context_digest != expected:",
        "        if False:",
        REPLAY + "::test_a_changed_event_is_a_divergence",
    ),
    Guard(
        "I7",
        "where records may be lost nothing in flight is called unexecuted",
        "femtoclaw/crash_rules.py",
        "    if execution.started or node.tail_in_doubt:",
        "    if execution.started:",
        "tests/cli/test_recover_refusals.py::test_what_was_in_flight_where_records_may_be_lost_has_an_unknown_outcome",
    ),
    Guard(
        "I7",
        "only what an earlier start began is closed by the crash rules",
        "femtoclaw/crash_rules.py",
        "    if begun.boot >= node.boots:",
        "    if False:",
        REPLAY + "::test_what_the_key_holder_invents_about_crashes_is_a_divergence",
    ),
    Guard(
        "I7",
        "a result belongs to the start that began it",
        "femtoclaw/decide.py",
        "    if execution.boot != state.node.boots:",
        "    if False:",
        REPLAY + "::test_what_the_key_holder_invents_about_crashes_is_a_divergence",
    ),
    Guard(
        "I1",
        "an effect is begun only with room for its result",
        "femtoclaw/authority.py",
        "if _is_new_work(command) and self._log.storage.room() <= 0:",
        "if False:",
        LOOP + "::test_room_for_results_is_kept_and_new_work_refused",
    ),
    Guard(
        "I6",
        "replay compares every derived event with the recorded one",
        "femtoclaw/replay.py",
        "if found != compared[number] and not _of_another_fold(found, compared[number]):",
        "if False:",
        REPLAY + "::test_a_changed_event_is_a_divergence",
    ),
    Guard(
        "I7",
        "a started execution without a result becomes OUTCOME_UNKNOWN",
        "femtoclaw/crash_rules.py",
        "    if execution.started or node.tail_in_doubt:",
        "    if node.tail_in_doubt:",
        REPLAY + "::test_crash_rules_close_what_was_cut",
    ),
    Guard(
        "I11",
        "the boot journal stays within its bound",
        "femtoclaw/home.py",
        "if status.st_size + len(line) <= JOURNAL_BYTES_MAX:",
        "if True:",
        "tests/femtoclaw/test_config.py::test_the_boot_journal_stays_within_its_bound",
    ),
)
