"""Forging logs and bundles with the project's own write path: everything recomputed, as an attacker would."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.cli.node import Node
from wal import LogReader, Record, read_log_directory
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.head import CLEAN, CommitPoint, Slot, encode_slot
from wal.lmdb_storage import LmdbStorage, create_directory
from wal.merkle import leaf_hash, root_of
from wal.note import Ed25519Signer, Signer
from wal.record import FLAG_BATCH_END, KIND_GENESIS, LINK_BYTES, NO_LINK, encode
from wal.stored_zip import ZipWriter

Payloads = list[tuple[int, int, bytes, int]]
"""(time, kind, payload, flags) of every record behind the genesis record."""
Members = dict[str, bytes]


def reader_of(node: Node) -> LogReader:
    return read_log_directory(str(node.path / "log"))


def records_of(node: Node) -> list[Record]:
    """All promised records of a stopped node."""
    reader = reader_of(node)
    try:
        return list(reader.scan())
    finally:
        reader.close()


def payloads_of(node: Node) -> Payloads:
    return [(r.time_ns, r.kind, r.payload, r.flags) for r in records_of(node) if r.kind != KIND_GENESIS]


def signer_of(node: Node) -> Signer:
    """The node's own key: what someone with root on the node has."""
    name = (node.path / "keys" / "node.pub").read_text().split("+")[0]
    return Ed25519Signer(name, bytes.fromhex(json.loads((node.path / "keys" / "node.key").read_text())["box"]))


def stranger(node: Node) -> Signer:
    """A key that an attacker without the node's makes up, under the node's name."""
    return Ed25519Signer(signer_of(node).public.name, bytes([7]) * 32)


def rewrite(node: Node, payloads: Payloads, signer: Signer | None) -> None:
    """Put a whole new log in place: records chained anew, HEAD, and a checkpoint by ``signer``. Without a signer the
    node's old checkpoint stays, as an attacker without the key cannot make another."""
    reader = reader_of(node)
    genesis, created, log_id = reader.genesis, reader.created_ns, reader.log_id
    reader.close()
    if signer is not None and signer.public != genesis.key:
        genesis = genesis._replace(key=signer.public)
    frames, link = [], NO_LINK
    first = (created, KIND_GENESIS, genesis.payload(), FLAG_BATCH_END)
    for index, (time_ns, kind, payload, flags) in enumerate([first, *payloads], 1):
        frame, link = encode(index, 1, time_ns, kind, payload, link, flags)
        log_id = link if index == 1 else log_id
        frames.append((index, frame))
    old, new = node.path / "log", node.path / "log.forged"
    create_directory(str(new), map_bytes=1 << 26)
    for folder in ("blobs", "checkpoints"):
        if (old / folder).is_dir():
            shutil.copytree(old / folder, new / folder)
    storage = LmdbStorage(str(new), writable=True, map_bytes=1 << 26)
    storage.append(frames)
    slot = Slot(1, CLEAN, CommitPoint(1, len(frames), link), log_id, payloads[-1][0])
    storage.write_slot(1, encode_slot(slot))
    if signer is not None:
        root = root_of([leaf_hash(frame[-LINK_BYTES:]) for _, frame in frames])
        storage.put_file("checkpoints/latest", sign_checkpoint(Checkpoint(genesis.origin, len(frames), root), [signer]))
    storage.close()
    shutil.rmtree(old)
    new.rename(old)


def members_of(bundle: Path) -> Members:
    with zipfile.ZipFile(bundle) as source:
        return {info.filename: source.read(info) for info in source.infolist()}


def zipped(members: Members) -> bytes:
    """The members in a bundle's own form, as whoever can change members can also change the form."""
    out = io.BytesIO()
    writer = ZipWriter(out)
    for name, raw in members.items():
        writer.add(name, raw)
    writer.finish()
    return out.getvalue()


def deflated(members: Members) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for name, raw in members.items():
            target.writestr(name, raw)
    return out.getvalue()


def _place(member: tuple[str, bytes]) -> tuple[int, str]:
    """Where a member belongs: in its own order, so that nothing but the change itself is found."""
    kind = member[0].partition("/")[0]
    order = ("FORMAT", "checkpoint", "segments", "blobs")
    return (order.index(kind) if kind in order else len(order)), member[0]


def changed(change: Callable[[Members], object]) -> Callable[[Path], bytes]:
    """A tampering that changes members of the bundle and zips them again."""

    def tamper(bundle: Path) -> bytes:
        members = members_of(bundle)
        change(members)
        return zipped(dict(sorted(members.items(), key=_place)))

    return tamper


def overlapping(bundle: Path) -> bytes:
    """A zip whose directory names the same bytes a thousand times."""
    out = io.BytesIO(bundle.read_bytes())
    with zipfile.ZipFile(out, "a") as target:
        segment = next(info for info in target.infolist() if info.filename.startswith("segments/"))
        for number in range(1000):
            again = zipfile.ZipInfo(f"blobs/{number:064x}")
            for name in ("header_offset", "file_size", "compress_size", "CRC", "external_attr"):
                setattr(again, name, getattr(segment, name))
            target.filelist.append(again)
            target.NameToInfo[again.filename] = again
        target._didModify = True  # type: ignore[attr-defined]
    return out.getvalue()


def flips(bundle: Path) -> Iterator[tuple[str, bytes]]:
    """(place, the bundle with one bit flipped there): the first, middle and last byte of each member's content."""
    for name, raw in members_of(bundle).items():
        for position in (0, len(raw) // 2, len(raw) - 1):
            flipped = raw[:position] + bytes([raw[position] ^ 0x10]) + raw[position + 1 :]
            yield f"{name} at {position}", zipped(members_of(bundle) | {name: flipped})
