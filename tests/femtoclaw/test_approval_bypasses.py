"""The ways in which commands that somebody had approved ran others: each has a hazard, and no effect in the sandbox.

Every command is run in the sandbox with only its own program listed, and once without one to show that it would work.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from femtoclaw.claws import SHELL
from femtoclaw.facts import Facts, facts
from femtoclaw.isolation import Isolation, Outcome


class Bypass(NamedTuple):
    """A command that makes the file ``marker``, unless something keeps it from that; and codes that it must have."""

    program: str
    argv: list[str]
    codes: set[str]


BYPASSES = {
    "sort compresses": Bypass("sort", ["-S1k", "-T.", "--compress-prog=./evil", "big"], {"runs_program"}),
    "env runs a shell": Bypass("env", ["sh", "-c", "touch marker"], {"runs_program", "inline_code"}),
    "env splits a string": Bypass("env", ["-S", "touch marker"], {"runs_program", "inline_code"}),
    "time runs": Bypass("time", ["-p", "touch", "marker"], {"runs_program"}),
    "git takes an alias": Bypass("git", ["-c", "alias.x=!touch marker", "x"], {"runs_program", "folder_config"}),
    "git asks a monitor": Bypass("git", ["-c", "core.fsmonitor=./evil", "status"], {"runs_program", "folder_config"}),
    "git reads its folder": Bypass("git", ["status"], {"folder_config"}),
    "git fetches by a program": Bypass(
        "git", ["fetch", "--upload-pack=./evil", "."], {"runs_program", "opens_network"}
    ),
    "find executes": Bypass("find", [".", "-name", "big", "-exec", "touch", "marker", ";"], {"runs_program"}),
    "tar pipes": Bypass("tar", ["-xf", "good.tar", "--to-command=./evil"], {"runs_program", "unpacks"}),
    "tar compresses": Bypass("tar", ["cIf", "./evil", "new.tar", "big"], {"runs_program"}),
    "tar reaches checkpoints": Bypass(
        "tar", ["-cf", "new.tar", "--checkpoint=1", "--checkpoint-action=exec=./evil", "big"], {"runs_program"}
    ),
    "xargs runs": Bypass("xargs", ["touch", "marker"], {"runs_program"}),
    "nice runs": Bypass("nice", ["touch", "marker"], {"runs_program"}),
    "sed executes": Bypass("sed", ["1e touch marker", "good.txt"], {"inline_code"}),
    "sed takes its sandbox for a number": Bypass(
        "sed", ["-n", "-l", "--sandbox", "1e touch marker", "good.txt"], {"inline_code"}
    ),
    "sed gets its sandbox too late": Bypass("sed", ["-e", "1e touch marker", "--sandbox", "good.txt"], {"inline_code"}),
    "awk calls": Bypass("awk", ['BEGIN{system("touch marker")}'], {"inline_code"}),
    "split filters": Bypass("split", ["--filter=touch marker", "good.txt"], {"inline_code"}),
}
THERE = {name: bypass for name, bypass in BYPASSES.items() if shutil.which(bypass.program)}
"""On this machine; what a command is taken for needs no program."""


def listed(program: str) -> str:
    path = shutil.which(program)
    assert path is not None
    return path


def prepare(folder: Path) -> None:
    """What the commands need: a program to be run, something to sort, pack, unpack and commit."""
    (folder / "evil").write_text("#!/bin/sh\ntouch marker\n")
    (folder / "evil").chmod(0o755)
    (folder / "big").write_text("".join(f"{number * 7919 % 100_003} line\n" for number in range(9_000)))
    (folder / "good.txt").write_text("line\n")
    with tarfile.open(folder / "good.tar", "w") as tar:
        tar.add(folder / "good.txt", "good.txt")
    settings = ("-c", "init.defaultBranch=main", "-c", "core.hooksPath=/nonexistent")
    subprocess.run(["git", *settings, "init", "-q"], cwd=folder, check=True)
    with (folder / ".git" / "config").open("a") as config:
        config.write("[core]\n\tfsmonitor = ./evil\n")


@pytest.fixture
def isolation(workspace: Path) -> Iterator[Isolation]:
    isolation = Isolation(str(workspace))
    yield isolation
    isolation.close()


def confined(isolation: Isolation) -> bool:
    """Whether this kernel lets a claw execute only what is listed, and write only where it may."""
    isolation.start()
    return isolation.layers().get("landlock_filesystem", "").startswith("in force")


def run(isolation: Isolation, program: str, argv: list[str]) -> Outcome:
    return isolation.run(SHELL, {"bin": program, "argv": argv}, {"binaries": [listed(program)]})


def hazards_of(program: str, argv: list[str]) -> set[str]:
    found = facts(SHELL, {"bin": program, "argv": argv}, {"binaries": [f"/usr/bin/{program}"]})
    assert isinstance(found, Facts)
    return set(found.attributes["hazards"])


@pytest.mark.requirement("CLAW-16.1", "WHITE-9.3")
@pytest.mark.parametrize("bypass", BYPASSES.values(), ids=BYPASSES)
def test_a_bypass_has_its_hazards(bypass: Bypass) -> None:
    """So that no permit of the program's name alone lets it through."""
    assert bypass.codes <= hazards_of(bypass.program, bypass.argv)


