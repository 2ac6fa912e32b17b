"""No program of the node's list starts one that is not on it: the known ways by which listed programs run others.

Each way works where Landlock is switched off: so these tests can fail.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from femtoclaw.claws import SHELL
from femtoclaw.isolation import Isolation, programs
from femtoclaw.isolation.layers import REQUIRED
from tests.femtoclaw.isolated import ROOT

CONFIGURATIONS = {"all": (), "without_landlock": ("tests.femtoclaw.without_landlock",)}
LOADER = next((path for path in programs.needed("/bin/sh")[1:]), "")

WAYS: dict[str, tuple[str, list[str]]] = {
    "sort --compress-program": ("sort", ["-S", "1M", "--parallel=1", "--compress-program={script}", "big"]),
    "env": ("env", ["{script}"]),
    "env sh -c": ("env", ["/bin/sh", "-c", "{script}"]),
    "find -exec": ("find", [".", "-maxdepth", "0", "-exec", "{script}", ";"]),
    "xargs": ("xargs", ["-a", "list", "{script}"]),
    "nice": ("nice", ["{script}"]),
    "timeout": ("timeout", ["20", "{script}"]),
    "tar --checkpoint-action": ("tar", ["-cf", "x.tar", "--checkpoint=1", "--checkpoint-action=exec={script}", "big"]),
    "tar --to-command": ("tar", ["-xf", "given.tar", "--to-command={script}"]),
    "git -c alias": ("git", ["-c", "alias.x=!{script}", "x"]),
    "awk system": ("awk", ['BEGIN { system("{script}") }']),
    "the dynamic loader": ("env", [LOADER, "/usr/bin/touch", "{marker}"]),
}


class Place:
    """A workspace that everybody may pass, and a script outside of it that leaves a mark when it runs."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="femtoclaw-test-"))
        self.folder.chmod(0o755)
        self.workspace, self.script = self.folder / "workspace", self.folder / "script"
        self.workspace.mkdir(mode=0o755)
        self.marker = self.workspace / "marker"
        self.script.write_text(f"#!/bin/sh\necho reached > {self.marker}\ncat\n")
        self.script.chmod(0o755)
        (self.workspace / "big").write_text("".join(f"{number * 7919 % 100_000}\n" for number in range(100_000)))
        (self.workspace / "list").write_text("word\n")
        import tarfile

        with tarfile.open(self.workspace / "given.tar", "w") as archive:
            archive.add(self.workspace / "list", "taken")


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    made = Place()
    yield made
    shutil.rmtree(made.folder)


@pytest.fixture(scope="module")
def isolations(place: Place) -> Iterator[dict[str, Isolation]]:
    found = {
        name: Isolation(
            str(place.workspace), modules=(*modules, "femtoclaw.claws.shell"), search_path=str(ROOT),
            accept_missing=REQUIRED if modules else (),
        )
        for name, modules in CONFIGURATIONS.items()
    }  # fmt: skip
    yield found
    for isolation in found.values():
        isolation.close()


@pytest.mark.parametrize("configuration", list(CONFIGURATIONS))
@pytest.mark.parametrize("way", list(WAYS))
def test_a_listed_program_starts_no_other(
    isolations: dict[str, Isolation], place: Place, way: str, configuration: str
) -> None:
    """Whatever the options are called: the kernel refuses to execute what is not on the list."""
    name, words = WAYS[way]
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"no {name} on this machine")
    place.marker.unlink(missing_ok=True)
    argv = [word.replace("{script}", str(place.script)).replace("{marker}", str(place.marker)) for word in words]
    outcome = isolations[configuration].run(SHELL, {"bin": program, "argv": argv}, {"binaries": [program]})
    assert outcome.status == "success", outcome  # the program itself runs, and says what it could not do
    assert place.marker.exists() == (configuration == "without_landlock"), outcome.result


@pytest.mark.parametrize(
    "name, argv, found",
    [
        ("sort", ["-r", "list"], "word\n"),
        ("tar", ["-tf", "given.tar"], "taken\n"),
        ("find", [".", "-name", "list"], "./list\n"),
        ("awk", ['BEGIN { print "x" }'], "x\n"),
        ("git", ["init", "-q", "repository"], ""),
    ],
)
def test_a_listed_program_does_its_own_work(
    isolations: dict[str, Isolation], name: str, argv: list[str], found: str
) -> None:
    """The sandbox of programs lets them read their libraries, and read and write the workspace."""
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"no {name} on this machine")
    outcome = isolations["all"].run(SHELL, {"bin": program, "argv": argv}, {"binaries": [program]})
    assert outcome.result is not None, outcome
    assert (outcome.result["status"], outcome.result["stdout"]) == (0, found), outcome.result


