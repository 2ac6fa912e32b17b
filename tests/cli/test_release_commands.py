"""`release` as operators use it: real releases of this program, deployed, taken back, refused, and switched back when they fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from femtoclaw.cli.main import run
from femtoclaw.launcher.sealed import read_pin
from femtoclaw.launcher.start import stub
from femtoclaw.releases import checking, installation
from femtoclaw.releases.checking import Checked
from femtoclaw.seal import PACKAGES, seal
from tests.cli.node import ROOT, SAY, Node, femtoclaw
from wal.reader import read_log_directory

NEEDED = (
    "blake3",
    "cedarpy",
    "cffi",
    "immutables",
    "jsonschema",
    "lmdb",
    "msgpack",
    "PyNaCl",
    "tenacity",
    "tomlkit",
    "typing_ext",
)
"""Locked packages of a node that is not served: the others would only make the releases larger."""


class Made(NamedTuple):
    """Two releases, of which the second is newer and has a floor above the first; and the key."""

    first: str
    second: str
    floor: str
    key: str
    folder: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("releases")
    root = folder / "program"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    locked = (ROOT / "requirements.lock").read_text().splitlines(keepends=True)
    (root / "requirements.lock").write_text("".join(line for line in locked if line.startswith(NEEDED)))
    seal(str(root), str(root / "requirements.lock"), counter=7)
    femtoclaw("operator", "keygen", "release", "--out", str(folder / "release.key"), cwd=folder)
    paths = []
    for name, words in (("first", ["12"]), ("second", ["13"]), ("floor", ["14", "--floor", "14"])):
        paths.append(str(folder / f"{name}.release"))
        told = femtoclaw(
            "--json", "release", "build", "--from", str(root), "--out", paths[-1], "--key", str(folder / "release.key"),
            "--counter", *words, cwd=folder,
        )  # fmt: skip
    return Made(*paths, told.body["key"], folder)


class Installed(NamedTuple):
    """A home and the installation that runs it."""

    node: Node
    root: Path

    def call(self, *words: str, expect: int | None = 0) -> Any:
        """Run a command of the release that is in use."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FEMTOCLAW", "PYTHON"))}
        command = [str(self.root / "femtoclaw"), "--json", "--home", str(self.node.path), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=kept)
        assert expect is None or done.returncode == expect, done
        return json.loads(done.stdout or "{}")

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        rows = self.node.call("log", "--limit", "0").objects
        return [row for row in rows if row["type"] in kinds]

    def tree(self) -> list[str]:
        """Everything in the installation, but what interpreters keep for themselves."""
        return sorted(str(path) for path in self.root.rglob("*") if "__pycache__" not in path.parts)


@pytest.fixture(scope="module")
def deployed(made: Made, template: Node, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The first release in use."""
    folder = tmp_path_factory.mktemp("deployed")
    place = Installed(template.copy(folder / "home"), folder / "root")
    place.node.call("release", "deploy", made.first, "--key", made.key, "--root", str(place.root))
    return place


@pytest.mark.requirement("RUNBOOK-14.1", "UPGRADE-21.1", "UPGRADE-4.1")
def test_a_release_is_deployed_in_order(made: Made, deployed: Installed) -> None:
    """Authorized, then its signature, then the start from it, then the end: all on record, and only it may start from now on."""
    begun = deployed.events("ProcedureBegun")[0]
    ended = deployed.events("ProcedureEnded")[0]
    content = content_of(ended)
    digest = content["installed"]["digest"]
    starts = [row for row in deployed.events("IntegrityVerified") if row["digest"] == digest]
    assert begun["index"] < starts[0]["index"] < ended["index"]
    assert content["steps"] == ["signature", "fit", "kept", "unpacked", "trusted", "switched", "restarted", "checked"]
    assert set(content["checks"].values()) == {"ok"}
    assert (ended["result"], ended["procedure"]) == ("done", "release.deploy")
    pin = read_pin(str(deployed.node.path))
    assert pin is not None
    assert (pin.digest, pin.also, pin.key) == (digest, None, made.key)
    assert deployed.node.intent(SAY, expect=3).code == 3  # a process that nothing verified is not what the home trusts


def test_a_deployed_release_is_drilled_and_measured(deployed: Installed) -> None:
    """As a checkout is: an altered copy of it is refused, and releases are made of it, above the floor of its homes."""
    told = deployed.call("drill", "tampered-binary")
    assert (told["ok"], len(told["drills"][0]["steps"])) == (True, 5)
    shown = deployed.call("comply", "--dry-run", "--domain", "RUNBOOK-14.1")["verdicts"]
    assert [each["result"] for each in shown] == ["shown"]


def test_a_sealed_checkout_is_drilled(made: Made, tmp_path: Path) -> None:
    """Its libraries lie elsewhere, and the homes that it makes trust its seal alone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FEMTOCLAW", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", stub("start", "main", str(made.folder / "program")), "--json", "--home",
         str(tmp_path / "home"), "drill", "tampered-binary"], capture_output=True, text=True, check=False, env=kept, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (0, True), done


