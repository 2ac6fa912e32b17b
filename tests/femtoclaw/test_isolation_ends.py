"""Nothing that a claw started outlives it: at its end, its deadline, close(), and kill -9 of everybody above it.

Everything is shown three times: as the kernel grants it to this user, with the rights of an ordinary user, and without
any PID namespace, where processes that fork twice are found and killed one by one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.claws import SHELL
from femtoclaw.isolation import Isolation, Outcome, OutcomeUnknownError
from femtoclaw.manifest import Manifest
from tests.femtoclaw.isolated import HOSTILE, PROGRAMS, ROOT, WAYS, declared, eventually, the_supervisor

DAEMON_SCRIPT = "(setsid sleep 600 >/dev/null 2>&1 &) ; setsid sh -c 'sleep 600 & sleep 600' >/dev/null 2>&1 &"
HANG_SCRIPT = DAEMON_SCRIPT + " echo > ready; sleep 600"


def claw(name: str, **limits: Any) -> Manifest:
    return declared(HOSTILE, name, **({"wall_seconds": 60.0} | limits))


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def isolation(workspace: Path, way: str) -> Iterator[Isolation]:
    isolation = Isolation(str(workspace), modules=WAYS[way], search_path=str(ROOT))
    yield isolation
    isolation.close()


def inhabitants(workspace: Path) -> list[int]:
    """Processes whose working directory is the workspace: a claw and whatever it started, however it is related."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.readlink(f"/proc/{entry}/cwd") == str(workspace):
                    found.append(int(entry))
            except OSError:
                continue
    return found