def test_two_listed_programs_may_start_each_other(isolations: dict[str, Isolation], place: Place) -> None:
    """What is on the list is on the list, by whomever it is started; a script needs its interpreter, and gets it."""
    place.marker.unlink(missing_ok=True)
    listed = {"binaries": [shutil.which("env"), str(place.script), "/bin/cat"], "readable": [str(place.folder)]}
    outcome = isolations["all"].run(SHELL, {"bin": listed["binaries"][0], "argv": [str(place.script)]}, listed)
    assert place.marker.exists(), outcome.result


def test_readable_is_for_programs_alone_and_reaches_no_further(isolations: dict[str, Isolation], place: Place) -> None:
    """A path of the setting can be read, and neither written nor executed; without the setting it cannot be read."""
    (place.folder / "data").write_text("given")
    (place.folder / "data").chmod(0o666)
    cat = {"binaries": ["/bin/cat", "/usr/bin/touch"]}
    arguments = {"bin": "/bin/cat", "argv": [str(place.folder / "data")]}
    given = isolations["all"].run(SHELL, arguments, cat | {"readable": [str(place.folder / "data")]})
    assert given.result is not None
    assert given.result["stdout"] == "given"
    refused = isolations["all"].run(SHELL, arguments, cat)
    assert refused.result is not None
    assert (refused.result["status"], refused.result["stdout"]) == (1, "")
    touched = isolations["all"].run(
        SHELL, {"bin": "/usr/bin/touch", "argv": [str(place.folder / "data")]}, cat | {"readable": [str(place.folder)]}
    )
    assert touched.result is not None
    assert touched.result["status"] == 1


@pytest.mark.requirement("DEPLOY-11.2")
def test_a_set_uid_program_gives_nothing(isolations: dict[str, Isolation], place: Place) -> None:
    """A copy of `id` that belongs to root with the set-user-ID bit answers as whoever started it (DEPLOY-11.2)."""
    if os.geteuid() != 0:
        return  # only root can make such a program
    copy = place.folder / "id"
    shutil.copy(shutil.which("id") or "/usr/bin/id", copy)
    copy.chmod(0o4755)
    answers = []
    for program in (shutil.which("id") or "/usr/bin/id", str(copy)):
        outcome = isolations["all"].run(SHELL, {"bin": program, "argv": ["-u"]}, {"binaries": [program]})
        assert outcome.result is not None, outcome
        answers.append(outcome.result["stdout"])
    assert answers[0] == answers[1]
    assert isolations["all"].layers()["user"].startswith("in force") == (answers[0] != "0\n")


def test_a_program_has_no_descriptor_but_its_three(isolations: dict[str, Isolation]) -> None:
    """Neither the request nor the answer's pipe: what it lists is its own opening of the folder."""
    ls = shutil.which("ls") or "/bin/ls"
    claw = SHELL._replace(permissions=(*SHELL.permissions, "processes"))
    outcome = isolations["all"].run(claw, {"bin": ls, "argv": ["/proc/self/fd"]}, {"binaries": [ls]})
    assert outcome.result is not None
    assert outcome.result["stdout"].split() == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    "text, found",
    [
        ("#!/bin/sh\n", ["/bin/sh", "*"]),
        ("#! /bin/sh -e\nx", ["/bin/sh", "*"]),
        ("#!/usr/bin/env -S sh -e\n", ["/usr/bin/env", "/bin/sh", "/usr/bin/sh", "*"]),
        ("#!relative\n", []),
        ("#!\n", []),
        ("", []),
        ("\x7fELF", []),
        ("\x7fELF\x02\x01" + "\xff" * 58, []),
        ("\x7fELF\x02\x01" + "\x00" * 58, []),
        ("\x7fELF\x01\x02" + "\x7f" * 200, []),
    ],
    ids=range(10),
)
def test_what_a_program_needs_is_read_from_its_beginning(tmp_path: Path, text: str, found: list[str]) -> None:
    """Scripts, scripts through `env`, and bytes that only look like a program: never an exception."""
    path = tmp_path / "program"
    path.write_bytes(text.encode("latin-1"))
    needed = programs.needed(str(path))
    assert needed[0] == str(path)
    expected = [name for name in found if name != "*"]
    if "*" not in found:
        assert needed == [str(path)]
    assert {os.path.realpath(name) for name in expected if os.path.exists(name)} <= {*map(os.path.realpath, needed)}


def test_a_dynamic_program_needs_its_loader() -> None:
    """And a file that is not there needs nothing."""
    assert any("ld" in os.path.basename(path) for path in programs.needed(os.path.realpath(sys.executable)))
    assert programs.needed("/nonexistent/program") == ["/nonexistent/program"]
