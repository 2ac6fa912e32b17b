"""The decisions of a witness: C2SP tlog-witness, request ``add-checkpoint``. Pure.

After https://c2sp.org/tlog-witness as of 2026-07-06 (v1.0.0, with the later clarification that a contradiction at equal size
is answered 422, not 409). A witness cosigns a checkpoint only when it continues the largest one that it has cosigned for
that log. Its shell must make the new state durable before the answer leaves, and judge one request of a log at a time.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cluster.errors import PeerProtocolError
from cluster.limits import WITNESS_HASHES_MAX, WITNESS_REQUEST_BYTES_MAX
from wal.checkpoint import Checkpoint, parse_checkpoint
from wal.cosignature import cosign
from wal.errors import SignatureError
from wal.fork_proof import ForkProofError, make_fork_proof
from wal.merkle import EMPTY_ROOT, HASH_BYTES, SIZE_MAX, ProofError, verify_consistency
from wal.note import PublicKey, Signer, open_note, parse_signature_line, split_note

TEXT_TYPE = "text/plain; charset=utf-8"
SIZE_TYPE = "text/x.tlog.size"
FORK, REQUEST = "fork", "request"


class WatchedLog(NamedTuple):
    """What a witness knows of one log: the keys it trusts for it, and the largest checkpoint that it has cosigned.

    ``note`` is that checkpoint with the log's signatures and the witness's own; empty before the first.
    """

    origin: str
    keys: tuple[PublicKey, ...]
    size: int = 0
    root: bytes = EMPTY_ROOT
    time_s: int = 0
    note: bytes = b""


class Request(NamedTuple):
    """A request in form; nothing of it is verified."""

    old: int
    hashes: tuple[bytes, ...]
    note: bytes
    checkpoint: Checkpoint


class Evidence(NamedTuple):
    """What a refused request shows: a fork proof, or (kind ``request``) the request and the checkpoint it goes against."""

    kind: str
    content: bytes


class Answer(NamedTuple):
    """Status, body and type for the client; the log's new state when ``status`` is 200, else None; what is worth keeping."""

    status: int
    body: bytes
    content_type: str = TEXT_TYPE
    state: WatchedLog | None = None
    evidence: Evidence | None = None


def encode_request(old: int, hashes: Sequence[bytes], note: bytes) -> bytes:
    """The body of a request: old size, consistency proof, signed checkpoint."""
    lines = [f"old {old}", *(base64.b64encode(part).decode() for part in hashes)]
    return "\n".join(lines).encode() + b"\n\n" + note


def parse_request(raw: bytes) -> Request:
    """Read a request's body, strictly. Raises PeerProtocolError."""
    if len(raw) > WITNESS_REQUEST_BYTES_MAX:
        raise _malformed(f"more than {WITNESS_REQUEST_BYTES_MAX} bytes")
    head, separator, note = raw.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    if not separator:
        raise _malformed("no empty line")
    if len(lines) > WITNESS_HASHES_MAX:
        raise _malformed(f"more than {WITNESS_HASHES_MAX} hashes")
    return Request(_size(first), tuple(_hash(line) for line in lines), note, _checkpoint(note))


def _size(line: bytes) -> int:
    digits = line.removeprefix(b"old ")
    if line == digits or not digits.isdigit() or len(digits) > len(str(SIZE_MAX)) or b"%d" % int(digits) != digits:
        raise _malformed("the first line is not `old` and a size")
    if int(digits) > SIZE_MAX:
        raise _malformed("the old size is out of bounds")
    return int(digits)


def _hash(line: bytes) -> bytes:
    try:
        part = base64.b64decode(line, validate=True)
    except (ValueError, binascii.Error):
        part = b""
    if len(part) != HASH_BYTES or base64.b64encode(part) != line:
        raise _malformed("a line of the proof is not a hash in base64")
    return part


def _checkpoint(note: bytes) -> Checkpoint:
    try:
        text, lines = split_note(note)
        for line in lines:
            parse_signature_line(line)
        return parse_checkpoint(text)
    except SignatureError as error:
        raise _malformed(error.what) from error


def _malformed(why: str) -> PeerProtocolError:
    return PeerProtocolError(f"malformed request: {why}")


def add_checkpoint(logs: Mapping[str, WatchedLog], raw: bytes, signer: Signer, now_s: int) -> Answer:
    """Judge one request's bytes. ``logs`` are the watched ones by origin, ``now_s`` is seconds since 1970. Never raises."""
    try:
        request = parse_request(raw)
    except PeerProtocolError as error:
        return refusal(400, error.what)
    return judge(logs.get(request.checkpoint.origin), request, signer, now_s)


def judge(log: WatchedLog | None, request: Request, signer: Signer, now_s: int) -> Answer:
    """Judge a request against what is known of its log (None: not watched)."""
    if log is None:
        return refusal(404, "this log is not watched here")
    try:
        trusted = open_note(request.note, log.keys).verified
    except SignatureError as error:
        return refusal(403, error.what)
    new = request.checkpoint
    if request.old > new.size:
        return refusal(400, "the old size is larger than the checkpoint's")
    if request.old != log.size:
        evidence = _fork(log, request) if new.size == log.size and new.root != log.root else None
        return Answer(409, b"%d\n" % log.size, SIZE_TYPE, evidence=evidence)
    wrong = _inconsistency(log, request)
    if wrong is not None:
        return refusal(422, wrong)._replace(evidence=_evidence(log, request))
    # A clock that was set back must not let two cosignatures say two things of one moment.
    time_s = max(now_s, log.time_s, 1)
    text, lines = split_note(request.note)
    line = cosign(text, signer, time_s)
    kept = "".join(f"{each}\n" for each in lines if _is_by(each, trusted))
    note = f"{text}\n{kept}{line}".encode()
    return Answer(200, line.encode(), state=log._replace(size=new.size, root=new.root, time_s=time_s, note=note))


def refusal(status: int, why: str) -> Answer:
    """An answer that says why not."""
    return Answer(status, f"{why}\n".encode())


def _is_by(line: str, keys: Sequence[PublicKey]) -> bool:
    name, signature = parse_signature_line(line)
    return any(key.name == name and key.key_id == signature[:4] for key in keys)


def _inconsistency(log: WatchedLog, request: Request) -> str | None:
    """Why the checkpoint does not continue the log as the witness knows it, None when it does."""
    new = request.checkpoint
    if new.size == 0 and new.root != EMPTY_ROOT:
        return "the empty tree has another root"
    if log.size == 0:
        return "there is nothing to prove from size 0" if request.hashes else None
    try:
        verify_consistency(log.size, new.size, request.hashes, log.root, new.root)
    except ProofError as error:
        return error.what
    return None


def _evidence(log: WatchedLog, request: Request) -> Evidence | None:
    """What a request that fails the consistency check shows; the empty tree is continued by any."""
    if log.size == 0:
        return None
    whole = encode_request(request.old, request.hashes, request.note) + b"\n" + log.note
    return _fork(log, request) or Evidence(REQUEST, whole)


def _fork(log: WatchedLog, request: Request) -> Evidence | None:
    """A proof that one of the log's keys signed two histories, when the request makes one."""
    for key in log.keys:
        try:
            return Evidence(FORK, make_fork_proof(log.note, request.note, key, request.hashes).encode())
        except ForkProofError:
            continue
    return None
