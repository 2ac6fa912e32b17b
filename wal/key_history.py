"""Which key signs for a log at which size: from the genesis record on, through every rotation. Pure.

A checkpoint over N records is signed by the key in force at N. A segment that ends at N may be sealed later, so by that key
or by one that came after it; never by one that had been superseded before N.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from wal.checkpoint import VerifiedCheckpoint, open_checkpoint, parse_checkpoint
from wal.errors import (
    CorruptRecordError,
    ForgedSignatureError,
    KeyNotInForceError,
    LogError,
    SignatureError,
    SupersededKeyError,
    WrongKeyError,
)
from wal.genesis import Genesis
from wal.limits import ROTATIONS_MAX
from wal.note import PublicKey, open_note, text_of
from wal.record import KIND_ROTATED, Record, decode
from wal.rotation import COMPROMISED, parse_rotation, verify_rotation
from wal.segment import Seal, Segment, open_seal

GENESIS = "genesis"


class Tenure(NamedTuple):
    """A key in force from the record ``first`` on, and why the one before it ended (``genesis`` for the first)."""

    first: int
    key: PublicKey
    reason: str


class KeyHistory(tuple[Tenure, ...]):
    """The keys of one log, oldest first. Every one but the first is there by a verified rotation (I10)."""

    __slots__ = ()

    @classmethod
    def begin(cls, genesis: Genesis) -> "KeyHistory":
        """The key that the genesis record names, and no rotation yet."""
        return cls((Tenure(1, genesis.key, GENESIS),))

    @property
    def newest(self) -> Tenure:
        """The key in force behind the newest rotation known here."""
        return self[-1]

    @property
    def rotated(self) -> int:
        """Index of the newest rotation's record, 0 without one."""
        return self[-1].first if len(self) > 1 else 0

    def at(self, size: int) -> Tenure:
        """The key in force when the log has ``size`` records."""
        return next((tenure for tenure in reversed(self) if tenure.first <= size), self[0])

    def knows(self, key: PublicKey) -> bool:
        """True when ``key`` is, or was, in force at some size."""
        return any(tenure.key == key for tenure in self)

    def extended(self, record: Record, origin: str) -> "KeyHistory":
        """With the rotation in ``record``, which must lead on from the newest key, to a key that was never in force.

        Raises CorruptRecordError.
        """
        rotation = parse_rotation(record)
        where = f"index {record.index}"
        if len(self) > ROTATIONS_MAX:
            raise CorruptRecordError("too many rotations", where=where, expected=f"<= {ROTATIONS_MAX}")
        if (rotation.before, rotation.old) != (self.rotated, self.newest.key):
            raise CorruptRecordError(
                "a rotation does not lead on from the key in force", where=where, expected=self.newest.key.vkey(),
                found=rotation.old.vkey(),
            )  # fmt: skip
        if any(tenure.key.raw == rotation.new.raw for tenure in self):
            raise CorruptRecordError("a rotation brings back a key", where=where, found=rotation.new.vkey())
        verify_rotation(rotation, origin, record)
        return KeyHistory((*self, Tenure(record.index, rotation.new, rotation.reason)))

    def open_checkpoint(self, note: bytes, origin: str) -> VerifiedCheckpoint:
        """Verify a checkpoint by the key in force at its size.

        Raises SignatureError; KeyNotInForceError or ForgedSignatureError when another key of this log signed it.
        """
        size = parse_checkpoint(text_of(note)).size
        try:
            return open_checkpoint(note, [self.at(size).key], origin)
        except SignatureError:
            self._explain(note, size, [self.at(size).key])
            raise

    def open_seal(self, segment: Segment, where: str) -> Seal:
        """Verify a segment's seal; raises as ``open_checkpoint`` does."""
        last = segment.first + len(segment.rows) - 1
        try:
            return open_seal(segment, self.sealing(last), where)
        except SignatureError:
            if segment.seal:
                self._explain(segment.seal, last, self.sealing(last))
            raise

    def sealing(self, last: int) -> list[PublicKey]:
        """The keys that may seal what ends at ``last``: the one in force there, and every later one."""
        return [tenure.key for tenure in self[self.index(self.at(last)) :]]

    def _explain(self, note: bytes, size: int, allowed: list[PublicKey]) -> None:
        """Raise a more exact error when none of ``allowed`` signed a refused note, but another key of this log did."""
        signed = [number for number, tenure in enumerate(self) if _signed(note, tenure.key)]
        if signed and not any(self[number].key in allowed for number in signed):
            raise self._not_in_force(signed[0], size)

    def _not_in_force(self, number: int, size: int) -> KeyNotInForceError:
        tenure, allowed = self[number], self.at(size).key.vkey()
        where = f"size {size}"
        if tenure.first > size:
            return KeyNotInForceError(
                f"signed by a key that came into force only at {tenure.first}", where=where, expected=allowed,
                found=tenure.key.vkey(),
            )  # fmt: skip
        after = self[number + 1]
        if after.reason == COMPROMISED:
            return ForgedSignatureError(
                f"forged: signed by a key that was declared compromised at {after.first}", where=where,
                expected=allowed, found=tenure.key.vkey(),
            )  # fmt: skip
        return KeyNotInForceError(
            f"signed by a key that was superseded at {after.first}", where=where, expected=allowed,
            found=tenure.key.vkey(),
        )  # fmt: skip

    def wrong_key(self, held: str, where: str) -> WrongKeyError:
        """The error for one who would write with the key ``held`` (a vkey) that is not the one in force."""
        expected = self.newest.key.vkey()
        for number, tenure in enumerate(self[:-1]):
            if tenure.key.vkey() == held:
                after = self[number + 1]
                return SupersededKeyError(
                    f"this key was superseded ({after.reason}) by the rotation at index {after.first}", where=where,
                    expected=expected, found=held,
                )  # fmt: skip
        return WrongKeyError("this key is not the one in force", where=where, expected=expected, found=held)


def _signed(note: bytes, key: PublicKey) -> bool:
    try:
        open_note(note, [key])
    except SignatureError:
        return False
    return True


def trace_keys(get: Callable[[int], bytes | None], genesis: Genesis, rotated: int) -> KeyHistory:
    """The keys up to the rotation at index ``rotated`` (0: none), found by the way that leads back from there.

    ``get`` gives a stored frame. Raises CorruptRecordError when a rotation is missing, damaged, or does not verify.
    """
    records: list[Record] = []
    index = rotated
    while index:
        where = f"index {index}"
        raw = get(index)
        if raw is None:
            raise CorruptRecordError("a promised rotation is missing", where=where)
        record = decode(raw, where)
        if record.index != index or len(records) >= ROTATIONS_MAX:
            raise CorruptRecordError("not the rotation that should be here", where=where, found=record.index)
        records.append(record)
        index = parse_rotation(record).before
    history = KeyHistory.begin(genesis)
    for record in reversed(records):
        history = history.extended(record, genesis.origin)
    return history


def gather_keys(frames: Iterable[tuple[int, bytes]], genesis: Genesis, history: Sequence[Tenure] = ()) -> KeyHistory:
    """The keys by every rotation among ``frames`` that verifies behind ``history`` (default: genesis); what does not is
    passed over: for where HEAD cannot lead the way, and for records above it."""
    keys = KeyHistory(history) if history else KeyHistory.begin(genesis)
    for index, raw in frames:
        if raw[5:6] != _KIND:
            continue
        try:
            record = decode(raw, f"index {index}")
            keys = keys.extended(record, genesis.origin) if record.index == index else keys
        except LogError:
            continue
    return keys


_KIND = bytes([KIND_ROTATED])
