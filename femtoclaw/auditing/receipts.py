"""A signed statement about records with a receipt of their inclusion, in COSE: what SCITT calls a transparent statement.

Encodings: COSE_Sign1 (RFC 9052, tag 18), EdDSA (-8), COSE receipts with RFC9162_SHA256 proofs (RFC 9942: header parameters 394
receipts, 395 verifiable data structure, 396 proofs), CWT claims in headers (RFC 9597), the shape of RFC 9943. The receipt's payload
is detached: it is the tree's root, which whoever verifies computes from a leaf and its path. A leaf's entry is the record's link.

What it is not: a registration at a transparency service. Node and log are the same party; witnesses (docs/witness.md) are others.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from wal.checkpoint import Checkpoint
from wal.errors import CorruptFileError
from wal.merkle import SIZE_MAX, leaf_hash, verify_inclusion
from wal.note import PublicKey, Signer, verify_signature
from wal.record import Record, decode, frame_of

SIGN1_TAG = 18
ALG, KID, CONTENT_TYPE, CLAIMS = 1, 4, 3, 15
RECEIPTS, STRUCTURE, PROOFS = 394, 395, 396
EDDSA = -8
RFC9162_SHA256 = 1
INCLUSION = -1
ISSUER, SUBJECT = 1, 2
STATEMENT_TYPE = "application/vnd.femtoclaw.records+cbor"
PATH_MAX = SIZE_MAX.bit_length()
RECORDS_MAX = 4096
"""Records of one statement."""


class Opened(NamedTuple):
    """A verified statement: who issued it about what, its records, and the size and root that the receipt is for."""

    issuer: str
    subject: str
    records: tuple[Record, ...]
    size: int
    root: bytes


def make_statement(
    subject: str,
    records: Sequence[Record],
    checkpoint: Checkpoint,
    prove: Callable[[int], list[bytes]],
    signer: Signer,
) -> bytes:
    """The bytes of a statement about ``records`` with its receipt under ``checkpoint``; ``prove`` gives a record's path.

    The same input gives the same bytes.
    """
    from cbor2 import dumps

    claims = {ISSUER: checkpoint.origin, SUBJECT: subject}
    kid = signer.public.key_id
    proofs = [dumps([checkpoint.size, record.index - 1, prove(record.index)], canonical=True) for record in records]
    receipt = _sign1(
        {ALG: EDDSA, KID: kid, CLAIMS: _of_tree(checkpoint.origin, checkpoint.size), STRUCTURE: RFC9162_SHA256},
        {PROOFS: {INCLUSION: proofs}}, checkpoint.root, signer, detached=True,
    )  # fmt: skip
    payload = dumps([frame_of(record) for record in records], canonical=True)
    header = {ALG: EDDSA, KID: kid, CONTENT_TYPE: STATEMENT_TYPE, CLAIMS: claims}
    return _sign1(header, {RECEIPTS: [receipt]}, payload, signer)


def _sign1(
    header: dict[int, Any], unprotected: dict[int, Any], payload: bytes, signer: Signer, *, detached: bool = False
) -> bytes:
    from cbor2 import CBORTag, dumps

    protected = dumps(header, canonical=True)
    signature = signer.sign(_to_be_signed(protected, payload))
    message = [protected, unprotected, None if detached else payload, signature]
    return bytes(dumps(CBORTag(SIGN1_TAG, message), canonical=True))


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    from cbor2 import dumps

    return bytes(dumps(["Signature1", protected, b"", payload], canonical=True))


def open_statement(raw: bytes, key: PublicKey) -> Opened:
    """Verify a statement and its receipt by the node's key. Raises CorruptFileError, CorruptRecordError, SignatureError or
    ProofError."""
    protected, unprotected, payload, signature = _read_sign1(raw)
    if payload is None:
        raise _no_statement("a payload")
    verify_signature(_to_be_signed(protected, payload), signature, key)
    header = _map(protected)
    frames, receipts = _read(payload), unprotected.get(RECEIPTS)
    if not _of_bytes(frames) or not 1 <= len(frames) <= RECORDS_MAX or not _of_bytes(receipts) or not receipts:
        raise _no_statement("records and a receipt")
    records = tuple(decode(frame, "the statement's records") for frame in frames)
    claims = header.get(CLAIMS)
    if not isinstance(claims, dict):
        raise _no_statement("claims")
    issuer = str(claims.get(ISSUER))
    size, root = _open_receipt(receipts[0], records, issuer, key)
    return Opened(issuer, str(claims.get(SUBJECT)), records, size, root)


def _of_tree(origin: str, size: int) -> dict[int, str]:
    """The claims of a receipt. A path alone does not tell the size of its tree, as a neighbouring size has the same one: so it is
    signed here."""
    return {ISSUER: origin, SUBJECT: f"tree of {size} records"}


def _of_bytes(found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(each, bytes) for each in found)


def _open_receipt(raw: bytes, records: Sequence[Record], issuer: str, key: PublicKey) -> tuple[int, bytes]:
    """Size and root that one receipt vouches for, with a proof for each record."""
    protected, unprotected, payload, signature = _read_sign1(raw)
    proofs = unprotected.get(PROOFS)
    proofs = proofs.get(INCLUSION) if isinstance(proofs, dict) else None
    header = _map(protected)
    if payload is not None or header.get(STRUCTURE) != RFC9162_SHA256 or not _of_bytes(proofs):
        raise _no_statement("a receipt of inclusion")
    if proofs is None or len(proofs) != len(records):
        raise _no_statement("a proof for each record")
    size, root = 0, b""
    for record, proof in zip(records, proofs, strict=True):
        size, leaf, path = _read_proof(proof)
        root = root or root_of_path(record.link, leaf, size, path)
        if leaf != record.index - 1 or header.get(CLAIMS) != _of_tree(issuer, size):
            raise _no_statement("the place of its record, and the size that was signed, in each proof")
        verify_inclusion(leaf_hash(record.link), leaf, size, path, root)
    verify_signature(_to_be_signed(protected, root), signature, key)
    return size, root


def _read_proof(raw: bytes) -> tuple[int, int, list[bytes]]:
    """Tree size, leaf index and path."""
    found = _read(raw)
    if not isinstance(found, list) or len(found) != 3 or not _of_bytes(found[2]) or len(found[2]) > PATH_MAX:
        raise _no_statement("an inclusion proof")
    size, leaf, path = found
    if type(size) is not int or type(leaf) is not int or not 0 <= leaf < size <= SIZE_MAX:
        raise _no_statement("an inclusion proof")
    return size, leaf, path


def root_of_path(entry: bytes, leaf: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that a path leads to (RFC 9162, 2.1.3.2), whatever it should be."""
    from wal.merkle import node_hash

    node, last, computed = leaf, size - 1, leaf_hash(entry)
    for part in path:
        if node & 1 or node == last:
            computed = node_hash(part, computed)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            computed = node_hash(computed, part)
        node, last = node >> 1, last >> 1
    return computed


