"""Who takes part in a cluster: what a change makes of a membership, and the two files by which a newcomer comes in. Pure.

A join request is the newcomer's own word, signed by its node key: whoever has not the key cannot have it admitted. An
invitation is the leader's answer, signed by the leader's: the log's identity and first record, its members, and how it is
coordinated. Neither makes anybody a member: that is a record of the log.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import base64
import binascii
import json
import re
from typing import Any, NamedTuple

from femtoclaw.errors import AnswerIsNoError, ConfigurationError
from femtoclaw.strict_json import StrictJSONError, parse
from wal.chain import verify_run
from wal.errors import BoundError, LogError, SignatureError
from wal.genesis import decode_genesis
from wal.limits import CERTIFICATE_BYTES_MAX, MEMBERS_MAX
from wal.membership import Member, Membership, make_membership
from wal.note import PublicKey, Signer, verify_signature
from wal.record import EMPTY

ADD, PROMOTE, REMOVE, TRANSFER = ACTIONS = ("member.add", "member.promote", "member.remove", "leadership.transfer")
ENTRY: dict[str, type] = {"name": str, "vkey": str, "address": str, "certificate": str}
"""A member's entry as JSON: the certificate is its DER in base64."""

REQUEST_FORMAT = "femtoclaw join request v1"
INVITATION_FORMAT = "femtoclaw invitation v1"
_ADDRESS = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,64}\]):[0-9]{1,5}", re.ASCII)
_DIGITS = re.compile("[0-9a-f]*", re.ASCII)


class MembershipRefusedError(AnswerIsNoError):
    """A change of the membership, or of who leads, that the members as they are do not allow; ``code`` says why."""

    def __init__(self, code: str, what: str, **facts: Any) -> None:
        super().__init__(what, **facts)
        self.code = code


# --- changes ---------------------------------------------------------------------------------------------------------


def membership_after(current: Membership | None, action: str, member: Member) -> Membership:
    """The membership that follows ``current`` by one change; the same one for a transfer, which changes no membership.

    The first member is a voter, every later one begins as a learner. Raises MembershipRefusedError: KNOWN_BEFORE, TOO_MANY,
    UNKNOWN, KEY_OF_ANOTHER, VOTER_BEFORE, NOT_A_VOTER, LAST_VOTER; ConfigurationError for an entry that cannot stand in one.
    """
    if action == ADD:
        return _added(current, member)
    known = _known(current, member)
    assert current is not None
    others = [each for each in current.members if each.name != member.name]
    if action == REMOVE:
        if known.voter and len(current.voters) == 1:
            raise MembershipRefusedError(
                "LAST_VOTER", "the last voter cannot go", where=member.name, expected="another voter",
                remedy="promote another member first, and hand the leadership over to it",
            )  # fmt: skip
        return _made(current.version + 1, others)
    if action == PROMOTE:
        if known.voter:
            raise MembershipRefusedError("VOTER_BEFORE", "this member is a voter already", where=member.name)
        return _made(current.version + 1, [*others, known._replace(voter=True)])
    if not known.voter:
        raise MembershipRefusedError(
            "NOT_A_VOTER", "only a voter can lead", where=member.name, found="a learner",
            remedy=f"promote it first: `femtoclaw cluster promote {member.name}`",
        )  # fmt: skip
    return current


def _added(current: Membership | None, member: Member) -> Membership:
    if current is None:
        return _made(1, [member._replace(voter=True)])
    for each in current.members:
        if each.name == member.name or each.key.raw == member.key.raw or each.certificate == member.certificate:
            raise MembershipRefusedError(
                "KNOWN_BEFORE", "there is a member of this name, with this key or with this certificate", where=each.name,
                remedy="a node that comes back with a new key takes a new name; the old one leaves: `femtoclaw cluster leave`",
            )  # fmt: skip
    if len(current.members) >= MEMBERS_MAX:
        raise MembershipRefusedError(
            "TOO_MANY", "there are as many members as a log takes", expected=f"< {MEMBERS_MAX}"
        )
    return _made(current.version + 1, [*current.members, member._replace(voter=False)])


def _known(current: Membership | None, member: Member) -> Member:
    known = current.get(member.name) if current is not None else None
    if known is None:
        names = ", ".join(each.name for each in current.members) if current is not None else "none"
        raise MembershipRefusedError("UNKNOWN", "there is no member of this name", where=member.name, expected=names)
    if known.key != member.key:
        raise MembershipRefusedError(
            "KEY_OF_ANOTHER", "this member has another key", where=member.name, expected=known.key.vkey(),
            found=member.key.vkey(), remedy="what was asked for is about another node: look at `femtoclaw cluster status`",
        )  # fmt: skip
    return known


