"""What an operator signs to change a node: one canonical byte string per request. Pure; PyNaCl is imported on first use.

A statement is a tag, then each field in a fixed order with its length before it: no two requests share their bytes, and
none is the text of a signed note, which holds no zero bytes. It names the node, so that a signature is good on one
node only; whether a request id or a time was seen before is for the log to know.
"""

from __future__ import annotations

from femtoclaw.errors import ConfigurationError
from wal.errors import LogError
from wal.note import PublicKey, Signer

TAG = b"femtoclaw statement v1\x00"
"""First bytes of every statement; another format gets another tag."""

SIGNATURE_BYTES = 64
TEXT_BYTES_MAX = 4096
"""UTF-8 bytes of one of the texts of a statement."""

CONTENT_BYTES_MAX = 1024 * 1024
"""What a request may carry: as much as one record of the log."""

TIME_NS_MAX = 2**63 - 1


def statement(
    node: str, request_id: str, operator: str, action: str, resource: str, content: bytes, at_ns: int
) -> bytes:
    """The bytes to sign: at most ``TEXT_BYTES_MAX`` for each text, ``CONTENT_BYTES_MAX`` of content, ``at_ns`` in
    nanoseconds since 1970 from 0 to ``TIME_NS_MAX``. Raises ConfigurationError for anything beyond, naming the field
    and nothing of its value."""
    if not 0 <= at_ns <= TIME_NS_MAX:
        raise _unfit("at_ns", f"0 to {TIME_NS_MAX}", "a time outside of it")
    if len(content) > CONTENT_BYTES_MAX:
        raise _unfit("content", f"<= {CONTENT_BYTES_MAX} bytes", f"{len(content)} bytes")
    texts = {"node": node, "request_id": request_id, "operator": operator, "action": action, "resource": resource}
    fields = [_encoded(name, text) for name, text in texts.items()]
    return TAG + at_ns.to_bytes(8, "big") + b"".join(_framed(field) for field in (*fields, content))


def _encoded(name: str, text: str) -> bytes:
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise _unfit(name, "text in UTF-8", "a lone surrogate") from None
    if len(raw) > TEXT_BYTES_MAX:
        raise _unfit(name, f"<= {TEXT_BYTES_MAX} bytes", f"{len(raw)} bytes")
    return raw


def _framed(raw: bytes) -> bytes:
    return len(raw).to_bytes(4, "big") + raw


def _unfit(name: str, expected: str, found: str) -> ConfigurationError:
    return ConfigurationError("a request cannot be signed", where=name, expected=expected, found=found)


def sign_statement(signer: Signer, statement: bytes) -> bytes:
    """The operator's 64-byte signature. Raises ConfigurationError for bytes that are no statement: a key that signs
    statements must not be talked into signing a note, or anything else."""
    if not statement.startswith(TAG):
        raise ConfigurationError("not a statement", expected="bytes of `statement`", found=f"{len(statement)} bytes")
    return signer.sign(statement)


def verify_statement(public_key: str, statement: bytes, signature: bytes) -> bool:
    """True when the signature is this key's over these bytes, and they are a statement.

    The key is 64 hex digits or ``name+hash+base64``. False for everything else, whatever it is: a malformed or
    low-order key, a signature of another length or in another spelling of the same number.
    """
    key = _raw_key(public_key)
    if key is None or len(signature) != SIGNATURE_BYTES or not statement.startswith(TAG):
        return False
    from nacl.bindings import crypto_sign_open
    from nacl.exceptions import CryptoError

    try:
        crypto_sign_open(signature + statement, key)
    except CryptoError:
        return False
    return True


def _raw_key(text: str) -> bytes | None:
    """The 32 bytes of a public key in one of its two spellings, each of which has exactly one form."""
    try:
        if "+" in text:
            return PublicKey.parse(text).raw
        raw = bytes.fromhex(text)
    except (LogError, ValueError):
        return None
    return raw if len(raw) == 32 and raw.hex() == text else None
