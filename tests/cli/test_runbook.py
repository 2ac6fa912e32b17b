"""Every command of docs/runbook.md, executed as it stands there, on a node with the fault of its section."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from femtoclaw.drills.catalogue import KINDS
from femtoclaw.drills.storage_faults import alter
from femtoclaw.drills.trust_faults import SMUGGLED
from tests.cli.node import READ, ROOT, START, Node, environment
from tests.cli.released import released

PAGE = (ROOT / "docs" / "runbook.md").read_text()
BLOCK = re.compile(r"^```\n(.*?)^```$", re.DOTALL | re.MULTILINE)
EXIT = re.compile(r"\s*# exit (\d)$")
SECONDS_MAX = 240


class Place(NamedTuple):
    """A home, and files beside it that the page's variables name."""

    node: Node
    work: Path

    def environment(self) -> dict[str, str]:
        return environment() | {
            "FEMTOCLAW_HOME": str(self.node.path), "WORK": str(self.work), "COPY": str(self.work / "copy.bundle"),
            "BACKUPS": str(self.work / "places"), "RECOVERY_KEY": str(self.work / "kept.key"),
            "INSTALLED": str(self.work / "installed"), "RELEASE": str(self.work / "femtoclaw.release"),
            "OTHER_CHECKPOINT": str(self.work / "other.note"), "PATH": f"{self.work}:{os.environ['PATH']}",
        }  # fmt: skip


def sections() -> dict[str, str]:
    """Heading to the commands under it, for those that have some."""
    parts = re.split(r"^## (.*)$", PAGE, flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    return {name: "".join(BLOCK.findall(text)) for name, text in found.items() if BLOCK.search(text)}


def no_room(place: Place) -> None:
    size = (place.node.path / "log" / "data" / "data.mdb").stat().st_size
    place.node.call("config", "set", f"memory.map_bytes={size + 8192}")
    while place.node.call("intent", '{"message":{"content":"hello"}}', expect=None).code == 0:
        pass


def damaged(place: Place) -> None:
    place.node.call("export", "--bundle", str(place.work / "copy.bundle"))
    alter(str(place.node.path / "log" / "data" / "data.mdb"))


def older(place: Place) -> None:
    log = place.node.path / "log"
    shutil.copytree(log, place.work / "older")
    place.node.intent(READ)
    place.node.call("export", "--bundle", str(place.work / "copy.bundle"))
    shutil.rmtree(log)
    shutil.copytree(place.work / "older", log)


def backed_up(place: Place) -> None:
    place.node.call("backup", "keygen", "--out", str(place.work / "kept.key"))
    place.node.call("backup", "create", "--to", str(place.work / "places"))


def gone(place: Place) -> None:
    backed_up(place)
    shutil.rmtree(place.node.path)


def without_key(place: Place) -> None:
    backed_up(place)
    (place.node.path / "keys" / "node.key").unlink()


def forked(place: Place) -> None:
    twin = place.node.copy(place.work / "twin")
    for node, text in ((place.node, "one"), (twin, "two")):
        node.call("intent", f'{{"message":{{"content":"{text}"}}}}')
    (place.work / "other.note").write_text(twin.call("proof", "inclusion", "1").body["checkpoint"])


def edited(place: Place) -> None:
    with (place.node.path / "policy.cedar").open("a") as file:
        file.write(SMUGGLED)


def altered(place: Place) -> None:
    """A release of this program is in use, and somebody adds a line to one of its files."""
    made = released(place.work / "made")
    place.node.call("release", "deploy", made.file, "--key", made.key, "--root", str(place.work / "installed"))
    shutil.copy(made.file, place.work / "femtoclaw.release")
    path = place.work / "installed" / "current" / "site-packages" / "femtoclaw" / "version.py"
    path.chmod(0o644)
    with path.open("a") as file:
        file.write("# smuggled\n")


FAULTS: dict[str, Callable[[Place], None]] = {
    "There is no room": no_room, "The log is damaged": damaged, "An older log was put back": older, "Everything is gone": gone,
    "A key is lost or in wrong hands": without_key, "Two histories of one log": forked, "A file was edited by hand": edited,
    "The program was altered": altered,
}  # fmt: skip


@pytest.fixture
def place(node: Node, tmp_path: Path) -> Place:
    work = tmp_path / "work"
    work.mkdir()
    program = work / "femtoclaw"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{START}" "$@"\n')
    program.chmod(0o755)
    return Place(node, work)


@pytest.mark.timeout(SECONDS_MAX)
@pytest.mark.parametrize("name", sections())
def test_the_commands_of_a_section_do_what_it_says(name: str, place: Place) -> None:
    """Line by line in one shell; each with the exit code that the page states."""
    FAULTS.get(name, lambda place: None)(place)
    done = executed(sections()[name], place)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]


def executed(commands: str, place: Place) -> subprocess.CompletedProcess[str]:
    """Line by line in one shell, which ends with 99 at the first that has another exit code than it states."""
    script = ["set -u"]
    for line in commands.splitlines():
        stated = EXIT.search(line)
        wanted = int(stated[1]) if stated else 0
        command = EXIT.sub("", line)
        script.append(
            f'{command}\ncode=$?; [ $code -eq {wanted} ] || {{ echo "LINE $code, not {wanted}:" >&2; exit 99; }}'
        )
    return subprocess.run(
        ["bash", "-v", "-c", "\n".join(script)], env=place.environment(), cwd=place.work, capture_output=True, text=True,
        timeout=SECONDS_MAX, check=False,
    )  # fmt: skip


def test_every_drill_has_its_section_and_its_name_there() -> None:
    headings = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    assert [kind.name for kind in KINDS if kind.section not in headings or f"`{kind.name}`" not in PAGE] == []


def test_a_command_that_does_something_else_is_found_out(place: Place) -> None:
    """A line's own exit counts, not that of the last one: one that fails unannounced, and one that does not fail as announced."""
    assert executed("femtoclaw status\nfemtoclaw show nothing\nfemtoclaw status", place).returncode == 99
    assert executed("femtoclaw status    # exit 3\nfemtoclaw status", place).returncode == 99
    assert executed("femtoclaw status\nfemtoclaw status", place).returncode == 0