@pytest.mark.requirement("RUNBOOK-16.1", "RUNBOOK-16.2", "RUNBOOK-17.1", "RUNBOOK-17.2", "UPGRADE-15.1")
def test_an_upgrade_and_the_way_back(made: Made, deployed: Installed, tmp_path: Path) -> None:
    """The state is kept first; what was recorded in between stays; the release before is compared again before it is in use."""
    place = Installed(deployed.node.copy(tmp_path / "home"), tmp_path / "root")
    shutil.copytree(deployed.root, place.root, symlinks=True)
    before = read_log_directory(str(place.node.path / "log"))
    size, root = before.size, before.tree().root(before.size)
    before.close()
    upgraded = place.call("release", "deploy", made.second)
    assert os.path.exists(
        os.path.join(place.root, "before", f"{upgraded['installed']['name']}-{upgraded['kept']['size']}")
    )
    place.call("intent", json.dumps({"message": {"content": "in between"}}))
    back = place.call("release", "rollback")
    assert back["installed"]["digest"] == upgraded_from(deployed)
    assert place.call("intent", json.dumps(SAY))["decision"] == "AUTHORIZED"
    after = read_log_directory(str(place.node.path / "log"))
    assert after.tree().root(size) == root
    assert any(b"in between" in record.payload for record in after.scan(1, after.size + 1))
    after.close()
    told = place.call("release", "list")
    assert [row["procedure"] for row in told["history"]] == ["release.deploy", "release.deploy", "release.rollback"]
    assert place.call("release", "rollback", expect=1)["error"]["what"] == "there is no release to go back to"


def upgraded_from(place: Installed) -> str:
    pin = read_pin(str(place.node.path))
    assert pin is not None
    return pin.digest


@pytest.mark.requirement("BOOT-23.1")
def test_the_floor_of_a_release_is_never_gone_below(made: Made, deployed: Installed, tmp_path: Path) -> None:
    place = Installed(deployed.node.copy(tmp_path / "home"), tmp_path / "root")
    shutil.copytree(deployed.root, place.root, symlinks=True)
    place.call("release", "deploy", made.floor)
    before = place.tree()
    assert "ROLLBACK" in json.dumps(place.call("release", "rollback", expect=3))
    assert place.call("release", "deploy", made.second, expect=3)["error"]["what"].endswith("(ROLLBACK)")
    assert place.tree() == before
    assert [row["result"] for row in place.events("ProcedureEnded")][-2:] == ["failed", "failed"]


@pytest.mark.requirement("RUNBOOK-24.1", "UPGRADE-21.1")
def test_nobody_without_the_role_deploys(made: Made, template: Node, tmp_path: Path) -> None:
    """Refused on record by the control policy; and without a key at all there is nobody to ask. Nothing is touched."""
    place = Installed(template.copy(tmp_path / "home"), tmp_path / "root")
    key = tmp_path / "eve.key"
    told = place.node.call("operator", "keygen", "eve", "--out", str(key)).body
    place.node.call("operator", "add", "eve", "--role", "ComplianceOfficer", "--public-key", told["public_key"])
    pin = (place.node.path / "distribution.pin").read_bytes()
    words = ("release", "deploy", made.first, "--key", made.key, "--root", str(place.root))
    place.node.call(*words, "--operator-key", str(key), expect=1)
    assert place.events("ControlDecided")[-1]["decision"] != "AUTHORIZED"
    stranger = tmp_path / "stranger.key"
    place.node.call("operator", "keygen", "stranger", "--out", str(stranger))
    place.node.call(*words, "--operator-key", str(stranger), expect=1)
    assert not place.root.exists()
    assert (place.node.path / "distribution.pin").read_bytes() == pin


def test_only_the_release_itself_says_that_it_is_in_use(made: Made, template: Node, tmp_path: Path) -> None:
    """An operator who may deploy cannot have the home trust something else by that word."""
    node = template.copy(tmp_path / "home")
    pin = (node.path / "distribution.pin").read_bytes()
    installed = {"name": "x", "digest": "0" * 64, "key": made.key, "floor": "0"}
    told = {
        "action": "release.deploy",
        "resource": "x",
        "id": "0" * 32,
        "detail": "",
        "content": {"installed": installed},
    }
    size = node.call("status").body["size"]
    node.call("release", "finish", stdin=json.dumps(told).encode(), expect=3)
    node.call("release", "finish", stdin=b"{}", expect=2)
    assert (node.path / "distribution.pin").read_bytes() == pin
    assert node.call("status").body["size"] == size


