"""Making a backup beside a working node: fix a size, put what the place lacks, sign a manifest over all of it, last.

Sealed segments and blobs never change, so what the place has of them is not put again (``building_on``). The files of the home are
taken behind the records, and count only when nothing that they belong to was changed meanwhile; else they are taken again.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from blake3 import blake3

from cluster.archive import ArchiveStore
from femtoclaw.backup.building_on import BuiltOn
from femtoclaw.backup.histories import refuse_other_history
from femtoclaw.backup.home_files import ChangedWhileReadError, chunks, home_files, packed
from femtoclaw.backup.layout import (
    BLOBS_MAX,
    CHUNK_BYTES,
    Manifest,
    Part,
    SegmentRow,
    digest_of,
    encode_manifest,
    folder_of,
    object_name,
)
from femtoclaw.backup.parts import Tally, combined
from femtoclaw.backup.recovery_key import Sealing
from femtoclaw.errors import ConfigurationError, UnavailableError
from femtoclaw.home import Home, resolved_configuration
from femtoclaw.key_file import KeySigner
from femtoclaw.restore import load_state
from femtoclaw.sources import Sources
from femtoclaw.state import Node, encode_state, hash_of_encoded
from femtoclaw.version import VERSION
from wal.blob import blob_file, read_blob
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.limits import BATCH_RECORDS_MAX
from wal.note import PublicKey
from wal.reader import LogReader
from wal.record import Record, frame_of
from wal.segment import Seal

TRIES_MAX = 5
"""Times that the home's files are taken while operators keep changing the node."""


class Created(NamedTuple):
    """A backup that is complete."""

    manifest: Manifest
    digest: str
    """BLAKE3 of the manifest's bytes."""
    objects: int
    new_objects: int
    new_bytes: int
    """Sealed."""
    checked: int
    """Objects of earlier backups that were read again."""
    damaged: tuple[str, ...]
    """Of those, the names of what is altered or missing: this backup has it anew, earlier ones that need it are not whole."""


def create(
    store: ArchiveStore, home: Home, reader: LogReader, signer: KeySigner, recovery: PublicKey, sources: Sources, *,
    told: Callable[[int], None] = lambda index: None,
) -> Created:  # fmt: skip
    """Back up the node at ``home``, whose log is ``reader``'s. The caller has the place to itself (``place.alone``).

    ``told`` is called with the last index behind each segment. Raises UnavailableError (nothing signed vouches for the log yet;
    the node keeps changing), OtherHistoryError (the place holds records of this log that the log has not), ConfigurationError,
    BackupDamagedError; what reading the log and writing the place raise.
    """
    refuse_other_history(store, reader)
    for _ in range(TRIES_MAX):
        making = _Making(store, home, reader, signer, recovery, sources)
        try:
            manifest = making.run(signer, recovery, sources, told)
        except ChangedWhileReadError:
            continue  # what is in the place by now is not put again
        raw = encode_manifest(manifest, signer)
        if not store.put_if_absent(folder_of(manifest.log_id, "manifests") + manifest.name, raw):
            raise UnavailableError(
                "a backup of this very time is there already", where=store.name, remedy="run it again"
            )
        count = sum(1 for _ in manifest.objects())
        found = making.built_on
        return Created(
            manifest, digest_of(raw), count, making.new_objects, making.new_bytes, found.checked, tuple(found.damaged)
        )
    raise UnavailableError(
        "operators keep changing the node while it is backed up", where=home.path, expected="files and records of one moment",
        remedy="run it again when they are done; the backups before are whole",
    )  # fmt: skip


def _vouched(reader: LogReader, signer: KeySigner) -> tuple[int, bytes]:
    """The size of the backup and a signed checkpoint over it: of all that is committed, where this node may sign for it; else
    of what the log's newest checkpoint speaks of. Raises UnavailableError when there is none."""
    keys, size = reader.keys(), _committed(reader)
    if keys.at(size).key == signer.public:
        return size, sign_checkpoint(Checkpoint(reader.origin, size, reader.tree().root(size)), [signer])
    note = reader.checkpoint_note()
    if note is not None:
        newest = keys.open_checkpoint(note, reader.origin).checkpoint
        if newest.size <= size and newest.root == reader.tree().root(newest.size):
            return newest.size, note
    raise UnavailableError(
        "nothing signed vouches for this member's log yet", where=reader.storage.name, expected="a checkpoint of the leader's",
        found="none", remedy="run it on the member that leads, or again in a while",
    )  # fmt: skip


