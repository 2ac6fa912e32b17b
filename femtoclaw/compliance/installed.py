"""A sealed installation of this very program in the laboratory, with a copy of the twin that trusts it: what the launcher does can
be looked at in a checkout too. Its key is made for the moment."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution

from femtoclaw import distribution as own
from femtoclaw.cli.cluster_demo_machines import environment
from femtoclaw.compliance.checking import CannotMeasureError
from femtoclaw.compliance.laboratory import COMMAND_S, Answer, Laboratory, read_objects
from femtoclaw.compliance.twin import twin
from femtoclaw.launcher import start
from femtoclaw.launcher.sealed import FOLDER, split
from femtoclaw.launcher.start import MANIFEST_FILE, stub
from femtoclaw.seal import LOCKED, PACKAGES
from wal.note import Ed25519Signer, sign_note

NEEDED = (
    "blake3", "cedarpy", "cffi", "immutables", "jsonschema", "lmdb", "msgpack", "PyNaCl", "tenacity", "tomlkit", "typing_ext",
)  # fmt: skip
"""Libraries of a node that is not served: the others would only take longer to seal."""

COUNTER = 7
_SEAL = """
import sys; sys.path.append({root!r})
from femtoclaw.seal import seal
from wal.note import Ed25519Signer
seal({root!r}, {lock!r}, Ed25519Signer("femtoclaw.comply/release", bytes.fromhex(sys.stdin.read())), counter={counter})
"""
VERIFIED = """
import sys; sys.path.append({root!r})
from femtoclaw.launcher import start
sys.path.remove({root!r})
start.verified = start.verify({root!r}, {home!r})
"""
"""What the launcher does before the first command: verify, then load from verified bytes only."""


def version_counter() -> int:
    """The copy's version counter. A twin of a sealed program has that program's floor."""
    return COUNTER if start.verified is None else start.verified.manifest.counter + 1


class Installation:
    """The program's files, and a home that accepted them."""

    def __init__(self, laboratory: Laboratory, root: str, home: str, signer: Ed25519Signer) -> None:
        self.root = root
        self.home = home
        self._laboratory = laboratory
        self._signer = signer

    @property
    def manifest(self) -> str:
        """Where the sealed manifest is."""
        return os.path.join(self.root, FOLDER, MANIFEST_FILE)

    def digest(self) -> str:
        """SHA-256 of the manifest, as a home accepts it."""
        with open(self.manifest, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()

    def run(self, *words: str, home: str = "") -> Answer:
        """One command of the sealed program."""
        return self._call(stub("start", "main", self.root), "--home", home or self.home, "--json", *words)

    def python(self, code: str, *words: str, home: str = "") -> Answer:
        """A text of Python in a process whose modules are the verified ones."""
        return self._call(VERIFIED.format(root=self.root, home=home or self.home) + code, *words)

    def _call(self, code: str, *words: str) -> Answer:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", code, *words], capture_output=True, check=False, timeout=COMMAND_S,
            stdin=subprocess.DEVNULL, cwd=self._laboratory.folder, env=environment(), start_new_session=True,
        )  # fmt: skip
        return Answer(done.returncode, read_objects(done.stdout), done.stderr.decode(errors="replace"))

    def first(self, folder: str, ending: str) -> str:
        """The first file of a folder of the installation with this ending, as a path."""
        place = os.path.join(self.root, folder)
        found = sorted(
            os.path.join(where, name) for where, _, names in os.walk(place) for name in names if name.endswith(ending)
        )
        if not found:
            raise CannotMeasureError(f"the installation has no {ending} in {folder}")
        return found[0]

    def lower(self, counter: int) -> str:
        """Say a lower version counter in the manifest, signed by the same key; what it said before."""
        with open(self.manifest, "rb") as file:
            raw = file.read()
        text, _ = split(raw)
        with open(self.manifest, "wb") as file:
            file.write(sign_note(text.replace(f"counter {version_counter()}\n", f"counter {counter}\n", 1), [self._signer]))
        return raw.decode()


