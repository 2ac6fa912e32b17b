"""Without the required layers no claw runs; one that fails stops the execution; who claws are, and what they are given."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.errors import CapabilityError
from femtoclaw.isolation import Isolation, OutcomeUnknownError, kernel, mounts, probe, spares
from femtoclaw.isolation.layers import REQUIRED, missing
from femtoclaw.manifest import Manifest
from tests.femtoclaw.isolated import (
    HOSTILE,
    PERMISSIONS,
    ROOT,
    children,
    declared,
    eventually,
    is_spare,
    server,
)  # fmt: skip

FACTS = "tests.femtoclaw.hostile_facts"
WITHOUT = {
    "landlock_filesystem": "tests.femtoclaw.without_landlock",
    "seccomp": "tests.femtoclaw.without_seccomp",
}


def claw(name: str, module: str = HOSTILE, permissions: tuple[str, ...] = PERMISSIONS, **limits: Any) -> Manifest:
    return declared(module, name, permissions=permissions, **({"wall_seconds": 20.0} | limits))


def sandbox(workspace: Path, *modules: str, **options: Any) -> Isolation:
    return Isolation(str(workspace), modules=(*modules, HOSTILE, FACTS), search_path=str(ROOT), **options)


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A workspace that everybody may pass."""
    folder = Path(tempfile.mkdtemp(prefix="femtoclaw-test-"))
    folder.chmod(0o755)
    (folder / "workspace").mkdir(mode=0o755)
    yield folder / "workspace"
    shutil.rmtree(folder)


@pytest.mark.parametrize("layer", list(WITHOUT))
def test_without_a_required_layer_nothing_is_executed(workspace: Path, layer: str) -> None:
    """The call is refused and says what is missing; accepted by name, the claw runs, and the layers still say it."""
    refusing = sandbox(workspace, WITHOUT[layer])
    with pytest.raises(CapabilityError, match="required layers") as caught:
        refusing.run(claw("touch"), {}, {})
    assert not isinstance(caught.value, OutcomeUnknownError)
    assert layer in str(caught.value)
    assert refusing.missing() == (layer,)
    assert not (workspace / "touched").exists()
    refusing.close()
    for accepted in (["seccomp"], ["landlock_filesystem"], ["landlock_filesystem", "seccomp"]):
        isolation = sandbox(workspace, WITHOUT[layer], accept_missing=accepted)
        if layer in accepted:
            assert isolation.run(claw("touch"), {}, {}).status == "success"
            assert isolation.layers()[layer].startswith("not in force: ")
        else:
            with pytest.raises(CapabilityError, match="required layers"):
                isolation.run(claw("touch"), {}, {})
        isolation.close()


