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
    except FileNotFoundError as error:
        raise ConfigurationError(
            "there is no node here",
            where=home.path,
            expected="a home made by `femtoclaw init`",
            found="nothing",
            remedy="run `femtoclaw init`, or give the right --home",
        ) from error
    except OSError as error:
        raise UnavailableError("the home cannot be read", where=home.path, found=error.strerror) from error
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
    """Refuse a home, key, configuration or policy that others may write, or a key that others may read (DEPLOY-4.2)."""
    forbidden = {home.path: 0o022, home.log: 0o022, home.config_file: 0o022, home.key_file: 0o077}
    for path, bits in forbidden.items():
        try:
            mode = stat.S_IMODE(os.stat(path).st_mode)
        except FileNotFoundError:
            continue
        if mode & bits:
            raise ConfigurationError(
                "permissions are too wide",
                where=path,
                expected=f"mode {mode & ~bits:04o}",
                found=f"{mode:04o}",
                remedy=f"run `chmod {mode & ~bits:o} {path}` after checking who changed it",
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
    """The policy file's text. Raises ConfigurationError when it is missing or not UTF-8."""
    path = home.inside(effective["policy"]["file"])
    try:
        return read_bounded(path).decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError("policy is not UTF-8", where=path, found=error) from error


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