def _made(version: int, members: list[Member]) -> Membership:
    try:
        return make_membership(version, members)
    except BoundError as error:
        raise ConfigurationError(
            "this member cannot be one", where="the member's entry", expected=error.expected, found=error.what
        ) from error


# --- entries ---------------------------------------------------------------------------------------------------------


def entry_of(member: Member) -> dict[str, Any]:
    """A member's entry, as JSON."""
    certificate = base64.b64encode(member.certificate).decode()
    return {"name": member.name, "vkey": member.key.vkey(), "address": member.address, "certificate": certificate}


def member_of(body: dict[str, Any], where: str, voter: bool = False) -> Member:
    """The member of an entry. Raises ConfigurationError, whose text holds nothing of the entry's values."""
    if {name: type(value) for name, value in body.items()} != ENTRY:
        raise ConfigurationError("not a member's entry", where=where, expected=", ".join(sorted(ENTRY)))
    if not _ADDRESS.fullmatch(body["address"]):
        raise ConfigurationError("not an address of a member", where=where, expected="host:port", found="another text")
    certificate = _base64(body["certificate"], where)
    if not 1 <= len(certificate) <= CERTIFICATE_BYTES_MAX:
        raise ConfigurationError(
            "not a certificate of a member", where=where, expected=f"1 to {CERTIFICATE_BYTES_MAX} bytes",
            found=len(certificate),
        )  # fmt: skip
    key = _key(body["vkey"], where)
    member = Member(body["name"], key, body["address"], certificate, voter)
    _made(1, [member._replace(voter=True)])
    return member


def _key(text: str, where: str) -> PublicKey:
    from femtoclaw.keys import parse_public_key

    key = parse_public_key(text, where)
    if key.vkey() != text:
        raise ConfigurationError("a key is not in its one spelling", where=where, expected=key.vkey())
    return key