def test_a_supervisor_refuses_by_itself(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the node to ask all the same, nothing would be executed either."""
    isolation = sandbox(workspace, WITHOUT["seccomp"])
    monkeypatch.setattr(isolation, "_refuse_when_lacking", lambda: None)
    with pytest.raises(CapabilityError, match="required layers are missing: seccomp"):
        isolation.run(claw("touch"), {}, {})
    assert not (workspace / "touched").exists()
    isolation.close()


def test_a_network_must_be_denied_by_something(workspace: Path) -> None:
    """Landlock before its fourth ABI does not know TCP: then it takes a network namespace. With neither: refused."""
    old = sandbox(workspace, "tests.femtoclaw.without_new_landlock")
    assert old.layers()["landlock_network"].startswith("not in force: needs Landlock ABI 4, here 1")
    assert (old.missing() == ()) == old.layers()["network_namespace"].startswith("in force")
    old.close()
    neither = sandbox(workspace, "tests.femtoclaw.without_new_landlock", "tests.femtoclaw.without_namespaces")
    assert neither.missing() == ("network_denial",)
    with pytest.raises(CapabilityError, match="network_denial"):
        neither.run(claw("touch"), {}, {})
    neither.close()


def test_an_old_landlock_is_used_as_far_as_it_goes(workspace: Path) -> None:
    """The first ABI: files outside are out of reach; moving between folders is denied, which it cannot allow."""
    isolation = sandbox(workspace, "tests.femtoclaw.without_new_landlock", accept_missing=["network_denial"])
    assert isolation.run(claw("renames", FACTS), {}, {}).result == {"done": ["cut"]}
    attack = declared("tests.femtoclaw.hostile_attacks", "attack", 20.0, ("workspace.read",))
    outcome = isolation.run(attack, {"attack": "reads_key", "where": str(workspace.parent)}, {})
    assert outcome.status == "error"  # its module, outside of what can be read, could not even be loaded
    isolation.close()
    new = sandbox(workspace)
    shutil.rmtree(workspace / "folder")
    (workspace / "file").unlink()
    assert new.run(claw("renames", FACTS), {}, {}).result == {"done": ["move", "cut"]}
    new.close()


def test_a_layer_that_fails_stops_the_execution(workspace: Path) -> None:
    """It worked when it was tried, and does not now: no code of the claw runs, and the outcome names the layer."""
    isolation = sandbox(workspace, "tests.femtoclaw.with_a_failing_layer")
    assert isolation.missing() == ()
    outcome = isolation.run(claw("touch"), {}, {})
    assert (outcome.status, outcome.result) == ("crashed", None)
    assert outcome.error == {
        "class": "EnvironmentError",
        "message": "the sandbox could not be built (landlock_filesystem); the claw's code did not run",
    }
    assert not (workspace / "touched").exists()
    assert isolation.layers()["landlock_filesystem"].endswith("it failed at an execution, which was stopped")
    isolation.close()


@pytest.mark.requirement("DEPLOY-11.1")
def test_a_claw_has_no_rights(open_place: Path) -> None:
    """No capability in any set, no_new_privs, a filter; not root, where root can be left; its files are the node's."""
    isolation = sandbox(open_place)
    found = isolation.run(claw("standing", FACTS), {}, {}).result
    layers = isolation.layers()
    isolation.close()
    assert found is not None
    for name in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
        assert int(found[name][0], 16) == 0, name
    assert (found["NoNewPrivs"], found["Seccomp"]) == (["1"], ["2"])
    if os.geteuid() == 0:
        assert int(found["CapBnd"][0], 16) == 0
        assert layers["user"].startswith("in force") == (found["Uid"][0] != "0")
    assert (len(set(found["Uid"])), len(set(found["Gid"]))) == (1, 1)
    assert os.stat(open_place / "made").st_uid == os.geteuid()


def test_a_workspace_of_another_user_makes_its_owner_the_claws_user(open_place: Path) -> None:
    """Root's claws run as whoever owns the workspace, when it is not root."""
    if os.geteuid() != 0:
        return  # only root can give a folder away
    os.chown(open_place, 54_321, 54_322)
    isolation = sandbox(open_place)
    found = isolation.run(claw("standing", FACTS), {}, {}).result
    in_force = isolation.layers()["user"] == "in force: claws run as user 54321"
    isolation.close()
    assert found is not None
    assert in_force == (found["Uid"] == ["54321"] * 4)
    assert in_force == (os.stat(open_place / "made").st_uid == 54_321)


def test_a_closed_folder_on_the_way_is_no_obstacle(open_place: Path) -> None:
    """A home that only root may pass: the claw's own user sees the workspace, and nothing else of the home."""
    open_place.parent.chmod(0o700)
    (open_place.parent / "key").write_text("secret")
    (open_place.parent / "key").chmod(0o644)
    isolation = sandbox(open_place)
    assert isolation.run(claw("standing", FACTS), {}, {}).status == "success"
    isolation.close()


def test_secrets_are_where_they_belong_and_nowhere_else(workspace: Path) -> None:
    """In the mapping that the SDK reads; not in environment, arguments, settings or command line; not in the next."""
    isolation = sandbox(workspace)
    given = isolation.run(claw("knows", FACTS), {"a": 1}, {"b": 2}, secrets={"token": "hunter2-hunter2"}).result
    later = isolation.run(claw("knows", FACTS), {}, {}).result
    isolation.close()
    assert given is not None
    assert later is not None
    assert given["granted"] == {"token": "hunter2-hunter2"}
    assert "hunter2" not in given["elsewhere"]
    assert later["granted"] == {}


@pytest.mark.parametrize("setting", ["readable", "binaries"])
def test_a_setting_that_reaches_the_nodes_files_is_refused(open_place: Path, setting: str) -> None:
    """The folder above a protected one, the protected one, and what is in it; through a link, too."""
    store = open_place.parent / "store"
    (store / "deep").mkdir(parents=True)
    (store / "deep" / "tool").write_text("#!/bin/sh\n")
    (open_place.parent / "link").symlink_to(store / "deep")
    isolation = sandbox(open_place, protected=[str(store)])
    paths = [store, store / "deep" / "tool", open_place.parent / "link", open_place.parent]
    for path in paths if setting == "readable" else paths[1:3]:
        with pytest.raises(CapabilityError, match="must not reach") as caught:
            isolation.run(claw("touch"), {}, {setting: [str(path)]})
        assert not isinstance(caught.value, OutcomeUnknownError)
    assert not (open_place / "touched").exists()
    assert isolation.run(claw("touch"), {}, {setting: ["/usr/share"]}).status == "success"
    isolation.close()


def test_a_workspace_that_holds_the_nodes_files_is_refused(open_place: Path) -> None:
    """A home inside of the workspace would be the claws' to read and write."""
    (open_place / "home").mkdir()
    isolation = sandbox(open_place, protected=[str(open_place / "home")])
    with pytest.raises(CapabilityError, match="must not reach"):
        isolation.run(claw("touch"), {}, {})
    isolation.close()


def test_a_replaced_workspace_is_the_new_one(open_place: Path) -> None:
    """The supervisor that was ready had the old folder: the call goes to another."""
    isolation = sandbox(open_place)
    assert isolation.run(claw("touch"), {}, {}).status == "success"
    assert eventually(lambda: any(is_spare(pid) for pid in children(server(isolation))))
    open_place.rename(open_place.parent / "old")
    open_place.mkdir(mode=0o755)
    assert isolation.run(claw("touch"), {}, {}).status == "success"
    isolation.close()
    assert (open_place / "touched").read_text() == (open_place.parent / "old" / "touched").read_text() == "x"


def test_a_dead_spare_costs_nothing(workspace: Path) -> None:
    """The supervisor that is ready is killed, the process below it too: the call is served by another."""
    isolation = sandbox(workspace)
    assert isolation.run(claw("touch"), {}, {}).status == "success"

    def spare() -> list[int]:
        return [pid for pid in children(server(isolation)) if is_spare(pid)]

    assert eventually(lambda: len(spare()) == 2)  # one of the first kind, one of this call's
    for pid in spare():
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda pid=pid: not Path(f"/proc/{pid}").exists())
    assert isolation.run(claw("touch"), {}, {}).status == "success"
    assert eventually(lambda: [len(children(pid)) for pid in spare()] == [1])
    os.kill(children(spare()[0])[0], signal.SIGKILL)
    outcome = isolation.run(claw("touch"), {}, {})
    assert outcome.status in ("success", "crashed")
    assert outcome.status == "success" or "did not run" in str(outcome.error)
    assert isolation.run(claw("touch"), {}, {}).status == "success"
    isolation.close()


