"""The embedded coordinator: an operator has named the owner, and only the owner leads. Nobody is asked.

There is no lease: the owner holds from its campaign until it resigns. A takeover is an operator's act: on another member the
coordinator is made with that member as owner and an ``epoch`` that is higher than any before. Should two members believe
that they are owners, both may be granted the same epoch, because nothing is shared here; then only the voters decide, each
of which promises an epoch to one candidate.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import threading
from typing import NamedTuple, Protocol

import msgpack

from cluster.coordinator import NUMBER_MAX, Register, check_wait, decode_register, encode_register
from cluster.errors import ClusterConfigurationError, CoordinatorUnavailableError, CorruptRegisterError
from wal.durable_file import read_file, write_file
from wal.errors import LogError

FORMAT = 1


class RegisterStore(Protocol):
    """Where a static coordinator keeps its few bytes. ``save`` is whole and durable on return, or raises a LogError."""

    def load(self) -> bytes | None: ...

    def save(self, raw: bytes) -> None: ...


class RegisterFile:
    """A register store in one file, replaced as a whole."""

    def __init__(self, path: str) -> None:
        self._path = path

    def load(self) -> bytes | None:
        return read_file(self._path)

    def save(self, raw: bytes) -> None:
        write_file(self._path, raw)


class RegisterMemory:
    """A register store that lasts as long as the process: for tests and simulation."""

    def __init__(self) -> None:
        self._raw: bytes | None = None

    def load(self) -> bytes | None:
        return self._raw

    def save(self, raw: bytes) -> None:
        self._raw = raw


class Kept(NamedTuple):
    """What the store holds: the newest epoch granted here (0: none), the register's version and bytes (0 and empty: none)."""

    epoch: int
    version: int
    raw: bytes


class StaticCoordinator:
    """The port of ``cluster/coordinator.py``, on the node of ``member``: leadership belongs to ``owner``.

    ``epoch`` is the lowest one that a campaign here may be granted. On a member that is not the owner, ``leader`` tells it as
    the epoch: the owner's own may be higher. Raises ClusterConfigurationError for an epoch outside 1 to 2^63-1.
    """

    def __init__(self, member: str, owner: str, store: RegisterStore, epoch: int = 1) -> None:
        if not 1 <= epoch <= NUMBER_MAX:
            raise ClusterConfigurationError("the owner's epoch is out of range", expected="1 to 2^63-1", found=epoch)
        self._member = member
        self._owner = owner
        self._store = store
        self._lowest = epoch
        self._granted = 0
        self._changed = threading.Condition()
        self._changes = 0
        self._seen = 0
        self._closed = False

    def campaign(self, member: str, above: int = 0) -> int | None:
        with self._changed:
            self._give_back()
            if member != self._owner:
                return None
            kept = self._load()
            epoch = max(self._lowest, kept.epoch + 1, above + 1)
            if epoch > NUMBER_MAX:
                raise ClusterConfigurationError("no epoch is left", expected="< 2^63", found=epoch)
            self._save(kept._replace(epoch=epoch))
            self._granted = epoch
            self._note_change()
            self._seen = self._changes
            return epoch

    def leader(self) -> tuple[str, int] | None:
        with self._changed:
            self._seen = self._changes
            if self._granted:
                return self._owner, self._granted
            return None if self._member == self._owner else (self._owner, self._lowest)

    def attests(self, member: str, epoch: int) -> bool:
        if self._member == self._owner:
            return member == self._owner and 0 < epoch == self._granted
        return member == self._owner and self._lowest <= epoch

    def register(self) -> Register | None:
        kept = self._load()
        return decode_register(kept.raw, kept.version) if kept.version else None

    def publish(self, epoch: int, register: Register) -> Register | None:
        raw = encode_register(register)
        with self._changed:
            kept = self._load()
            if epoch != self._granted or not epoch:
                return None
            done = register._replace(version=register.version + 1)
            if kept.version == done.version and kept.raw == raw:
                return done
            if kept.version != register.version:
                return None
            self._save(Kept(kept.epoch, done.version, raw))
            return done

    def held(self) -> bool:
        return self._granted > 0

    def resign(self) -> None:
        with self._changed:
            self._give_back()

    def wait_change(self, timeout_s: float) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._changes != self._seen, check_wait(timeout_s))
            changed = self._changes != self._seen
            self._seen = self._changes
            return changed

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _give_back(self) -> None:
        if self._granted:
            self._granted = 0
            self._note_change()

    def _note_change(self) -> None:
        self._changes += 1
        self._changed.notify_all()

    def _load(self) -> Kept:
        try:
            raw = self._store.load()
        except LogError as error:
            raise CoordinatorUnavailableError("the coordinator's file cannot be read", found=error) from error
        return decode_kept(raw) if raw is not None else Kept(0, 0, b"")

    def _save(self, kept: Kept) -> None:
        try:
            self._store.save(encode_kept(kept))
        except LogError as error:
            raise CoordinatorUnavailableError("the coordinator's file cannot be written", found=error) from error


def encode_kept(kept: Kept) -> bytes:
    """msgpack array: format, epoch, version of the register, its bytes."""
    raw: bytes = msgpack.packb([FORMAT, *kept])
    return raw


def decode_kept(raw: bytes) -> Kept:
    """Read what the store holds, strictly. Raises CorruptRegisterError."""
    try:
        fields = msgpack.unpackb(raw, use_list=False, max_ext_len=0)
        if type(fields) is not tuple or len(fields) != 4 or fields[0] != FORMAT:
            raise ValueError("not format 1")
        kept = Kept(*fields[1:])
        for number in (kept.epoch, kept.version):
            if type(number) is not int or not 0 <= number <= NUMBER_MAX:
                raise ValueError("not a number of 63 bits")
        if type(kept.raw) is not bytes or (kept.version == 0) != (kept.raw == b"") or encode_kept(kept) != raw:
            raise ValueError("not a register with its version")
        return kept
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise CorruptRegisterError("the coordinator's file does not decode", found=error) from error
