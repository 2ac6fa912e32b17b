"""Guards of backups and of procedures: nothing is believed of a place, nothing restored is opened in silence."""

from __future__ import annotations

from tests.guard import Guard

BACKUP = "tests/cli/test_backup.py"
RESTORE = "tests/cli/test_backup_restore.py"
PROCEDURES = "tests/cli/test_procedures.py"

GUARDS = (
    Guard(
        "I5",
        "a procedure that the control policy refuses is not carried out",
        "femtoclaw/procedures.py",
        '    if decided.decision != "AUTHORIZED":\n',
        "    if False:\n",
        PROCEDURES + "::test_who_may_not_does_nothing",
    ),
    Guard(
        "I4",
        "a procedure whose body raised ends as failed",
        "femtoclaw/procedures.py",
        "        told.result, told.detail = FAILED, told.detail or _sentence(error)\n",
        "        pass\n",
        PROCEDURES + "::test_a_body_that_raises_ends_as_failed_and_its_error_goes_on",
    ),
    Guard(
        "I12",
        "of an error that is not ours only its type is recorded",
        "femtoclaw/procedures.py",
        "    return what if isinstance(what, str) else type(error).__name__\n",
        "    return what if isinstance(what, str) else str(error)\n",
        PROCEDURES + "::test_a_body_that_raises_ends_as_failed_and_its_error_goes_on",
    ),
    Guard(
        "I4",
        "a goal that is lost on the way makes the procedure fail",
        "femtoclaw/procedures.py",
        "    lost = [goal for goal, found in after.items() if found and not before[goal]]\n",
        "    lost = list[str]()\n",
        PROCEDURES + "::test_a_goal_that_is_lost_on_the_way_makes_it_fail",
    ),
    Guard(
        "I10",
        "an object of a backup is the one that was signed for",
        "femtoclaw/backup/layout.py",
        "    if found is None or sealed is None or found[2] != digest:\n",
        "    if found is None or sealed is None:\n",
        BACKUP + "::test_a_flipped_byte_is_found_and_nothing_is_written",
    ),
    Guard(
        "I10",
        "a manifest is the one that was signed",
        "femtoclaw/backup/layout.py",
        "    if text != _statement(body, manifest):\n",
        "    if False:\n",
        BACKUP + "::test_a_manifest_says_what_was_signed",
    ),
    Guard(
        "I12",
        "what goes into a place is sealed to the recovery key",
        "femtoclaw/backup/recovery_key.py",
        "        sealed: bytes = crypto_box_seal(raw, self._public)\n",
        "        sealed: bytes = raw + bytes(48)\n",
        BACKUP + "::test_nothing_of_a_node_can_be_read_in_a_place",
    ),
    Guard(
        "I8",
        "what is in the place already is not put again",
        "femtoclaw/backup/creating.py",
        "        if known is not None:\n            return known\n        raw = make()\n",
        "        raw = make()\n",
        BACKUP + "::test_a_second_backup_writes_what_is_new",
    ),
    Guard(
        "I3",
        "files of the home and records are of one moment",
        "femtoclaw/backup/creating.py",
        "        if _owned(load_state(self._reader).node) != _owned(node):\n",
        "        if False:\n",
        BACKUP + "::test_what_an_operator_changes_meanwhile_is_in_it_whole",
    ),
    Guard(
        "I2",
        "what a kept backup needs is not removed",
        "femtoclaw/backup/place.py",
        "        left = [name for name in objects.names() if name not in needed]\n",
        "        left = objects.names()\n",
        BACKUP + "::test_old_backups_go_and_what_newer_ones_need_stays",
    ),
    Guard(
        "I10",
        "a restored log has the root that was signed for",
        "femtoclaw/backup/rebuilding.py",
        "            if expected != found:\n",
        "            if False:\n",
        RESTORE + "::test_a_manifest_of_another_history_restores_nothing",
    ),
    Guard(
        "I10",
        "whoever signed a manifest is known to the log that is in it",
        "femtoclaw/backup/rebuilding.py",
        "        if not self._keys.knows(signed_by) and (members is None or members.by_key(signed_by) is None):\n",
        "        if False:\n",
        RESTORE + "::test_a_manifest_of_a_stranger_restores_nothing",
    ),
    Guard(
        "I6",
        "a restored state is the one that was signed for",
        "femtoclaw/backup/restoring.py",
        "        if not partly and found != self._kept.manifest.state_hash:\n",
        "        if False:\n",
        RESTORE + "::test_a_manifest_of_another_history_restores_nothing",
    ),
    Guard(
        "I2",
        "a restored log is marked: it does not start without a word",
        "femtoclaw/backup/rebuilding.py",
        "        mark_restored(self._path, mark)\n",
        "",
        RESTORE + "::test_a_node_comes_back_in_four_steps",
    ),
    Guard(
        "I2",
        "a restore knows how long the log was that stood in its place",
        "femtoclaw/backup/restoring.py",
        "                known = max(known, reader.size)\n",
        "                pass\n",
        RESTORE + "::test_a_longer_log_in_the_place_is_sealed_and_quoted",
    ),
    Guard(
        "I5",
        "who may not restore does not say how a restored node goes on",
        "femtoclaw/cli/backup_resuming.py",
        "    if not allowed:\n",
        "    if False:\n",
        RESTORE + "::test_only_who_may_says_how_it_goes_on",
    ),
    Guard(
        "I1",
        "a restored log ends where an append ended",
        "femtoclaw/backup/rebuilding.py",
        "                if record.flags & FLAG_BATCH_END:\n",
        "                if True:\n",
        RESTORE + "::test_it_goes_back_to_where_an_append_ended",
    ),
)
