"""What lies in a backup place: names, and the manifest's bytes. Pure.

::

    backups/<log id>/objects/<content>-<BLAKE3>          sealed bytes; <BLAKE3> is of them, <content> is keyed and says nothing
    backups/<log id>/manifests/<time>-<size>-<id>        canonical JSON in one line, and behind it the node's signed note about it

Time has 20 digits (nanoseconds since 1970), size 16, log id and BLAKE3 64 hex digits, content and id 32. Each object is named in
the manifest with its BLAKE3, so the one signature covers every byte of a backup.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from blake3 import blake3

from femtoclaw.errors import ConfigurationError, IntegrityError
from wal.errors import LogError
from wal.note import PublicKey, Signer, open_note, sign_note

FORMAT = "femtoclaw backup v1"
PARTS = ("execution_log", "audit_log", "configuration", "metadata", "memory")
"""What every manifest names with a count and a hash at its one size (RUNBOOK-18.1, STORAGE-22.1)."""

CHUNK_BYTES = 4 * 1024 * 1024
"""Of what one object holds before it is sealed: all of a backup that is in memory at once, but for one segment or blob."""

MANIFEST_BYTES_MAX = 256 * 1024 * 1024
OBJECTS_MAX = 1_000_000
"""Objects of one log in a place."""
MANIFESTS_MAX = 100_000
BLOBS_MAX = 200_000

_MANIFEST = re.compile(r"([0-9]{20})-([0-9]{16})-([0-9a-f]{32})")
_OBJECT = re.compile(r"([0-9a-f]{32})-([0-9a-f]{64})")
_HEX = re.compile(r"[0-9a-f]{64}")
_KINDS = ("tail", "blobs", "files", "index")


class BackupDamagedError(IntegrityError):
    """A backup is not what the node signed, or an object of it is altered or missing."""

    code = "BACKUP_DAMAGED"
    default_remedy = "nothing was written; take another backup (`femtoclaw backup list`), and keep this one as evidence"


class NoBackupError(ConfigurationError):
    """The place holds no such backup."""

    code = "NO_BACKUP"
    default_remedy = "see `femtoclaw backup list --from PLACE`"


class Part(NamedTuple):
    """How many there are of one part, and a hash over them."""

    count: int  # type: ignore[assignment]
    digest: str


class SegmentRow(NamedTuple):
    """A sealed segment in a backup: as the log's manifest has it, what it holds of each part, the objects it is in."""

    first: int
    records: int
    digest: str
    parts: dict[str, Part]
    objects: tuple[str, ...]


class Manifest(NamedTuple):
    """One backup."""

    id: str
    at_ns: int
    version: str
    """Of the program that made it."""
    log_id: str
    origin: str
    size: int
    link: str
    root: str
    state_hash: str
    checkpoint: str
    """The signed note over size and root, as text."""
    node_key: str
    """Who signed this manifest: the key in force at ``size``, or that of the member which made the backup."""
    recovery_key: str
    """To which every object is sealed."""
    parts: dict[str, Part]
    tail_parts: dict[str, Part]
    segments: tuple[SegmentRow, ...]
    others: dict[str, tuple[str, ...]]
    """Objects of the ``tail`` (records behind the last segment), ``blobs``, ``files`` of the home, and the ``index`` of these."""
    plain_bytes: int
    """Before sealing."""

    def objects(self) -> Iterator[str]:
        """Every object, in the order in which a restore reads them."""
        for segment in self.segments:
            yield from segment.objects
        for kind in _KINDS:
            yield from self.others[kind]

    @property
    def name(self) -> str:
        """Of its object."""
        return f"{self.at_ns:020d}-{self.size:016d}-{self.id}"


def folder_of(log_id: str, kind: str) -> str:
    """The folder of a log's ``objects`` or ``manifests``, with its slash."""
    return f"backups/{log_id}/{kind}/"


def object_name(content: str, sealed: bytes) -> str:
    """The name of an object that holds ``sealed``."""
    return f"{content}-{blake3(sealed).hexdigest()}"


def content_of(name: str) -> str:
    """The keyed digest in an object's name; empty for what is no object's."""
    found = _OBJECT.fullmatch(name)
    return found[1] if found else ""


