"""Guards of how a restored node goes on: no second history of one log, and nothing that protected it is dropped in silence."""

from __future__ import annotations

from tests.guard import Guard

RESUME = "tests/cli/test_backup_resume.py"
INHERITED = "tests/cli/test_inherited.py"

GUARDS = (
    Guard(
        "I2",
        "a home that was moved aside does not start",
        "femtoclaw/verified_start.py",
        "    refuse_aside(home)\n",
        "",
        RESUME + "::test_a_home_that_was_moved_aside_does_not_go_on",
    ),
    Guard(
        "I2",
        "a restored node goes on in a log of its own",
        "femtoclaw/cli/backup_resuming.py",
        "    wanted = SAME_LOG if arguments.nothing_newer else NEW_LOG\n",
        "    wanted = SAME_LOG\n",
        RESUME + "::test_two_restores_of_a_backup_are_not_two_histories_of_one_log",
    ),
    Guard(
        "I2",
        "a newer backup in the place is a newer end",
        "femtoclaw/backup/restoring.py",
        "            return load(store, log_id, name).manifest.size\n",
        "            return 0\n",
        RESUME + "::test_nothing_newer_is_not_believed_where_the_place_holds_more",
    ),
    Guard(
        "I2",
        "a restored home without its mark does not start",
        "femtoclaw/restored_log.py",
        "    if is_waiting(home):\n        raise IntegrityError(\n",
        "    if False:\n        raise IntegrityError(\n",
        RESUME + "::test_without_its_mark_a_restored_home_waits_all_the_same",
    ),
    Guard(
        "I2",
        "no recovery takes up a home that waits for an operator's word",
        "femtoclaw/cli/recovery.py",
        "    refuse_waiting(home)\n",
        "",
        RESUME + "::test_without_its_mark_a_restored_home_waits_all_the_same",
    ),
    Guard(
        "I2",
        "that the mark is gone does not say that the node goes on",
        "femtoclaw/cli/backup_resuming.py",
        '        return SAME_LOG if KIND_RECOVERED in behind else ""\n',
        "        return SAME_LOG\n",
        RESUME + "::test_without_its_mark_a_restored_home_waits_all_the_same",
    ),
    Guard(
        "I2",
        "a new log takes over what protected the node",
        "femtoclaw/inheritance.py",
        "    parts = parts_of(node, last.live, last.origins, name, _origin(rebuilt))\n",
        "    parts: list[Part] = []\n",
        INHERITED + "::test_what_protected_the_node_is_in_force_in_the_new_log",
    ),
    Guard(
        "I2",
        "where records are known to be lost a node begins contained",
        "femtoclaw/inheritance.py",
        "    if unknown and not node.contained:\n",
        "    if False:\n",
        INHERITED + "::test_where_records_are_lost_the_node_begins_contained",
    ),
    Guard(
        "I5",
        "only a new log takes over what was in force in another",
        "femtoclaw/carrying.py",
        "    if state.node.boots or not state.node.runtime_id or command.told.phase != PHASE or not fits:\n",
        "    if False:\n",
        "tests/femtoclaw/test_carrying.py::test_only_a_new_log_takes_over",
    ),
)