def _read_sign1(raw: bytes) -> tuple[bytes, dict[int, Any], Any, bytes]:
    message = _read(raw)
    parts = getattr(message, "value", None)
    if getattr(message, "tag", None) != SIGN1_TAG or not isinstance(parts, list) or len(parts) != 4:
        raise _no_statement("COSE_Sign1 (tag 18)")
    protected, unprotected, payload, signature = parts
    kinds = isinstance(protected, bytes) and isinstance(unprotected, dict) and isinstance(signature, bytes)
    if not kinds or not isinstance(payload, bytes | None):
        raise _no_statement("COSE_Sign1 (tag 18)")
    return protected, unprotected, payload, signature


def _map(raw: bytes) -> dict[int, Any]:
    found = _read(raw)
    if not isinstance(found, dict) or found.get(ALG) != EDDSA:
        raise _no_statement("a header with EdDSA")
    return found


def _read(raw: Any) -> Any:
    from cbor2 import CBORDecodeError, loads

    try:
        return loads(raw)
    except (CBORDecodeError, TypeError, ValueError, RecursionError, OverflowError, MemoryError) as error:
        raise _no_statement("CBOR") from error


def _no_statement(expected: str) -> CorruptFileError:
    return CorruptFileError("this is no statement of a node", expected=expected, found="something else")
