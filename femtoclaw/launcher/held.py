"""Native libraries in memory that nobody can write any more: hashed there, and loaded from there."""

from __future__ import annotations

import fcntl
import mmap
import os

from femtoclaw.launcher.refusal import mismatch, missing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from femtoclaw.launcher.sealed import Entry

_SEALS = 0x0001 | 0x0002 | 0x0004 | 0x0008  # no more seals, no shrinking, no growing, no writing
_ADD_SEALS = 1033


class Held:
    """An open descriptor with a library's verified bytes. It stays open: the dynamic linker takes two libraries of one
    name, here the descriptor's number, for the same. ``sealed`` is False where the kernel gave no such memory: then the
    descriptor is the file's own, and ``altered`` tells whether it was written since it was hashed."""

    def __init__(self, descriptor: int, changed: tuple[int, int] | None) -> None:
        self.descriptor = descriptor
        self.sealed = changed is None
        self._changed = changed

    def altered(self) -> bool:
        """True when the file was written since. Memory that is sealed never was."""
        return self._changed is not None and _change(self.descriptor) != self._changed


def hold(where: str, entry: Entry, hasher: Callable[[Any], Any]) -> Held:
    """The library's verified bytes. Raises Refused when they are others than the manifest's."""
    try:
        source = os.open(where, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise missing(where, entry.digest, error) from None
    changed = _change(source)
    copy = _sealed_copy(source, where)
    found = _digest(source if copy is None else copy, hasher)
    if found != entry.digest:
        raise mismatch(where, entry.digest, found)
    if copy is None:
        return Held(source, changed)
    os.close(source)
    return Held(copy, None)


def _digest(descriptor: int, hasher: Callable[[Any], Any]) -> str:
    size = os.fstat(descriptor).st_size
    if size == 0:
        return str(hasher(b"").hexdigest())
    with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as content:
        return str(hasher(content).hexdigest())


def _change(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_ctime_ns, status.st_size


def _sealed_copy(source: int, where: str) -> int | None:
    """The file's bytes in sealed memory; None where the kernel offers none."""
    try:
        copy = os.memfd_create(os.path.basename(where), os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (OSError, AttributeError):
        return None
    try:
        size, offset = os.fstat(source).st_size, 0
        while offset < size and (moved := os.sendfile(copy, source, offset, size - offset)):
            offset += moved
        fcntl.fcntl(copy, _ADD_SEALS, _SEALS)
    except OSError:
        os.close(copy)
        return None
    return copy
