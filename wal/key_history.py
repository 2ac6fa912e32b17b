"""Which key signs for a log at which size: from the genesis record on, through every authority record. Pure.

A checkpoint over N records is signed by the key in force at N. A segment that ends at N may be sealed later, so by that key
or by one that came after it; never by one that had been superseded before N.

Authority records (rotations, memberships, epochs) form one linked list: each names the one before it. A rotation and an epoch
change the key in force, a membership only says who takes part.
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
from wal.limits import AUTHORITY_RECORDS_MAX, ROTATIONS_MAX
from wal.note import PublicKey, open_note, text_of
from wal.record import AUTHORITY_KINDS, KIND_EPOCH, KIND_MEMBERS, Record, decode
from wal.rotation import COMPROMISED, REASONS, parse_rotation, verify_rotation
from wal.segment import Seal, Segment, open_seal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wal.membership import Membership

GENESIS = "genesis"
EPOCH = "epoch"
MEMBERS = "members"
EPOCH_FIRST = 1
"""The epoch that a genesis record begins."""


class Tenure(NamedTuple):
    """A key in force from the record ``first`` on, and why: ``genesis``, a rotation's reason (how the key before it ended),
    ``epoch`` (its member took over the log), or ``members`` (the same key goes on under another membership)."""

    first: int
    key: PublicKey
    reason: str
    epoch: int = EPOCH_FIRST
    members: "Membership | None" = None


class KeyHistory(tuple[Tenure, ...]):
    """The keys of one log, oldest first. Every one but the first is there by a verified authority record (I10)."""

    __slots__ = ()

    @classmethod
    def begin(cls, genesis: Genesis) -> "KeyHistory":
        """The key that the genesis record names, and no authority record yet."""
        return cls((Tenure(1, genesis.key, GENESIS),))

    @property
    def newest(self) -> Tenure:
        """The key in force behind the newest authority record known here."""
        return self[-1]

    @property
    def rotated(self) -> int:
        """Index of the newest authority record, 0 without one: what HEAD says, and what the next one names."""
        return self[-1].first if len(self) > 1 else 0

    def at(self, size: int) -> Tenure:
        """The key in force when the log has ``size`` records."""
        return next((tenure for tenure in reversed(self) if tenure.first <= size), self[0])

    def knows(self, key: PublicKey) -> bool:
        """True when ``key`` is, or was, in force at some size."""
        return any(tenure.key == key for tenure in self)

    @property
    def rotations(self) -> int:
        """How many rotations there were."""
        return sum(tenure.reason in REASONS for tenure in self)

    def epochs(self) -> tuple[tuple[int, int], ...]:
        """(epoch, index of its first record) of every epoch, oldest first."""
        begun = (each for each in self if each.reason == EPOCH)
        return ((EPOCH_FIRST, 1), *((each.epoch, each.first) for each in begun))

    def up_to(self, size: int) -> "KeyHistory":
        """What is left of it when the log has ``size`` records."""
        return KeyHistory(tenure for tenure in self if tenure.first <= max(size, 1))

    def extended(self, record: Record, origin: str) -> "KeyHistory":
        """With what the authority record ``record`` says, which must lead on from the newest one.

        Raises CorruptRecordError.
        """
        if len(self) > AUTHORITY_RECORDS_MAX:
            raise _refuse(record, "too many authority records", f"<= {AUTHORITY_RECORDS_MAX}", len(self))
        if record.kind == KIND_MEMBERS:
            tenure = self._members(record, origin)
        elif record.kind == KIND_EPOCH:
            tenure = self._epoch(record, origin)
        else:
            tenure = self._rotation(record, origin)
        return KeyHistory((*self, tenure))

    def _rotation(self, record: Record, origin: str) -> Tenure:
        """To a key that was never in force, and that no other member holds."""
        rotation, newest = parse_rotation(record), self.newest
        where = f"index {record.index}"
        if self.rotations >= ROTATIONS_MAX:
            raise CorruptRecordError("too many rotations", where=where, expected=f"<= {ROTATIONS_MAX}")
        if (rotation.before, rotation.old) != (self.rotated, newest.key):
            raise CorruptRecordError(
                "a rotation does not lead on from the key in force", where=where, expected=newest.key.vkey(),
                found=rotation.old.vkey(),
            )  # fmt: skip
        if any(tenure.key.raw == rotation.new.raw for tenure in self):
            raise CorruptRecordError("a rotation brings back a key", where=where, found=rotation.new.vkey())
        members = newest.members
        if members is not None:
            if any(member.key.raw == rotation.new.raw for member in members.members):
                raise CorruptRecordError("a rotation takes a member's key", where=where, found=rotation.new.vkey())
            if record.epoch != newest.epoch:
                raise _refuse(record, "a rotation is of another epoch", newest.epoch, record.epoch)
            members = members.with_key(rotation.old, rotation.new)
        verify_rotation(rotation, origin, record)
        return Tenure(record.index, rotation.new, rotation.reason, newest.epoch, members)

    def _members(self, record: Record, origin: str) -> Tenure:
        """To a membership in which the key in force is a voter's, at most one voter away from the one before."""
        from wal.membership import check_succession, parse_members, verify_members

        change, newest = parse_members(record), self.newest
        if (change.before, record.epoch) != (self.rotated, newest.epoch):
            expected, found = (self.rotated, newest.epoch), (change.before, record.epoch)
            raise _refuse(record, "a membership does not lead on from the authority before it", expected, found)
        refused = check_succession(newest.members, change.membership, newest.key)
        if refused is not None:
            raise _refuse(record, refused.what, refused.expected, refused.found)
        back = self.ended() & {member.key.raw for member in change.membership.members}
        if back:
            raise _refuse(record, "a membership brings back a key that a rotation ended", "other keys", len(back))
        verify_members(change, origin, record, newest.key)
        return newest._replace(first=record.index, reason=MEMBERS, members=change.membership)

    def _epoch(self, record: Record, origin: str) -> Tenure:
        """To the key of the member whom a majority of the voters let in."""
        from wal.epoch_start import parse_epoch_start, verify_epoch_start

        start, newest = parse_epoch_start(record), self.newest
        if start.before != self.rotated:
            raise _refuse(
                record, "an epoch does not lead on from the authority before it", self.rotated, start.before
            )  # fmt: skip
        key = verify_epoch_start(start, origin, record, newest.epoch, newest.members)
        return Tenure(record.index, key, EPOCH, start.epoch, newest.members)

    def ended(self) -> set[bytes]:
        """The raw keys that a rotation has ended: none of them ever counts again."""
        return {self[number].key.raw for number, after in enumerate(self[1:]) if after.reason in REASONS}

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
            before = [number for number in signed if self[number].first <= size]
            forged = [number for number in before if self._end(number).reason == COMPROMISED]
            raise self._not_in_force([*signed[:1], *before, *forged][-1], size)

    def _not_in_force(self, number: int, size: int) -> KeyNotInForceError:
        tenure, allowed = self[number], self.at(size).key.vkey()
        where = f"size {size}"
        if tenure.first > size:
            return KeyNotInForceError(
                f"signed by a key that came into force only at {tenure.first}", where=where, expected=allowed,
                found=tenure.key.vkey(),
            )  # fmt: skip
        after = self._end(number)
        if after.reason == COMPROMISED:
            return ForgedSignatureError(
                f"forged: signed by a key that was declared compromised at {after.first}", where=where,
                expected=allowed, found=tenure.key.vkey(),
            )  # fmt: skip
        return KeyNotInForceError(
            f"signed by a key that was superseded at {after.first}", where=where, expected=allowed,
            found=tenure.key.vkey(),
        )  # fmt: skip

    def _end(self, number: int) -> Tenure:
        """The tenure that ended the key of tenure ``number``, which is not the newest key."""
        return next(tenure for tenure in self[number + 1 :] if tenure.key != self[number].key)

    def end_of(self, key: PublicKey) -> Tenure | None:
        """The tenure that ended ``key`` for good, None while it is in force, or when it never was."""
        held = [number for number, tenure in enumerate(self) if tenure.key == key]
        return self._end(held[-1]) if held and self.newest.key != key else None

    def wrong_key(self, held: str, where: str) -> WrongKeyError:
        """The error for one who would write with the key ``held`` (a vkey) that is not the one in force."""
        expected = self.newest.key.vkey()
        for tenure in self:
            after = self.end_of(tenure.key) if tenure.key.vkey() == held else None
            if after is not None:
                act = "epoch" if after.reason == EPOCH else "rotation"
                return SupersededKeyError(
                    f"this key was superseded ({after.reason}) by the {act} at index {after.first}", where=where,
                    expected=expected, found=held,
                )  # fmt: skip
        return WrongKeyError("this key is not the one in force", where=where, expected=expected, found=held)


