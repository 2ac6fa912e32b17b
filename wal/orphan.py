"""Orphans: what a replica stored beyond the point that a later epoch went on from. They become evidence, then they are cut.

A crash at any call in between leaves a log that opens: first everything is copied to ``evidence/``, then what promised more
(list of segments, checkpoint, both HEAD slots) names the shorter log, and last the records go.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import base64
from typing import NamedTuple

from blake3 import blake3

from wal.manifest import FILE_NAME as MANIFEST_FILE
from wal.manifest import Manifest, encode_manifest
from wal.reader import CHECKPOINT_FILE
from wal.record import Head, decode
from wal.storage import Storage

_TITLE = "femtoclaw orphan v1"


class Orphan(NamedTuple):
    """The records ``before.index + 1`` to ``last.index`` of a replica; ``epoch`` is that of the last of them, ``digest`` the
    BLAKE3 of their frames, one after the other."""

    origin: str
    epoch: int
    before: Head
    last: Head
    digest: bytes

    @property
    def file_name(self) -> str:
        """Where the frames are kept; the signed statement has ``.note`` in place of ``.frames``."""
        return f"evidence/orphan-{self.epoch}-{self.before.index + 1}-{self.last.index}-{self.digest.hex()}.frames"

    def statement(self) -> bytes:
        """What the one who cuts signs: title, log, epoch, first and last index, link before, last link, digest."""
        b64 = [base64.b64encode(value).decode() for value in (self.before.link, self.last.link, self.digest)]
        numbers = f"{self.epoch} {self.before.index + 1} {self.last.index}"
        return "\n".join([_TITLE, self.origin, numbers, *b64, ""]).encode()


def read_orphan(storage: Storage, origin: str, before: Head, last: Head) -> tuple[Orphan, bytes]:
    """The orphan behind ``before`` and its frames, as they are stored."""
    raws = [raw for _, raw in storage.scan(before.index + 1, last.index + 1)]
    frames = b"".join(raws)
    epoch = decode(raws[-1], f"index {last.index}").epoch
    return Orphan(origin, epoch, before, last, blake3(frames).digest()), frames


def set_aside(storage: Storage, manifest: Manifest, after: int, checkpoint: bytes, signed: int) -> Manifest:
    """Shorten what promises more than ``after`` records, each kept as evidence first; return the list that is left.

    ``signed`` is the size of the stored checkpoint; ``checkpoint`` takes its place when it reaches beyond (empty: none
    holds, until one is kept again).
    """
    kept = Manifest(seal for seal in manifest if seal.head.index <= after)
    if len(kept) < len(manifest):
        _keep_evidence(storage, MANIFEST_FILE, "manifest")
        storage.put_file(MANIFEST_FILE, encode_manifest(kept))
    listed = {seal.file_name for seal in kept}
    for name in storage.list_files("segments"):
        raw = storage.get_file(f"segments/{name}") if name.endswith(".seg") and name not in listed else None
        if raw:
            storage.put_file(f"evidence/{name}", raw)
            storage.put_file(f"segments/{name}", b"")
    if signed > after:
        _keep_evidence(storage, CHECKPOINT_FILE, "checkpoint")
        storage.put_file(CHECKPOINT_FILE, checkpoint)
    return kept


def _keep_evidence(storage: Storage, name: str, kind: str) -> None:
    raw = storage.get_file(name)
    if raw:
        storage.put_file(f"evidence/{kind}-{blake3(raw).hexdigest()}", raw)
