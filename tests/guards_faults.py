"""Guards of what happens to defects, to a memory that changed, and of telemetry that must not speak."""

from tests.guard import Guard

_DEFECTS = "femtoclaw/defects.py"
_OBSERVING = "femtoclaw/monitoring/observing.py"
_BROKEN = "tests/femtoclaw/test_defects.py"

GUARDS = (
    Guard("I4", "a defect of the runtime's own is recorded, and what it cut is closed", _DEFECTS,
          "    except Exception as error:\n        place", "    except ZeroDivisionError as error:\n        place",
          f"{_BROKEN}::test_a_defect_is_recorded_and_what_it_cut_is_closed"),
    Guard("I4", "a defect that cannot be recorded stops the authority", _DEFECTS,
          "        if authority.refusal is None:", "        if False:",
          f"{_BROKEN}::test_a_defect_that_cannot_be_recorded_stops_the_authority"),
    Guard("I12", "of a defect its type is told, not its words", _DEFECTS,
          "_record(authority, sources, owns, place, type(error).__name__)",
          "_record(authority, sources, owns, place, str(error))",
          f"{_BROKEN}::test_a_defect_is_recorded_and_what_it_cut_is_closed"),
    Guard("I3", "a log that does not follow from itself ends all commands", _OBSERVING,
          '        authority.contain("memory: the log does not follow from itself")', "        return",
          f"{_BROKEN}::test_a_broken_chain_is_critical_and_ends_all_commands"),
    Guard("I10", "telemetry is not off in production", "femtoclaw/config.py",
          '    if not effective["observability"]["enabled"] and', "    if False and",
          f"{_BROKEN}::test_telemetry_can_be_off_outside_of_production_alone"),
    Guard("I12", "standard error of serve --json has lines of JSON only", "femtoclaw/telemetry/error_lines.py",
          "            body = sample(NOTE, self._clock(), \"\", text=line[:TEXT_CHARS_MAX])\n"
          "            self._inner.write(text(body).decode())", "            self._inner.write(line)",
          "tests/femtoclaw/test_error_lines.py::test_remarks_warnings_and_tracebacks_become_lines"),
    Guard("I10", "a rejected configuration is on record", "femtoclaw/api/local.py",
          "                self._tell_rejected(error)", "                pass",
          "tests/cli/test_reload.py::test_a_rejected_configuration_is_on_record_and_the_old_one_in_force"),
)  # fmt: skip
