"""Claws in their own processes: whatever one does, its bounds hold, nothing of it survives, the next one works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.isolation import Isolation, Outcome, probe
from femtoclaw.manifest import Manifest
from tests.femtoclaw.isolated import FLOOD as HOSTILE
from tests.femtoclaw.isolated import PROGRAMS, ROOT, alive, declared, descendants, eventually


def claw(name: str, **limits: Any) -> Manifest:
    return declared(HOSTILE, name, **({"wall_seconds": 5.0} | limits))


@pytest.fixture
def isolation(workspace: Path) -> Iterator[Isolation]:
    isolation = Isolation(str(workspace), modules=(HOSTILE,), search_path=str(ROOT))
    yield isolation
    isolation.close()


def run(isolation: Isolation, name: str, args: dict[str, Any] | None = None, **limits: Any) -> Outcome:
    return isolation.run(claw(name, **limits), args or {}, PROGRAMS)


def test_a_result_comes_back_whole(isolation: Isolation) -> None:
    """Arguments go in and results come out unchanged, with times and sizes."""
    args = {"text": "é\u2028\x00\n'\"", "list": [1, -(2**63), None, True], "deep": {"a": {"b": []}}}
    outcome = run(isolation, "echo", args)
    assert (outcome.status, outcome.result, outcome.exit_status) == ("success", {"args": args}, 0)
    assert 0 < outcome.started_ns <= outcome.ended_ns
    assert outcome.kept_bytes > 0
    assert len(outcome.output_digest) == 64


@pytest.mark.invariant("I12")
@pytest.mark.requirement("MEMORY-2.1")
def test_a_claw_sees_no_descriptor_and_no_environment_of_the_node(isolation: Isolation, workspace: Path) -> None:
    """Three descriptors on /dev/null, its answer pipe, and two environment variables: nothing of the store."""
    secret = open(workspace / "node-file", "w")  # noqa: SIM115  (stays open in the node on purpose)
    os.set_inheritable(secret.fileno(), True)
    os.environ["FEMTOCLAW_TEST_SECRET"] = "hunter2"
    try:
        seen = run(isolation, "surroundings").result
        assert isolation._server is not None
        assert b"hunter2" not in Path(f"/proc/{isolation._server.pid}/environ").read_bytes()
    finally:
        del os.environ["FEMTOCLAW_TEST_SECRET"]
        secret.close()
    assert seen is not None
    assert set(seen["environment"]) == {"LANG", "TMPDIR"}
    assert seen["cwd"] == str(workspace)
    targets = seen["descriptors"]
    assert [targets.pop(fd) for fd in ("0", "1", "2")] == ["/dev/null"] * 3
    assert all(target.startswith("pipe:") for target in targets.values())
    assert len(targets) == 1


@pytest.mark.requirement("ERROR-7.1")
def test_a_claw_that_hangs_is_killed_at_its_deadline(isolation: Isolation) -> None:
    """SIGTERM is ignored, SIGKILL is not; the next call is served."""
    begun = time.monotonic()
    outcome = run(isolation, "hang", wall_seconds=0.3)
    assert outcome.status == "timeout"
    assert time.monotonic() - begun < 3
    assert run(isolation, "echo").status == "success"


def test_a_daemon_does_not_survive_its_claw(isolation: Isolation, workspace: Path) -> None:
    """Two forks and a session of its own do not help: after the outcome nothing writes any more."""
    assert run(isolation, "daemon").status == "success"
    before = (workspace / "alive").read_text()
    time.sleep(0.1)  # ten of its periods: long enough to see it if it lived
    assert (workspace / "alive").read_text() == before
    assert isolation._server is not None
    assert eventually(lambda: descendants(isolation._server.pid) == [])  # type: ignore[union-attr]


def test_a_claw_that_forks_leaves_nothing(isolation: Isolation) -> None:
    """Forty sleeping children die with the claw at its deadline."""
    assert run(isolation, "forks", wall_seconds=0.5, processes=64).status == "timeout"
    assert isolation._server is not None
    assert eventually(lambda: descendants(isolation._server.pid) == [])  # type: ignore[union-attr]


def test_a_program_left_running_is_ended(isolation: Isolation) -> None:
    """A child program that the claw does not wait for is dead when the outcome is there."""
    assert run(isolation, "starts_program").status == "success"
    assert isolation._server is not None
    assert eventually(lambda: descendants(isolation._server.pid) == [])  # type: ignore[union-attr]


@pytest.mark.invariant("I11")
def test_output_over_the_bound_is_cut_off(isolation: Isolation) -> None:
    """A flood is refused with how much was seen; just under the bound passes."""
    outcome = run(isolation, "flood", {"bytes": 3_000_000}, output_bytes=1_000_000)
    assert (outcome.status, outcome.result) == ("output_limit", None)
    assert outcome.original_bytes > 1_000_000
    assert run(isolation, "flood", {"bytes": 990_000}, output_bytes=1_000_000).status == "success"


@pytest.mark.parametrize(
    "name, limits, statuses",
    [
        ("suicide", {}, {"killed"}),
        ("burn", {"cpu_seconds": 1}, {"killed"}),
        ("hog", {"memory_bytes": 200 * 1024 * 1024}, {"error", "killed"}),
        ("big_file", {"file_bytes": 1024 * 1024}, {"error"}),
        ("raises", {}, {"error"}),
        ("no_object", {}, {"crashed"}),
        ("exits", {}, {"crashed"}),
    ],
)
@pytest.mark.requirement("ERROR-7.1", "STATE-9.1")
def test_every_way_to_fail_is_an_outcome(
    isolation: Isolation, name: str, limits: dict[str, Any], statuses: set[str]
) -> None:
    """Signals, limits, exceptions and nonsense come back as outcomes with a class, and the next call is served."""
    outcome = run(isolation, name, **limits)
    assert outcome.status in statuses
    assert outcome.error is not None
    assert outcome.error["class"] in {"ExecutionError", "EnvironmentError"}
    assert "marker" not in str(outcome)
    assert run(isolation, "echo").status == "success"


@pytest.mark.requirement("EXT-26.1")
@pytest.mark.parametrize(
    "name, limits, status, message",
    [
        ("burn", {"cpu_seconds": 1}, "killed", "processor time is used up"),
        ("hog", {"memory_bytes": 200 * 1024 * 1024}, "error", "memory limit reached"),
        ("hang", {"wall_seconds": 0.3}, "timeout", "wall time is used up"),
    ],
)
def test_an_end_at_a_bound_names_it(
    isolation: Isolation, name: str, limits: dict[str, Any], status: str, message: str
) -> None:
    """A busy loop, an allocation without end, an endless sleep: each outcome says which bound it was."""
    outcome = run(isolation, name, **limits)
    assert outcome.error is not None
    assert (outcome.status, outcome.error["message"]) == (status, message)


@pytest.mark.requirement("CLAW-11.1")
def test_what_a_claw_changes_in_its_process_stays_there(isolation: Isolation) -> None:
    """It empties its arguments and the list of shipped claws: the next call, in a fresh process, has both as before."""
    from femtoclaw.claws import SHIPPED

    before = tuple(claw.digest() for claw in SHIPPED)
    args = {"kept": True}
    assert run(isolation, "mutate", args).status == "success"
    assert (args, tuple(claw.digest() for claw in SHIPPED)) == ({"kept": True}, before)
    assert run(isolation, "echo", args).result == {"args": {"kept": True}}


def test_privileges_cannot_be_gained(isolation: Isolation) -> None:
    """no_new_privs is set before the claw's code runs."""
    assert run(isolation, "escalate").result == {"no_new_privs": "1"}


