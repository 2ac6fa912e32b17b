"""What a home knows of its cluster: this machine's part in it, in ``cluster.toml``, and its identity in ``cluster/``.

Nothing here is in the log: where a node listens and whom it asks for the leadership is its own. Who takes part, and by which keys,
the log says.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
import re
from typing import Any, NamedTuple

from femtoclaw.errors import ConfigurationError
from femtoclaw.home import Home, read_bounded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cluster.coordinator import Coordinator

FILE = "cluster.toml"
FOLDER = "cluster"
OWNER_FILE = "owner"
MODES = ("local", "quorum", "in_sync_all", "witnessed")
STATIC, ETCD = "static", "etcd"
_NAME = re.compile(r"[a-z0-9-]{1,64}")
_ADDRESS = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,64}\]):[0-9]{1,5}")
_KEYS = {
    "name": str, "listen": str, "mode": str, "coordinator": str, "owner": str, "etcd": list, "etcd_prefix": str,
    "etcd_lease_s": int, "acknowledge_s": int, "witnesses": str, "archive": str, "patience_ms": int,
}  # fmt: skip
SECONDS_MAX = 3600
PATIENCE_MS_MIN, PATIENCE_MS_MAX = 200, 600_000


class ClusterSettings(NamedTuple):
    """How this node takes part."""

    name: str
    listen: str
    mode: str = "quorum"
    coordinator: str = STATIC
    owner: str = ""
    """The member that leads under the static coordinator, as this home was told first; ``cluster/owner`` overrides it."""
    etcd: tuple[str, ...] = ()
    etcd_prefix: str = "/femtoclaw"
    etcd_lease_s: int = 3
    acknowledge_s: int = 10
    """How long a record waits for the others before its outcome is unknown and the leadership is given up."""
    witnesses: str = ""
    """A witness policy's file, for mode ``witnessed``."""
    archive: str = ""
    """Where sealed segments go: a folder, or an s3:// address."""
    patience_ms: int = 1500
    """Silence of the leader after which this node asks for the leadership; a part of it is added by chance."""


def settings_path(home: Home) -> str:
    """Where a member's settings are."""
    return os.path.join(home.path, FILE)


def folder_of(home: Home) -> str:
    """Where a member's identity and the owner's file are."""
    return os.path.join(home.path, FOLDER)


def is_member(home: Home) -> bool:
    """Whether this home takes part in a cluster."""
    return os.path.lexists(settings_path(home))


def read_settings(home: Home) -> ClusterSettings:
    """The settings of this member. Raises ConfigurationError naming the key that is wrong."""
    from femtoclaw.config import parse_toml

    path = settings_path(home)
    return check_settings(parse_toml(read_bounded(path), path), path)


def check_settings(body: dict[str, Any], where: str) -> ClusterSettings:
    """Settings from a file's content; unknown keys are refused. Raises ConfigurationError."""
    for key, value in body.items():
        if key not in _KEYS:
            raise ConfigurationError("unknown key", where=f"{where}: {key}", expected=", ".join(sorted(_KEYS)))
        if type(value) is not _KEYS[key]:
            raise ConfigurationError(
                "wrong type", where=f"{where}: {key}", expected=_KEYS[key].__name__, found=type(value).__name__
            )
    for key in ("name", "listen"):
        if key not in body:
            raise ConfigurationError("a key is missing", where=f"{where}: {key}", expected="its value")
    values: Any = {key: tuple(value) if key == "etcd" else value for key, value in body.items()}
    settings = ClusterSettings(**values)
    _check(settings, where)
    return settings


