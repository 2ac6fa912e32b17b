"""A real installation to tamper with: packages, dependencies and seal in one folder, and a home that trusts it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

from femtoclaw.launcher.sealed import FOLDER, split
from femtoclaw.seal import LOCKED, PACKAGES
from wal.note import Ed25519Signer, sign_note

ROOT = Path(__file__).resolve().parent.parent.parent
SIGNER = Ed25519Signer("femtoclaw.test/release", bytes(range(32)))
OTHER = Ed25519Signer("femtoclaw.test/other", bytes(range(1, 33)))
START = "import sys; sys.path.append({root!r}); from femtoclaw.launcher.start import main; main({root!r})"
SEAL = """
import sys; sys.path.append({root!r})
from femtoclaw.seal import seal
from wal.note import Ed25519Signer
seal({root!r}, {lock!r}, Ed25519Signer("femtoclaw.test/release", bytes(range(32))), counter={counter}, algorithm={algorithm!r})
"""


class Ended(NamedTuple):
    """A command's end, and the modules that it had begun to load."""

    code: int
    stdout: str
    stderr: str
    loaded: frozenset[str]


class Installed:
    """One installation with its home."""

    def __init__(self, root: Path, home: Path) -> None:
        self.root = root
        self.home = home

    @property
    def manifest(self) -> Path:
        return self.root / FOLDER / "manifest"

    def call(self, *words: str, cwd: Path | None = None, stdin: bytes = b"", **variables: str) -> Ended:
        """Run the command in a process of its own, as it is started for good."""
        return self.run(START.format(root=str(self.root)), *words, cwd=cwd, stdin=stdin, **variables)

    def run(self, code: str, *words: str, cwd: Path | None = None, stdin: bytes = b"", **variables: str) -> Ended:
        """Run a program text in an interpreter as the launcher has it."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FEMTOCLAW", "PYTHON", "LD_"))}
        kept |= {"FEMTOCLAW_HOME": str(self.home)}
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-X", "importtime", "-c", code, *words], capture_output=True, env=kept | variables,
            cwd=cwd or self.root.parent, input=stdin, check=False, timeout=60,
        )  # fmt: skip
        lines = done.stderr.decode(errors="replace").splitlines()
        loaded = frozenset(line.rpartition("|")[2].strip() for line in lines if line.startswith("import time"))
        told = "\n".join(line for line in lines if not line.startswith("import time"))
        return Ended(done.returncode, done.stdout.decode(), told, loaded)

    def seal(self, counter: int = 7, algorithm: str = "sha256") -> None:
        """Make the manifest of the files as they are, by the test's key."""
        lock = str(self.root / "requirements.lock")
        code = SEAL.format(root=str(self.root), lock=lock, counter=counter, algorithm=algorithm)
        done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def digest(self) -> str:
        from hashlib import sha256

        return sha256(self.manifest.read_bytes()).hexdigest()

    def restate(self, old: str, new: str, signer: Ed25519Signer = SIGNER) -> None:
        """Change the manifest's text and sign it again."""
        text, _ = split(self.manifest.read_bytes())
        assert old in text
        self.manifest.write_bytes(sign_note(text.replace(old, new, 1), [signer]))

    def pin(self, **changes: str) -> None:
        """Change lines of the home's pin, as whoever can write the home might."""
        path = self.home / "distribution.pin"
        lines = path.read_text().split("\n")
        path.write_text("\n".join(
            next((f"{name} {value}" for name, value in changes.items() if line.startswith(f"{name} ")), line)
            for line in lines
        ))  # fmt: skip

    def replace(self, name: str, raw: bytes | None) -> Path:
        """Put another file (None: none) where one was. The other copies of the installation share the first one."""
        path = self.root / name
        path.unlink(missing_ok=True)
        if raw is not None:
            path.write_bytes(raw)
        return path

    def flip(self, name: str) -> Path:
        """Change one bit in the middle of a file."""
        raw = bytearray((self.root / name).read_bytes())
        raw[len(raw) // 2] ^= 1
        return self.replace(name, bytes(raw))

    def journal(self) -> list[dict[str, object]]:
        path = self.home / "boot.journal"
        return [json.loads(line) for line in path.read_text().splitlines()]

    def log_bytes(self) -> dict[str, bytes]:
        """Everything in the log's folder."""
        return {str(path): path.read_bytes() for path in (self.home / "log").rglob("*") if path.is_file()}

    def copy(self, to: Path) -> Installed:
        """The same at another place: files of the program are links to the first ones, until they are replaced."""
        shutil.copytree(self.root, to / "site-packages", copy_function=os.link)
        self._unlink(to / "site-packages" / FOLDER)
        shutil.copytree(self.home, to / "home", symlinks=True)
        return Installed(to / "site-packages", to / "home")

    def _unlink(self, folder: Path) -> None:
        for path in list(folder.iterdir()):
            raw = path.read_bytes()
            path.unlink()
            path.write_bytes(raw)


def install(to: Path) -> Installed:
    """A sealed installation of this checkout and its locked packages, with a home that accepted it."""
    root = to / "site-packages"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    lock = ROOT / "requirements.lock"
    shutil.copy(lock, root)
    for name in LOCKED.findall(lock.read_text()):
        found = distribution(name)
        for file in found.files or []:
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = root / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(found.locate_file(file)), target)
    made = Installed(root, to / "home")
    made.seal()
    for words in (["init", "--enable", "fs.read"], ["distribution", "accept", made.digest()[:16]]):
        done = made.call(*words)
        assert done.code == 0, done.stderr
    (made.home / "workspace" / "notes.txt").write_text("hello\n")
    return made


WORK = ("run", "hi", "--brain", "echo")
READ = '{"tool_call":{"tool":"fs.read","args":{"path":"notes.txt"}}}'
LAUNCHER = {"femtoclaw"} | {
    f"femtoclaw.launcher{name}"
    for name in ("", ".start", ".sealed", ".ed25519", ".refusal", ".loading", ".held", ".sweep", ".child", ".environment")
}
DRIVER = """
import sys; sys.path.append({root!r})
from femtoclaw.launcher import start
sys.path.remove({root!r})
start.verified = start.verify({root!r}, {home!r})
"""
"""What an embedding does: verify, then go on in the same interpreter."""


def ours(loaded: frozenset[str]) -> set[str]:
    """Modules of the program and of its packages among those that a process began to load."""
    tops = {
        "femtoclaw",
        "wal",
        "cluster",
        "nacl",
        "lmdb",
        "msgpack",
        "blake3",
        "cedarpy",
        "jsonschema_rs",
        "immutables",
    }
    return {name for name in loaded if name.partition(".")[0] in tops}


def first_of(place: Installed, pattern: str) -> str:
    """The first file of a pattern, below the installation."""
    return next(str(path.relative_to(place.root)) for path in sorted(place.root.glob(pattern)))


def assert_refused(place: Installed, code: str, named: str, *words: str) -> None:
    """Exit 3, the file named with both values, the journal has it, nothing but the launcher loaded, the log as it was."""
    before = place.log_bytes()
    done = place.call(*(words or WORK))
    assert done.code == 3, done
    assert f"({code})" in done.stderr
    assert named in done.stderr
    for word in ("expected", "found", "next", "exit code 3"):
        assert word in done.stderr
    assert done.stdout == ""
    assert ours(done.loaded) <= LAUNCHER
    stages = place.journal()[-2:]
    assert [(line["stage"], line["result"]) for line in stages] == [("launcher", "ok"), ("distribution", "refused")]
    assert stages[1]["code"] == code
    assert named in str(stages[1]["component"])
    assert place.log_bytes() == before
