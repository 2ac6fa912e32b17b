"""Guards of the archive: what is put once, read back, judged from the genesis key on, and never restored in silence."""

from __future__ import annotations

from tests.guard import Guard

STORE = "tests/contract/test_archive_store.py"
PUSH = "tests/cluster/test_archive.py"
RESTORE = "tests/cluster/test_archive_restore.py"
FORGED = "tests/cluster/test_archive_forged.py"

GUARDS = (
    Guard(
        "I8",
        "an archived file gets its name only where there is none",
        "cluster/archive_folder.py",
        "        os.link(temporary, path, follow_symlinks=False)",
        "        os.rename(temporary, path)",
        STORE + "::test_of_many_at_once_one_puts",
    ),
    Guard(
        "I8",
        "an object store that overwrites is refused",
        "cluster/archive_s3.py",
        '        if self._put(_CHECKED, b"put once\\n"):',
        "        if False:",
        STORE + "::test_a_service_that_overwrites_is_refused",
    ),
    Guard(
        "I8",
        "an object is put into an object store on condition",
        "cluster/archive_s3.py",
        'obstore.put(self._opened(), name, raw, mode="create", use_multipart=False)',
        "obstore.put(self._opened(), name, raw, use_multipart=False)",
        STORE + "::test_an_object_is_put_once",
    ),
    Guard(
        "I11",
        "no object over its bound is read into memory",
        "cluster/archive_folder.py",
        "    if status.st_size > limit:\n",
        "    if False:\n",
        FORGED + "::test_a_file_over_its_bound_is_not_read",
    ),
    Guard(
        "I2",
        "nothing is archived that was not read back",
        "cluster/archiving.py",
        "            check(raw, name, where)",
        "            pass",
        PUSH + "::test_what_does_not_come_back_is_not_archived",
    ),
    Guard(
        "I3",
        "nothing above the commit is archived",
        "cluster/archiving.py",
        "        wanted = [seal for seal in seals if seal.head.index <= bound]",
        "        wanted = seals",
        PUSH + "::test_nothing_above_the_commit_is_archived",
    ),
    Guard(
        "I8",
        "a fork is not archived beside the log",
        "cluster/archiving.py",
        "            if own.setdefault(name.number, name.digest) != name.digest:",
        "            if False:",
        PUSH + "::test_a_fork_is_not_archived_beside_the_log",
    ),
    Guard(
        "I10",
        "an archived segment's seal is by a key that may sign there",
        "cluster/archive_chain.py",
        "    seal = keys.open_seal(segment, where)\n",
        (
            "    from wal.segment import root_of_links\n"
            "    links = [row[5] for row in segment.rows]\n"
            "    seal = Seal(origin, segment.first, len(links), root_of_links(links), segment.prev, links[-1], segment.digest)\n"
        ),
        RESTORE + "::test_a_forged_seal_is_refused",
    ),
    Guard(
        "I10",
        "archived segments are one history",
        "cluster/archive_chain.py",
        "        if (first, segment.segment.prev) != (self.head.index + 1, self.head.link) or segment.least < self._least:",
        "        if False:",
        FORGED + "::test_segments_of_two_histories_are_not_one",
    ),
    Guard(
        "I10",
        "the authority records archived by themselves are those of the segments",
        "cluster/archive_chain.py",
        "        if alone != segment.authority:",
        "        if False:",
        RESTORE + "::test_a_thief_cannot_hide_that_his_key_was_given_up",
    ),
    Guard(
        "I10",
        "an archived checkpoint has the root of the archived records",
        "cluster/archive_chain.py",
        "        if size in self.roots and self.roots[size] != note.checkpoint.root:",
        "        if False:",
        FORGED + "::test_a_checkpoint_of_another_history_is_refused",
    ),
    Guard(
        "I10",
        "the log in an archive is the one that was asked for",
        "cluster/archive_reading.py",
        "                if record.link != self.log_id:",
        "                if False:",
        RESTORE + "::test_an_archive_of_another_log_is_refused",
    ),
    Guard(
        "I11",
        "a compressed object that states too much is not expanded",
        "cluster/archive_objects.py",
        "    if stated.content_size > limit:",
        "    if False:",
        FORGED + "::test_a_bomb_is_refused_before_it_is_expanded",
    ),
    Guard(
        "I11",
        "a segment is not expanded beyond what its own header says",
        "cluster/archive_objects.py",
        "    if not least <= stated <= least + SEAL_BYTES_MAX:",
        "    if False:",
        FORGED + "::test_a_bomb_with_a_segments_head_is_refused",
    ),
    Guard(
        "I10",
        "a changed bit of a compressed object shows even where it changes nothing",
        "cluster/archive_objects.py",
        "    if with_digest(frame) != packed:",
        "    if False:",
        FORGED + "::test_a_bit_that_changes_nothing_shows_too",
    ),
    Guard(
        "I2",
        "a restored log is marked before it has its name",
        "cluster/archive_restore.py",
        "            mark_restored(new, mark)\n",
        "",
        RESTORE + "::test_a_lost_log_comes_back",
    ),
    Guard(
        "I2",
        "a restored log ends with a whole append",
        "cluster/archive_restore.py",
        "            self._storage.cut(chain.whole.index)",
        "            pass",
        RESTORE + "::test_a_lost_log_comes_back",
    ),
    Guard(
        "I2",
        "a log that nothing signed vouches for is not restored",
        "cluster/archive_restore.py",
        "usable = [note for note in notes if note.checkpoint.size <= chain.whole.index]",
        "usable = notes",
        RESTORE + "::test_without_the_key_a_later_checkpoint_vouches",
    ),
    Guard(
        "I10",
        "a seal that the restored records do not explain is left out",
        "cluster/archive_restore.py",
        "        self._forget_unknown_seals(keys)\n",
        "",
        RESTORE + "::test_a_segment_may_be_sealed_late",
    ),
    Guard(
        "I2",
        "a damaged mark is still a mark",
        "cluster/restored.py",
        "    if mark is None or mark.text() != raw:",
        "    if mark is None:\n        return None\n    if mark.text() != raw:",
        RESTORE + "::test_the_mark_is_durable_and_strict",
    ),
    Guard(
        "I2",
        "a repair keeps the mark of a restored log",
        "wal/repair.py",
        '_COPIED = ("blobs", "evidence", "snapshots", "checkpoints", "cluster")',
        '_COPIED = ("blobs", "evidence", "snapshots", "checkpoints")',
        "tests/cli/test_archive.py::test_a_repair_keeps_the_mark",
    ),
    Guard(
        "I2",
        "a node does not go on with a restored log in silence",
        "femtoclaw/boot.py",
        "    refuse_restored(home)\n",
        "",
        "tests/cli/test_archive.py::test_a_lost_log_replays_to_the_same_state",
    ),
    Guard(
        "I2",
        "a log with members is not repaired by one of them alone",
        "femtoclaw/cli/recovery.py",
        "    if members is not None:\n        raise MembersError(",
        "    if False:\n        raise MembersError(",
        "tests/cli/test_archive.py::test_a_log_with_members_is_not_repaired_alone",
    ),
)
