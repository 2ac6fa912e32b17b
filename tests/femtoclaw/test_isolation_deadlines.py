"""Nothing is started after the node has given it up: absolute deadlines, hang-ups, and what is said when nobody knows.

Slow machines are played by stopping processes (SIGSTOP), not by waiting for bad luck.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.errors import CapabilityError
from femtoclaw.isolation import Isolation, Outcome, OutcomeUnknownError, call, client, probe, scratch, supervisor, wire
from femtoclaw.manifest import Limits, Manifest
from tests.femtoclaw.isolated import (
    HOSTILE,
    PERMISSIONS,
    PROGRAMS,
    ROOT,
    declared,
    eventually,
    server,
    supervisors,
    the_supervisor,
)


def claw(name: str, **limits: Any) -> Manifest:
    return declared(HOSTILE, name, **({"wall_seconds": 30.0} | limits))


@pytest.fixture
def isolation(workspace: Path) -> Iterator[Isolation]:
    isolation = Isolation(str(workspace), modules=(HOSTILE,), search_path=str(ROOT))
    assert isolation.run(claw("leaves_daemon"), {}, PROGRAMS).status == "success"
    yield isolation
    isolation.close()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def assert_never_runs(isolation: Isolation, workspace: Path) -> None:
    """The server works through what it has been given, a later call of another claw among it; nothing was touched."""
    assert isolation.run(claw("leaves_daemon"), {}, PROGRAMS).status == "success"
    assert eventually(lambda: supervisors(isolation) == [])
    assert not (workspace / "touched").exists()


@pytest.mark.parametrize("size", [10, 4_000_000], ids=["small", "larger_than_the_socket"])
def test_a_call_that_nobody_takes_up_is_never_run(
    isolation: Isolation, workspace: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """The server stands still until the node has given up: it says that nothing was executed, and that stays true."""
    with stopped(server(isolation)):
        monkeypatch.setattr(call, "START_SECONDS_MAX", 0.3)
        begun = time.monotonic()
        with pytest.raises(CapabilityError) as caught:
            isolation.run(claw("touch"), {"filler": "x" * size}, {})
        assert time.monotonic() - begun < 5
        assert not isinstance(caught.value, OutcomeUnknownError)
        assert "nothing was executed" in str(caught.value)
        monkeypatch.undo()
    assert_never_runs(isolation, workspace)


def test_a_server_that_accepts_nothing_is_given_up(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Handing over a socket has a deadline too; the server is not thrown away for it, and works again later."""
    monkeypatch.setattr(client, "HAND_OVER_SECONDS_MAX", 0.3)
    isolation = Isolation(str(workspace), modules=(HOSTILE,), search_path=str(ROOT))
    isolation.layers()  # it has started, and said so
    control = isolation._control
    assert control is not None
    before = server(isolation)
    with stopped(before):
        with pytest.raises(TimeoutError):
            while True:
                control.send(b"x" * 4096)
        with pytest.raises(CapabilityError, match="takes no call") as caught:
            isolation.run(claw("touch"), {}, PROGRAMS)
        assert not isinstance(caught.value, OutcomeUnknownError)
    assert_never_runs(isolation, workspace)
    assert server(isolation) == before
    isolation.close()


def request(workspace: Path, **changes: Any) -> bytes:
    now = time.monotonic_ns()
    body = {
        "entry": f"{HOSTILE}:touch",
        "args": {},
        "workspace": str(workspace),
        "settings": PROGRAMS,
        "limits": Limits()._asdict(),
        "key": "",
        "start_by_ns": now + 10**10,
        "end_by_ns": now + 10**11,
        "permissions": PERMISSIONS,
    }
    return wire.encode(body | changes)


def test_a_supervisor_refuses_what_comes_too_late(isolation: Isolation, workspace: Path) -> None:
    """The deadline in the request is what counts, not when the supervisor happened to be forked."""
    with isolation._connection(PERMISSIONS) as connection:
        wire.write_all(connection.fileno(), request(workspace, start_by_ns=time.monotonic_ns() - 1))
        word = wire.read_exactly(connection.fileno(), 1, time.monotonic_ns() + 10**10)
        assert word == wire.REFUSED
        reason = wire.read_message(connection.fileno(), 1000, time.monotonic_ns() + 10**10)
        assert reason == {"reason": "the call was taken up too late"}
    assert_never_runs(isolation, workspace)


def test_a_supervisor_ends_the_claw_at_the_absolute_end(isolation: Isolation, workspace: Path) -> None:
    """A claw that is started late gets less than its wall time: the node knows when it is over."""
    now = time.monotonic_ns()
    raw = request(workspace, entry=f"{HOSTILE}:hangs_with_daemon", end_by_ns=now + 300_000_000)
    with isolation._connection(PERMISSIONS) as connection:
        ended, _ = call.execute(connection, raw, call.Deadlines(now + 10**10, now + 3 * 10**8, now + 10**10), 1000)
    assert ended.verdict == "timeout"
    assert ended.ended_ns < now + 5 * 10**9


def test_a_supervisor_whose_node_has_hung_up_starts_nothing(isolation: Isolation, workspace: Path) -> None:
    """The whole request has arrived, but the other end is closed: the announcement fails, so nothing is started."""
    with stopped(server(isolation)), isolation._connection(PERMISSIONS) as connection:
        wire.write_all(connection.fileno(), request(workspace))
    assert_never_runs(isolation, workspace)


