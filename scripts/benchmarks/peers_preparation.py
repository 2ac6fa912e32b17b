"""What peers need: packages in .venv-peers beside the project's own environment, and Debian packages when asked for."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from peers_processes import AbsentError, output_of

ROOT = Path(__file__).resolve().parent.parent.parent
LOCK = ROOT / "requirements-peers.lock"
RESTATE_SERVER = "@restatedev/restate-server@1.7.12"
DEBIAN = ("redis-server", "redis-tools", "postgresql", "etcd-server", "strace")
INSTALL_SECONDS_MAX = 300.0


class Prepared(NamedTuple):
    """Where the peers' parts are, or in their place the reason why they are not."""

    python: Path | AbsentError
    restate: Path | AbsentError
    changed: bool


def home() -> Path:
    """The peers' environment; FEMTOCLAW_PEERS names another place."""
    return Path(os.environ.get("FEMTOCLAW_PEERS") or ROOT / ".venv-peers").absolute()


def say(text: str) -> None:
    print(f"femtoclaw: {text}", file=sys.stderr, flush=True)


def prepare() -> Prepared:
    """Make the environment if it is not the one the lock file asks for. What cannot be had becomes a reason."""
    where = home()
    try:
        where.mkdir(parents=True, exist_ok=True)
        with open(where / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            stamp = hashlib.sha256(LOCK.read_bytes() + RESTATE_SERVER.encode() + sys.version.encode()).hexdigest()
            made = where / ".made"
            changed = not made.exists() or made.read_text() != stamp
            python, restate = (install_python(where), install_restate(where)) if changed else (None, None)
            if changed and not isinstance(python, AbsentError) and not isinstance(restate, AbsentError):
                made.write_text(stamp)
    except OSError as error:
        reason = AbsentError(f"the peers' environment could not be made: {error.strerror}")
        return Prepared(reason, reason, False)
    return Prepared(python or where / "bin" / "python", restate or restate_server(where), changed)


def install_python(where: Path) -> AbsentError | None:
    """A virtual environment with the locked packages."""
    say("making the peers' environment: Python packages")
    python = where / "bin" / "python"
    try:
        if not python.exists():
            output_of([sys.executable, "-m", "venv", str(where)], seconds=INSTALL_SECONDS_MAX)
        pip = [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
            str(LOCK),
        ]
        output_of(pip, seconds=INSTALL_SECONDS_MAX)
    except AbsentError as error:
        return AbsentError(f"its Python packages could not be installed: {error}")
    return None


def install_restate(where: Path) -> AbsentError | None:
    """Restate's server, whose npm package carries the program; no script of any package is run."""
    if shutil.which("npm") is None:
        return AbsentError("its server comes as an npm package, and npm is not installed")
    say("making the peers' environment: Restate's server")
    arguments = ["npm", "install", "--ignore-scripts", "--no-fund", "--no-audit", "--no-save", "--silent"]
    try:
        output_of([*arguments, "--prefix", str(where / "npm"), RESTATE_SERVER], seconds=INSTALL_SECONDS_MAX)
    except AbsentError as error:
        return AbsentError(f"its server could not be installed: {error}")
    return None


def restate_server(where: Path) -> Path | AbsentError:
    """The program inside the package for this platform."""
    pattern = "npm/node_modules/@restatedev/restate-server-*/bin/restate-server"
    found = next(iter(sorted(where.glob(pattern))), None)
    return found if found is not None else AbsentError("its npm package has no server for this platform")


def install_debian() -> None:
    """Install the servers as Debian packages. A failure is said, and their rows say what is missing."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        say("--install needs apt-get and root; what is not installed is reported as absent")
        return
    say(f"installing Debian packages: {' '.join(DEBIAN)}")
    # At run level 1 Debian's scripts start no service: a second idle server would only disturb the measurement.
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for arguments in (["update"], ["install", "--yes", "--no-upgrade", "--no-install-recommends", *DEBIAN]):
        try:
            done = subprocess.run(
                ["apt-get", "--quiet", "--quiet", *arguments], env=env, timeout=INSTALL_SECONDS_MAX, check=False,
                stdin=subprocess.DEVNULL, stdout=sys.stderr,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            say(f"apt-get {arguments[0]}: {type(error).__name__}")
            return
        if done.returncode:
            say(f"apt-get {arguments[0]} ended with {done.returncode}")
