"""What a witness's operator decides: its name, where it listens, which logs it watches and by which keys. One TOML file.

A log's key can change, by a rotation or with a new leader, and the witness reads no logs: the operator adds the new public
key (``femtoclaw witness add-log``), and may take an old one out by hand.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import tomllib
from typing import Any, NamedTuple

from cluster.errors import ClusterConfigurationError
from cluster.limits import WITNESS_KEYS_MAX, WITNESS_LOGS_MAX
from wal.errors import LogError
from wal.genesis import check_origin
from wal.note import PublicKey

DEFAULT_LISTEN = "127.0.0.1:8430"


class WitnessConfig(NamedTuple):
    """Name of the witness's key, host and port, and trusted keys by origin."""

    name: str
    host: str
    port: int
    logs: dict[str, tuple[PublicKey, ...]]


def parse_config(raw: bytes, where: str) -> WitnessConfig:
    """Read the file strictly: an unknown word is an error. Raises ClusterConfigurationError."""
    try:
        fields = tomllib.loads(raw.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _wrong(where, "TOML in UTF-8", type(error).__name__) from error
    _only(fields, {"name": str, "listen": str, "log": list}, {"name"}, where)
    host, port = split_listen(fields.get("listen", DEFAULT_LISTEN), where)
    rows = fields.get("log", [])
    if len(rows) > WITNESS_LOGS_MAX:
        raise _wrong(where, f"at most {WITNESS_LOGS_MAX} logs", str(len(rows)))
    logs: dict[str, tuple[PublicKey, ...]] = {}
    for number, row in enumerate(rows, 1):
        origin, keys = _log(row, f"{where}, log {number}")
        if origin in logs:
            raise _wrong(f"{where}, log {number}", "each origin once, with all its keys", origin)
        logs[origin] = keys
    return WitnessConfig(fields["name"], host, port, logs)


def split_listen(text: str, where: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``; port 0 is any that is free. Raises ClusterConfigurationError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 <= int(port[:6]) <= 65535:
        raise _wrong(where, "HOST:PORT", text[:80])
    return host.removeprefix("[").removesuffix("]"), int(port)


def _log(row: Any, where: str) -> tuple[str, tuple[PublicKey, ...]]:
    if not isinstance(row, dict):
        raise _wrong(where, "a table", type(row).__name__)
    _only(row, {"origin": str, "keys": list}, {"origin", "keys"}, where)
    if not 1 <= len(row["keys"]) <= WITNESS_KEYS_MAX:
        raise _wrong(where, f"1 to {WITNESS_KEYS_MAX} keys", str(len(row["keys"])))
    return checked_origin(row["origin"], where), tuple(_key(text, where) for text in row["keys"])


def _key(text: Any, where: str) -> PublicKey:
    if not isinstance(text, str):
        raise _wrong(where, "keys as text", type(text).__name__)
    try:
        return PublicKey.parse(text)
    except LogError as error:
        raise _wrong(where, f"name+hash+base64: {error.expected}", str(error.found)) from error


def checked_origin(text: str, where: str) -> str:
    """An origin as logs of this program have them. Raises ClusterConfigurationError."""
    try:
        return check_origin(text)
    except ValueError as error:
        raise _wrong(where, "an origin: printable, without blanks", f"{len(text)} characters") from error


def _only(fields: dict[str, Any], known: dict[str, type], needed: set[str], where: str) -> None:
    for name, value in fields.items():
        if name not in known:
            raise _wrong(where, f"one of {', '.join(known)}", name[:80])
        if not isinstance(value, known[name]):
            raise _wrong(where, f"{name} of type {known[name].__name__}", type(value).__name__)
    if missing := sorted(needed - fields.keys()):
        raise _wrong(where, f"a value for {missing[0]}", "none")


def _wrong(where: str, expected: str, found: str) -> ClusterConfigurationError:
    return ClusterConfigurationError(
        "the witness's configuration cannot be used", where=where, expected=expected, found=found
    )


def with_log(text: str, origin: str, key: PublicKey) -> str:
    """The file's text with one more key for a log, which may be new; all else, comments too, as it was."""
    import tomlkit

    document = tomlkit.parse(text)
    rows = document.setdefault("log", tomlkit.aot())
    row = next((row for row in rows if row["origin"] == origin), None)
    if row is None:
        row = tomlkit.table()
        row["origin"], row["keys"] = origin, tomlkit.array()
        row["keys"].append(key.vkey())
        rows.append(row)
    elif key.vkey() not in row["keys"]:
        row["keys"].append(key.vkey())
    return tomlkit.dumps(document)


def first_config(name: str, listen: str) -> str:
    """The text of the file of a witness that watches nothing yet. Raises ClusterConfigurationError."""
    import tomlkit

    split_listen(listen, "--listen")
    document = tomlkit.document()
    document["name"], document["listen"] = name, listen
    return tomlkit.dumps(document)
