"""EPOCH records: a member takes over the log by the promises of a majority of its voters. Pure.

A promise says: from now on I take nothing from any epoch below this one, and this is how far my log reaches. The record
carries them, so whoever reads the log can check that the leader was let in, and that it had every record that a majority
could have stored.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgpack

from wal.errors import CorruptRecordError, SignatureError
from wal.limits import EPOCH_MAX, MEMBERS_MAX
from wal.membership import Member, Membership
from wal.merkle import HASH_BYTES, SIZE_MAX
from wal.note import SIGNATURE_BYTES, PublicKey, Signer, verify_signature
from wal.record import KIND_EPOCH, Head, Record

_TITLE = "femtoclaw epoch start v1"
_PROMISE_TITLE = "femtoclaw promise v1"
_NAME = "epoch"
_FIELDS = [str, int, int, str, tuple, bytes]
_PROMISE_FIELDS = [str, int, int, bytes, bytes]
_NAME_BYTES_MAX = 64


class Promise(NamedTuple):
    """A voter's word for one candidate and epoch: it refuses lower epochs, and its log ends with a record of
    ``last_epoch`` at ``size`` records with the tree root ``root``."""

    member: str
    last_epoch: int
    size: int
    root: bytes
    signature: bytes


class EpochStart(NamedTuple):
    """What an EPOCH record says; ``before`` is the index of the authority record before it, 0 for the first one."""

    before: int
    epoch: int
    leader: str
    promises: tuple[Promise, ...]
    signature: bytes

    def payload(self) -> bytes:
        """msgpack array: "epoch", index of the authority record before, epoch, leader, promises, signature."""
        promises = [list(promise) for promise in self.promises]
        packed: bytes = msgpack.packb([_NAME, self.before, self.epoch, self.leader, promises, self.signature])
        return packed

    def statement(self, origin: str, before: Head) -> bytes:
        """What the leader signs. Its first line has blanks, which no origin has, so no checkpoint reads so."""
        link = base64.b64encode(before.link).decode()
        lines = [_TITLE, origin, str(before.index + 1), link, str(self.before), str(self.epoch), self.leader]
        return "\n".join([*lines, *map(_line, self.promises), ""]).encode()


def _line(promise: Promise) -> str:
    root, signature = (base64.b64encode(value).decode() for value in (promise.root, promise.signature))
    return f"{promise.member} {promise.last_epoch} {promise.size} {root} {signature}"


def promise_statement(
    origin: str, epoch: int, candidate: PublicKey, member: str, last_epoch: int, size: int, root: bytes
) -> bytes:
    """What a voter signs: title, log, epoch, candidate's key, its own name, its log's last epoch, size and root."""
    values = [epoch, candidate.vkey(), member, last_epoch, size, base64.b64encode(root).decode()]
    return "\n".join([_PROMISE_TITLE, origin, *map(str, values), ""]).encode()


def sign_promise(
    origin: str, epoch: int, candidate: PublicKey, member: str, last_epoch: int, size: int, root: bytes, signer: Signer
) -> Promise:
    """The promise of ``member``, whose key ``signer`` holds. Its durable state must refuse lower epochs before."""
    statement = promise_statement(origin, epoch, candidate, member, last_epoch, size, root)
    return Promise(member, last_epoch, size, root, signer.sign(statement))


def verify_promise(promise: Promise, origin: str, epoch: int, candidate: PublicKey, members: Membership) -> Member:
    """The voter of ``members`` whose promise this is. Raises SignatureError when it is nobody's, or for another."""
    member = members.get(promise.member)
    if member is None or not member.voter:
        raise SignatureError(
            "a promise is not by a voter", where=f"epoch {epoch}", found=promise.member[:_NAME_BYTES_MAX],
            remedy="only voters' promises count; look at the membership",
        )  # fmt: skip
    claim = promise_statement(
        origin, epoch, candidate, promise.member, promise.last_epoch, promise.size, promise.root
    )  # fmt: skip
    verify_signature(claim, promise.signature, member.key)
    return member


