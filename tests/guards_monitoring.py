"""Guards of looking at a node, of its monitors, and of telemetry."""

from tests.guard import Guard

_LOOKING = "femtoclaw/monitoring/looking.py"
_TAIL = "femtoclaw/monitoring/tail.py"
_CANARY = "femtoclaw/monitoring/canary.py"
_MONITOR = "femtoclaw/monitoring/monitor.py"
_ENDPOINT = "femtoclaw/monitoring/endpoint.py"
_FIGURES = "femtoclaw/telemetry/figures.py"
_SINK = "femtoclaw/telemetry/sink.py"
_FILE = "femtoclaw/telemetry/line_file.py"
_WATCHED = "tests/femtoclaw/test_monitoring.py"
_TOLD = "tests/femtoclaw/test_telemetry.py"
_SINKS = "tests/femtoclaw/test_telemetry_sinks.py"
_ASKED = "tests/cli/test_observed.py"

GUARDS = (
    Guard("I6", "the engine in force is compared with what was loaded", _CANARY,
          "    if engine.digest != node.policy.digest or not engine.intact():", "    if False:",
          f"{_WATCHED}::test_an_engine_of_another_policy_is_found_though_it_answers_alike"),
    Guard("I10", "the registry in memory is compared with the log's", _LOOKING,
          "            if logged == held:", "            if True:",
          f"{_WATCHED}::test_one_broken_part_flips_its_check_alone"),
    Guard("I10", "the records since the last look are verified", _LOOKING,
          "        if read.damaged:", "        if False:",
          f"{_WATCHED}::test_one_broken_part_flips_its_check_alone"),
    Guard("I3", "a record that was seen is the same at the next look", _TAIL,
          "                if at == self.size and self._link and record.link != self._link:", "                if False:",
          f"{_WATCHED}::test_a_record_that_was_replaced_by_another_valid_one_is_found"),
    Guard("I11", "a look that found nothing new is recorded every tenth time", _MONITOR,
          "                if self._since < EVERY and not record:", "                if False:",
          f"{_WATCHED}::test_a_look_is_recorded_at_first_when_it_differs_and_every_tenth_time"),
    Guard("I11", "a check that is not ok raises one alert", _MONITOR,
          "        for rule in sorted(wrong.keys() - self._alerted):", "        for rule in sorted(wrong.keys()):",
          f"{_WATCHED}::test_a_failing_check_raises_one_alert_until_it_is_well_again"),
    Guard("I5", "a monitor that hangs is told", _MONITOR,
          "        for rule in sorted(stalled.keys() - self._alerted):", "        for rule in ():",
          f"{_WATCHED}::test_a_monitor_that_hangs_is_stalled_and_the_others_say_so"),
    Guard("I12", "of an error that nobody foresaw only the type is told", _MONITOR,
          'text = getattr(error, "what", None) or type(error).__name__', "text = str(error)",
          f"{_WATCHED}::test_one_detector_that_raises_does_not_silence_the_others"),
    Guard("I4", "a node that was killed is told before its next start", "femtoclaw/cli/health.py",
          "    if not read_slots(reader.storage.read_slots()).clean and not locked(home):", "    if False:",
          "tests/cli/test_health.py::test_a_killed_node_is_told_before_anybody_starts_it"),
    Guard("I10", "key files without their index are not told as good ones", "femtoclaw/cli/health.py",
          "    if not known:\n        return Check(", "    if False:\n        return Check(",
          "tests/cli/test_health.py::test_a_missing_index_of_the_keys_is_not_told_as_a_good_one"),
    Guard("I11", "connections to the endpoint are bounded", _ENDPOINT,
          "            room = len(self._open) < CONNECTIONS_MAX", "            room = True",
          f"{_ASKED}::test_connections_are_bounded_in_number"),
    Guard("I11", "a connection to the endpoint has an end", _ENDPOINT,
          "        self.cut(LIFE_S)", "        pass",
          f"{_ASKED}::test_a_request_comes_within_its_time"),
    Guard("I11", "whoever asks slowly gives way to a probe", _ENDPOINT,
          "            if not room and self._asking:", "            if False:",
          f"{_ASKED}::test_whoever_asks_slowly_keeps_no_probe_away"),
    Guard("I12", "what is no request is answered without a word of it", _ENDPOINT,
          "    def send_error(", "    def send_error_(",
          f"{_ASKED}::test_only_small_requests_are_answered"),
    Guard("I12", "a label is a registered claw's name", _FIGURES,
          "        return name if name in self._claws or not name else UNREGISTERED", "        return name",
          f"{_TOLD}::test_what_is_no_registered_claw_is_no_label"),
    Guard("I12", "a line holds the declared fields alone", "femtoclaw/telemetry/lines.py",
          '("phase", "category", "severity", "code"),', '("phase", "category", "severity", "code", "detail"),',
          f"{_TOLD}::test_no_text_of_anybody_s_gets_into_lines_labels_or_spans"),
    Guard("I11", "a sink's queue is bounded", _SINK,
          "            if len(self._queue) >= self._waiting_max or self._over:", "            if self._over:",
          f"{_SINKS}::test_a_sink_that_hangs_costs_nobody_anything_and_what_it_loses_is_counted"),
    Guard("I11", "the file of lines is bounded", _FILE,
          "if os.fstat(fd).st_size + len(raw) > FILE_BYTES_MAX and os.fstat(fd).st_size:", "if False:",
          f"{_SINKS}::test_a_file_of_lines_is_ours_and_bounded"),
    Guard("I10", "lines go on in a file of this log only", _FILE,
          "return index + 1 if 1 <= index <= log.size and log.read(index).link.hex() == link else None", "return index + 1",
          f"{_SINKS}::test_a_file_of_another_log_is_not_gone_on_with"),
    Guard("I6", "a canary is no measured call", _CANARY,
          "    verdict = authorize(\n        DENIED, {}, _CONTEXT, registry=engines.registry, manifests=engines.manifests,",
          "    engines.authorize(DENIED, {}, _CONTEXT)\n    verdict = authorize(\n        DENIED, {}, _CONTEXT, "
          "registry=engines.registry, manifests=engines.manifests,",
          "tests/femtoclaw/test_telemetry_performance.py::test_a_look_is_no_measured_call"),
)  # fmt: skip