def _committed(reader: LogReader) -> int:
    """The last end of an append that is this node's to promise: of a log with members, what is committed."""
    size = reader.size
    if reader.keys().newest.members is None:
        return size
    from cluster.replica_store import STATE_FILE, decode_durable

    known = decode_durable(reader.storage.get_file(STATE_FILE), reader.storage.name).commit
    bound = min(size, max(known, reader.manifest().head.index))
    return bound if bound == size else reader.end_of_append(max(0, bound - BATCH_RECORDS_MAX), bound)


class _Making:
    """One backup under way: what the place has, and what was put."""

    def __init__(
        self, store: ArchiveStore, home: Home, reader: LogReader, signer: KeySigner, recovery: PublicKey, sources: Sources
    ) -> None:  # fmt: skip
        self._home = home
        self._reader = reader
        self._sealing = Sealing(recovery, signer)
        size, self._checkpoint = _vouched(reader, signer)
        self._size = size
        self._seals = [seal for seal in reader.manifest() if seal.head.index <= size]
        chance = int.from_bytes(sources.new_id().encode(), "big")
        self.built_on = BuiltOn(store, reader.log_id.hex(), reader.keys(), recovery, chance)
        self.new_objects = self.new_bytes = self.plain_bytes = 0

    def run(self, signer: KeySigner, recovery: PublicKey, sources: Sources, told: Callable[[int], None]) -> Manifest:
        """Everything but the manifest. Raises ChangedWhileReadError when files and records are of two moments."""
        reader, size = self._reader, self._size
        segments = tuple(self._segments(told))
        tail, tail_parts = self._tail()
        blobs, blob_rows = self._blobs()
        state = load_state(reader, size)
        files = self._files(state.node)
        index = json.dumps({"blobs": blob_rows}, separators=(",", ":")).encode()
        encoded = encode_state(state)
        state_hash = hash_of_encoded(encoded)
        parts = combined([*(row.parts for row in segments), tail_parts])
        return Manifest(
            id=sources.new_id(), at_ns=sources.wall_ns(), version=VERSION, log_id=reader.log_id.hex(), origin=reader.origin,
            size=size, link=reader.head_at(size).link.hex(), root=reader.tree().root(size).hex(), state_hash=state_hash,
            checkpoint=self._checkpoint.decode(), node_key=signer.public.vkey(), recovery_key=recovery.vkey(),
            parts={**parts, "memory": Part(len(encoded), state_hash)}, tail_parts=tail_parts, segments=segments,
            others={"tail": tail, "blobs": blobs, "files": files, "index": self._keep_stream("index", iter([index]))},
            plain_bytes=self.plain_bytes,
        )  # fmt: skip

    def _keep(self, identity: str, make: Callable[[], bytes]) -> str:
        """Have in the place what ``make`` gives; its object's name."""
        content = self._sealing.content(identity)
        known = self.built_on.name_of(content)
        if known is not None:
            return known
        raw = make()
        assert len(raw) <= CHUNK_BYTES
        sealed = self._sealing.seal(raw)
        name = object_name(content, sealed)
        self.built_on.put(content, name, sealed)
        self.new_objects, self.new_bytes = self.new_objects + 1, self.new_bytes + len(sealed)
        return name

    def _keep_stream(self, kind: str, pieces: Iterator[bytes]) -> tuple[str, ...]:
        """Objects for a stream, in its order; a chunk that the place has is not put again."""
        names = []
        for chunk in chunks(pieces):
            self.plain_bytes += len(chunk)
            names.append(self._keep(f"{kind}:{blake3(chunk).hexdigest()}", lambda chunk=chunk: chunk))  # type: ignore[misc]
        return tuple(names)

    def _keep_parts(self, identity: str, raw: bytes) -> tuple[str, ...]:
        """Objects for bytes whose identity says what they are."""
        return tuple(
            self._keep(f"{identity}:{at}", lambda at=at: raw[at : at + CHUNK_BYTES])  # type: ignore[misc]
            for at in range(0, len(raw), CHUNK_BYTES)
        )

    def _segments(self, told: Callable[[int], None]) -> Iterator[SegmentRow]:
        """Every sealed segment; one that the newest backup has is not read."""
        for seal in self._seals:
            known = self.built_on.segment(seal.digest.hex())
            name = f"segments/{seal.file_name}"
            if known is not None:
                self.plain_bytes += os.stat(os.path.join(self._reader.storage.name, name)).st_size
                yield known
            else:
                yield self._segment(seal)
            told(seal.head.index)

    def _segment(self, seal: Seal) -> SegmentRow:
        tally = Tally()
        raw, segment = self._reader.segment_file(seal)
        for record in segment.records():
            tally.take(record)
        self.plain_bytes += len(raw)
        objects = self._keep_parts(f"segment:{seal.digest.hex()}", raw)
        return SegmentRow(seal.first, seal.count, seal.digest.hex(), tally.parts(), objects)

    def _tail(self) -> tuple[tuple[str, ...], dict[str, Part]]:
        """The records behind the last segment: their frames, each with its length before it."""
        tally = Tally()
        first = self._seals[-1].head.index + 1 if self._seals else 1
        records = self._reader.scan(first, self._size + 1)
        objects = self._keep_stream("tail", _counted_frames(records, tally))
        return objects, tally.parts()

    def _blobs(self) -> tuple[tuple[str, ...], list[list[Any]]]:
        """Every blob of the log, and for the index: digest, bytes, number of objects."""
        storage = self._reader.storage
        objects: list[str] = []
        rows: list[list[Any]] = []
        for folder in (f"{number:02x}" for number in range(256)):
            for digest in storage.list_files(f"blobs/{folder}"):
                size = os.stat(os.path.join(storage.name, blob_file(digest))).st_size
                names = self._blob(digest, size)
                objects += names
                rows.append([digest, size, len(names)])
                self.plain_bytes += size
                if len(rows) > BLOBS_MAX:
                    raise ConfigurationError(
                        "too many blobs for a backup", where=storage.name, expected=f"<= {BLOBS_MAX}"
                    )
        return tuple(objects), rows

    def _blob(self, digest: str, size: int) -> tuple[str, ...]:
        held: list[bytes] = []

        def part(at: int) -> bytes:
            if not held:
                held.append(read_blob(self._reader.storage, digest))
            return held[0][at : at + CHUNK_BYTES]

        return tuple(
            self._keep(f"blob:{digest}:{at}", lambda at=at: part(at))  # type: ignore[misc]
            for at in range(0, size, CHUNK_BYTES)
        )

    def _files(self, node: Node) -> tuple[str, ...]:
        """The files of the home as they belong to ``node``. Raises ChangedWhileReadError."""
        workspace = self._home.inside(resolved_configuration(self._home, None)["security"]["workspace"])
        objects = self._keep_stream("files", packed(self._home, home_files(self._home, workspace)))
        if _owned(load_state(self._reader).node) != _owned(node):
            raise ChangedWhileReadError("an operator changed the node while it was backed up", where=self._home.path)
        return objects


def _counted_frames(records: Iterator[Record], tally: Tally) -> Iterator[bytes]:
    for record in records:
        tally.take(record)
        frame = frame_of(record)
        yield len(frame).to_bytes(4, "big") + frame


def _owned(node: Node) -> tuple[Any, ...]:
    """What of a node has files in its home. That operators asked for something is none of it."""
    operators = sorted((name, each.public_key, each.active) for name, each in node.operators.items())
    return node.configuration, node.policy, node.control, operators, node.registry, node.secrets, node.erased
