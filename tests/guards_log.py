"""Guards of the log: what is promised, kept, recovered, and read back from its files."""

from __future__ import annotations

from tests.guard import Guard

WRITER_ENDS = "tests/wal/test_writer_ends.py"
RECOVERY_CUT = "tests/wal/test_recovery_cut.py"
RECOVERY_HALTS = "tests/wal/test_recovery_halts.py"
STORAGE = "tests/contract/test_storage.py"
CHAIN = "tests/wal/test_chain.py"
REPAIR = "tests/wal/test_repair.py"
WRITER = "tests/wal/test_writer.py"

GUARDS = (
    Guard(
        "I2",
        "a store shorter than the HEAD slot's promise is not opened",
        "wal/examination.py",
        'facts["reaches"] = self.last >= self.promised',
        'facts["reaches"] = True',
        RECOVERY_HALTS + "::test_a_rolled_back_store_halts",
    ),
    Guard(
        "I2",
        "the chain at the commit point must be the promised one",
        "wal/examination.py",
        "if link_there is not None and link_there != slot.point.link:",
        "if False:",
        RECOVERY_HALTS + "::test_another_history_of_the_same_length_halts",
    ),
    Guard(
        "I10",
        "a history is opened only under a checkpoint that the log's key signed",
        "wal/examination.py",
        "            self.keys.open_checkpoint(note, self.genesis.origin)",
        "            pass",
        RECOVERY_CUT + "::test_a_history_that_no_signed_checkpoint_vouches_for_halts",
    ),
    Guard(
        "I2",
        "a history has the root that its checkpoint signed",
        "wal/examination.py",
        "elif root is not None and root != self.checkpoint.root:",
        "elif False:",
        RECOVERY_CUT + "::test_a_history_that_no_signed_checkpoint_vouches_for_halts",
    ),
    Guard(
        "I2",
        "the HEAD slot is durable before the acknowledgement",
        "wal/writer.py",
        "        self._write_slot(0)\n        # COMMIT POINT",
        "        # COMMIT POINT",
        WRITER + "::test_no_receipt_is_given_before_its_slot_is_durable",
    ),
    Guard(
        "I3",
        "damage at or below the commit point is never cut",
        "wal/examination.py",
        '"sound_above" if self.broken_at > self.promised else "sound_below"',
        '"sound_above"',
        RECOVERY_HALTS + "::test_damage_at_or_below_the_commit_point_halts",
    ),
    Guard(
        "I4",
        "after a failed write the log never writes again",
        "wal/writer.py",
        (
            "        except Exception as cause:  # any failed write or sync, of whatever type, is fail-stop\n"
            "            error = self.fail(cause)"
        ),
        "        except Exception as cause:\n            error = LogFailedError(str(cause))",
        WRITER_ENDS + "::test_after_a_failed_write_nothing_is_ever_written_again",
    ),
    Guard(
        "I3",
        "where a HEAD slot is lost every later trace counts as promised",
        "wal/repair.py",
        "    if not promise.sure and head.index < seen:",
        "    if False:",
        "tests/cli/test_recover_refusals.py::test_what_a_lost_slot_may_have_promised_is_never_dropped",
    ),
    Guard(
        "I3",
        "a cut leaves whole appends",
        "wal/opening.py",
        '        if decode(raw, f"index {index}").flags & FLAG_BATCH_END:',
        "        if True:",
        RECOVERY_CUT + "::test_a_cut_never_leaves_a_part_of_a_batch",
    ),
    Guard(
        "I2",
        "a damaged HEAD slot protects a damaged tail",
        "wal/examination.py",
        '            facts["head_whole"] = False',
        "            pass",
        RECOVERY_CUT + "::test_a_damaged_tail_is_not_cut_when_a_damaged_slot_may_have_promised_it",
    ),
    Guard(
        "I4",
        "what builds upon a refused append is refused",
        "wal/writer.py",
        "        return self.after.error if self.after is not None else None",
        "        return None",
        "tests/femtoclaw/test_loop.py::test_a_full_log_stops_the_authority_and_what_was_queued_behind_it",
    ),
    Guard("I2", "a log folder that was put back whole is refused by the boot journal", "femtoclaw/verified_start.py",
          "            refuse_older(home, log)", "            pass",
          "tests/cli/test_noted_end.py::test_an_older_log_in_the_place_of_this_one_is_refused"),
    Guard("I11", "a disk that others fill is asked again", "wal/disk_room.py",
          "now >= self._until_ns or self._free < PLENTY_TIMES * limits.DISK_RESERVE_BYTES", "not self._until_ns",
          "tests/wal/test_full_disk.py::test_a_disk_that_others_fill_is_noticed_though_nothing_was_written_here"),
    Guard("I4", "a commit is refused only where it is known that nothing was written", "wal/lmdb_storage.py",
          "if unchanged and self._disk.asked() < DISK_RESERVE_BYTES:", "if unchanged:",
          "tests/wal/test_full_disk.py::test_a_commit_without_a_page_to_write_is_refused_and_any_other_failure_stops"),
    Guard(
        "I8",
        "an index that exists cannot be written again",
        "wal/memory_storage.py",
        "            if index != expected + offset:",
        "            if False:",
        STORAGE + "::test_append_only_in_order_and_all_or_nothing",
    ),
    Guard(
        "I8",
        "an index that exists cannot be written again on disk",
        "wal/lmdb_storage.py",
        'if first != expected or not cursor.put(first.to_bytes(_KEY_BYTES, "big"), value, append=True):',
        'if not cursor.put(first.to_bytes(_KEY_BYTES, "big"), value):',
        STORAGE + "::test_append_only_in_order_and_all_or_nothing",
    ),
    Guard(
        "I10",
        "a record's checksum is computed, not believed",
        "wal/chain.py",
        "            or digest_of(body).digest() != found",
        "",
        CHAIN + "::test_tampered_chains_break_where_the_naive_reading_breaks",
    ),
    Guard(
        "I10",
        "a record must name its predecessor",
        "wal/chain.py",
        "            or prev != link",
        "",
        CHAIN + "::test_tampered_chains_break_where_the_naive_reading_breaks",
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
        "I9",
        "a lock that moved away with its log is let go",
        "wal/writer_lock.py",
        "        if _is_at(fd, path):",
        "        if True:",
        REPAIR + "::test_a_lock_that_moved_away_while_it_was_waited_for_is_let_go",
    ),
    Guard(
        "I10",
        "of archives only what the log's key sealed counts",
        "wal/salvage_sources.py",
        "signer = self._sealed_by(segment, file)",
        "signer = self._keys[0]",
        REPAIR + "::test_records_that_only_continue_the_chain_are_not_adopted",
    ),
    Guard(
        "I3",
        "no checkpoint is written behind the end of a log",
        "wal/log.py",
        "            if self._released:",
        "            if False:",
        "tests/wal/test_log_checkpoints.py::test_no_checkpoint_is_written_behind_the_end_of_a_log",
    ),
    Guard(
        "I3",
        "a log that has stopped signs nothing more",
        "wal/log.py",
        "            if self._writer.failure is not None:\n                raise self._writer.failure\n            try:\n",
        "            try:\n",
        "tests/wal/test_log_checkpoints.py::test_no_checkpoint_is_written_behind_the_end_of_a_log",
    ),
    Guard(
        "I10",
        "what a served node records is vouched for with its next look",
        "femtoclaw/monitoring/observing.py",
        "        if vouch is not None and self._has_room():",
        "        if False:",
        "tests/cli/test_observed.py::test_what_a_served_node_has_just_recorded_can_soon_be_exported",
        slow=True,
    ),
)
