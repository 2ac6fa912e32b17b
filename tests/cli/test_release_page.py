"""The commands of docs/releases.md as they stand there: a release is made, looked at, and deployed on a home of that checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from femtoclaw.launcher.sealed import read_pin
from femtoclaw.launcher.start import stub
from femtoclaw.seal import PACKAGES, seal
from tests.cli.node import ROOT, Node, femtoclaw
from tests.cli.test_release_commands import NEEDED

PAGE = (ROOT / "docs" / "releases.md").read_text()
_SEAL = "import sys; from femtoclaw.seal import main; main(sys.argv[1])"


def checkout(folder: Path) -> Path:
    """A sealed checkout with few libraries, and commands for it in ``folder/bin``."""
    root, commands = folder / "checkout", folder / "bin"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    locked = (ROOT / "requirements.lock").read_text().splitlines(keepends=True)
    (root / "requirements.lock").write_text("".join(line for line in locked if line.startswith(NEEDED)))
    seal(str(root), str(root / "requirements.lock"))
    for where, words in (
        (commands / "femtoclaw", f'-I -S -c "{stub("start", "main", str(root))}" "$@"'),
        (root / "scripts" / "seal", f'-c "{_SEAL}" {root}'),
    ):
        where.parent.mkdir()
        where.write_text(f"#!/bin/sh\nexec {sys.executable} {words}\n")
        where.chmod(0o755)
    return root


def test_the_example_of_the_page_makes_and_deploys_a_release(tmp_path: Path) -> None:
    """On a home that this checkout made, whose floor is the counter of its seal."""
    root, installed = checkout(tmp_path), tmp_path / "opt"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FEMTOCLAW", "PYTHON", "LD_"))}
    kept |= {"FEMTOCLAW_HOME": str(tmp_path / "home"), "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    example = re.findall(r"^```\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[0]
    assert "release build" in example and "release deploy" in example
    script = (
        f"set -eu\nfemtoclaw init\n{example.replace('/opt/femtoclaw', str(installed))}\n{installed}/femtoclaw status"
    )
    done = subprocess.run(
        ["bash", "-c", script], cwd=root, env=kept, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    assert (root / "release.pub").read_text().startswith("release+")
    pin = read_pin(str(tmp_path / "home"))
    assert pin is not None
    assert pin.key == (root / "release.pub").read_text().strip()


def test_a_key_is_made_with_its_public_half_beside_it(node: Node, tmp_path: Path) -> None:
    """Which is what others are told: as a file, or as it stands in it. Neither is written over."""
    file = tmp_path / "ada.key"
    told = node.call("operator", "keygen", "ada", "--out", str(file)).body
    beside = tmp_path / "ada.pub"
    assert (told["public_file"], beside.read_text()) == (str(beside), told["public_key"] + "\n")
    node.call("operator", "add", "ada", "--role", "RuntimeOperator", "--public-key", str(beside))
    node.call("publisher", "trust", "ada", "--public-key", str(beside))
    assert [each["public_key"] for each in node.call("publisher", "list").body["publishers"]] == [told["public_key"]]
    file.unlink()
    before = beside.read_bytes()
    again = femtoclaw("--json", "operator", "keygen", "ada", "--out", str(file), cwd=tmp_path, expect=2)
    assert json.loads(again.stdout)["error"]["where"] == str(beside)
    assert (file.exists(), beside.read_bytes()) == (False, before)
