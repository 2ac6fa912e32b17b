"""Claws that bomb, flood, kill and litter: each is a typed outcome, and leaves neither a process nor a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.isolation import Isolation, OutcomeUnknownError, confine, scratch
from femtoclaw.manifest import Manifest
from tests.femtoclaw.isolated import (
    FLOOD,
    HOSTILE,
    PROGRAMS,
    ROOT,
    WAYS,
    children,
    declared,
    eventually,
    is_spare,
    supervisors,
    the_supervisor,
)


def claw(name: str, module: str = HOSTILE, **limits: Any) -> Manifest:
    return declared(module, name, **({"wall_seconds": 20.0} | limits))


@pytest.fixture(params=list(WAYS))
def isolation(workspace: Path, request: pytest.FixtureRequest) -> Iterator[Isolation]:
    isolation = Isolation(str(workspace), modules=WAYS[request.param], search_path=str(ROOT))
    yield isolation
    isolation.close()


def inhabitants(workspace: Path) -> list[int]:
    """Processes whose working directory is the workspace or a claw's temporary folder."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                place = os.readlink(f"/proc/{entry}/cwd")
            except OSError:
                continue
            if place == str(workspace):
                found.append(int(entry))
    return found


def folder_of(isolation: Isolation) -> Path:
    """The folder that the server holds a lock on."""
    assert isolation._server is not None
    targets = set()
    for fd in Path(f"/proc/{isolation._server.pid}/fd").iterdir():
        try:
            targets.add(os.readlink(fd))
        except FileNotFoundError:  # closed since the listing
            continue
    (found,) = (target for target in targets if scratch.PREFIX in target)
    return Path(found)


def left_in(folder: Path) -> list[Path]:
    """What is in a server's folder, without what belongs to a supervisor that waits for a call."""
    return [entry for entry in folder.iterdir() if not is_spare(int(entry.name.partition(".")[0]))]


@pytest.mark.parametrize(
    "name, module, args, limits, status",
    [
        ("bomb", HOSTILE, {}, {"processes": 16, "wall_seconds": 2.0}, "killed or timeout"),
        ("bomb", HOSTILE, {}, {"processes": 5000, "wall_seconds": 1.0}, "timeout"),
        ("hangs_with_daemon", HOSTILE, {}, {"wall_seconds": 0.3}, "timeout"),
        ("kills_itself", HOSTILE, {}, {}, "killed"),
        ("flood", FLOOD, {"bytes": 3_000_000}, {"output_bytes": 100_000}, "output_limit"),
    ],
    ids=["bomb_at_its_bound", "bomb_until_its_deadline", "hang", "self_kill", "flood"],
)
@pytest.mark.requirement("ERROR-7.1")
def test_every_attack_is_an_outcome_and_leaves_no_process(
    isolation: Isolation,
    workspace: Path,
    name: str,
    module: str,
    args: dict[str, Any],
    limits: dict[str, Any],
    status: str,
) -> None:
    """When the outcome is there, so is the end of every process; the next call is served."""
    outcome = isolation.run(claw(name, module, **limits), args, PROGRAMS)
    assert (outcome.status in status.split(" or "), inhabitants(workspace)) == (True, []), outcome
    assert outcome.error is not None
    assert isolation.run(claw("touch"), {}, PROGRAMS).status == "success"


def test_a_claw_that_kills_its_supervisor(isolation: Isolation, workspace: Path) -> None:
    """In a PID namespace it has no number for it, and Landlock's scope does not let it. Where neither is, the server ends
    the claw, and nobody knows its outcome."""
    try:
        outcome = isolation.run(claw("kills_parent"), {}, PROGRAMS)
    except OutcomeUnknownError:
        assert isolation.run(claw("leaves_daemon"), {}, PROGRAMS).status == "success"
        assert not isolation.layers()["pid_namespace"].startswith("in force")
    else:
        assert outcome.result in ({"parent": 0}, {"refused": True})
    assert eventually(lambda: inhabitants(workspace) == [])
    assert isolation.run(claw("touch"), {}, PROGRAMS).status == "success"
    assert eventually(lambda: left_in(folder_of(isolation)) == [])


