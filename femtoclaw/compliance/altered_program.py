"""Measurement of a program of which one byte is another: a sealed copy of this one, started by its own launcher."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Any, NamedTuple

from femtoclaw import distribution
from femtoclaw.compliance.laboratory import Answer, Laboratory, read_objects
from femtoclaw.compliance.released import NEEDED
from femtoclaw.compliance.twin import say

ALTERED = os.path.join("femtoclaw", "gate.py")
MODULE = "femtoclaw.gate"
START_S = 60.0
CODE = (
    "import sys; root = sys.argv.pop(1); sys.path.append(root); from femtoclaw.launcher.start import main; main(root)"
)

ATTEMPTS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "serve": (("serve",), {}), "intent": (("intent", say("x").decode()), {}), "run": (("run", "x", "--brain", "echo"), {}),
    "FEMTOCLAW_DEBUG=1": (("serve",), {"FEMTOCLAW_DEBUG": "1"}), "distribution accept": (("distribution", "accept", "0" * 64), {}),
}  # fmt: skip
"""Ways to have the altered program work on the home."""


class Altered(NamedTuple):
    """What the whole program answered; what the altered one did, by the attempt; modules of this program that it imported; records
    before and after; what the boot journal gained; whether anybody serves."""

    whole: Answer
    attempts: dict[str, Answer]
    imported: tuple[str, ...]
    before: int
    after: int
    journal: str
    served: bool


def altered_program(laboratory: Laboratory) -> Altered:
    """Seal a copy, make a home with it, change one byte, and try."""
    from femtoclaw.api.socket import is_served
    from femtoclaw.home import Home

    root, home = _sealed(laboratory), laboratory.place("altered-home")
    _start(root, home, "init")
    whole = _start(root, home, "intent", say("whole").decode())
    path = os.path.join(root, ALTERED)
    with open(path, "r+b") as file:
        file.seek(len(MODULE))
        byte = file.read(1)
        file.seek(len(MODULE))
        file.write(bytes([byte[0] ^ 1]))
    before, told = _size(home), _journal(home)
    attempts = {name: _start(root, home, *words, **more) for name, (words, more) in ATTEMPTS.items()}
    return Altered(
        whole, attempts, _imported(attempts["serve"].stderr), before, _size(home), _journal(home)[len(told) :],
        is_served(Home(home)),
    )  # fmt: skip


def _sealed(laboratory: Laboratory) -> str:
    """A copy with this program's seal; of a checkout that nothing verified, a copy with a seal of its own."""
    from femtoclaw.launcher import start
    from femtoclaw.releases.copying import copy_program
    from femtoclaw.seal import PACKAGES, seal

    root = laboratory.place("altered-program")
    if start.verified is not None:
        return copy_program(root)
    for name in PACKAGES:
        shutil.copytree(
            os.path.join(distribution.ROOT, name),
            os.path.join(root, name),
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    lock = os.path.join(root, "requirements.lock")
    with open(os.path.join(distribution.ROOT, "requirements.lock")) as file, open(lock, "w") as kept:
        kept.writelines(line for line in file if line.startswith(NEEDED))
    seal(root, lock, counter=7)
    return root


def _start(root: str, home: str, *words: str, **variables: str) -> Answer:
    """One start by the launcher, which tells on standard error what is imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FEMTOCLAW", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "importtime", "-c", CODE, root, "--json", "--home", home, *words],
        capture_output=True, check=False, env=kept | variables, timeout=START_S, stdin=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    return Answer(done.returncode, read_objects(done.stdout), done.stderr.decode(errors="replace"))


def _imported(stderr: str) -> tuple[str, ...]:
    """Modules of this program among those of ``-X importtime``."""
    names = (line.rpartition("|")[2].strip() for line in stderr.splitlines() if line.startswith("import time:"))
    return tuple(sorted(name for name in names if name.partition(".")[0] in ("femtoclaw", "wal", "cluster")))


def _size(home: str) -> int:
    from wal.reader import read_log_directory

    reader = read_log_directory(os.path.join(home, "log"))
    try:
        return reader.size
    finally:
        reader.close()


def _journal(home: str) -> str:
    with open(os.path.join(home, "boot.journal"), errors="replace") as file:
        return file.read()


def refusal_of(answer: Answer) -> dict[str, Any]:
    """The error that a start ended with."""
    body = answer.body if isinstance(answer.body, dict) else {}
    return dict(body.get("error", {}))
