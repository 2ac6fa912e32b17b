"""Guards against forged histories, what the environment brings, and what a refused change leaves."""

from __future__ import annotations

from tests.guard import Guard

FORGED = "tests/cli/test_forged_history.py::"
ENVIRONMENT = "tests/femtoclaw/test_start_environment.py::"
IMPOSSIBLE = FORGED + "test_what_nobody_could_record_is_an_integrity_error"
SCRIPT = ENVIRONMENT + "test_the_script_starts_a_node_with_a_clean_environment"

GUARDS = (
    Guard("I10", "a recorded manifest is checked where it is read", "femtoclaw/recorded.py",
          "    return recorded(what, read)", "    return manifest_from_canonical(raw)", IMPOSSIBLE),
    Guard("I10", "a recorded configuration is checked where it is read", "femtoclaw/recorded.py",
          '    return recorded("a configuration", lambda: _configuration(json.loads(content)))',
          "    return json.loads(content)", IMPOSSIBLE),
    Guard("I10", "an event that cannot have happened is an integrity error", "femtoclaw/restore.py",
          "    except STUMBLES as error:\n        raise impossible(index, error) from error",
          "    except ZeroDivisionError as error:\n        raise impossible(index, error) from error", IMPOSSIBLE),
    Guard("I10", "a reader that stumbles over a forged history says so", "femtoclaw/cli/forged.py",
          '    if report["ok"]:', "    if True:", FORGED + "test_a_reader_that_stumbles_asks_the_verification"),
    Guard("I6", "a result below zero is a divergence", "femtoclaw/decide.py",
          "        if getattr(command, name) < 0:", "        if False:",
          FORGED + "test_nothing_took_less_than_no_time_or_room"),
    Guard("I10", "other libraries refuse the start", "femtoclaw/launcher/start.py",
          "            environment.check(os.environ)\n            environment.drop(os.environ)  # before",
          "            environment.drop(os.environ)  # before", ENVIRONMENT + "test_other_libraries_refuse_the_start"),
    Guard("I10", "nothing comes in through the cryptographic library", "femtoclaw/launcher/start.py",
          "            environment.drop(os.environ)  # before", "            pass  # before",
          ENVIRONMENT + "test_no_module_comes_in_through_the_cryptographic_library"),
    Guard("I10", "the installed command starts from scratch", "femtoclaw/launcher/start.py",
          "    os.execve(sys.executable, command, environment.kept())", "    os.execv(sys.executable, command)",
          ENVIRONMENT + "test_the_installed_command_starts_from_scratch"),
    Guard("I10", "a package that joins the lock is sealed", "femtoclaw/seal.py",
          " and before.manifest.files.keys() == paths.keys():", ":",
          "tests/femtoclaw/test_distribution.py::test_a_package_that_joins_the_lock_is_sealed"),
    Guard("I12", "a secret goes to a claw that asks for it", "femtoclaw/control_effects.py",
          "        if name not in recorded_manifest(claw, known.manifest).secrets:", "        if False:",
          "tests/femtoclaw/test_control_changes.py::test_a_secret_is_granted_to_a_claw_that_asks_for_it"),
    Guard("I8", "a refused change leaves no staged file", "femtoclaw/cli/asking.py",
          "        then = after if asked.permitted else undo", "        then = after if asked.permitted else None",
          "tests/cli/test_adoption.py::test_a_refused_change_leaves_no_file_behind"),
)  # fmt: skip
