"""`release repair`: an altered installation becomes again what the home trusts, by the launcher and the release's file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

import pytest

from femtoclaw.releases.building import build, own_versions
from tests.cli.node import ROOT, Node
from tests.cli.released import SIGNER, Made, released

FROM_THE_FILE = (
    "import sys; sys.path.append(sys.argv.pop(1)); from femtoclaw.launcher.start import main; main(sys.argv.pop(1))"
)
HELLO = json.dumps({"message": {"content": "hello"}})


class Installed(NamedTuple):
    """A home, the installation that runs it, and the file that it came from."""

    node: Node
    root: Path
    made: Made

    @property
    def packages(self) -> Path:
        return (self.root / "current" / "site-packages").resolve()

    def call(self, *words: str, command: tuple[str, ...] = (), expect: int = 0) -> dict[str, Any]:
        """A command of the release that is in use."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FEMTOCLAW", "PYTHON"))}
        line = [*(command or (str(self.root / "femtoclaw"),)), "--json", "--home", str(self.node.path), *words]
        done = subprocess.run(line, capture_output=True, text=True, check=False, env=kept)
        assert done.returncode == expect, done
        found: dict[str, Any] = json.loads(done.stdout or "{}")
        return found

    def alter(self) -> None:
        """One file is changed, one gone, one too many."""
        for path in (self.packages / "femtoclaw", self.packages / "femtoclaw" / "version.py"):
            path.chmod(0o755)
        with (self.packages / "femtoclaw" / "version.py").open("a") as file:
            file.write("# smuggled\n")
        (self.packages / "femtoclaw" / "gate.py").unlink()
        (self.packages / "femtoclaw" / "more.py").write_text("")


@pytest.fixture(scope="module")
def whole(template: Node, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("repaired")
    place = Installed(template.copy(folder / "home"), folder / "root", released(folder / "made"))
    place.node.call("release", "deploy", place.made.file, "--key", place.made.key, "--root", str(place.root))
    return place


@pytest.fixture
def altered(whole: Installed, tmp_path: Path) -> Installed:
    place = Installed(whole.node.copy(tmp_path / "home"), tmp_path / "root", whole.made)
    shutil.copytree(whole.root, place.root, symlinks=True)
    place.alter()
    return place


def test_an_altered_release_is_put_back_from_its_file(altered: Installed) -> None:
    """What differs and no more; what was there is kept to be looked at, and the journal tells of it. Then it starts."""
    altered.call("intent", HELLO, expect=3)
    told = altered.call("release", "repair", altered.made.file)
    names = [f"site-packages/femtoclaw/{name}.py" for name in ("gate", "more", "version")]
    assert told["repaired"] == names
    kept = Path(told["altered_kept_in"])
    assert kept.parent == altered.root / "altered"
    assert (kept / names[2]).read_text().endswith("# smuggled\n")
    assert [(kept / name).exists() for name in names] == [False, True, True]
    journal = [json.loads(line) for line in (altered.node.path / "boot.journal").read_text().splitlines()]
    assert [line["files"] for line in journal if line.get("result") == "repaired"] == [names]
    assert altered.call("intent", HELLO)["decision"] == "AUTHORIZED"
    altered.call("distribution", "verify")
    assert altered.call("release", "repair", altered.made.file) == {"repaired": [], "altered_kept_in": ""}


def test_the_file_s_own_launcher_repairs_one_that_was_altered_too(altered: Installed) -> None:
    (altered.packages / "femtoclaw" / "launcher" / "start.py").chmod(0o644)
    (altered.packages / "femtoclaw" / "launcher" / "start.py").write_text("def main(root): raise SystemExit(9)\n")
    altered.call("release", "repair", altered.made.file, expect=9)
    command = (
        sys.executable,
        "-I",
        "-S",
        "-c",
        FROM_THE_FILE,
        f"{altered.made.file}/site-packages",
        str(altered.packages),
    )
    assert len(altered.call("release", "repair", altered.made.file, command=command)["repaired"]) == 4
    assert altered.call("intent", HELLO)["decision"] == "AUTHORIZED"


def forged(raw: bytes, old: bytes, new: bytes) -> bytes:
    """The zip with another content in a member, and its checksum to match."""
    assert raw.count(old) == 1
    assert len(old) == len(new)
    return raw.replace(old, new).replace(*(zlib.crc32(each).to_bytes(4, "little") for each in (old, new)))


def test_nothing_but_the_trusted_release_is_put_back(altered: Installed, tmp_path: Path) -> None:
    """Another release by the same key, a changed file, no release, a program that no deployment installed."""
    before = {path: path.read_bytes() for path in altered.packages.rglob("*.py")}
    raw, other, path = (
        Path(altered.made.file).read_bytes(),
        str(tmp_path / "other.release"),
        tmp_path / "changed.release",
    )
    build(str(Path(altered.made.file).parent / "program"), other, SIGNER, own_versions(), counter=13)
    gate, note = (ROOT / "femtoclaw" / "gate.py").read_bytes(), ZipFile(altered.made.file).read("release.note")
    assert altered.call("release", "repair", other, expect=3)["error"]["code"] == "NOT_ACCEPTED"
    for changed, code in (
        (raw[: len(raw) // 2], "BAD_MANIFEST"),
        (raw.replace(gate, gate.replace(b"class", b"klass", 1)), "BAD_MANIFEST"),  # the zip's own checksum
        (forged(raw, gate, gate.replace(b"class", b"klass", 1)), "HASH_MISMATCH"),
        (forged(raw, note, note.replace(b"floor 0", b"floor 1", 1)), "BAD_SIGNATURE"),
    ):
        path.write_bytes(changed)
        assert altered.call("release", "repair", str(path), expect=3)["error"]["code"] == code
    journal = altered.node.path / "boot.journal"
    told = journal.read_bytes()
    for words in ((), (str(tmp_path / "none"),), (altered.made.file, "more")):
        misused = altered.call("release", "repair", *words, expect=2)["error"]
        assert (misused["code"], misused["exit_code"], misused["category"]) == ("USAGE", 2, "CONFIGURATION")
    assert journal.read_bytes() == told, "a slip of the hand is no finding"
    assert {path: path.read_bytes() for path in altered.packages.rglob("*.py")} == before
    assert not (altered.root / "altered").exists()
    assert altered.node.call("release", "repair", altered.made.file, expect=2).code == 2