def test_temporary_files_go_with_their_claw(isolation: Isolation, workspace: Path) -> None:
    """However deep, long or closed to reading they are; what they link to stays."""
    (workspace / "kept").write_text("kept")
    result = isolation.run(claw("litters"), {"depth": 1500}, PROGRAMS).result
    assert result is not None
    assert result["folder"].startswith(str(folder_of(isolation)))
    assert eventually(lambda: left_in(folder_of(isolation)) == [])
    assert (workspace / "kept").read_text() == "kept"


def littering(isolation: Isolation, workspace: Path) -> threading.Thread:
    def run() -> None:
        try:
            isolation.run(claw("litters"), {"depth": 20, "hang": True}, PROGRAMS)
        except OutcomeUnknownError:
            return

    thread = threading.Thread(target=run)
    thread.start()
    assert eventually((workspace / "ready").exists)
    return thread


def test_temporary_files_of_a_killed_supervisor_are_removed_by_the_server(
    isolation: Isolation, workspace: Path
) -> None:
    """The server sees that it did not come to it, and clears up behind its back."""
    thread = littering(isolation, workspace)
    assert isolation._server is not None
    folder = folder_of(isolation)
    own_view = isolation.layers()["mount_namespace"].startswith("in force")  # then only the claw sees its files
    assert own_view == (left_in(folder) == [])
    for pid in children(isolation._server.pid):
        os.kill(pid, signal.SIGKILL)
    thread.join(10)
    assert eventually(lambda: left_in(folder) == [])


def test_temporary_files_of_a_killed_server_are_removed_by_the_next(isolation: Isolation, workspace: Path) -> None:
    """Server and supervisor are killed at once: nobody of them can clear up. A folder in use is left alone."""
    thread = littering(isolation, workspace)
    assert isolation._server is not None
    folder, server = folder_of(isolation), isolation._server.pid
    supervisor = the_supervisor(isolation)
    os.kill(supervisor, signal.SIGSTOP)  # or it would clear up
    os.kill(server, signal.SIGKILL)
    other = Isolation(str(workspace), modules=(HOSTILE,), search_path=str(ROOT))
    assert other.run(claw("touch"), {}, {}).status == "success"
    assert other._server is not None
    assert eventually(lambda: supervisors(other) == [])  # its sweep is over
    assert folder.exists()  # the supervisor still has it
    mine = folder_of(other)
    os.kill(supervisor, signal.SIGKILL)
    thread.join(10)
    assert isolation.run(claw("touch"), {}, PROGRAMS).status == "success"
    assert eventually(lambda: not folder.exists())
    assert mine.exists()
    other.close()
    assert not mine.exists()


def test_a_link_in_the_place_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    """Whoever can write to the temporary folder cannot make the next server remove something else."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "kept").write_text("kept")
    (tmp_path / f"{scratch.PREFIX}link").symlink_to(victim)
    (tmp_path / f"{scratch.PREFIX}file").write_text("")
    left = tmp_path / f"{scratch.PREFIX}left"
    left.mkdir()
    (left / "link").symlink_to(victim)
    assert scratch.left_over(str(tmp_path)) == [str(left)]
    scratch.sweep([*scratch.left_over(str(tmp_path)), str(tmp_path / f"{scratch.PREFIX}link")])
    assert (victim / "kept").read_text() == "kept"
    assert not left.exists()


def test_processes_of_the_user_are_added_where_they_are_counted() -> None:
    """Without that an ordinary user with more processes than a claw may have could run no claw that forks."""
    before = confine.user_processes()
    sleeping = [subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(5)]
    try:
        assert eventually(lambda: confine.user_processes() >= before + 3)  # others of the user may have ended
    finally:
        for process in sleeping:
            process.communicate()
