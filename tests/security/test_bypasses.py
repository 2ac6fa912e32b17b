"""The ways in which commands that somebody had approved ran others, each as a whole intent through the command line under
the policy for developers: refused, or held and then harmless.

What hazards each has, and that its program does no harm in the sandbox, is in ``tests/femtoclaw/test_approval_bypasses``.
"""

from __future__ import annotations

import shutil
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from tests.cli.node import Node, call
from tests.femtoclaw.test_approval_bypasses import BYPASSES
from tests.security.entry_points import seen

LISTED = {name: shutil.which(name) or f"/usr/bin/{name}" for name in (
    "awk", "echo", "env", "find", "git", "ls", "make", "nice", "sed", "sort", "split", "tar", "time", "xargs",
)}  # fmt: skip
HARMLESS_HERE = {"git reads its folder"}
"""Permitted as it stands: what it does is confined. See the test of it below."""

HELD = {"sort writes elsewhere"}
"""Writing through an option is what an operator may let pass; the sandbox keeps it in the workspace."""

COMMANDS: dict[str, tuple[str, list[str]]] = {
    **{name: (bypass.program, bypass.argv) for name, bypass in BYPASSES.items() if name not in HARMLESS_HERE},
    "newline in an argument": ("echo", ["ok\ntouch marker"]),
    "newline behind a permitted command": ("git", ["status\ntouch marker"]),
    "line separator of Unicode": ("echo", ["ok\u2028touch marker"]),
    "carriage return": ("echo", ["ok\rtouch marker"]),
    "sort abbreviates": ("sort", ["--comp=./evil", "-S1k", "big"]),
    "env runs a shell by its path": ("env", ["-i", "/bin/sh", "-c", "touch marker"]),
    "env chooses a library": ("env", ["LD_PRELOAD=./evil.so", "ls"]),
    "time with an option": ("time", ["-p", "-o", "out", "touch", "marker"]),
    "an option behind the dashes": ("sort", ["--", "--compress-program=./evil"]),
    "an option as an operand of git": ("git", ["log", "--", "--output=marker"]),
    "git takes a pager": ("git", ["-ccore.pager=touch marker", "log"]),
    "git takes another folder": ("git", ["-C", "..", "status"]),
    "git takes another repository": ("git", ["--git-dir=./evil.git", "status"]),
    "find executes in folders": ("find", [".", "-execdir", "touch", "marker", ";"]),
    "find asks first": ("find", [".", "-ok", "touch", "marker", ";"]),
    "tar abbreviates": ("tar", ["xf", "a.tar", "--to-c", "touch marker"]),
    "tar names a shell": ("tar", ["-cf", "a.tar", "--rsh-command=./evil", "--rmt-command=./evil", "big"]),
    "tar takes names as they are": ("tar", ["-xPf", "bad.tar"]),
    "tar unpacks elsewhere": ("tar", ["-xf", "bad.tar", "-C", ".."]),
    "make takes text": ("make", ["--eval=$(shell touch marker)"]),
    "make takes another file": ("make", ["-f", "/dev/stdin"]),
    "sort writes elsewhere": ("sort", ["-o", "../written", "big"]),
    "a shell's syntax": ("git", ["status;touch marker"]),
}


@pytest.fixture(scope="module")
def developer(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """A developer's node with every program of the commands listed; its log grows from test to test."""
    node = Node(tmp_path_factory.mktemp("developer") / "home")
    listed = [word for path in LISTED.values() for word in ("--binary", path)]
    node.call("init", "--enable", "shell", "--enable", "fs.read", *listed, "--policy", "developer")
    (node.workspace / "evil").write_text("#!/bin/sh\ntouch marker\n")
    (node.workspace / "evil").chmod(0o755)
    (node.workspace / "big").write_text("line\n" * 9_000)
    return node


@pytest.mark.invariant("I5")
@pytest.mark.requirement("CLAW-16.1")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_bypass_is_refused_as_an_intent(developer: Node, name: str) -> None:
    """No operator is even asked; where one is, nothing runs before the answer."""
    program, argv = COMMANDS[name]
    answer = developer.intent(call("shell", bin=program, argv=argv), expect=1).body
    held, refused = ("HELD", "APPROVAL_REQUIRED"), ("DENIED_POLICY_VIOLATION", "HAZARD")
    assert (answer["decision"], answer["code"]) == (held if name in HELD else refused)
    assert not (developer.workspace / "marker").exists()


def test_none_of_them_started(developer: Node) -> None:
    """The log of all of them has no start, and verifies."""
    assert seen(developer).events["ExecutionStarted"] == 0
    developer.call("verify")


@pytest.fixture
def own(developer: Node, tmp_path: Path) -> Node:
    return developer.copy(tmp_path / "home")


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not here")
def test_a_permitted_command_runs_no_program_of_its_folder(own: Node) -> None:
    """`git status` is permitted as it stands, and the repository's own configuration names a monitor: git runs, it does
    not."""
    import subprocess

    subprocess.run(["git", "-c", "init.defaultBranch=main", "init", "-q"], cwd=own.workspace, check=True)
    with (own.workspace / ".git" / "config").open("a") as config:
        config.write("[core]\n\tfsmonitor = ./evil\n")
    own.intent(call("shell", bin="git", argv=["status"]), expect=None)
    assert seen(own).events["ExecutionStarted"] == 1
    assert not (own.workspace / "marker").exists()
    subprocess.run(["git", "-c", "safe.directory=*", "status"], cwd=own.workspace, capture_output=True, check=True)
    assert (own.workspace / "marker").exists()  # without the sandbox


@pytest.mark.requirement("CLAW-16.1", "DEPLOY-13.1")
def test_an_archive_that_climbs_is_held_and_then_harmless(own: Node) -> None:
    """An operator who lets it be unpacked gets what lies beneath the workspace, and nothing else."""
    outside = own.path.parent / "outside"
    outside.mkdir()
    outside.chmod(0o777)
    with tarfile.open(own.workspace / "bad.tar", "w") as tar:
        for name in ("../climbed", str(outside / "absolute"), "link/through", "inside"):
            member = tarfile.TarInfo(name)
            member.size = 7
            if name == "link/through":
                link = tarfile.TarInfo("link")
                link.type, link.linkname = tarfile.SYMTYPE, str(outside)
                tar.addfile(link)
            tar.addfile(member, BytesIO(b"escaped"))
    before = sorted(path.name for path in own.path.iterdir())
    held = own.intent(call("shell", bin="tar", argv=["-xf", "bad.tar"]), expect=1).body
    assert held["decision"] == "HELD"
    own.call("approve", held["execution_id"], expect=None)
    assert seen(own).events["ExecutionStarted"] == 1
    assert (own.workspace / "inside").read_text() == "escaped"
    assert (list(outside.iterdir()), sorted(path.name for path in own.path.iterdir())) == ([], before)
