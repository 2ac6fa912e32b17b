"""Guards of the log's keys: which key may sign what, and how one follows another."""

from __future__ import annotations

from tests.guard import Guard

ROTATED_OPENING = "tests/wal/test_rotated_opening.py"
ROTATED_EVIDENCE = "tests/wal/test_rotated_evidence.py"
ROTATED_LOG = "tests/wal/test_rotated_log.py"
ROTATION = "tests/wal/test_rotation.py"

GUARDS = (
    Guard(
        "I10",
        "a superseded key's checkpoint does not count",
        "wal/key_history.py",
        "            return open_checkpoint(note, [self.at(size).key], origin)",
        "            return open_checkpoint(note, [tenure.key for tenure in self], origin)",
        ROTATED_OPENING + "::test_a_checkpoint_by_a_superseded_key_is_a_finding",
    ),
    Guard(
        "I10",
        "a superseded key seals nothing behind its end",
        "wal/key_history.py",
        "return [tenure.key for tenure in self[self.index(self.at(last)) :]]",
        "return [tenure.key for tenure in self]",
        ROTATED_OPENING + "::test_a_segment_counts_by_the_key_at_its_end_or_a_later_one",
    ),
    Guard(
        "I10",
        "the old key must sign a rotation",
        "wal/rotation.py",
        "signed = ((rotation.old, rotation.old_signature), (rotation.new, rotation.new_signature))",
        "signed = ((rotation.new, rotation.new_signature),)",
        ROTATION + "::test_both_keys_must_sign_and_lead_on",
    ),
    Guard(
        "I10",
        "the new key must sign a rotation",
        "wal/rotation.py",
        "signed = ((rotation.old, rotation.old_signature), (rotation.new, rotation.new_signature))",
        "signed = ((rotation.old, rotation.old_signature),)",
        ROTATION + "::test_both_keys_must_sign_and_lead_on",
    ),
    Guard(
        "I10",
        "a rotation fits only its own place",
        "wal/rotation.py",
        "lines = [_TITLE, origin, str(before.index + 1), link, str(self.before)",
        "lines = [_TITLE, origin, str(self.before)",
        ROTATION + "::test_a_rotation_fits_only_its_own_place",
    ),
    Guard(
        "I10",
        "a superseded key never comes back",
        "wal/key_history.py",
        "        if any(tenure.key.raw == rotation.new.raw for tenure in self):",
        "        if False:",
        ROTATION + "::test_a_key_never_comes_back",
    ),
    Guard(
        "I10",
        "only the key in force opens a log",
        "wal/examination.py",
        "        self.wrong_key = self.key_text\n",
        '        self.facts["same_log"] = True\n',
        ROTATED_OPENING + "::test_a_log_opens_with_the_key_in_force_and_no_other",
    ),
    Guard(
        "I2",
        "HEAD must lead to every promised rotation",
        "wal/examination.py",
        "        elif all(tenure.first != record.index for tenure in self.keys):",
        "        elif False:",
        ROTATED_OPENING + "::test_a_head_that_forgot_a_rotation_is_found",
    ),
    Guard(
        "I3",
        "an unpromised rotation that is kept counts",
        "wal/examination.py",
        "            self.keys = self.keys.extended(record, self.genesis.origin)",
        "            pass",
        ROTATED_OPENING + "::test_an_unpromised_rotation_is_kept_whole",
    ),
    Guard(
        "I10",
        "a rotation is read back before it is written",
        "wal/log.py",
        "            keys = keys.extended(record, self.origin)",
        "            keys = KeyHistory((*keys, keys[0]._replace(first=record.index, key=signer.public)))",
        ROTATED_LOG + "::test_a_signer_that_signs_wrongly_is_found_before_it_ends_the_log",
    ),
    Guard(
        "I10",
        "nothing behind a rotation is signed by the old key",
        "wal/log.py",
        "return next(signer for first, signer in reversed(self._signers) if first <= size)",
        "return self._signers[0][1]",
        ROTATED_LOG + "::test_from_the_rotation_on_the_new_key_signs",
    ),
    Guard(
        "I10",
        "an archive by a superseded key adds nothing behind its end",
        "wal/assembly.py",
        "        if signer is not None and keys.knows(signer) and signer not in keys.sealing(records[-1].index):",
        "        if False:",
        ROTATED_EVIDENCE + "::test_an_archive_by_a_superseded_key_adds_nothing_behind_its_end",
    ),
    Guard(
        "I3",
        "nothing is rebuilt under a superseded key",
        "wal/repair.py",
        "    if keys and keys.newest.key != key and (not missing or keys.knows(key)):",
        "    if False:",
        ROTATED_EVIDENCE + "::test_nothing_is_rebuilt_under_a_superseded_key",
    ),
    Guard(
        "I10",
        "a bundle has the auditor's key in its chain",
        "wal/bundle.py",
        "        if not any(keys.knows(key) for key in trusted):",
        "        if False:",
        ROTATED_EVIDENCE + "::test_a_bundle_fails_with_a_key_the_log_never_had",
    ),
    Guard(
        "I2",
        "verification compares HEAD's way with the rotations",
        "wal/verification.py",
        "    if slot is not None and slot.rotated != promised:",
        "    if False:",
        ROTATED_OPENING + "::test_a_head_that_forgot_a_sealed_rotation_is_found_by_verification",
    ),
)