def is_manifest(name: str) -> bool:
    """True for a name that ``Manifest.name`` gives."""
    return _MANIFEST.fullmatch(name) is not None


def size_in(name: str) -> int:
    """How many records a backup is of, by the name of its manifest; 0 for what is none's."""
    found = _MANIFEST.fullmatch(name)
    return int(found[2]) if found else 0


def check_object(name: str, sealed: bytes | None, where: str) -> bytes:
    """The bytes of an object, which are those that its name says. Raises BackupDamagedError."""
    found = _OBJECT.fullmatch(name)
    digest = blake3(sealed).hexdigest() if sealed is not None else "nothing"
    if found is None or sealed is None or found[2] != digest:
        raise BackupDamagedError(
            "an object of the backup is altered or missing", where=f"{where}/{name}",
            expected=found[2] if found else "an object's name", found=digest,
        )  # fmt: skip
    return sealed


def encode_manifest(manifest: Manifest, signer: Signer) -> bytes:
    """The manifest's bytes: JSON in one line, and the signed note."""
    plain = manifest._asdict() | {"segments": [list(row) for row in manifest.segments], "format": FORMAT}
    body = json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()
    return body + b"\n" + sign_note(_statement(body, manifest), [signer])


def _statement(body: bytes, manifest: Manifest) -> str:
    return f"{FORMAT}\n{manifest.origin}\n{manifest.size}\n{blake3(body).hexdigest()}\n"


def digest_of(raw: bytes) -> str:
    """What a procedure records of a manifest: BLAKE3 of all its bytes."""
    return blake3(raw).hexdigest()


def decode_manifest(raw: bytes, where: str) -> Manifest:
    """A manifest whose signature holds under the key that it names: whether that key is the log's, only its records say.

    Raises BackupDamagedError.
    """
    body, _, note = raw.partition(b"\n")
    try:
        manifest = _read(json.loads(body))
        text = open_note(note, [PublicKey.parse(manifest.node_key)]).text
    except (ValueError, TypeError, KeyError, RecursionError, LogError) as error:
        found = error.what if isinstance(error, LogError) else type(error).__name__
        raise BackupDamagedError(
            "a backup's manifest does not read", where=where, expected=FORMAT, found=found
        ) from None
    if text != _statement(body, manifest):
        raise BackupDamagedError(
            "a backup's manifest is not the one that was signed", where=where, expected=text.split("\n")[-2],
            found=blake3(body).hexdigest(),
        )  # fmt: skip
    return manifest


def _read(plain: dict[str, Any]) -> Manifest:
    """Fields of their types. Raises ValueError, TypeError or KeyError."""
    if plain.pop("format") != FORMAT:
        raise ValueError("format")
    segments = tuple(
        SegmentRow(_natural(first), _natural(records), _digest(digest), _parts(parts), _objects(objects))
        for first, records, digest, parts, objects in plain.pop("segments")
    )
    parts, tail = _parts(plain.pop("parts")), _parts(plain.pop("tail_parts"))
    others = {kind: _objects(plain["others"][kind]) for kind in _KINDS}
    del plain["others"]
    made = Manifest(**plain, parts=parts, tail_parts=tail, segments=segments, others=others)
    for name, value in plain.items():
        if type(value) is not (int if name in ("at_ns", "size", "plain_bytes") else str):
            raise TypeError(name)
    for value in (made.log_id, made.link, made.root, made.state_hash):
        _digest(value)
    if set(made.parts) != set(PARTS) or not is_manifest(made.name) or made.size < 1:
        raise ValueError("fields")
    return made


def _parts(plain: dict[str, Any]) -> dict[str, Part]:
    return {name: Part(_natural(count), _digest(digest)) for name, (count, digest) in plain.items()}


def _objects(names: list[str]) -> tuple[str, ...]:
    if not all(type(name) is str and _OBJECT.fullmatch(name) for name in names):
        raise ValueError("object")
    return tuple(names)


def _natural(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("number")
    return value


def _digest(value: Any) -> str:
    if _HEX.fullmatch(value) is None:
        raise ValueError("digest")
    return str(value)
