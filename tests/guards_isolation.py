"""Guards of the processes in which claws run."""

from __future__ import annotations

from tests.guard import Guard

ISOLATION = "tests/femtoclaw/test_isolation.py"

GUARDS = (
    Guard(
        "I7",
        "what its supervisor said last decides whether a claw may have run",
        "femtoclaw/isolation/call.py",
        "        word = _last_word(connection)",
        "        shut_down(connection)",
        "tests/femtoclaw/test_isolation_deadlines.py::test_what_a_dying_supervisor_said_decides",
    ),
    Guard(
        "I11",
        "a supervisor whose server is gone ends its claw",
        "femtoclaw/isolation/supervisor.py",
        "if ready.intersection(self._needed):",
        "if False:",
        "tests/femtoclaw/test_isolation_ends.py::test_kill_9_of_the_server_ends_claws_and_their_daemons",
    ),
    Guard(
        "I11",
        "a claw's output over its bound is cut off",
        "femtoclaw/isolation/supervisor.py",
        "        if seen > limit:",
        "        if False:",
        ISOLATION + "::test_output_over_the_bound_is_cut_off",
    ),
    Guard(
        "I12",
        "a claw inherits no descriptor",
        "femtoclaw/isolation/process.py",
        "    close_descriptors({given.taking, given.writing, given.proc})",
        "    pass",
        ISOLATION + "::test_a_claw_sees_no_descriptor_and_no_environment_of_the_node",
    ),
    Guard(
        "I12",
        "a claw gets no environment of the node",
        "femtoclaw/isolation/client.py",
        'env={"LANG": "C.UTF-8"},',
        "env=None,",
        ISOLATION + "::test_a_claw_sees_no_descriptor_and_no_environment_of_the_node",
    ),
)
