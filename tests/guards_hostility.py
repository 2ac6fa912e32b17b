"""Guards that hostile messages, commands and starter policies meet."""

from __future__ import annotations

from tests.guard import Guard

INTENTS = "tests/security/test_hostile_intents.py::test_no_hostile_message_reaches_a_claw_outside_of_policy"
HAZARDS = "tests/femtoclaw/test_shell_hazards.py::test_what_a_command_does_beyond_its_name"
STARTERS = "tests/femtoclaw/test_policy_starters.py::test_a_starter_loads_and_decides_its_cases"
SECCOMP = "femtoclaw/isolation/seccomp.py"
MODES = "tests/femtoclaw/test_isolation_modes.py::"
MEMORY = "tests/femtoclaw/test_isolation_memory.py::"

GUARDS = (
    Guard("I5", "a path with `..` is judged by no policy", "femtoclaw/facts.py",
          'if ".." in value and ".." in value.split("/"):', "if False:", INTENTS + "[default]"),
    Guard("I5", "policy sees the one spelling of a path", "femtoclaw/facts.py",
          'return {"path": posixpath.normpath(value)}', 'return {"path": value}', INTENTS + "[default]"),
    Guard("I5", "what needs approval is held", "femtoclaw/authorization.py",
          "if answer.allowed and answer.approval is not None:", "if False:", INTENTS + "[developer]"),
    Guard("I5", "a disabled claw is denied", "femtoclaw/authorization.py", "if not claw.enabled:", "if False:",
          INTENTS + "[default]"),
    Guard("I12", "an answer in JSON is one line whatever it quotes", "femtoclaw/cli/render.py",
          "    if text.isprintable():\n", "    if True:\n",
          "tests/security/test_attack_corpus.py::test_injected_text_stays_text"),
    Guard("I5", "sed's sandbox counts only as an option before the script", "femtoclaw/sed_commands.py",
          "        self._sandbox = False\n", '        self._sandbox = "--sandbox" in argv\n', HAZARDS),
    Guard("I5", "a compiler's option that is not known as harmless is a hazard", "femtoclaw/command_readers.py",
          'return outside(argv) | ({"loads_code"} if others else set())', "return outside(argv)", HAZARDS),
    Guard("I5", "two dashes hide no prefix of a one-dash program", "femtoclaw/shell_hazards.py",
          'if argument[:2] == "--" and not program.clusters else (argument,)', "if False else (argument,)", HAZARDS),
    Guard("I5", "make waits under the policy for developers", "femtoclaw/policies/developer.cedar",
          '@description("Runs what the workspace holds. Look at what has changed there.")\n@approvals("1")\n'
          '@expires("1800")\n', "", STARTERS + "[developer]"),
    Guard("I5", "a Makefile is seen before it is written", "femtoclaw/policies/developer.cedar",
          'context.path like "*akefile" || ', "", STARTERS + "[developer]"),
    Guard("I5", "a pipeline runs nothing after it has written", "femtoclaw/policies/ci-runner.cedar",
          'when { context.history.done.contains("fs.write") || context.history.failed.contains("fs.write") };',
          "when { context.history.denied > 100 };", STARTERS + "[ci-runner]"),
    Guard("I5", "no mode has a set-uid or set-gid bit", SECCOMP, "_SET_ID = 0o6000", "_SET_ID = 0",
          MODES + "test_no_claw_makes_a_set_uid_file"),
    Guard("I5", "a mode in memory is not accepted", SECCOMP, '        "openat2": _denied(errno.ENOSYS),', "        ",
          MODES + "test_no_claw_makes_a_set_uid_file"),
    Guard("I5", "no program changes a mode to set-uid", SECCOMP, "_unless_mode(at, _SET_ID | _WRITABLE_BY_ALL) for",
          "_unless_mode(at, _WRITABLE_BY_ALL) for", MODES + "test_no_program_makes_a_set_uid_file"),
    Guard("I5", "the workspace is not opened to everybody's writing", SECCOMP, "_SET_ID | _WRITABLE_BY_ALL", "_SET_ID",
          MODES + "test_the_workspace_is_not_opened_to_all"),
    Guard("I5", "nor by an access list", SECCOMP, "for name in _ATTRIBUTES_SET}",
          "for name in ()} | {name: _allowed() for name in _ATTRIBUTES_SET}",
          MODES + "test_the_workspace_is_not_opened_to_all"),
    Guard("I11", "no files in memory", SECCOMP, '        "memfd_create": _denied(errno.ENOSYS),', "        ",
          MEMORY + "test_a_native_module_has_its_code_and_no_other_memory"),
    Guard("I11", "memory made ahead is closed for other claws", "femtoclaw/isolation/process.py",
          "    if memory >= 0:\n        os.close(memory)", "    pass", MEMORY + "test_other_claws_have_none_at_all"),
    Guard("I11", "a native module's memory is sealed", "femtoclaw/isolation/native.py",
          "    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)", "    pass",
          MEMORY + "test_a_native_module_has_its_code_and_no_other_memory"),
)  # fmt: skip