@pytest.mark.requirement("EXEC-7.1")
def test_failing_claws_do_not_touch_the_others(isolation: Isolation) -> None:
    """64 at once, half of them hanging, crashing or mutating: the other half is as if alone."""
    bad = ["hang", "raises", "exits", "mutate"]
    outcomes: dict[int, Outcome] = {}

    def one(number: int) -> None:
        if number % 2:
            outcomes[number] = run(isolation, "echo", {"number": number}, wall_seconds=60)
        else:
            outcomes[number] = run(isolation, bad[number // 2 % 4], wall_seconds=1.0)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wrong = {n: outcomes[n] for n in range(1, 64, 2) if outcomes[n].result != {"args": {"number": n}}}
    assert not wrong
    assert {outcomes[n].status for n in range(0, 64, 2)} == {"timeout", "error", "crashed", "success"}


def test_a_killed_fork_server_costs_one_outcome_and_comes_back(isolation: Isolation) -> None:
    """The execution in flight is reported as crashed, its processes are gone, and the next call starts a new server."""
    assert run(isolation, "echo").status == "success"
    server = isolation._server
    assert server is not None
    results: list[Outcome] = []
    thread = threading.Thread(target=lambda: results.append(run(isolation, "hang", wall_seconds=30)))
    thread.start()
    assert eventually(lambda: len(descendants(server.pid)) >= 2)
    running = descendants(server.pid)
    server.send_signal(signal.SIGKILL)
    thread.join(15)
    assert [outcome.status for outcome in results] == ["crashed"]
    assert eventually(lambda: not any(alive(pid) for pid in running))
    assert run(isolation, "echo").status == "success"


def test_kill_9_of_the_node_leaves_no_orphan(workspace: Path) -> None:
    """The node dies, and with it the fork server, the supervisor and the claw."""
    program = textwrap.dedent(
        f"""
        import sys
        sys.path.insert(0, {str(ROOT)!r})
        from tests.femtoclaw.test_isolation import HOSTILE, ROOT, claw
        from femtoclaw.isolation import Isolation
        isolation = Isolation({str(workspace)!r}, modules=(HOSTILE,), search_path=str(ROOT))
        isolation.start()
        print("ready", flush=True)
        isolation.run(claw("hang", wall_seconds=60), {{}}, {{}})
        """
    )
    node = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert node.stdout is not None
    assert node.stdout.readline() == b"ready\n"
    assert eventually(lambda: len(descendants(node.pid)) >= 3)
    running = descendants(node.pid)
    node.kill()
    node.wait()
    node.stdout.close()
    assert eventually(lambda: not any(alive(pid) for pid in running))


def test_layers_are_named_and_absent_ones_too(isolation: Isolation) -> None:
    """What protects and what does not is said, not implied; the two ways of asking agree."""
    layers = isolation.layers()
    assert layers["no_new_privileges"] == layers["resource_limits"] == "in force"
    assert all(text.startswith(("in force", "not in force: ", "NOT IN FORCE: ")) for text in layers.values())
    assert layers == probe.available(isolation._workspace)


def test_the_server_outlives_the_thread_that_started_it(isolation: Isolation) -> None:
    """A run's thread ends; the server it happened to start serves the next runs."""
    thread = threading.Thread(target=lambda: run(isolation, "echo"))
    thread.start()
    thread.join()
    server = isolation._server
    assert run(isolation, "echo").status == "success"
    assert isolation._server is server