def interpreter_for(home: str, code: str) -> list[str]:
    """The command line of an interpreter with this program's modules, verified as this process's were, that works on ``home``."""
    from femtoclaw.cli.cluster_demo_machines import launched
    from femtoclaw.launcher.child import command

    if not launched():
        return command(code, own.ROOT)
    return [sys.executable, "-I", "-S", "-c", VERIFIED.format(root=own.ROOT, home=home) + code]


def flip(path: str) -> None:
    """Change one bit in the middle of a file; done again, it is as it was."""
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def installation(laboratory: Laboratory) -> Installation:
    """Copy, seal, and have a copy of the twin accept it. Raises CannotMeasureError."""
    root = os.path.join(laboratory.place("installation"), "site-packages")
    seed = os.urandom(32)
    signer = Ed25519Signer("femtoclaw.comply/release", seed)
    try:
        if start.verified is None:
            _copy(root)
            _seal(root, seed)
        else:
            _copy_verified(root, start.verified, signer)
    except (OSError, PackageNotFoundError) as error:
        raise CannotMeasureError(f"this program's files could not be copied: {error}") from error
    home = laboratory.copy(laboratory.once(twin), "installed")
    made = Installation(laboratory, root, home, signer)
    accepted = made.run("distribution", "accept", made.digest()[:16])
    if accepted.code:
        raise CannotMeasureError(f"the twin does not accept the copy: {accepted.stderr[-300:]}")
    return made


def _seal(root: str, seed: bytes) -> None:
    code = _SEAL.format(root=root, lock=os.path.join(root, "requirements.lock"), counter=COUNTER)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], input=seed.hex().encode(), capture_output=True, check=False, env=environment(),
        timeout=COMMAND_S,
    )  # fmt: skip
    if done.returncode:
        raise CannotMeasureError(f"the copy could not be sealed: {done.stderr.decode(errors='replace')[-300:]}")


def _copy_verified(root: str, verified: start.Verified, signer: Ed25519Signer) -> None:
    """The files of the distribution that runs, all in one folder, under its own manifest with another counter and key."""
    manifest = verified.manifest
    below = os.path.join(verified.root, manifest.dependencies)
    for name in manifest.files:
        bare = name.removeprefix("@/")
        target = os.path.join(root, bare)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(os.path.join(below if bare != name else verified.root, bare), target)
    sealed = os.path.join(root, FOLDER)
    shutil.copytree(os.path.join(verified.root, FOLDER), sealed)
    for folder, _, names in os.walk(sealed):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            os.chmod(path, 0o755 if path == folder else 0o644)
    with open(os.path.join(sealed, MANIFEST_FILE), "rb") as file:
        text, _ = split(file.read())
    said = {"counter": f"counter {version_counter()}", "dependencies": "dependencies ."}
    lines = [said.get(line.partition(" ")[0], line) for line in text.split("\n")]
    with open(os.path.join(sealed, MANIFEST_FILE), "wb") as file:
        file.write(sign_note("\n".join(lines), [signer]))
    with open(os.path.join(sealed, start.KEY_FILE), "wb") as file:
        file.write(signer.public.vkey().encode() + b"\n")


def _copy(root: str) -> None:
    """The packages of this program, and of the libraries that it needs."""
    for name in PACKAGES:
        shutil.copytree(
            os.path.join(own.ROOT, name), os.path.join(root, name), ignore=shutil.ignore_patterns("__pycache__")
        )
    with open(os.path.join(own.ROOT, "requirements.lock")) as file:
        lines = [line for line in file if line.startswith(NEEDED)]
    with open(os.path.join(root, "requirements.lock"), "w") as file:
        file.writelines(lines)
    for name in LOCKED.findall("".join(lines)):
        for path, where in _files_of(name):
            target = os.path.join(root, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(where, target)


def _files_of(name: str) -> Iterator[tuple[str, str]]:
    for file in distribution(name).files or []:
        if ".." not in file.parts and "__pycache__" not in file.parts:
            yield str(file), str(file.locate())