class Call(threading.Thread):
    """One call in a thread of its own, with what came of it."""

    def __init__(self, call: Callable[[], Outcome]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.came: Outcome | Exception | None = None

    def run(self) -> None:
        try:
            self.came = self._call()
        except Exception as error:
            self.came = error


def in_flight(isolation: Isolation, workspace: Path) -> tuple[Call, list[int]]:
    """A hanging program of the shipped ``shell`` claw with daemons, and every process of it."""
    shell = SHELL._replace(limits=SHELL.limits._replace(wall_seconds=60.0))
    call = Call(lambda: isolation.run(shell, {"bin": "/bin/sh", "argv": ["-c", HANG_SCRIPT]}, PROGRAMS))
    call.start()
    assert eventually(lambda: (workspace / "ready").exists() and len(inhabitants(workspace)) >= 6)
    return call, inhabitants(workspace)


def test_what_layers_says_is_what_a_claw_sees(isolation: Isolation, way: str) -> None:
    """In a PID namespace a claw is process 1; elsewhere it is not, and the layers say so."""
    result = isolation.run(claw("leaves_daemon"), {}, PROGRAMS).result
    assert result is not None
    assert isolation.layers()["pid_namespace"].startswith("in force") == (result["pid"] == 1)
    assert way != "no_namespace" or result["pid"] != 1
    assert way != "ordinary_user" or int(result["capabilities"], 16) == 0


def test_the_end_of_a_claw_is_the_end_of_its_daemons(isolation: Isolation, workspace: Path) -> None:
    """When a success or a timeout is there, nothing of the claw is: neither of Python nor of a program."""
    shell = isolation.run(SHELL, {"bin": "/bin/sh", "argv": ["-c", DAEMON_SCRIPT]}, PROGRAMS)
    assert (shell.status, inhabitants(workspace)) == ("success", [])
    assert (isolation.run(claw("leaves_daemon"), {}, PROGRAMS).status, inhabitants(workspace)) == ("success", [])
    late = isolation.run(claw("hangs_with_daemon", wall_seconds=0.5), {}, PROGRAMS)
    assert (late.status, inhabitants(workspace)) == ("timeout", [])


def test_a_program_hears_a_signal(isolation: Isolation) -> None:
    """What the supervisor ignores is not ignored by the programs of its claw."""
    assert isolation.run(claw("asked_to_end", wall_seconds=10.0), {}, PROGRAMS).status == "success"


def test_close_ends_claws_and_their_daemons(isolation: Isolation, workspace: Path) -> None:
    """close() returns after the last of them has ended; the call says that its outcome is not known."""
    call, _ = in_flight(isolation, workspace)
    begun = time.monotonic()
    isolation.close()
    assert inhabitants(workspace) == []
    assert time.monotonic() - begun < 10  # nobody waited for the claw, or was killed for waiting
    call.join(10)
    assert isinstance(call.came, OutcomeUnknownError)


def test_kill_9_of_the_server_ends_claws_and_their_daemons(isolation: Isolation, workspace: Path) -> None:
    """The supervisor ends them and still reports it; the next call gets a new server."""
    call, _ = in_flight(isolation, workspace)
    assert isolation._server is not None
    isolation._server.send_signal(signal.SIGKILL)
    call.join(10)
    assert isinstance(call.came, Outcome), call.came
    assert (call.came.status, inhabitants(workspace)) == ("crashed", [])
    assert isolation.run(claw("leaves_daemon"), {}, PROGRAMS).status == "success"


def test_kill_9_of_a_supervisor_ends_its_claw_and_daemons(isolation: Isolation, workspace: Path) -> None:
    """The server ends what the supervisor left; nobody saw the end of the claw, so its outcome is not known."""
    call, _ = in_flight(isolation, workspace)
    os.kill(the_supervisor(isolation), signal.SIGKILL)
    call.join(10)
    assert isinstance(call.came, OutcomeUnknownError), call.came
    assert eventually(lambda: inhabitants(workspace) == [])
    assert isolation.run(claw("leaves_daemon"), {}, PROGRAMS).status == "success"


def test_with_everybody_above_it_dead_a_program_still_dies(isolation: Isolation, workspace: Path) -> None:
    """Server and supervisor are killed at once: the kernel ends the claw with its supervisor, the program with it."""
    script = "echo > ready; exec sleep 600"
    call = Call(lambda: isolation.run(SHELL, {"bin": "/bin/sh", "argv": ["-c", script]}, PROGRAMS))
    call.start()
    assert eventually((workspace / "ready").exists)
    assert isolation._server is not None
    supervisor = the_supervisor(isolation)
    os.kill(supervisor, signal.SIGSTOP)  # or it would have time to end the program itself
    isolation._server.send_signal(signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
    call.join(10)
    assert isinstance(call.came, OutcomeUnknownError)
    assert eventually(lambda: inhabitants(workspace) == [])


def test_a_process_whose_parent_is_dead_is_not_tied_to_it() -> None:
    """Both ties look after the call whether it came too late: no signal will ever come then."""
    reading, writing = os.pipe()
    program = textwrap.dedent(
        f"""
        import os, sys
        sys.path.insert(0, {str(ROOT)!r})
        from femtoclaw.isolation import kernel
        kernel.die_with_parent({writing})
        kernel.die_with_process(os.getppid())
        print("tied", flush=True)
        sys.stdin.readline()
        for tie, argument in ((kernel.die_with_parent, {writing}), (kernel.die_with_process, os.getppid() + 1)):
            try:
                tie(argument)
            except kernel.ParentGoneError:
                print("gone", flush=True)
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], pass_fds=[writing], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"tied\n"
        os.close(reading)
        assert child.communicate(b"\n", 10)[0] == b"gone\ngone\n"
    os.close(writing)


def test_an_outcome_is_not_told_while_something_may_live(workspace: Path) -> None:
    """A supervisor that did not see everything die says nothing: the outcome is unknown, and the server goes on."""
    modules = (*WAYS["no_namespace"], "tests.femtoclaw.without_patience")
    isolation = Isolation(str(workspace), modules=modules, search_path=str(ROOT))
    with pytest.raises(OutcomeUnknownError):
        isolation.run(claw("leaves_daemon"), {}, PROGRAMS)
    assert eventually(lambda: inhabitants(workspace) == [])
    isolation.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_the_end_of_the_node_ends_claws_and_their_daemons(workspace: Path, way: str, number: signal.Signals) -> None:
    """kill -9 of the node alone; Ctrl-C, and what a service manager sends, for its whole process group."""
    program = textwrap.dedent(
        f"""
        import sys, signal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.path.insert(0, {str(ROOT)!r})
        from femtoclaw.claws import SHELL
        from femtoclaw.isolation import Isolation
        isolation = Isolation({str(workspace)!r}, modules={WAYS[way]!r}, search_path={str(ROOT)!r})
        isolation.run(SHELL, {{"bin": "/bin/sh", "argv": ["-c", {HANG_SCRIPT!r}]}}, {PROGRAMS!r})
        """
    )
    node = subprocess.Popen([sys.executable, "-c", program], start_new_session=True, stderr=subprocess.DEVNULL)
    assert eventually(lambda: (workspace / "ready").exists() and len(inhabitants(workspace)) >= 6)
    if number == signal.SIGKILL:
        node.kill()
    else:
        os.killpg(node.pid, number)
    assert node.wait(10) != 0
    assert eventually(lambda: inhabitants(workspace) == [])