@pytest.mark.requirement("RUNBOOK-14.2", "UPGRADE-16.1")
def test_a_changed_release_is_refused_on_record(made: Made, template: Node, tmp_path: Path) -> None:
    place = Installed(template.copy(tmp_path / "home"), tmp_path / "root")
    raw = bytearray(Path(made.first).read_bytes())
    raw[len(raw) // 2] ^= 1
    changed = tmp_path / "changed.release"
    changed.write_bytes(raw)
    place.node.call("release", "deploy", str(changed), "--key", made.key, "--root", str(place.root), expect=3)
    ended = place.events("ProcedureEnded")[-1]
    assert (ended["result"], "HASH_MISMATCH" in json.dumps(ended)) == ("failed", True)
    assert not (place.root / "current").exists()
    assert not any(path.name[0] != "." for path in (place.root / "releases").iterdir())
    place.node.intent(SAY)


def test_a_disk_that_fills_up_is_left_as_it_was(
    made: Made, template: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room nothing is begun; where it goes meanwhile, what was written goes too, and the node works."""
    place = Installed(template.copy(tmp_path / "home"), tmp_path / "root")
    words = ["--json", "--home", str(place.node.path), "release", "deploy", made.first, "--key", made.key]
    words += ["--root", str(place.root)]
    full = os.statvfs_result((4096, 4096, 10**6, 10**4, 10**4, 10**6, 10**6, 10**6, 0, 255))
    with monkeypatch.context() as patched:
        patched.setattr(os, "statvfs", lambda place: full)
        assert run(words) == 4
    assert not place.root.exists()
    written = []

    def no_more(path: str, raw: bytes) -> None:
        written.append(path)
        if len(written) > 20:
            raise OSError(28, "No space left on device")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(raw)

    monkeypatch.setattr(installation, "_write", no_more)
    assert run(words) == 4
    assert len(written) == 21
    assert place.tree() == [str(place.root / "before"), str(place.root / "releases")]
    assert [row["result"] for row in place.events("ProcedureEnded")] == ["failed", "failed"]
    place.node.intent(SAY)


def test_what_nobody_goes_back_to_is_pruned(made: Made, deployed: Installed, tmp_path: Path) -> None:
    """The release in use and the one before stay, each with the newest state kept before it; on record."""
    place = Installed(deployed.node.copy(tmp_path / "home"), tmp_path / "root")
    shutil.copytree(deployed.root, place.root, symlinks=True)
    for path in (made.second, made.floor):
        place.call("release", "deploy", path)
    (place.root / "releases" / ".new-cut").mkdir()
    first, second, third = (row["installed"]["name"] for row in map(content_of, place.events("ProcedureEnded")))
    assert len(place.call("release", "prune", "--dry-run")["removed"]) == 3
    assert len(place.call("release", "list")["releases"]) == 3
    told = place.call("release", "prune")
    assert told["kept"] == sorted([second, third])
    assert sorted(path.name for path in (place.root / "releases").iterdir()) == sorted([second, third])
    assert {path.name.rpartition("-")[0] for path in (place.root / "before").iterdir()} == {second, third}
    assert content_of(place.events("ProcedureEnded")[-1])["kept"] == told["kept"]
    assert first in json.dumps(told["removed"])
    assert place.call("release", "rollback", expect=3)["error"]["what"].endswith(
        "(ROLLBACK)"
    )  # found, and below the floor


def content_of(row: dict[str, Any]) -> Any:
    """What an end on record says."""
    return row["content"] if isinstance(row["content"], dict) else json.loads(row["content"])


@pytest.mark.requirement("RUNBOOK-16.1", "UPGRADE-16.1")
def test_a_release_that_does_not_work_is_taken_back_by_itself(
    made: Made, template: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure is on record, the home trusts what it trusted, and what ran before runs."""
    place = Installed(template.copy(tmp_path / "home"), tmp_path / "root")
    pin = (place.node.path / "distribution.pin").read_bytes()
    monkeypatch.setattr(checking, "check_work", lambda *_: [Checked("health", "exit code 1")])
    words = [
        "--json",
        "--home",
        str(place.node.path),
        "release",
        "deploy",
        made.first,
        "--key",
        made.key,
        "--root",
        str(place.root),
    ]
    assert run(words) == 1
    assert not (place.root / "current").is_symlink()
    assert (place.node.path / "distribution.pin").read_bytes() == pin
    ended = place.events("ProcedureEnded")[-1]
    assert (ended["result"], "ReleaseFailedError" in json.dumps(ended)) == ("failed", True)
    assert place.node.call("release", "list", "--root", str(place.root)).body["history"] == []
    place.node.intent(SAY)