@pytest.mark.requirement("CLAW-16.1", "WHITE-9.3", "WHITE-9.4")
@pytest.mark.parametrize("bypass", THERE.values(), ids=THERE)
def test_a_bypass_runs_no_program_that_is_not_listed(
    isolation: Isolation, workspace: Path, tmp_path: Path, bypass: Bypass
) -> None:
    """Even where a policy lets it through, the kernel does not; without the sandbox it works."""
    free = tmp_path / "free"
    free.mkdir()
    for folder in (free, workspace):
        prepare(folder)
    if confined(isolation):
        assert run(isolation, bypass.program, bypass.argv).status in ("success", "error", "timeout")
        assert not (workspace / "marker").exists()
    subprocess.run(
        [listed(bypass.program), *bypass.argv],
        cwd=free,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (free / "marker").exists()


@pytest.mark.parametrize(
    "argv",
    [["--sandbox", "-e", "1e touch marker", "good.txt"], ["1e touch marker", "good.txt", "--sandbox"],
     ["-l", "5", "--sandbox", "1e touch marker", "good.txt"], ["-nl5", "--sandbox", "1w marker", "good.txt"]],
    ids=" ".join,
)  # fmt: skip
def test_where_the_sandbox_of_sed_counts_it_holds(tmp_path: Path, argv: list[str]) -> None:
    """What has no hazard for the sake of `--sandbox`: sed itself refuses the script."""
    assert hazards_of("sed", argv) == set()
    prepare(tmp_path)
    ended = subprocess.run([listed("sed"), *argv], cwd=tmp_path, capture_output=True, timeout=30, check=False)
    assert (ended.returncode != 0, (tmp_path / "marker").exists()) == (True, False)


@pytest.mark.requirement("WHITE-9.4")
@pytest.mark.parametrize(
    "program, argv, codes",
    [
        ("echo", ["ok\ntouch marker"], {"newline"}),
        ("echo", ["ok\r\ntouch marker", "&&", "touch", "marker"], {"newline"}),
        (
            "sort",
            ["--", "--compress-program=./evil", "-omarker"],
            {"option_after_dashes", "runs_program", "writes_option"},
        ),
        ("git", ["diff", "--no-index", "--", "--output=marker", "big"], {"option_after_dashes", "writes_option"}),
        ("tar", ["-cf", "new.tar", "--", "--checkpoint-action=exec=./evil"], {"option_after_dashes", "runs_program"}),
    ],
)
def test_what_only_looks_like_a_command_or_an_option_is_data(
    isolation: Isolation, workspace: Path, program: str, argv: list[str], codes: set[str]
) -> None:
    """Lines are not taken apart, and after `--` nothing is an option; policy is told all the same."""
    assert codes <= hazards_of(program, argv)
    prepare(workspace)
    assert run(isolation, program, argv).status == "success"
    assert not (workspace / "marker").exists()


def archive(workspace: Path) -> None:
    """An archive whose members climb, are absolute, and go through links to the outside."""
    outside = workspace.parent / "outside"
    with tarfile.open(workspace / "bad.tar", "w") as tar:

        def add(name: str, **more: Any) -> None:
            member = tarfile.TarInfo(name)
            content = b"" if more else b"escaped"
            member.size = len(content)
            for key, value in more.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(content))

        add("../climbed")
        add("a/../../climbed-later")
        add(str(outside / "absolute"))
        add("link", type=tarfile.SYMTYPE, linkname="../outside")
        add("link/through")
        add("abs-link", type=tarfile.SYMTYPE, linkname=str(outside))
        add("abs-link/through-too")
        add("hard", type=tarfile.LNKTYPE, linkname="../kept")
        add("hard")
        add("inside")


