"""Guards of operating a node: incidents, alerts and procedures as they are decided."""

from tests.guard import Guard

_CORE = "femtoclaw/operations.py"
_TESTS = "tests/femtoclaw/test_operations.py"

GUARDS = (
    Guard("I5", "a step of an incident comes in its order", _CORE,
          'if body["step"] != next_step(known):', "if False:",
          f"{_TESTS}::test_an_incident_is_answered_in_six_steps_and_none_before_its_time"),
    Guard("I5", "a critical incident contains the node at once", _CORE,
          "if event.severity > 1 or node.contained:", "if True:",
          f"{_TESTS}::test_an_incident_is_answered_in_six_steps_and_none_before_its_time"),
    Guard("I5", "a node stays contained while another critical incident is open", _CORE,
          "        if grave:", "        if False:",
          f"{_TESTS}::test_a_node_stays_contained_for_another_grave_incident"),
    Guard("I5", "containment is not lifted under an open incident", "femtoclaw/control_effects.py",
          "    if operations.containing(request.state.node):", "    if False:",
          f"{_TESTS}::test_nobody_lifts_the_containment_of_an_open_incident"),
    Guard("I11", "open incidents have a bound", _CORE,
          " or len(node.operations.incidents) >= INCIDENTS_MAX:", ":",
          f"{_TESTS}::test_what_was_not_acknowledged_is_bounded"),
    Guard("I11", "alerts that nobody acknowledged have a bound", _CORE,
          "if len(alerts) >= ALERTS_MAX:", "if False:",
          f"{_TESTS}::test_what_was_not_acknowledged_is_bounded"),
    Guard("I10", "an observation has its form before it is recorded", _CORE,
          "    wrong = check_types(event) or _unshowable(event)\n    if wrong:\n        raise CommandError",
          "    wrong = check_types(event) or _unshowable(event)\n    if False:\n        raise CommandError",
          f"{_TESTS}::test_a_malformed_observation_is_not_recorded"),
    Guard("I6", "a procedure's end says what became of each goal", _CORE,
          "if type(goals.get(name)) is not bool:", "if False:",
          f"{_TESTS}::test_a_procedure_is_begun_and_ended_on_record"),
    Guard("I5", "an option of another act is no option that was heard", "femtoclaw/cli/parser.py",
          "    refuse_other_acts(arguments)\n", "",
          "tests/cli/test_acts.py::test_an_option_is_taken_by_its_acts_and_refused_by_all_others"),
    Guard("I11", "a stopped process is told of after seconds", "femtoclaw/cli/health.py",
          "        with connect(home) as client:", "        with connect(home, ANSWER_S) as client:",
          "tests/cli/test_health.py::test_a_process_that_is_stopped_is_told_after_seconds", slow=True),
    Guard("I10", "a home that is a file has no pin", "femtoclaw/launcher/sealed.py",
          "    except (FileNotFoundError, NotADirectoryError):", "    except FileNotFoundError:",
          "tests/femtoclaw/test_distribution.py::test_a_home_that_is_a_file_has_no_pin"),
    Guard("I12", "a recovery key has no public half's name", "femtoclaw/cli/backup_keys.py",
          'if arguments.out is not None and arguments.out.endswith(".pub"):', "if False:",
          "tests/cli/test_backup.py::test_a_recovery_key_is_not_written_under_the_name_of_a_public_half"),
)  # fmt: skip
