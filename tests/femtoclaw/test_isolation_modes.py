"""No claw, and no program that it starts, leaves a set-uid or set-gid file: on the disk it would be root's, or the node's
user's. Nor does one open what is there to everybody's writing. Other modes are as asked for.

Without the filter each way works: so these tests can fail.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.claws import SHELL
from femtoclaw.isolation import Isolation
from femtoclaw.isolation.layers import REQUIRED
from tests.femtoclaw.isolated import ROOT, declared

ATTACKS = "tests.femtoclaw.hostile_attacks"
CALLS = ["chmod", "fchmod", "fchmodat2", "open", "temporary", "openat2", "creat", "mknod", "mkdir"]
KEEPS_SET_ID = [call for call in CALLS if call != "mkdir"]
"""The kernel itself takes the bits from the mode of ``mkdir``."""

WAYS: dict[str, tuple[str, ...]] = {
    "as_granted": (),
    "keeps_user": ("tests.femtoclaw.without_other_user",),
    "ordinary_user": ("tests.femtoclaw.without_capabilities",),
    "no_namespace": ("tests.femtoclaw.without_namespaces",),
    "unfiltered": ("tests.femtoclaw.without_seccomp",),
}
FILTERED = [way for way in WAYS if way != "unfiltered"]


@pytest.fixture
def workspace() -> Iterator[Path]:
    """Everybody may pass it."""
    folder = Path(tempfile.mkdtemp(prefix="femtoclaw-test-"))
    folder.chmod(0o755)
    (folder / "workspace").mkdir(mode=0o755)
    yield folder / "workspace"
    shutil.rmtree(folder)


@pytest.fixture
def isolation(workspace: Path, request: pytest.FixtureRequest) -> Iterator[Isolation]:
    made = Isolation(
        str(workspace), modules=(*WAYS[request.param], ATTACKS, "femtoclaw.claws.shell"), search_path=str(ROOT),
        accept_missing=REQUIRED,
    )  # fmt: skip
    yield made
    made.close()


def set_id(workspace: Path) -> list[str]:
    """What in the workspace has a set-uid or set-gid bit."""
    return sorted(path.name for path in workspace.rglob("*") if path.lstat().st_mode & 0o6000)


def made(isolation: Isolation, calls: list[str], modes: list[int]) -> dict[str, Any]:
    claw = declared(ATTACKS, "modes", 20.0, ("workspace.read", "workspace.write"))
    outcome = isolation.run(claw, {"calls": calls, "modes": modes}, {})
    assert outcome.result is not None, outcome
    return outcome.result


def shell(isolation: Isolation, program: str, *argv: str, others: tuple[str, ...] = ()) -> bool:
    """Whether a program with these words had success, else it must have met a missing right; ``others`` may be started
    by it."""
    found = [shutil.which(name) for name in (program, *others)]
    outcome = isolation.run(SHELL, {"bin": found[0], "argv": list(argv)}, {"binaries": found})
    assert outcome.result is not None, outcome
    assert outcome.result["status"] == 0 or "Operation not permitted" in outcome.result["stderr"], outcome
    return bool(outcome.result["status"] == 0)


@pytest.mark.parametrize("isolation", FILTERED, indirect=True)
def test_no_claw_makes_a_set_uid_file(isolation: Isolation, workspace: Path) -> None:
    """By no call that takes a mode, whichever user the claw is; ``openat2`` is not there at all."""
    found = made(isolation, CALLS, [0o4755, 0o2755, 0o6700, 0o5755])
    assert set_id(workspace) == []
    assert {name: error for name, error in found.items() if "openat2" not in name} == {
        name: "error 1" for name in found if "openat2" not in name
    }
    assert {error for name, error in found.items() if "openat2" in name} == {"error 38"}


@pytest.mark.parametrize("isolation", ["unfiltered"], indirect=True)
def test_without_the_filter_every_call_makes_one(isolation: Isolation, workspace: Path) -> None:
    """On the disk it belongs to the workspace's owner: to root, where root starts the node."""
    found = made(isolation, KEEPS_SET_ID, [0o4755])
    if found["fchmodat2 4755"] == "error 38":  # Linux before 6.6
        del found["fchmodat2 4755"]
    if found["temporary 4755"] != "0o4755":  # needs a /proc or a file system that makes files without a name
        del found["temporary 4755"]
    assert set(found.values()) == {"0o4755"}, found
    assert {name.partition("-")[0] for name in set_id(workspace)} == {name.partition(" ")[0] for name in found}
    assert {(workspace / name).stat().st_uid for name in set_id(workspace)} == {os.geteuid()}