def test_a_start_that_nobody_hears_is_no_start(tmp_path: Path) -> None:
    """The announcement is the decision: closed or shut down, the other end makes it fail before anything is forked."""
    ours, theirs = socket.socketpair()
    alive, held = os.pipe()
    granted = probe.Granted("none", 0, True, False, None, False, False, 0, False, {})
    given = supervisor.Surroundings("/", scratch.create(str(tmp_path)), granted, (), [], None, -1, -1, (), alive)
    due = {"start_by_ns": time.monotonic_ns() + 10**10}
    with ours, theirs:
        supervisor._announce(due, theirs.fileno(), given)
        assert ours.recv(10) == wire.STARTED
        call.shut_down(ours)
        with pytest.raises(BrokenPipeError):
            supervisor._announce(due, theirs.fileno(), given)
    os.close(held)
    with pytest.raises(supervisor._Refused, match="server is gone"):
        supervisor._announce(due, -1, given)
    os.close(alive)
    given.folders.remove_all()


def test_a_supervisor_that_falls_silent_leaves_the_outcome_unknown(
    isolation: Isolation, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had started the claw, then stands still past every deadline; once it moves again it kills the claw."""
    assert eventually(lambda: supervisors(isolation) == [])
    monkeypatch.setattr(call, "START_SECONDS_MAX", 2.0)
    monkeypatch.setattr(call, "GRACE_SECONDS", 1.0 - 20.0)  # the report is due long before the claw must have ended
    came: list[Outcome | Exception] = []

    def hang() -> None:
        try:
            came.append(isolation.run(claw("hangs_with_daemon", wall_seconds=20.0), {}, PROGRAMS))
        except CapabilityError as error:
            came.append(error)

    thread = threading.Thread(target=hang)
    thread.start()
    assert eventually((workspace / "ready").exists)
    pid = the_supervisor(isolation)
    with stopped(pid):
        thread.join(10)
        (error,) = came
        assert isinstance(error, OutcomeUnknownError)
        assert (error.code, error.exit_code, error.category.value) == ("OUTCOME_UNKNOWN", 5, "CAPABILITY")
    assert eventually(lambda: supervisors(isolation) == [])


@pytest.mark.parametrize(
    "said, unknown",
    [
        (b"", False),
        (wire.REFUSED, False),
        (wire.REFUSED + wire.encode({"reason": "no"}), False),
        (wire.REFUSED + b"\xff\xff\xff\xff", False),
        (wire.STARTED + wire.encode({"reason": "no process could be forked"}), False),
        (wire.STARTED, True),
        (wire.STARTED + b"\x00\x00", True),
        (wire.STARTED + b"\xff\xff\xff\xff", True),
        (wire.STARTED + b"\x00\x00\x00\x02[]", True),
        (wire.STARTED + b"\x00\x00\x00\x02\xff\xff", True),
        (wire.STARTED + (60_000).to_bytes(4, "big") + b"[" * 60_000, True),
        (wire.STARTED + wire.encode({"verdict": "success"}), True),
    ],
    ids=range(12),
)
def test_what_a_dying_supervisor_said_decides(said: bytes, unknown: bool) -> None:
    """It ended after these bytes: without STARTED nothing was executed, with it nobody knows. Never another error."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours:
        with theirs:
            theirs.sendall(said)
        with pytest.raises(CapabilityError) as caught:
            call.execute(ours, wire.encode({}), call.deadlines(1), 1000)
    assert isinstance(caught.value, OutcomeUnknownError) == unknown


def test_a_start_that_crosses_the_hang_up_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node has stopped waiting when STARTED arrives: it looks again after hanging up, so both agree."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    until = call.Deadlines(time.monotonic_ns(), 0, 0)
    shut_down, said = call.shut_down, []

    def start_just_before(connection: socket.socket) -> None:
        if not said:
            said.append(theirs.send(wire.STARTED))
        shut_down(connection)

    monkeypatch.setattr(call, "shut_down", start_just_before)
    with ours, theirs:
        with pytest.raises(OutcomeUnknownError):
            call.execute(ours, wire.encode({}), until, 1000)
        with pytest.raises(BrokenPipeError):
            theirs.send(wire.STARTED)


@contextmanager
def no_descriptors() -> Iterator[None]:
    """As in a process that has every descriptor in use that it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_descriptors_nothing_is_executed(isolation: Isolation, workspace: Path) -> None:
    """EMFILE is an error of the capability, at the first call and at later ones; then all is as before."""
    fresh = Isolation(str(workspace), modules=(HOSTILE,), search_path=str(ROOT))
    with no_descriptors():
        for one in (isolation, fresh):
            with pytest.raises(CapabilityError) as caught:
                one.run(claw("touch"), {}, {})
            assert not isinstance(caught.value, OutcomeUnknownError)
        with pytest.raises(CapabilityError, match="cannot be started"):
            fresh.start()
    assert_never_runs(isolation, workspace)
    fresh.close()


def test_without_a_process_nothing_is_executed(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No interpreter to start the server with; and one that ends at once."""
    for executable in (str(workspace / "missing"), "/bin/false"):
        monkeypatch.setattr("sys.executable", executable)
        with pytest.raises(CapabilityError) as caught:
            Isolation(str(workspace)).run(claw("touch"), {}, {})
        assert not isinstance(caught.value, OutcomeUnknownError)


def test_a_closed_isolation_executes_nothing(isolation: Isolation, workspace: Path) -> None:
    """close() twice is close() once, and no later call brings a server back."""
    isolation.close()
    isolation.close()
    with pytest.raises(CapabilityError, match="closed"):
        isolation.run(claw("touch"), {}, PROGRAMS)
    assert not (workspace / "touched").exists()


def test_a_call_over_its_bound_is_not_sent(isolation: Isolation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound of the request is checked by the node, and by the supervisor."""
    monkeypatch.setattr(wire, "REQUEST_BYTES_MAX", 1000)
    with pytest.raises(CapabilityError, match="too long"):
        isolation.run(claw("touch"), {"filler": "x" * 1000}, {})
