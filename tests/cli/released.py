"""A release of this program with few libraries, for tests that deploy one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from femtoclaw.releases.building import build, own_versions
from femtoclaw.seal import PACKAGES, seal
from tests.cli.node import ROOT
from tests.cli.test_release_commands import NEEDED
from wal.note import Ed25519Signer

SIGNER = Ed25519Signer("femtoclaw.test/release", bytes(range(32)))


class Made(NamedTuple):
    """The file and the public key that signed it."""

    file: str
    key: str


def released(folder: Path, counter: int = 12) -> Made:
    """Seal a copy of this checkout in the new ``folder``, and make a release of it."""
    root, path = folder / "program", str(folder / "made.release")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    locked = (ROOT / "requirements.lock").read_text().splitlines(keepends=True)
    (root / "requirements.lock").write_text("".join(line for line in locked if line.startswith(NEEDED)))
    seal(str(root), str(root / "requirements.lock"), counter=7)
    build(str(root), path, SIGNER, own_versions(), counter=counter)
    return Made(path, SIGNER.public.vkey())
