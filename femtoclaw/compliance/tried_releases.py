"""Measurement of releases that do not come in: small signed ones, each with one thing about it that must stop it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from femtoclaw.cli.cluster_demo_machines import environment
from femtoclaw.compliance.installed import Installation, flip, installation, version_counter
from femtoclaw.compliance.laboratory import COMMAND_S, Answer, Laboratory, read_objects
from femtoclaw.compliance.sealed_day import day
from femtoclaw.compliance.trails import read_trail
from femtoclaw.compliance.twin import say
from femtoclaw.key_file import SEED_BYTES, KeySigner
from femtoclaw.launcher.sealed import FOLDER, split
from femtoclaw.launcher.start import MANIFEST_FILE, interpreter, stub
from femtoclaw.releases.building import Versions, build, own_versions
from femtoclaw.seal import PACKAGES, seal
from femtoclaw.version import VERSION
from wal.note import Signer, sign_note

FILE_BYTES = 4 << 20
"""How large a file may become for a deployment whose disk is full; larger than what a twin's own files grow to."""

_LIMITED = "import os, resource, sys; limit = int(sys.argv[1]); resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)); " \
    "os.execv(sys.argv[2], sys.argv[2:])"  # fmt: skip
_FAILING = "def main(root):\n    raise SystemExit(1)\n"
_KILLING = """import os, signal
def main(root):
    if not os.path.exists({mark!r}):
        open({mark!r}, "w").close()
        os.kill(os.getppid(), signal.SIGKILL)
    raise SystemExit(1)
"""
"""What a release is that ends whoever deploys it, at its first start: right behind the switch, as a power cut would."""


def tried(laboratory: Laboratory) -> dict[str, Any]:
    """Four that do not fit, one that was changed, one that is too old, a major one, and two that fail on the way: for want of
    room, and at a power cut behind which its checks fail."""
    laboratory.once(day)
    place, signer = laboratory.once(installation), KeySigner("release", os.urandom(SEED_BYTES))
    root, folder = laboratory.place("tried-root"), laboratory.place("tried")
    os.mkdir(folder)

    def deploy(path: str, *words: str) -> Answer:
        return place.run("release", "deploy", path, "--key", signer.public.vkey(), "--root", root, *words)

    made = _releases(folder, signer)
    before = _state(place, root)
    refused = {name: deploy(made[name], "--major") for name in ("runtime", "storage", "module", "capability")}
    refused |= {name: deploy(made[name], "--dry-run") for name in ("major", "below the floor")}
    asked = deploy(made["major"], "--dry-run", "--major")
    untouched = _state(place, root) == before
    flip(made["changed"])
    refused["changed"] = deploy(made["changed"])
    words = ("release", "deploy", made["large"], "--key", signer.public.vkey(), "--root", root)
    failed = {"disk full": _limited(laboratory, place, *words), "power cut": deploy(made["killing"])}
    after = {"power cut": place.run("intent", say("after the cut").decode())}
    failed["bad check"] = deploy(made["killing"])
    after |= {"bad check": place.run("intent", say("and again").decode()), "verify": place.run("verify")}
    return {
        "refused": refused, "asked": asked, "untouched": untouched, "failed": failed, "after": after,
        "trail": read_trail("installed", os.path.join(place.home, "log")),
    }  # fmt: skip


def _state(place: Installation, root: str) -> tuple[bytes, list[str]]:
    """What a refused release must not touch: what the home trusts, and what is unpacked or in use."""
    with open(os.path.join(place.home, "distribution.pin"), "rb") as file:
        pin = file.read()
    names = [name for where, _, files in os.walk(root) for name in files]
    return pin, sorted(names)


def _releases(folder: str, signer: Signer) -> dict[str, str]:
    """Name to the file of a release that is signed by ``signer``."""
    own, other = own_versions(), interpreter().split(" ")
    number = int(VERSION.partition(".")[0])
    other[1] = "3.99.0"
    mark = os.path.join(folder, "mark")
    made: dict[str, dict[str, Any]] = {
        "runtime": {"restate": (interpreter(), " ".join(other))},
        "storage": {"versions": own._replace(log=(own.log[1] + 1, own.log[1] + 2))},
        "module": {"restate": (f"program {VERSION}\n", f"program {number + 2}.0.0\n")},
        "capability": {"versions": own._replace(claws={})},
        "below the floor": {"counter": version_counter() - 1},
        "major": {"restate": (f"program {VERSION}\n", f"program {number + 1}.0.0\n")},
        "changed": {},
        "large": {"start": _FAILING + "#" * (2 * FILE_BYTES) + "\n"},
        "killing": {"start": _KILLING.format(mark=mark)},
    }
    return {name: _release(folder, name, signer, **({"versions": own} | given)) for name, given in made.items()}


def _release(
    folder: str, name: str, signer: Signer, *, versions: Versions, counter: int = 0, start: str = "",
    restate: tuple[str, str] = ("", ""),
) -> str:  # fmt: skip
    """A release of a program of a few lines; ``restate`` changes what its sealed manifest says."""
    root, counter = os.path.join(folder, name), counter or version_counter() + 13
    for package in PACKAGES:
        os.makedirs(os.path.join(root, package))
        _write(os.path.join(root, package, "__init__.py"), "")
    os.mkdir(os.path.join(root, "femtoclaw", "launcher"))
    _write(os.path.join(root, "femtoclaw", "launcher", "__init__.py"), "")
    _write(os.path.join(root, "femtoclaw", "launcher", "start.py"), start)
    lock, path = os.path.join(root, "requirements.lock"), f"{root}.release"
    _write(lock, "")
    seal(root, lock, signer, counter=counter)
    if restate[0]:
        manifest = os.path.join(root, FOLDER, MANIFEST_FILE)
        with open(manifest, "rb") as file:
            text, _ = split(file.read())
        assert restate[0] in text, restate[0]
        with open(manifest, "wb") as file:
            file.write(sign_note(text.replace(*restate, 1), [signer]))
    return build(root, path, signer, versions, counter=counter).path


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _limited(laboratory: Laboratory, place: Installation, *words: str) -> Answer:
    """One command of the sealed program, for which no file may become larger than ``FILE_BYTES``."""
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        stub("start", "main", place.root),
        "--home",
        place.home,
        "--json",
        *words,
    ]
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(FILE_BYTES), *command], capture_output=True, check=False, timeout=COMMAND_S,
        stdin=subprocess.DEVNULL, cwd=laboratory.folder, env=environment(), start_new_session=True,
    )  # fmt: skip
    return Answer(done.returncode, read_objects(done.stdout), done.stderr.decode(errors="replace"))
