"""MEMBERS records: who takes part in the log, and by which keys. Pure.

A membership follows its predecessor by at most one voter, so any majority of the old one and any majority of the new one
have a voter in common: whoever decides by either cannot miss what the other decided.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import base64
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgpack

from wal.errors import BoundError, CorruptRecordError, LogError, SignatureError
from wal.genesis import VKEY_BYTES_MAX
from wal.limits import ADDRESS_BYTES_MAX, CERTIFICATE_BYTES_MAX, MEMBERS_MAX
from wal.note import SIGNATURE_BYTES, PublicKey, Signer, verify_signature
from wal.record import KIND_MEMBERS, Head, Record

_TITLE = "femtoclaw membership v1"
_NAME = "members"
_FIELDS = [str, int, int, tuple, bytes]
_MEMBER_FIELDS = [str, str, str, bytes, bool]
_MEMBER_NAME = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
_ADDRESS = re.compile(r"[!-~]*", re.ASCII)


class Member(NamedTuple):
    """One who takes part. ``address`` is where it is reached (printable ASCII, may be empty), ``certificate`` its TLS
    certificate in DER (may be empty); a member that is no ``voter`` is a learner: it stores and does not count."""

    name: str
    key: PublicKey
    address: str
    certificate: bytes
    voter: bool


class Membership(NamedTuple):
    """The members from one MEMBERS record on, sorted by name. Version 1 is a log's first."""

    version: int
    members: tuple[Member, ...]

    @property
    def voters(self) -> tuple[Member, ...]:
        """Those who count."""
        return tuple(member for member in self.members if member.voter)

    @property
    def majority(self) -> int:
        """How many voters decide."""
        return len(self.voters) // 2 + 1

    def get(self, name: str) -> Member | None:
        """The member of that name."""
        return next((member for member in self.members if member.name == name), None)

    def by_key(self, key: PublicKey) -> Member | None:
        """The member that holds ``key``."""
        return next((member for member in self.members if member.key == key), None)

    def with_key(self, old: PublicKey, new: PublicKey) -> "Membership":
        """The same members, the one that holds ``old`` holding ``new``: what a rotation does to a membership."""
        members = (each._replace(key=new) if each.key == old else each for each in self.members)
        return self._replace(members=tuple(members))


class MembershipChange(NamedTuple):
    """What a MEMBERS record says; ``before`` is the index of the authority record before it, 0 for the first one."""

    before: int
    membership: Membership
    signature: bytes

    def payload(self) -> bytes:
        """msgpack array: "members", index of the authority record before, version, members, signature."""
        members = [[m.name, m.key.vkey(), m.address, m.certificate, m.voter] for m in self.membership.members]
        packed: bytes = msgpack.packb([_NAME, self.before, self.membership.version, members, self.signature])
        return packed

    def statement(self, origin: str, before: Head) -> bytes:
        """What the key in force signs. Its first line has blanks, which no origin has, so no checkpoint reads so."""
        link = base64.b64encode(before.link).decode()
        lines = [_TITLE, origin, str(before.index + 1), link, str(self.before), str(self.membership.version)]
        return "\n".join([*lines, *map(_line, self.membership.members), ""]).encode()


def _line(member: Member) -> str:
    certificate = base64.b64encode(member.certificate).decode()
    role = "voter" if member.voter else "learner"
    return f"{member.name} {member.key.vkey()} {member.address} {certificate} {role}"


def make_membership(version: int, members: Sequence[Member]) -> Membership:
    """The membership of these members, sorted by name. Raises BoundError where one is out of its bounds."""
    membership = Membership(version, tuple(sorted(members, key=lambda member: member.name)))
    check_membership(membership)
    return membership


def check_membership(membership: Membership) -> None:
    """Check what holds of any membership by itself: bounds, order, unique names and keys, at least one voter.

    Raises BoundError.
    """
    members = membership.members
    names, keys = [member.name for member in members], {member.key.raw for member in members}
    if membership.version < 1 or not 1 <= len(members) <= MEMBERS_MAX:
        raise _out_of_bounds("version from 1 and number of members", f"1 to {MEMBERS_MAX}", len(members))
    if names != sorted(set(names)):
        raise _out_of_bounds("names of members", "each once, sorted", names)
    if len(keys) != len(members):
        raise _out_of_bounds("keys of members", "each once", f"{len(keys)} of {len(members)}")
    if not membership.voters:
        raise _out_of_bounds("number of voters", "at least 1", 0)
    for member in members:
        if _MEMBER_NAME.fullmatch(member.name) is None:
            raise _out_of_bounds("name of a member", "1 to 64 of a-z, 0-9 and -", member.name[:80])
        if len(member.address) > ADDRESS_BYTES_MAX or _ADDRESS.fullmatch(member.address) is None:
            raise _out_of_bounds("address of a member", f"<= {ADDRESS_BYTES_MAX} printable ASCII", len(member.address))
        if len(member.certificate) > CERTIFICATE_BYTES_MAX:
            raise _out_of_bounds("certificate", f"<= {CERTIFICATE_BYTES_MAX} bytes", len(member.certificate))
        if len(member.key.vkey()) > VKEY_BYTES_MAX:
            raise _out_of_bounds("key of a member", f"<= {VKEY_BYTES_MAX} characters", len(member.key.vkey()))


