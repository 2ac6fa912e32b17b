"""Measurement of releases: this program as two signed releases, deployed for a twin, taken back, refused where changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

from femtoclaw import distribution
from femtoclaw.compliance.checking import CannotMeasureError
from femtoclaw.compliance.laboratory import Answer, Laboratory, read_objects
from femtoclaw.compliance.trails import read_trail
from femtoclaw.compliance.twin import say, twin
from femtoclaw.errors import FemtoClawError
from femtoclaw.home import Home
from femtoclaw.launcher import start

NEEDED = (
    "blake3", "cedarpy", "cffi", "immutables", "jsonschema", "lmdb", "msgpack", "PyNaCl", "tenacity", "tomlkit", "typing_ext",
)  # fmt: skip
"""Libraries of a node that is not served: the others would only make the releases larger."""

RELEASE_S = 120.0


def released(laboratory: Laboratory) -> dict[str, Any]:
    """Build two releases of this program's files, and walk through deployment, upgrade, rollback and refusals."""
    folder = laboratory.place("releases")
    os.mkdir(folder)
    key, other = os.path.join(folder, "release.key"), os.path.join(folder, "other.key")
    home = laboratory.copy(laboratory.once(twin), "released")
    laboratory.run(home, "operator", "keygen", "release", "--out", key)
    stranger = laboratory.run(home, "operator", "keygen", "stranger", "--out", other).body.get("public_key", "")
    try:
        files = _build(laboratory, home, folder, key)
    except (OSError, FemtoClawError) as error:
        raise CannotMeasureError(f"no release could be made of this program: {error}") from error
    public = files.pop("key")
    answers = _refusals(laboratory, home, folder, files["first"], public, stranger)
    root = os.path.join(folder, "installed")
    answers["deploy"] = laboratory.run(home, "release", "deploy", files["first"], "--key", public, "--root", root)
    before = _root(home)
    answers["upgrade"] = _by(root, home, "release", "deploy", files["second"])
    answers["between"] = _by(root, home, "intent", say("in between").decode())
    answers["rollback"] = _by(root, home, "release", "rollback")
    answers["afterwards"] = _by(root, home, "intent", say("after the rollback").decode())
    answers["verify"] = _by(root, home, "verify")
    answers["history"] = _by(root, home, "release", "list")
    return {
        "answers": answers,
        "before": before,
        "prefix": _is_prefix(home, before),
        "trail": read_trail("twin", os.path.join(home, "log")),
    }


def _build(laboratory: Laboratory, home: str, folder: str, key: str) -> dict[str, str]:
    """Two releases whose counters are above what the twin has had: a twin of a sealed program has that program's."""
    root = distribution.ROOT if start.verified is not None else _sealed_anew(folder)
    pin = distribution.trusted(Home(home))
    least = max(12, pin.floor if pin is not None else 0)
    made = {}
    for name, counter in (("first", least), ("second", least + 1)):
        made[name] = os.path.join(folder, f"{name}.release")
        answer = laboratory.run(
            home, "release", "build", "--from", root, "--out", made[name], "--key", key, "--counter", str(counter)
        )
        if answer.code:
            raise CannotMeasureError(f"no release could be built: {answer.stderr[-300:]}")
        made["key"] = str(answer.body["key"])
    return made


def _sealed_anew(folder: str) -> str:
    """A checkout that nothing verified is sealed beside itself, with few libraries."""
    from femtoclaw.seal import PACKAGES, seal

    root = os.path.join(folder, "program")
    for name in PACKAGES:
        shutil.copytree(
            os.path.join(distribution.ROOT, name),
            os.path.join(root, name),
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    with open(os.path.join(distribution.ROOT, "requirements.lock")) as file:
        locked = [line for line in file if line.startswith(NEEDED)]
    lock = os.path.join(root, "requirements.lock")
    with open(lock, "w") as file:
        file.writelines(locked)
    seal(root, lock, counter=7)
    return root


def _refusals(
    laboratory: Laboratory, home: str, folder: str, release: str, public: str, stranger: str
) -> dict[str, Answer]:  # fmt: skip
    """Releases that must not come in: another key, one changed byte, no release at all."""
    root = os.path.join(folder, "refused")
    changed = os.path.join(folder, "changed.release")
    shutil.copyfile(release, changed)
    os.chmod(changed, 0o600)
    with open(changed, "r+b") as file:
        file.seek(os.path.getsize(changed) // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    unsigned = os.path.join(folder, "unsigned.release")
    with open(unsigned, "wb") as garbage:
        garbage.write(b"no release\n" * 100)
    found = {
        name: laboratory.run(home, "release", "deploy", file, "--key", key, "--root", root)
        for name, file, key in (("another key", release, stranger), ("changed", changed, public), ("unsigned", unsigned, public))
    }  # fmt: skip
    found["whole"] = laboratory.run(home, "release", "verify", release, "--key", public)
    return found


def _by(root: str, home: str, *words: str) -> Answer:
    """A command of the release that is in use."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FEMTOCLAW", "PYTHON"))}
    done = subprocess.run(
        [os.path.join(root, "femtoclaw"), "--json", "--home", home, *words], capture_output=True, check=False, env=kept,
        timeout=RELEASE_S, stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    return Answer(done.returncode, read_objects(done.stdout), done.stderr.decode(errors="replace"))


def _root(home: str) -> tuple[int, str]:
    from wal.reader import read_log_directory

    reader = read_log_directory(os.path.join(home, "log"))
    try:
        return reader.size, reader.tree().root(reader.size).hex()
    finally:
        reader.close()


def _is_prefix(home: str, before: tuple[int, str]) -> bool:
    """Whether the log still begins as it was."""
    from wal.reader import read_log_directory

    reader = read_log_directory(os.path.join(home, "log"))
    try:
        return reader.size > before[0] and reader.tree().root(before[0]).hex() == before[1]
    finally:
        reader.close()


def steps_of(answer: Answer) -> list[str]:
    """The steps that a deployment says it took."""
    body = answer.body if isinstance(answer.body, dict) else {}
    found = body.get("steps") or json.loads(body.get("content", "{}") or "{}").get("steps", [])
    return [str(each) for each in found]