def _refuse(record: Record, what: str, expected: object, found: object) -> CorruptRecordError:
    return CorruptRecordError(what, where=f"index {record.index}", expected=expected, found=found)


def authority_before(record: Record) -> int:
    """Index of the authority record before the authority record ``record``, 0 for none. Raises CorruptRecordError."""
    if record.kind == KIND_MEMBERS:
        from wal.membership import parse_members

        return parse_members(record).before
    if record.kind == KIND_EPOCH:
        from wal.epoch_start import parse_epoch_start

        return parse_epoch_start(record).before
    return parse_rotation(record).before


def _signed(note: bytes, key: PublicKey) -> bool:
    try:
        open_note(note, [key])
    except SignatureError:
        return False
    return True


def trace_keys(get: Callable[[int], bytes | None], genesis: Genesis, rotated: int) -> KeyHistory:
    """The keys up to the authority record at index ``rotated`` (0: none), found by the way that leads back from there.

    ``get`` gives a stored frame. Raises CorruptRecordError when one of them is missing, damaged, or does not verify.
    """
    records: list[Record] = []
    index = rotated
    while index:
        where = f"index {index}"
        raw = get(index)
        if raw is None:
            raise CorruptRecordError("a promised authority record is missing", where=where)
        record = decode(raw, where)
        if record.index != index or len(records) >= AUTHORITY_RECORDS_MAX:
            raise CorruptRecordError("not the authority record that should be here", where=where, found=record.index)
        records.append(record)
        index = authority_before(record)
    history = KeyHistory.begin(genesis)
    for record in reversed(records):
        history = history.extended(record, genesis.origin)
    return history


def gather_keys(frames: Iterable[tuple[int, bytes]], genesis: Genesis, history: Sequence[Tenure] = ()) -> KeyHistory:
    """The keys by every authority record among ``frames`` that verifies behind ``history`` (default: genesis); what does not
    is passed over: for where HEAD cannot lead the way, and for records above it."""
    keys = KeyHistory(history) if history else KeyHistory.begin(genesis)
    for index, raw in frames:
        if raw[5:6] not in _KINDS:
            continue
        try:
            record = decode(raw, f"index {index}")
            keys = keys.extended(record, genesis.origin) if record.index == index else keys
        except LogError:
            continue
    return keys


_KINDS = tuple(bytes([kind]) for kind in AUTHORITY_KINDS)
