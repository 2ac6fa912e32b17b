"""A witness's directory: configuration, public key, one state file for each log, evidence, and a lock.

A state file is there from the moment that its log is added. So one that is missing later was lost, and a witness that began
anew from nothing could contradict its own cosignatures: it refuses to start instead. An older copy of a state file that is
put back cannot be told from the right one; so backups of ``logs/`` must not be put back while newer cosignatures are about.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable

from cluster.errors import ClusterConfigurationError, ClusterUnavailableError, WitnessStateError
from cluster.limits import WITNESS_EVIDENCE_MAX
from cluster.witness import Evidence, WatchedLog
from cluster.witness_config import WitnessConfig, checked_origin, first_config, parse_config, with_log
from cluster.witness_state import decode_state, encode_state
from wal.cosignature import CosignerKey
from wal.durable_file import read_file, write_file
from wal.errors import SignatureError
from wal.note import PublicKey

CONFIG_FILE, PUBLIC_FILE, LOCK_FILE = "witness.toml", "witness.pub", "LOCK"
LOGS_FOLDER, EVIDENCE_FOLDER = "logs", "evidence"


class WitnessStore:
    """The files of one witness, owned by this process until ``close``."""

    def __init__(self, folder: str, config: WitnessConfig, own: CosignerKey, lock: int) -> None:
        self.folder, self.config, self.own = folder, config, own
        self._lock = lock

    def load(self) -> dict[str, WatchedLog]:
        """What was cosigned of every configured log. Raises WitnessStateError when a state is damaged or missing."""
        return {origin: self._load(origin, keys) for origin, keys in self.config.logs.items()}

    def _load(self, origin: str, keys: tuple[PublicKey, ...]) -> WatchedLog:
        path = _state_path(self.folder, origin)
        raw = read_file(path)
        if raw is None:
            raise WitnessStateError(
                "the witness's state of a log is missing", where=path, expected=f"the state of {origin}", found="no file",
                remedy="put the file back; for a log that was only written into the configuration by hand, take it out "
                "and use `femtoclaw witness add-log DIR ORIGIN VKEY`",
            )  # fmt: skip
        return decode_state(raw, origin, keys, self.own, path)

    def save(self, log: WatchedLog) -> None:
        """Replace a log's state; it is durable when this returns. Raises LogFailedError: the outcome is unknown then."""
        write_file(_state_path(self.folder, log.origin), encode_state(log))

    def keep(self, origin: str, evidence: Evidence) -> str | None:
        """Write evidence, durable, under a name that its content decides; the path of a new file, None for one that is there
        already or too many. Raises LogFailedError."""
        folder = os.path.join(self.folder, EVIDENCE_FOLDER)
        prefix = origin_hash(origin)[:32]
        name = f"{prefix}-{hashlib.sha256(evidence.content).hexdigest()[:32]}.{evidence.kind}"
        there = [each for each in os.listdir(folder) if each.startswith(prefix)] if os.path.isdir(folder) else []
        if name in there or len(there) >= WITNESS_EVIDENCE_MAX:
            return None
        write_file(os.path.join(folder, name), evidence.content)
        return os.path.join(folder, name)

    def close(self) -> None:
        """Let another process have the directory."""
        os.close(self._lock)


def origin_hash(origin: str) -> str:
    """The lowercase hex SHA-256 of an origin: under it a log's checkpoint is found, here and by the protocol."""
    return hashlib.sha256(origin.encode()).hexdigest()


def _state_path(folder: str, origin: str) -> str:
    return os.path.join(folder, LOGS_FOLDER, f"{origin_hash(origin)}.state")


def create_witness(folder: str, own: CosignerKey, listen: str, write_key: Callable[[], None]) -> None:
    """Make a witness's directory. ``write_key`` makes the private key durable, before the configuration makes it a witness.

    Raises ClusterConfigurationError when there is one already, LogFailedError.
    """
    text = first_config(own.name, listen)
    for name in (CONFIG_FILE, PUBLIC_FILE, LOGS_FOLDER):
        if os.path.lexists(os.path.join(folder, name)):
            raise ClusterConfigurationError(
                "there is a witness already", where=os.path.join(folder, name), remedy="use it, or another directory"
            )
    write_key()
    write_file(os.path.join(folder, PUBLIC_FILE), own.vkey().encode() + b"\n")
    write_file(os.path.join(folder, CONFIG_FILE), text.encode())


def read_witness(folder: str) -> tuple[WitnessConfig, CosignerKey]:
    """Configuration and public key of the witness in ``folder``. Raises ClusterConfigurationError."""
    config_path, public_path = os.path.join(folder, CONFIG_FILE), os.path.join(folder, PUBLIC_FILE)
    raw, vkey = read_file(config_path), read_file(public_path)
    if raw is None or vkey is None:
        raise ClusterConfigurationError(
            "there is no witness here", where=config_path if raw is None else public_path, found="no file",
            remedy="make one with `femtoclaw witness init DIR`, or put the file back",
        )  # fmt: skip
    config = parse_config(raw, config_path)
    try:
        own = CosignerKey.parse(vkey.decode("utf-8", "replace").removesuffix("\n"))
    except SignatureError as error:
        raise ClusterConfigurationError(
            "the witness's public key is malformed", where=public_path, expected=error.expected, found=error.found
        ) from error
    if own.name != config.name:
        raise ClusterConfigurationError(
            "configuration and public key are of different witnesses",
            where=folder,
            expected=own.name,
            found=config.name,
        )
    return config, own


def open_witness(folder: str) -> WitnessStore:
    """Take the directory for this process. Raises ClusterConfigurationError, ClusterUnavailableError (another has it)."""
    config, own = read_witness(folder)
    return WitnessStore(folder, config, own, _take_lock(os.path.join(folder, LOCK_FILE)))


def _take_lock(path: str) -> int:
    fd = -1
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise ClusterUnavailableError(
            "the witness's directory is in use or cannot be locked", where=path, found=error.strerror,
            remedy="stop the witness that runs on it",
        ) from error  # fmt: skip
    return fd


def add_log(folder: str, origin: str, key: PublicKey) -> bool:
    """Watch a log, or trust one more key of it; False when nothing was new. The witness must not be running.

    Raises ClusterConfigurationError, ClusterUnavailableError, WitnessStateError for a log whose state was lost.
    """
    checked_origin(origin, "ORIGIN")
    store = open_witness(folder)
    try:
        keys = store.config.logs.get(origin)
        if keys is None:
            _begin(store, origin, key)
        else:
            store.load()
        path = os.path.join(folder, CONFIG_FILE)
        text = with_log((read_file(path) or b"").decode(), origin, key)
        parse_config(text.encode(), path)
        write_file(path, text.encode())
        return keys is None or key not in keys
    finally:
        store.close()


def _begin(store: WitnessStore, origin: str, key: PublicKey) -> None:
    """The state of a log that is new here; what is known of one that was watched before stays."""
    if os.path.lexists(_state_path(store.folder, origin)):
        store._load(origin, (key,))
        return
    store.save(WatchedLog(origin, (key,)))
