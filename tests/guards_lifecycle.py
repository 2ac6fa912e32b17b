"""Guards of start and stop: order and record of a start, why the process before ended, the bounded drain."""

from __future__ import annotations

from tests.guard import Guard

STARTING = "tests/cli/test_starting.py"
STOPPING = "tests/cli/test_stopping.py"
SERVICE = "tests/cli/test_service_files.py"
SUPERVISOR = "tests/femtoclaw/test_supervisor.py"

GUARDS = (
    Guard(
        "I10",
        "files are compared with the record before the log is opened",
        "femtoclaw/verified_start.py",
        "if opener is None and not staged(home, effective) else None",
        "if False else None",
        STARTING + "::test_a_start_ends_at_the_step_that_is_not_passed[keys-exchange_key]",
    ),
    Guard(
        "I10",
        "what changed between the look and the lock is compared again",
        "femtoclaw/verified_start.py",
        "elif log.head != view.head:",
        "elif False:",
        STARTING + "::test_what_changes_between_the_look_and_the_lock_is_looked_at_again",
    ),
    Guard(
        "I10",
        "the policy is compared at its step",
        "femtoclaw/verified_start.py",
        "policy = check_policy(home, node, effective, text, adopting)",
        'policy = ("policy", "verified", node.policy.digest, "log")',
        STARTING + "::test_a_start_ends_at_the_step_that_is_not_passed[policy-edit_policy]",
    ),
    Guard(
        "I8",
        "a failed start is told once",
        "femtoclaw/start_record.py",
        "known = _told_before(started)",
        "known: set[tuple[object, ...]] = set()",
        STARTING + "::test_the_next_good_start_tells_of_the_failed_ones_once",
    ),
    Guard(
        "I8",
        "a failed start that is on record is not told again",
        "femtoclaw/boot_journal.py",
        ' and told.get("recorded") is not True',
        "",
        STARTING + "::test_a_start_that_failed_on_record_is_not_told_again",
    ),
    Guard(
        "I11",
        "of a journal full of failures the newest are told",
        "femtoclaw/boot_journal.py",
        "failures[:IMPORTED_MAX]",
        "failures",
        STARTING + "::test_a_journal_that_anyone_wrote_is_read_within_bounds",
    ),
    Guard(
        "I12",
        "the trace of an exception holds nothing of its text",
        "femtoclaw/crash_trace.py",
        '"where": places[-1:]',
        '"where": [str(error)]',
        "tests/cli/test_crash_causes.py::test_a_process_that_dies_of_an_exception_leaves_the_digest_of_its_traceback",
    ),
    Guard(
        "I4",
        "a node that stops takes no work",
        "femtoclaw/api/at_work.py",
        "        if self._closed:\n            raise",
        "        if False:\n            raise",
        STOPPING + "::test_a_closed_door_lets_in_nobody_and_those_inside_out",
    ),
    Guard(
        "I4",
        "a node that stops takes no change",
        "femtoclaw/api/local.py",
        "        self._traffic.require_open()\n",
        "",
        STOPPING + "::test_a_node_that_stops_takes_no_change",
    ),
    Guard(
        "I4",
        "a run asks no brain when the node stops",
        "femtoclaw/api/at_work.py",
        "        if self._stopping():",
        "        if False:",
        STOPPING + "::test_a_brain_is_asked_nothing_more_when_the_node_stops",
    ),
    Guard(
        "I7",
        "what a stop cuts is recorded as interrupted",
        "femtoclaw/serving/stopping.py",
        "    _close_running(authority)\n",
        "",
        STOPPING + "::test_what_takes_longer_than_the_stop_waits_is_recorded_as_interrupted",
        slow=True,
    ),
    Guard(
        "I11",
        "a stop waits no longer than it may",
        "femtoclaw/serving/stopping.py",
        "parts.executor.drain(drain_s)",
        "parts.executor.drain(22.0)",
        STOPPING + "::test_what_takes_longer_than_the_stop_waits_is_recorded_as_interrupted",
        slow=True,
    ),
    Guard(
        "I4",
        "what works in the background holds up no stop",
        "femtoclaw/serving/background.py",
        "            except Exception as error:\n                told =",
        "            except KeyError as error:\n                told =",
        STOPPING + "::test_what_works_in_the_background_holds_up_no_node",
    ),
    Guard(
        "I5",
        "no child gets the socket of the service manager",
        "femtoclaw/serving/supervisor.py",
        "os.environ.pop(name)",
        "os.environ[name]",
        SUPERVISOR + "::test_the_variables_reach_the_node_and_none_of_its_children",
    ),
    Guard(
        "I4",
        "life is told for the process that the watchdog watches",
        "femtoclaw/serving/supervisor.py",
        'whose not in ("", str(pid))',
        "False",
        SUPERVISOR + "::test_no_life_is_told_where_no_watchdog_waits_for_this_process",
    ),
    Guard(
        "I5",
        "a path brings no line into a service file",
        "femtoclaw/cli/service.py",
        "        if not shape.fullmatch(value):",
        "        if False:",
        SERVICE + "::test_the_command_prints_each_file",
    ),
    Guard(
        "I10",
        "what a test does to the signals and the umask of its process ends with it",
        "tests/conftest.py",
        "def _as_at_the_start() -> None:\n",
        "def _as_at_the_start() -> None:\n    return\n",
        "tests/test_tidy.py::test_what_a_test_did_to_its_process_is_not_handed_on",
    ),
    Guard(
        "I10",
        "a command in the test's own process leaves its signals as they were",
        "tests/cli/in_process.py",
        "for number, handler in handlers.items():",
        "for number, handler in ():",
        "tests/test_tidy.py::test_a_command_in_this_process_leaves_its_signals",
    ),
)