def _base64(text: Any, where: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (ValueError, binascii.Error):
        raw = b""
    if not raw or base64.b64encode(raw).decode() != text:
        raise ConfigurationError("a field is not base64 in its one spelling", where=where)
    return raw


def _hex(text: Any, where: str, size: int) -> bytes:
    if not isinstance(text, str) or len(text) != 2 * size or not _DIGITS.fullmatch(text):
        raise ConfigurationError("a field is not hex", where=where, expected=f"{2 * size} digits")
    return bytes.fromhex(text)


# --- join requests ---------------------------------------------------------------------------------------------------


def sign_join_request(member: Member, signer: Signer) -> bytes:
    """The newcomer's request to be admitted as ``member``, whose key ``signer`` holds."""
    body = {"format": REQUEST_FORMAT, "member": entry_of(member)}
    return _signed(body, signer)


def open_join_request(raw: bytes, where: str) -> Member:
    """Who asks, when the key in the request signed it. Raises ConfigurationError for anything else."""
    body, signature = _opened(raw, where, REQUEST_FORMAT, {"member": dict})
    member = member_of(body["member"], where)
    _verify(body, signature, member.key, where)
    return member


# --- invitations -----------------------------------------------------------------------------------------------------


class Terms(NamedTuple):
    """How a cluster is coordinated: what is the same on every member. ``owner`` and ``epoch`` are of the static coordinator."""

    mode: str
    coordinator: str
    owner: str
    epoch: int
    etcd: tuple[str, ...]
    etcd_prefix: str
    etcd_lease_s: int
    acknowledge_s: int
    patience_ms: int


class Invitation(NamedTuple):
    """What a newcomer needs to fetch the log and to know it: all but a member's word is in the log itself."""

    origin: str
    log_id: bytes
    genesis: bytes
    """The frame of the log's first record."""
    terms: Terms
    membership: Membership
    invited: str


_INVITATION_FIELDS = {
    "origin": str, "log_id": str, "genesis": str, "terms": dict, "version": int, "members": list, "invited": str,
    "issuer": str,
}  # fmt: skip
_TERMS = {
    "mode": str, "coordinator": str, "owner": str, "epoch": int, "etcd": list, "etcd_prefix": str, "etcd_lease_s": int,
    "acknowledge_s": int, "patience_ms": int,
}  # fmt: skip


def sign_invitation(invitation: Invitation, signer: Signer) -> bytes:
    """The invitation, signed by the member that issues it."""
    members = [{**entry_of(each), "voter": each.voter} for each in invitation.membership.members]
    body = {
        "format": INVITATION_FORMAT, "origin": invitation.origin, "log_id": invitation.log_id.hex(),
        "genesis": base64.b64encode(invitation.genesis).decode(),
        "terms": {**invitation.terms._asdict(), "etcd": list(invitation.terms.etcd)},
        "version": invitation.membership.version, "members": members, "invited": invitation.invited,
        "issuer": signer.public.vkey(),
    }  # fmt: skip
    return _signed(body, signer)


def open_invitation(raw: bytes, where: str) -> tuple[Invitation, PublicKey]:
    """The invitation and the key that signed it, which is a voter's of its membership; its first record is of the log that it
    names. Whether that is the log that was meant, only somebody who knows the log can say.

    Raises ConfigurationError.
    """
    body, signature = _opened(raw, where, INVITATION_FORMAT, _INVITATION_FIELDS)
    issuer = _key(body["issuer"], where)
    _verify(body, signature, issuer, where)
    membership = _membership(body["version"], body["members"], where)
    voter = membership.by_key(issuer)
    if voter is None or not voter.voter or membership.get(body["invited"]) is None:
        raise ConfigurationError(
            "an invitation does not fit its own members", where=where, expected="a voter who invites a member"
        )
    genesis, log_id = _base64(body["genesis"], where), _hex(body["log_id"], where, 32)
    _check_genesis(genesis, log_id, body["origin"], where)
    invited = Invitation(body["origin"], log_id, genesis, _terms(body["terms"], where), membership, body["invited"])
    return invited, issuer


def _membership(version: int, rows: list[Any], where: str) -> Membership:
    members: list[Member] = []
    for row in rows[: MEMBERS_MAX + 1]:
        if not isinstance(row, dict) or type(row.get("voter")) is not bool:
            raise ConfigurationError("not a member's entry", where=where, expected=", ".join([*sorted(ENTRY), "voter"]))
        entry = {name: value for name, value in row.items() if name != "voter"}
        members.append(member_of(entry, where, row["voter"]))
    return _made(version, members)


def _check_genesis(frame: bytes, log_id: bytes, origin: str, where: str) -> None:
    try:
        record = verify_run(EMPTY, [(1, frame)]).records[0]
        if record.link == log_id and decode_genesis(record).origin == origin:
            return
    except (LogError, IndexError):
        pass
    raise ConfigurationError("the first record is not of the log that is named", where=where, expected=origin[:200])


def _terms(body: dict[str, Any], where: str) -> Terms:
    if {name: type(value) for name, value in body.items()} != _TERMS or any(
        type(each) is not str for each in body["etcd"]
    ):
        raise ConfigurationError("an invitation's terms are not of their form", where=where, expected=", ".join(_TERMS))
    return Terms(**{**body, "etcd": tuple(body["etcd"])})


# --- signed JSON -----------------------------------------------------------------------------------------------------


def _statement(body: dict[str, Any]) -> bytes:
    """What is signed: the format's name on a line of its own, which no checkpoint begins with, and canonical JSON."""
    told = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f"{body['format']}\n{told}\n".encode()


def _signed(body: dict[str, Any], signer: Signer) -> bytes:
    return json.dumps({**body, "signature": signer.sign(_statement(body)).hex()}, indent=1).encode() + b"\n"


def _opened(raw: bytes, where: str, wanted: str, fields: dict[str, type]) -> tuple[dict[str, Any], bytes]:
    try:
        body = parse(raw)
    except StrictJSONError as error:
        raise ConfigurationError(f"not a {wanted}", where=where, expected="JSON", found=error.code) from None
    if body.get("format") != wanted:
        raise ConfigurationError(f"not a {wanted}", where=where, expected=wanted, found="another format")
    signature = _hex(body.pop("signature", None), where, 64)
    if {name: type(value) for name, value in body.items()} != {"format": str, **fields}:
        raise ConfigurationError(f"not a {wanted}", where=where, expected=", ".join(fields), found="other fields")
    return body, signature


def _verify(body: dict[str, Any], signature: bytes, key: PublicKey, where: str) -> None:
    try:
        verify_signature(_statement(body), signature, key)
    except SignatureError:
        raise ConfigurationError(
            "the signature does not hold", where=where, expected=f"one of {key.vkey()}", found="another",
            remedy="the file was changed on its way, or is not from the node that it names: have it made and sent again",
        ) from None  # fmt: skip