def sign_epoch_start(
    origin: str, head: Head, before: int, epoch: int, leader: str, promises: Sequence[Promise], signer: Signer
) -> bytes:
    """The payload of the record that follows ``head``; ``signer`` holds the key of the member ``leader``."""
    ordered = tuple(sorted(promises, key=lambda promise: promise.member))
    unsigned = EpochStart(before, epoch, leader, ordered, b"")
    return unsigned._replace(signature=signer.sign(unsigned.statement(origin, head))).payload()


def parse_epoch_start(record: Record) -> EpochStart:
    """What a record claims, in its only spelling; nothing of it is verified. Raises CorruptRecordError."""
    where = f"index {record.index}"
    if record.kind != KIND_EPOCH:
        raise CorruptRecordError("not an epoch's record", where=where, expected=KIND_EPOCH, found=record.kind)
    try:
        fields = msgpack.unpackb(record.payload, use_list=False, max_ext_len=0)
        if type(fields) is not tuple or [type(field) for field in fields] != _FIELDS or fields[0] != _NAME:
            raise ValueError("not the fields of an epoch's start")
        _, before, epoch, leader, rows, signature = fields
        if not 0 <= before < record.index or not 1 <= epoch <= EPOCH_MAX or len(leader) > _NAME_BYTES_MAX:
            raise ValueError("a field out of its range")
        if len(rows) > MEMBERS_MAX:
            raise ValueError("too many promises")
        start = EpochStart(before, epoch, leader, tuple(map(_parse_promise, rows)), signature)
        if start.payload() != record.payload or len(signature) != SIGNATURE_BYTES:
            raise ValueError("another spelling")
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise CorruptRecordError("an epoch's record does not decode", where=where, found=error) from error
    return start


def _parse_promise(row: Any) -> Promise:
    if type(row) is not tuple or [type(field) for field in row] != _PROMISE_FIELDS:
        raise ValueError("not the fields of a promise")
    promise = Promise(*row)
    if not 0 <= promise.last_epoch <= EPOCH_MAX or not 0 <= promise.size <= SIZE_MAX:
        raise ValueError("a promise out of its range")
    if len(promise.root) != HASH_BYTES or len(promise.signature) != SIGNATURE_BYTES:
        raise ValueError("a promise with another length")
    return promise


def verify_epoch_start(
    start: EpochStart, origin: str, record: Record, epoch: int, members: Membership | None
) -> PublicKey:
    """The key of the leader whom ``members``, in force before the record, let in; ``epoch`` is the one that it ends.

    Raises CorruptRecordError.
    """
    if members is None:
        raise _refuse(record, "an epoch begins in a log without members", "a membership", "none")
    if not record.epoch == start.epoch > epoch:
        raise _refuse(record, "an epoch's record is not of a later epoch", f"> {epoch}", (start.epoch, record.epoch))
    leader = members.get(start.leader)
    if leader is None or not leader.voter:
        raise _refuse(record, "an epoch's leader is no voter", "a voter", start.leader)
    _verify_promises(start, origin, record, epoch, members, leader)
    try:
        verify_signature(start.statement(origin, Head(record.index - 1, record.prev)), start.signature, leader.key)
    except SignatureError as error:
        raise _refuse(record, "an epoch's signature does not hold", leader.key.vkey(), "a bad signature") from error
    return leader.key


def _verify_promises(
    start: EpochStart, origin: str, record: Record, epoch: int, members: Membership, leader: Member
) -> None:
    """At least a majority of distinct voters, the leader among them, and none whose log reaches further."""
    names = [promise.member for promise in start.promises]
    if names != sorted(set(names)):
        raise _refuse(record, "an epoch's promises are not of distinct voters", "each once, sorted", names)
    if len(names) < members.majority or leader.name not in names:
        raise _refuse(record, "an epoch without a majority's promises", f"{members.majority} with the leader's", names)
    for promise in start.promises:
        if (promise.last_epoch, promise.size) > (epoch, record.index - 1):
            found = (promise.member, promise.last_epoch, promise.size)
            raise _refuse(record, "a promise outranks the leader", f"<= {(epoch, record.index - 1)}", found)
        try:
            verify_promise(promise, origin, start.epoch, leader.key, members)
        except SignatureError as error:
            raise _refuse(record, "a promise does not hold", promise.member, error.what) from error


def _refuse(record: Record, what: str, expected: object, found: object) -> CorruptRecordError:
    return CorruptRecordError(what, where=f"index {record.index}", expected=expected, found=found)