@pytest.mark.parametrize("isolation", FILTERED, indirect=True)
def test_other_modes_are_as_asked_for(isolation: Isolation, workspace: Path) -> None:
    """The sticky bit too; with a umask of 0 a new file may be anybody's, one that is there is not made so."""
    modes = [0o755, 0o1700, 0o444, 0o770]
    calls = [call for call in CALLS if call not in ("openat2", "fchmodat2", "temporary", "mkdir")]
    found = made(isolation, calls, modes)
    assert found == {f"{call} {mode:o}": oct(mode) for call in calls for mode in modes}
    new = made(isolation, ["open", "mkdir"], [0o777])
    assert set(new.values()) == {"0o777"}
    assert set(made(isolation, ["chmod", "fchmod"], [0o777, 0o666, 0o602]).values()) == {"error 1"}


@pytest.mark.parametrize("isolation", list(WAYS), indirect=True)
def test_no_program_makes_a_set_uid_file(isolation: Isolation, workspace: Path) -> None:
    """``chmod``, ``install``, and ``make`` that starts ``chmod``: each says that it could not."""
    filtered = isolation.layers()["seccomp"].startswith("in force")
    for name in ("file", "made"):
        (workspace / name).write_text("#!/bin/sh\n")
        (workspace / name).chmod(0o644)
        os.chown(workspace / name, workspace.stat().st_uid, workspace.stat().st_gid)
    (workspace / "Makefile").write_text(f"all:\n\t{shutil.which('chmod')} 4755 made\n")  # claws have no PATH
    attempts = [("chmod", "4755", "file"), ("install", "-m", "2755", "file", "installed")]
    reached = [shell(isolation, *attempt) for attempt in attempts]
    if shutil.which("make"):
        reached.append(shell(isolation, "make", others=("sh", "chmod")))
    assert set(reached) == {not filtered}
    if not filtered:
        assert set_id(workspace) == ["file", "installed", "made"][: len(reached)]
        return
    assert set_id(workspace) == []
    assert shell(isolation, "chmod", "755", "file")
    assert shell(isolation, "cp", "-p", "file", "copy")
    assert [stat.S_IMODE((workspace / name).stat().st_mode) for name in ("file", "copy")] == [0o755] * 2


@pytest.mark.parametrize("isolation", list(WAYS), indirect=True)
def test_the_workspace_is_not_opened_to_all(isolation: Isolation, workspace: Path) -> None:
    """Neither by its mode nor by an access list, by a claw or a program; its own user's rights are the claw's matter."""
    filtered = isolation.layers()["seccomp"].startswith("in force")
    claw = declared(ATTACKS, "attack", 20.0, ("workspace.read", "workspace.write"))
    for attack in ("opens_workspace_to_all", "opens_workspace_by_list"):
        workspace.chmod(0o755)
        outcome = isolation.run(claw, {"attack": attack}, {})
        assert outcome.result is not None, outcome
        if attack == "opens_workspace_to_all" or filtered:  # a file system may have no access lists
            assert outcome.result["reached"] is not filtered
        assert bool(workspace.stat().st_mode & 0o002) == outcome.result["reached"]
    workspace.chmod(0o755)
    assert shell(isolation, "chmod", "777", ".") is not filtered
    assert stat.S_IMODE(workspace.stat().st_mode) == (0o755 if filtered else 0o777)
