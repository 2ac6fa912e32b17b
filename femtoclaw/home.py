"""A node's home directory: where things are, making a new one, and refusing one that others could have changed."""

from __future__ import annotations

import os
import stat
from typing import Any, NamedTuple

from femtoclaw.errors import ConfigurationError, UnavailableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from femtoclaw.manifest import Manifest

CONFIG_BYTES_MAX = 1024 * 1024
DIRECTORY_MODE = 0o700
PLACE_REMEDY = "check the path, its permissions and its mount"


class Home(NamedTuple):
    """Paths of one node."""

    path: str

    @property
    def config_file(self) -> str:
        """Operator's configuration."""
        return os.path.join(self.path, "femtoclaw.toml")

    @property
    def log(self) -> str:
        """The log's directory."""
        return os.path.join(self.path, "log")

    @property
    def key_file(self) -> str:
        """Ed25519 seed, 32 bytes as hex, mode 0600."""
        return os.path.join(self.path, "keys", "node.key")

    @property
    def public_key_file(self) -> str:
        """The verifier key to hand to auditors."""
        return os.path.join(self.path, "keys", "node.pub")

    @property
    def index_file(self) -> str:
        """Derived projections; may be deleted, is rebuilt from the log."""
        return os.path.join(self.path, "index", "projections.db")

    @property
    def journal(self) -> str:
        """Boot journal: starts and failures before the log is open."""
        return os.path.join(self.path, "boot.journal")

    @property
    def manifest_file(self) -> str:
        """What ``init`` provisioned, with hashes."""
        return os.path.join(self.path, "manifest.json")

    def inside(self, name: str) -> str:
        """A path from the configuration: relative ones are inside the home."""
        return name if os.path.isabs(name) else os.path.join(self.path, name)


def locate(flag: str | None) -> Home:
    """The home by flag, FEMTOCLAW_HOME, or ``~/.femtoclaw``, in this order."""
    return Home(os.path.abspath(flag or os.environ.get("FEMTOCLAW_HOME") or os.path.expanduser("~/.femtoclaw")))


def require(home: Home) -> None:
    """Raise ConfigurationError when there is no home, UnavailableError when it cannot be read."""
    try:
        os.listdir(home.path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigurationError(
            "there is no node here",
            where=home.path,
            expected="a home made by `femtoclaw init`",
            found="a file" if os.path.lexists(home.path) else "nothing",
            remedy="run `femtoclaw init`, or give the right --home",
        ) from error
    except OSError as error:
        raise UnavailableError(
            "the home cannot be read", where=home.path, found=error.strerror, remedy=PLACE_REMEDY
        ) from error
    if not os.path.exists(home.log) or not os.path.exists(home.config_file):
        missing = home.log if not os.path.exists(home.log) else home.config_file
        raise ConfigurationError(
            "this is not a complete home",
            where=home.path,
            expected=missing,
            found="nothing",
            remedy="restore the missing part from a backup, or run `femtoclaw init` in an empty directory",
        )


def check_permissions(home: Home) -> None:
    """Refuse a home or configuration that others may write, or a log or key that others may even read (DEPLOY-4.2)."""
    forbidden = {
        home.path: 0o022,
        home.config_file: 0o022,
        home.log: 0o077,
        os.path.join(home.log, "data", "data.mdb"): 0o077,
        home.key_file: 0o077,
    }
    for path, bits in forbidden.items():
        check_mode(path, bits)


def check_mode(path: str, forbidden: int) -> None:
    """Refuse a file or directory with any of the ``forbidden`` permission bits; a missing one is another's finding."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        return
    if mode & forbidden:
        raise ConfigurationError(
            "permissions are too wide",
            where=path,
            expected=f"mode {mode & ~forbidden:04o}",
            found=f"{mode:04o}",
            remedy=f"run `chmod {mode & ~forbidden:o} {path}` after checking who changed it",
        )


def read_bounded(path: str, limit: int = CONFIG_BYTES_MAX) -> bytes:
    """An operator's file. Raises ConfigurationError when it is missing, unreadable or over ``limit`` bytes."""
    try:
        with open(path, "rb") as file:
            raw = file.read(limit + 1)
    except OSError as error:
        raise ConfigurationError("file cannot be read", where=path, found=error.strerror) from error
    if len(raw) > limit:
        raise ConfigurationError("file is too large", where=path, expected=f"<= {limit} bytes")
    return raw


def effective_configuration(home: Home, claws: frozenset[str]) -> dict[str, Any]:
    """The configuration on disk, resolved. Raises ConfigurationError."""
    from femtoclaw import config

    overrides = config.parse_toml(read_bounded(home.config_file), home.config_file)
    return config.resolve(overrides, home.config_file, claws)


def policy_text(home: Home, effective: dict[str, Any]) -> str:
    """The policy file's text. Raises ConfigurationError when others may write it, or as ``read_text`` does."""
    path = home.inside(effective["policy"]["file"])
    check_mode(path, 0o022)
    return read_text(path)


def read_text(path: str) -> str:
    """An operator's text file. Raises ConfigurationError as ``read_bounded`` does, or when it is not UTF-8."""
    try:
        return read_bounded(path).decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError("file is not UTF-8", where=path, found=error) from error


def journal(home: Home, wall_ns: int, event: str, **fields: object) -> None:
    """Append one line to the boot journal. A journal that cannot be written never stops a start: the error shows."""
    import json

    line = json.dumps({"time_ns": wall_ns, "event": event, **fields}, sort_keys=True, default=str)
    try:
        fd = os.open(home.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        import sys

        print(f"femtoclaw: boot journal cannot be written: {home.journal}", file=sys.stderr)
        return
    with os.fdopen(fd, "a") as file:
        file.write(line + "\n")


def claw_names(manifests: tuple[Manifest, ...]) -> frozenset[str]:
    """Names of the shipped claws: the only ones a configuration may mention."""
    return frozenset(manifest.name for manifest in manifests)
