"""The guards behind the invariants, as data: what to switch off, and which test must then fail.

``tests/test_guards.py`` switches each off in a copy of the sources and runs the test there. ``docs/testing.md`` shows the
same list.
"""

from __future__ import annotations

from typing import NamedTuple


class Guard(NamedTuple):
    """``old`` in ``file`` becomes ``new``; then ``test`` must fail (and passes unchanged)."""

    invariant: str
    what: str
    file: str
    old: str
    new: str
    test: str


LOOP = "tests/femtoclaw/test_loop.py::"
REPLAY = "tests/femtoclaw/test_replay.py::"
RECOVERY = "tests/wal/test_recovery.py::"

GUARDS = (
    Guard(
        "I1",
        "the effect waits until its start is durable",
        "femtoclaw/authority.py",
        "receipt = self._log.settle(ticket)",
        "receipt = Receipt(1, 1, b'', 1, 0)",
        LOOP + "test_nothing_reaches_a_claw_before_its_start_is_durable",
    ),
    Guard(
        "I2",
        "a store shorter than the HEAD slot's promise is not opened",
        "wal/examination.py",
        'facts["reaches"] = self.last >= self.promised',
        'facts["reaches"] = True',
        RECOVERY + "test_a_rolled_back_store_halts",
    ),
    Guard(
        "I2",
        "the chain at the commit point must be the promised one",
        "wal/examination.py",
        "if link_there is not None and link_there != slot.point.link:",
        "if False:",
        RECOVERY + "test_another_history_of_the_same_length_halts",
    ),
    Guard(
        "I10",
        "a history is opened only under a checkpoint that the log's key signed",
        "wal/examination.py",
        "            open_checkpoint(note, [genesis.key], genesis.origin)",
        "            pass",
        RECOVERY + "test_a_history_that_no_signed_checkpoint_vouches_for_halts",
    ),
    Guard(
        "I2",
        "and only with the root that it signed",
        "wal/examination.py",
        "elif root is not None and root != self.checkpoint.root:",
        "elif False:",
        RECOVERY + "test_a_history_that_no_signed_checkpoint_vouches_for_halts",
    ),
    Guard(
        "I2",
        "the HEAD slot is durable before the acknowledgement",
        "wal/writer.py",
        "        self._write_slot(0)\n        # COMMIT POINT",
        "        # COMMIT POINT",
        "tests/wal/test_writer.py::test_no_receipt_is_given_before_its_slot_is_durable",
    ),
    Guard(
        "I3",
        "damage at or below the commit point is never cut",
        "wal/examination.py",
        '"sound_above" if self.broken_at > self.promised else "sound_below"',
        '"sound_above"',
        RECOVERY + "test_damage_at_or_below_the_commit_point_halts",
    ),
    Guard(
        "I4",
        "after a failed write the log never writes again",
        "wal/writer.py",
        "        except Exception as cause:  # any failed write or sync, of whatever type, is fail-stop\n"
        "            error = self.fail(cause)",
        "        except Exception as cause:\n            error = LogFailedError(str(cause))",
        "tests/wal/test_writer.py::test_after_a_failed_write_nothing_is_ever_written_again",
    ),
    Guard(
        "I4",
        "after a failed commit the authority refuses every command",
        "femtoclaw/authority.py",
        '            self._refusal = f"{type(error).__name__}: {error}"\n            raise',
        "            raise",
        LOOP + "test_after_a_failed_commit_nothing_is_executed_or_answered",
    ),
    Guard(
        "I5",
        "a grant is known and unspent",
        "femtoclaw/gate.py",
        "if grant not in self._open:",
        "if False:",
        LOOP + "test_a_grant_works_once_for_its_own_call_only",
    ),
    Guard(
        "I5",
        "a grant is for this very call",
        "femtoclaw/gate.py",
        "if digest != grant.call_digest:",
        "if False:",
        LOOP + "test_a_grant_works_once_for_its_own_call_only",
    ),
    Guard(
        "I5",
        "a start is good for one grant",
        "femtoclaw/gate.py",
        "            if started.execution_id in self._granted:",
        "            if False:",
        LOOP + "test_a_grant_works_once_for_its_own_call_only",
    ),
    Guard(
        "I5",
        "a grant needs a start that is in flight",
        "femtoclaw/gate.py",
        "if execution is None or not execution.started or execution.call_digest != started.call_digest:",
        "if False:",
        LOOP + "test_a_grant_needs_a_durable_authorized_start_in_flight",
    ),
    Guard(
        "I6",
        "an append in the log is what one decision gave, no less and no more",
        "femtoclaw/replay.py",
        "        elif not batch.whole and not batch.last:",
        "        elif False:",
        REPLAY + "test_appends_must_be_whole",
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
        REPLAY + "test_a_changed_event_is_a_divergence",
    ),
    Guard(
        "I7",
        "what its supervisor said last decides whether a claw may have run",
        "femtoclaw/isolation/call.py",
        "        word = _last_word(connection)",
        "        shut_down(connection)",
        "tests/femtoclaw/test_isolation_deadlines.py::test_what_a_dying_supervisor_said_decides",
    ),
    Guard(
        "I11",
        "a supervisor whose server is gone ends its claw",
        "femtoclaw/isolation/supervisor.py",
        "if ready.intersection(self._needed):",
        "if False:",
        "tests/femtoclaw/test_isolation_ends.py::test_kill_9_of_the_server_ends_claws_and_their_daemons",
    ),
    Guard(
        "I7",
        "only what an earlier start began is closed by the crash rules",
        "femtoclaw/crash_rules.py",
        "    if begun.boot >= node.boots:",
        "    if False:",
        REPLAY + "test_what_the_key_holder_invents_about_crashes_is_a_divergence",
    ),
    Guard(
        "I7",
        "a result belongs to the start that began it",
        "femtoclaw/decide.py",
        "    if execution.boot != state.node.boots:",
        "    if False:",
        REPLAY + "test_what_the_key_holder_invents_about_crashes_is_a_divergence",
    ),
    Guard(
        "I3",
        "a cut leaves whole appends",
        "wal/opening.py",
        '        if decode(raw, f"index {index}").flags & FLAG_BATCH_END:',
        "        if True:",
        RECOVERY + "test_a_cut_never_leaves_a_part_of_a_batch",
    ),
    Guard(
        "I2",
        "a damaged HEAD slot protects a damaged tail",
        "wal/examination.py",
        '            facts["head_whole"] = False',
        "            pass",
        RECOVERY + "test_a_damaged_tail_is_not_cut_when_a_damaged_slot_may_have_promised_it",
    ),
    Guard(
        "I1",
        "an effect is begun only with room for its result",
        "femtoclaw/authority.py",
        "if isinstance(command, _NEW_WORK) and self._log.storage.room() <= 0:",
        "if False:",
        LOOP + "test_room_for_results_is_kept_and_new_work_refused",
    ),
    Guard(
        "I4",
        "what builds upon a refused append is refused",
        "wal/writer.py",
        "        return self.after.error if self.after is not None else None",
        "        return None",
        LOOP + "test_a_full_log_stops_the_authority_and_what_was_queued_behind_it",
    ),
    Guard(
        "I6",
        "replay compares every derived event with the recorded one",
        "femtoclaw/replay.py",
        "                if found != compared[number]:",
        "                if False:",
        REPLAY + "test_a_changed_event_is_a_divergence",
    ),
    Guard(
        "I7",
        "a started execution without a result becomes OUTCOME_UNKNOWN",
        "femtoclaw/crash_rules.py",
        "    if execution.started:",
        "    if False:",
        REPLAY + "test_crash_rules_close_what_was_cut",
    ),
    Guard(
        "I8",
        "an index that exists cannot be written again",
        "wal/memory_storage.py",
        "            if index != expected + offset:",
        "            if False:",
        "tests/contract/test_storage.py",
    ),
    Guard(
        "I8",
        "the same on disk",
        "wal/lmdb_storage.py",
        'if first != expected or not cursor.put(first.to_bytes(_KEY_BYTES, "big"), value, append=True):',
        'if not cursor.put(first.to_bytes(_KEY_BYTES, "big"), value):',
        "tests/contract/test_storage.py",
    ),
    Guard(
        "I10",
        "a record's checksum is computed, not believed",
        "wal/chain.py",
        "            or digest_of(body).digest() != found",
        "",
        "tests/wal/test_chain.py",
    ),
    Guard(
        "I10",
        "a record must name its predecessor",
        "wal/chain.py",
        "            or prev != link",
        "",
        "tests/wal/test_chain.py",
    ),
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
        "if types is None:",
        "if False:",
        "tests/femtoclaw/test_policy.py",
    ),
    Guard(
        "I11",
        "a payload over its bound is refused",
        "wal/record.py",
        "    if len(payload) > PAYLOAD_BYTES_MAX:",
        "    if False:",
        "tests/wal/test_record.py::test_payload_bound",
    ),
    Guard(
        "I11",
        "a claw's output over its bound is cut off",
        "femtoclaw/isolation/supervisor.py",
        "        if seen > limit:",
        "        if False:",
        "tests/femtoclaw/test_isolation.py::test_output_over_the_bound_is_cut_off",
    ),
    Guard(
        "I12",
        "a claw inherits no descriptor",
        "femtoclaw/isolation/supervisor.py",
        "        close_descriptors({writing})",
        "        pass",
        "tests/femtoclaw/test_isolation.py::test_a_claw_sees_no_descriptor_and_no_environment_of_the_node",
    ),
    Guard(
        "I12",
        "a claw gets no environment of the node",
        "femtoclaw/isolation/client.py",
        'env={"LANG": "C.UTF-8"},',
        "env=None,",
        "tests/femtoclaw/test_isolation.py::test_a_claw_sees_no_descriptor_and_no_environment_of_the_node",
    ),
    Guard(
        "I12",
        "a brain's key is in no text",
        "femtoclaw/brains/openai.py",
        'return f"OpenAIBrain({self.name!r}, {self._settings.base_url!r})"',
        'return f"OpenAIBrain({self.name!r}, {self._api_key!r})"',
        "tests/femtoclaw/test_brains.py::test_bad_answers_are_typed_and_bounded",
    ),
)