def _out_of_bounds(what: str, expected: object, found: object) -> BoundError:
    return BoundError(f"membership: {what}", expected=expected, found=found, remedy="correct the list of members")


def sign_membership(origin: str, head: Head, before: int, membership: Membership, signer: Signer) -> bytes:
    """The payload of the record that follows ``head``; ``signer`` holds the key in force. Raises BoundError."""
    check_membership(membership)
    unsigned = MembershipChange(before, membership, b"")
    return unsigned._replace(signature=signer.sign(unsigned.statement(origin, head))).payload()


def parse_members(record: Record) -> MembershipChange:
    """What a record claims, in its only spelling; its signature is not checked. Raises CorruptRecordError."""
    where = f"index {record.index}"
    if record.kind != KIND_MEMBERS:
        raise CorruptRecordError("not a membership's record", where=where, expected=KIND_MEMBERS, found=record.kind)
    try:
        fields = msgpack.unpackb(record.payload, use_list=False, max_ext_len=0)
        if type(fields) is not tuple or [type(field) for field in fields] != _FIELDS or fields[0] != _NAME:
            raise ValueError("not the fields of a membership")
        _, before, version, rows, signature = fields
        if not 0 <= before < record.index or not 1 <= version <= record.index or len(rows) > MEMBERS_MAX:
            raise ValueError("a field out of its range")
        membership = Membership(version, tuple(map(_parse_member, rows)))
        check_membership(membership)
        change = MembershipChange(before, membership, signature)
        if change.payload() != record.payload or len(signature) != SIGNATURE_BYTES:
            raise ValueError("another spelling")
    except (ValueError, TypeError, msgpack.UnpackException, SignatureError, BoundError) as error:
        raise CorruptRecordError("a membership's record does not decode", where=where, found=error) from error
    return change


def _parse_member(row: Any) -> Member:
    if type(row) is not tuple or [type(field) for field in row] != _MEMBER_FIELDS or len(row[1]) > VKEY_BYTES_MAX:
        raise ValueError("not the fields of a member")
    name, vkey, address, certificate, voter = row
    return Member(name, PublicKey.parse(vkey), address, certificate, voter)


def verify_members(change: MembershipChange, origin: str, record: Record, key: PublicKey) -> None:
    """Check the signature of ``key`` over the record's own place. Raises CorruptRecordError."""
    try:
        verify_signature(change.statement(origin, Head(record.index - 1, record.prev)), change.signature, key)
    except SignatureError as error:
        raise CorruptRecordError(
            "a membership's signature does not hold", where=f"index {record.index}", expected=key.vkey(),
            found="a bad signature",
        ) from error  # fmt: skip


def check_succession(old: Membership | None, new: Membership, key: PublicKey) -> LogError | None:
    """Why ``new`` may not follow ``old`` (None: nothing) while ``key`` is in force, or None when it may."""
    expected = old.version + 1 if old is not None else 1
    if new.version != expected:
        return BoundError("a membership does not count on", expected=f"version {expected}", found=new.version)
    leader = new.by_key(key)
    if leader is None or not leader.voter:
        return BoundError("the key in force is no voter's in the membership", expected=key.vkey())
    if old is None:
        names = [voter.name for voter in new.voters]
        if len(names) > 1:
            return BoundError("a first membership has one voter", expected=leader.name, found=names)
        return None
    changed = changed_voters(old, new)
    if len(changed) > 1:
        return BoundError("a membership changes more than one voter", expected="at most 1", found=changed)
    return None


def changed_voters(old: Membership, new: Membership) -> list[str]:
    """Names of the voters that came, went, or hold another key, sorted."""
    before, after = ({voter.name: voter.key for voter in each.voters} for each in (old, new))
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