def _check(settings: ClusterSettings, where: str) -> None:
    def wrong(key: str, expected: str) -> ConfigurationError:
        return ConfigurationError("value cannot be used", where=f"{where}: {key}", expected=expected, found="another")

    if not _NAME.fullmatch(settings.name):
        raise wrong("name", "1 to 64 of a-z, 0-9 and -")
    if not _ADDRESS.fullmatch(settings.listen):
        raise wrong("listen", "host:port")
    if settings.mode not in MODES:
        raise wrong("mode", " or ".join(MODES))
    if settings.coordinator not in (STATIC, ETCD):
        raise wrong("coordinator", f"{STATIC} or {ETCD}")
    if settings.coordinator == ETCD and not settings.etcd:
        raise wrong("etcd", "at least one endpoint, host:port")
    if any(type(each) is not str or not _ADDRESS.fullmatch(each) for each in settings.etcd):
        raise wrong("etcd", "a list of host:port")
    if settings.coordinator == STATIC and not _NAME.fullmatch(settings.owner):
        raise wrong("owner", "the name of the member that leads")
    if not 1 <= settings.acknowledge_s <= SECONDS_MAX:
        raise wrong("acknowledge_s", f"1 to {SECONDS_MAX}")
    if not PATIENCE_MS_MIN <= settings.patience_ms <= PATIENCE_MS_MAX:
        raise wrong("patience_ms", f"{PATIENCE_MS_MIN} to {PATIENCE_MS_MAX}")
    if settings.mode == "witnessed" and not settings.witnesses:
        raise wrong("witnesses", "a witness policy's file, for mode witnessed")


def settings_text(settings: ClusterSettings) -> str:
    """The file's text: every key that differs from its default, and the first four always."""
    import json

    lines = ["# How this node takes part in its cluster (docs/cluster.md). Who takes part, the log says."]
    defaults = ClusterSettings("", "")
    for key in ClusterSettings._fields:
        value = getattr(settings, key)
        if key in ("name", "listen", "mode", "coordinator") or value != getattr(defaults, key):
            lines.append(f"{key} = {json.dumps(list(value) if isinstance(value, tuple) else value)}")
    return "\n".join([*lines, ""])


class Owner(NamedTuple):
    """Who leads under the static coordinator, and the lowest epoch that may be led in."""

    name: str
    epoch: int


def read_owner(home: Home, settings: ClusterSettings) -> Owner:
    """The owner that an operator named last on this machine. Raises ConfigurationError."""
    path = os.path.join(folder_of(home), OWNER_FILE)
    if not os.path.lexists(path):
        return Owner(settings.owner, 1)
    words = read_bounded(path, 1024).decode("utf-8", "replace").split()
    if len(words) != 2 or not _NAME.fullmatch(words[0]) or not words[1].isdigit() or not 0 < int(words[1]) < 1 << 62:
        raise ConfigurationError(
            "the owner's file cannot be read", where=path, expected="a member's name and an epoch", found="something else",
            remedy="name the owner again: `femtoclaw --home DIR cluster owner NAME --operator-key FILE`",
        )  # fmt: skip
    return Owner(words[0], int(words[1]))


def write_owner(home: Home, owner: Owner) -> None:
    """Name the owner durably."""
    from wal.durable_file import write_file

    write_file(os.path.join(folder_of(home), OWNER_FILE), f"{owner.name} {owner.epoch}\n".encode())


def open_coordinator(home: Home, settings: ClusterSettings, log_id: bytes) -> "Coordinator":
    """The coordinator that this member asks. Raises ConfigurationError, ClusterConfigurationError."""
    if settings.coordinator == STATIC:
        from cluster.static_coordinator import RegisterFile, StaticCoordinator

        owner = read_owner(home, settings)
        store = RegisterFile(os.path.join(folder_of(home), "register"))
        return StaticCoordinator(settings.name, owner.name, store, owner.epoch)
    from cluster.etcd_coordinator import EtcdCoordinator
    from cluster.etcd_settings import EtcdSettings

    lease = settings.etcd_lease_s
    return EtcdCoordinator(
        EtcdSettings(settings.etcd, prefix=settings.etcd_prefix, lease_s=lease, call_s=min(1.5, lease / 3)), log_id
    )