@pytest.mark.requirement("CLAW-16.1", "DEPLOY-13.1")
@pytest.mark.parametrize("options", [["-xf"], ["-xPf"], ["-x", "--keep-directory-symlink", "-P", "-f"]], ids="".join)
def test_an_archive_leaves_nothing_outside(isolation: Isolation, workspace: Path, options: list[str]) -> None:
    """Not even with the names taken as they stand; what lies beneath the workspace is unpacked."""
    assert "unpacks" in hazards_of("tar", [*options, "bad.tar"])
    outside, kept = workspace.parent / "outside", workspace.parent / "kept"
    outside.mkdir()
    kept.write_text("kept")
    archive(workspace)
    if confined(isolation) or options == ["-xf"]:  # without -P tar itself takes care
        assert run(isolation, "tar", [*options, "bad.tar"]).status == "success"
        assert (workspace / "inside").read_text() == "escaped"
        assert (list(outside.iterdir()), kept.read_text()) == ([], "kept")
        assert sorted(path.name for path in workspace.parent.iterdir()) == ["kept", "outside", "workspace"]
    if "-P" in options or "-xPf" in options:
        subprocess.run(
            [listed("tar"), *options, "bad.tar"], cwd=workspace, capture_output=True, timeout=30, check=False
        )
        assert (workspace.parent / "climbed").exists()


@pytest.mark.requirement("CLAW-16.1")
@pytest.mark.parametrize(
    "program, argv",
    [
        ("cp", ["good.txt", "../written"]), ("mv", ["good.txt", "../written"]), ("ln", ["good.txt", "../written"]),
        ("tee", ["../written"]), ("dd", ["if=good.txt", "of=../written"]), ("install", ["good.txt", "../written"]),
        ("sort", ["-o../written", "good.txt"]), ("find", [".", "-fprint", "../written"]),
        ("split", ["good.txt", "../written"]), ("mkdir", ["../written"]), ("touch", ["../written"]),
        ("git", ["diff", "--no-index", "--output=../written", "/dev/null", "good.txt"]),
    ],
)  # fmt: skip
def test_nothing_is_written_outside_of_the_workspace(
    isolation: Isolation, workspace: Path, program: str, argv: list[str]
) -> None:
    """Programs that write where an argument says: told by a code, kept in by the kernel."""
    assert {"outside_path", "writes_option"} & hazards_of(program, argv)
    prepare(workspace)
    if confined(isolation):
        assert run(isolation, program, argv).status == "success"
    written: Callable[[], list[str]] = lambda: [path.name for path in workspace.parent.iterdir()]  # noqa: E731
    assert written() == ["workspace"]