def test_calls_of_all_kinds_in_turn(workspace: Path) -> None:
    """More kinds than supervisors that are kept ready: each call has its own kind's layers, and few wait at the end."""
    isolation = sandbox(workspace)
    kinds = [("execute",) * (n & 1) + ("network",) * (n >> 1 & 1) + ("workspace.write",) * (n >> 2) for n in range(8)]
    for _ in range(2):
        for kind in kinds:
            outcome = isolation.run(claw("touch", permissions=kind), {}, {})
            assert (outcome.status == "success") == ("workspace.write" in kind), outcome
    assert eventually(lambda: len([pid for pid in children(server(isolation)) if is_spare(pid)]) == spares.SPARES_MAX)
    isolation.close()


def test_what_the_probe_says_is_what_claws_get(workspace: Path) -> None:
    """`femtoclaw status` asks without a fork server; nothing of the trial stays."""
    before = children(os.getpid())
    found = probe.available(str(workspace))
    isolation = sandbox(workspace)
    assert found == isolation.layers()
    isolation.close()
    assert children(os.getpid()) == before
    assert missing(dict.fromkeys(REQUIRED, "in force, ABI 7")) == ()
    assert missing({}) == REQUIRED


def reachable_by_all() -> None:
    """For a child of root that becomes another user: what Python needs, wherever root keeps it."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount(b"none", b"/", b"", mounts._MS_REC | mounts._MS_PRIVATE, b"")
    os.umask(0o022)
    user = (65_534, 65_534)
    needed = {os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, str(ROOT))}
    trees = {path: mounts._copy(path, 0, -1) for path in needed}
    covered = mounts._closed_folders(needed, user)
    for closed in covered:
        kernel.mount(b"tmpfs", os.fsencode(closed), b"tmpfs", 0, b"mode=755")
    for path, tree in trees.items():
        if mounts._within(path, covered):
            os.makedirs(path, exist_ok=True)
            kernel.call(mounts._MOVE_MOUNT, tree, b"", mounts._AT_FDCWD, path.encode(), 4)
    os.setgroups([])
    os.setresgid(*(user[1],) * 3)
    os.setresuid(*(user[0],) * 3)


def test_an_ordinary_user_has_the_same_sandbox() -> None:
    """As user 65534: every required layer, the whole of an execution, and no way to the node's files of the same user."""
    program = textwrap.dedent(
        f"""
        import os, sys, tempfile
        sys.path.insert(0, {str(ROOT)!r})
        from tests.femtoclaw.isolated import declared
        from femtoclaw.isolation import Isolation
        folder = tempfile.mkdtemp()
        os.mkdir(folder + "/workspace"); os.mkdir(folder + "/keys")
        with open(folder + "/keys/key", "w") as file:
            file.write("secret")
        attacks, facts = "tests.femtoclaw.hostile_attacks", {FACTS!r}
        isolation = Isolation(folder + "/workspace", modules=(attacks, facts), search_path={str(ROOT)!r},
                              protected=[folder + "/keys"])
        print(isolation.missing(), isolation.layers()["user"])
        made = isolation.run(declared(facts, "standing", 20.0), {{}}, {{}})
        print(made.status, made.result and made.result["Uid"][0] == str(os.getuid()))
        for name in ("reads_key", "opens_key_to_all", "signals", "traces", "reads_environment"):
            arguments = {{"attack": name, "where": folder, "victim": os.getpid()}}
            claw = declared(attacks, "attack", 20.0, ("workspace.read", "processes"))
            print(name, isolation.run(claw, arguments, {{}}).result["reached"])
        isolation.close()
        """
    )
    root = os.geteuid() == 0
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd="/",
        env={"PATH": "/usr/bin:/bin"}, preexec_fn=reachable_by_all if root else None,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[:2] == [
        f"() in force: claws run as the node's user {65534 if root else os.geteuid()}, who is not root", "success True"
    ], done.stderr  # fmt: skip
    assert {line.split()[1] for line in lines[2:]} == {"False"}
    assert len(lines) == 7
