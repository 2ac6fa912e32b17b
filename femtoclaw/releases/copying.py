"""A sealed copy of the program that runs, to be altered: what it comes to must not be tried on the installation.

A verified program copies what its manifest lists, with that manifest: a home that trusts the program trusts the copy. One that
nothing verified is a checkout at work, and its copy is sealed by a key of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from femtoclaw.distribution import ROOT
from femtoclaw.errors import ConfigurationError
from femtoclaw.launcher import sealed, start
from femtoclaw.releases.building import LOCK_FILE

_SEAL = "import sys; sys.path.append(sys.argv[1]); from femtoclaw.seal import seal; seal(sys.argv[1], sys.argv[2])"
_SEAL_SECONDS = 120.0


def copy_program(folder: str) -> str:
    """Copy the program below the new directory ``folder``; the root that the launcher is given to start it.

    Raises ConfigurationError where neither a seal nor a checkout is found, OSError.
    """
    os.mkdir(folder)
    return _copy_sealed(folder) if start.verified is not None else _seal_copy(folder)


def _copy_sealed(folder: str) -> str:
    """The listed files, as they are on the disk: the launcher of the copy compares them."""
    verified = start.verified
    assert verified is not None
    manifest, place = verified.manifest, os.path.abspath(verified.root)
    # Libraries of a checkout lie at a place relative to it. The copy is put as deep as that place leads up.
    deep = os.path.normpath(manifest.dependencies).split(os.sep).count(os.pardir)
    root = os.path.join(folder, *["copy"] * deep, "program")
    beside = os.path.normpath(os.path.join(root, manifest.dependencies))
    for path in manifest.files:
        if not path.startswith("@/"):
            _copy(os.path.join(place, path), os.path.join(root, path))
        elif beside == root:
            _copy(verified.sweep.place(path), os.path.join(root, path[2:]))
    if beside != root:
        os.makedirs(os.path.dirname(beside), exist_ok=True)
        os.symlink(os.path.normpath(os.path.join(place, manifest.dependencies)), beside)
    shutil.copytree(os.path.join(place, sealed.FOLDER), os.path.join(root, sealed.FOLDER), copy_function=_copy)
    return root


def _copy(source: str, target: str) -> str:
    """Content only: what is installed may be written by nobody."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    return shutil.copyfile(source, target)


def _seal_copy(folder: str) -> str:
    """As ``scripts/seal`` makes one."""
    from femtoclaw.cli.cluster_demo_machines import environment
    from femtoclaw.seal import PACKAGES

    root, lock = os.path.join(folder, "program"), os.path.join(ROOT, LOCK_FILE)
    if not os.path.isfile(lock):
        raise ConfigurationError(
            "this program is neither sealed nor a checkout", where=ROOT, expected=f"a seal, or {LOCK_FILE}", found="neither",
            remedy="run it from a checkout, or from a release that was deployed",
        )  # fmt: skip
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(os.path.join(ROOT, package), os.path.join(root, package), ignore=ignored)
    shutil.copy(lock, root)
    subprocess.run(
        [sys.executable, "-c", _SEAL, root, os.path.join(root, LOCK_FILE)], check=True, capture_output=True, env=environment(),
        cwd=root, timeout=_SEAL_SECONDS,
    )  # fmt: skip
    return root
