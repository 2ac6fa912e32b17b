"""Guards of the table of procedures, of previews, and of what is said of a build."""

from tests.guard import Guard

_TESTS = "tests/cli/test_runbook_list.py"

GUARDS = (
    Guard("I5", "a preview records nothing", "femtoclaw/cli/asking.py",
          'if getattr(arguments, "dry_run", False):', "if False:",
          f"{_TESTS}::test_a_preview_decides_and_records_nothing"),
    Guard("I5", "a preview of a step records nothing", "femtoclaw/cli/incidents.py",
          "if arguments.dry_run and arguments.what in", "if False and arguments.what in",
          f"{_TESTS}::test_a_preview_decides_and_records_nothing"),
    Guard("I5", "a preview of a rotation makes no key", "femtoclaw/cli/keys.py",
          "    if arguments.dry_run:\n        return _preview_rotation", "    if False:\n        return _preview_rotation",
          f"{_TESTS}::test_a_preview_decides_and_records_nothing"),
    Guard("I5", "a preview of a start starts nothing", "femtoclaw/cli/serve.py",
          "    if arguments.dry_run:\n", "    if False:\n",
          f"{_TESTS}::test_a_preview_of_a_start_starts_nothing", slow=True),
    Guard("I10", "a procedure's last run is what its record says", "femtoclaw/runbook.py",
          'if event.decision != "AUTHORIZED":', "if False:",
          f"{_TESTS}::test_a_crash_and_a_refusal_are_last_runs_too"),
    Guard("I6", "a user without a name can make a node", "femtoclaw/boot.py",
          'return f"uid-{os.getuid()}"', 'return f"uid {os.getuid()}"',
          "tests/cli/test_container_confinement.py::test_a_user_without_a_name_is_one"),
    Guard("I11", "a record that does not read holds up no stop", "femtoclaw/telemetry/following.py",
          "with contextlib.suppress(LogError, EventFormatError):\n", "if True:\n",
          "tests/femtoclaw/test_ends_and_rooms.py::test_a_record_that_does_not_read_holds_up_no_stop"),
    Guard("I6", "a machine without room for claws is told", "femtoclaw/preflight.py",
          "        _scratch(),\n", "",
          "tests/femtoclaw/test_ends_and_rooms.py::test_a_machine_without_a_temporary_folder_is_told"),
)  # fmt: skip
