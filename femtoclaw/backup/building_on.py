"""What a new backup builds on: objects that a place has already, some of which are read again each time.

A name in a listing says nothing about the bytes below it. So each backup reads a share of what it takes over, from a point that is
chosen by chance, and all of what no signed manifest names; what is altered or missing counts as absent and is put anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.archive_errors import ArchiveBoundError
from femtoclaw.backup.layout import BackupDamagedError, Manifest, SegmentRow, content_of
from femtoclaw.backup.place import Objects, load, manifest_names
from wal.note import PublicKey

if TYPE_CHECKING:
    from cluster.archive import ArchiveStore
    from wal.key_history import KeyHistory

CHECKED_BYTES_MAX = 256 * 1024 * 1024
"""Sealed bytes that one backup reads of what it takes over: of a smaller place, all."""

CHECKED_OBJECTS_MAX = 4096

MANIFESTS_LOOKED_AT_MAX = 100
"""Newest manifests among which one to build on is looked for."""


class BuiltOn:
    """Objects of one log in a place, by the content that their names say."""

    def __init__(self, store: ArchiveStore, log_id: str, keys: KeyHistory, recovery: PublicKey, chance: int) -> None:
        """Reads a share of what the newest fitting backup names, beginning where ``chance`` (any natural number) says. Raises
        what reading the place raises."""
        self._objects = Objects(store, log_id)
        self.damaged: list[str] = []
        """Names of objects that are altered, or gone though a backup names them."""
        self.checked = 0
        """Objects that were read again."""
        newest = _newest(store, log_id, keys, recovery)
        there = set(self._objects.names())
        signed = set(newest.objects()) if newest is not None else set[str]()
        self.damaged += sorted(signed - there)
        self._signed = signed & there
        self._names = {content_of(name): name for name in there - signed} | {
            content_of(name): name for name in self._signed
        }
        self._segments = {row.digest: row for row in newest.segments} if newest is not None else {}
        self._check_share(sorted(self._signed), chance)

    def _check_share(self, names: list[str], chance: int) -> None:
        left, start = CHECKED_BYTES_MAX, chance % max(1, len(names))
        for name in (names[start:] + names[:start])[:CHECKED_OBJECTS_MAX]:
            left -= self._check(name)
            if left <= 0:
                break

    def _check(self, name: str) -> int:
        """Read one object; its bytes. One that is not what its name says is taken over no more."""
        self.checked += 1
        try:
            return len(self._objects.sealed(name))
        except (BackupDamagedError, ArchiveBoundError):
            self.damaged.append(name)
            self._signed.discard(name)
            del self._names[content_of(name)]
            return 0

    def name_of(self, content: str) -> str | None:
        """The object that holds this content, None when there is none to rely on. One that no signed manifest names, such as a
        killed backup leaves, is read before it is relied on."""
        name = self._names.get(content)
        if name is not None and name not in self._signed:
            self._check(name)
            name = self._names.get(content)
            self._signed |= {name} if name is not None else set()
        return name

    def segment(self, digest: str) -> SegmentRow | None:
        """The row of a sealed segment whose objects are all to be relied on: counting it again would give the same."""
        row = self._segments.get(digest)
        return row if row is not None and self._signed.issuperset(row.objects) else None

    def put(self, content: str, name: str, sealed: bytes) -> None:
        """Store an object that is new."""
        self._objects.put(name, sealed)
        self._names[content] = name
        self._signed.add(name)


def _newest(store: ArchiveStore, log_id: str, keys: KeyHistory, recovery: PublicKey) -> Manifest | None:
    """The newest manifest of this node's. What is sealed to another recovery key is not built on: no one key would open all of
    the backup."""
    for name in reversed(manifest_names(store, log_id)[-MANIFESTS_LOOKED_AT_MAX:]):
        try:
            manifest = load(store, log_id, name).manifest
        except BackupDamagedError:
            continue  # `backup verify` tells; this one is made all the same
        ours = keys.knows(PublicKey.parse(manifest.node_key))
        if ours and manifest.recovery_key == recovery.vkey():
            return manifest
    return None
