"""Asking a witness for its cosignature of a checkpoint, over HTTP. Every answer is checked before it counts."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Callable, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection, IncompleteRead
from typing import NamedTuple
from urllib.parse import urlsplit

from cluster.deadline import DeadlineConnection
from cluster.errors import (
    ClusterConfigurationError,
    CosignatureMissingError,
    PeerProtocolError,
    WitnessAheadError,
    WitnessDisagreesError,
    WitnessRefusedError,
    WitnessUnavailableError,
)
from cluster.limits import WITNESS_ANSWER_BYTES_MAX, WITNESS_RESENDS_MAX
from cluster.witness import SIZE_TYPE, encode_request
from wal.checkpoint import Checkpoint, parse_checkpoint
from wal.cosignature import Cosignature, CosignerKey, verify_cosignature
from wal.errors import SignatureError
from wal.merkle import SIZE_MAX
from wal.note import parse_signature_line, text_of

Prove = Callable[[int, int], Sequence[bytes]]
"""(old, new): the consistency proof between two sizes, 0 < old < new, of the log that the checkpoint is of."""

SECONDS = 10.0
"""For one exchange with a witness, from connecting to the answer's last byte."""


class WitnessAddress(NamedTuple):
    """A witness: the key that verifies its cosignatures, and its submission prefix, ``http://`` or ``https://``."""

    key: CosignerKey
    url: str


class Witnessed(NamedTuple):
    """A verified cosignature: what it says, its signature line (with its end), and the checkpoint that it is on."""

    cosignature: Cosignature
    line: str
    checkpoint: Checkpoint


class Reply(NamedTuple):
    """An HTTP answer."""

    status: int
    content_type: str
    body: bytes


def submit_checkpoint(
    witness: WitnessAddress, note: bytes, prove: Prove, *, known_size: int = 0, seconds: float = SECONDS
) -> Witnessed:
    """Have ``witness`` cosign the signed checkpoint ``note``; ``known_size`` is the size that it is thought to have.

    When it names another size the request is sent again from there, at most ``WITNESS_RESENDS_MAX`` times; ``seconds``
    bounds each exchange. Raises WitnessUnavailableError, WitnessRefusedError (404, 403), WitnessAheadError (it has a larger
    size; the checkpoint is old, or the log was cut), WitnessDisagreesError (another history), CosignatureMissingError,
    PeerProtocolError, ClusterConfigurationError (no usable address), and what ``prove`` raises.
    """
    text = text_of(note)
    checkpoint = parse_checkpoint(text)
    old = min(known_size, checkpoint.size)
    for _ in range(1 + WITNESS_RESENDS_MAX):
        hashes = prove(old, checkpoint.size) if 0 < old < checkpoint.size else ()
        reply = exchange(witness.url, encode_request(old, hashes, note), seconds)
        if reply.status == 200:
            return Witnessed(*_cosignature(reply.body, text, witness), checkpoint)
        if reply.status != 409:
            raise _refused(reply, witness.url)
        told = _told_size(reply, witness.url)
        if told == old == checkpoint.size:
            raise _disagrees(reply, witness.url)
        if told == old:
            raise PeerProtocolError("the witness names the size that it refuses", where=witness.url, found=told)
        if told > checkpoint.size:
            raise WitnessAheadError(told, where=witness.url, expected=f"at most {checkpoint.size}")
        old = told
    raise WitnessUnavailableError("the witness names another size each time", where=witness.url, found=old)


def _cosignature(body: bytes, text: str, witness: WitnessAddress) -> tuple[Cosignature, str]:
    """The witness's own line of its answer, verified; lines of keys that are not known here do not count."""
    found: SignatureError | None = None
    try:
        lines = body.decode().splitlines(keepends=True)
        for line in lines:
            name, signature = parse_signature_line(line.removesuffix("\n"))
            if (name, signature[:4]) == (witness.key.name, witness.key.key_id):
                return verify_cosignature(text, line, witness.key), line
    except UnicodeDecodeError:
        pass
    except SignatureError as error:
        found = error
    raise CosignatureMissingError(
        "the witness's answer holds no cosignature by its key", where=witness.url, expected=witness.key.vkey(),
        found=found.what if found is not None else f"{len(body)} bytes without one",
    ) from found  # fmt: skip


def _told_size(reply: Reply, where: str) -> int:
    """The size in a 409. Witnesses of the protocol's first version also answered 409, without one, for another history."""
    if reply.content_type.partition(";")[0].strip() != SIZE_TYPE:
        raise _disagrees(reply, where)
    digits = reply.body.removesuffix(b"\n")
    if (
        not digits.isdigit()
        or len(digits) > len(str(SIZE_MAX))
        or b"%d" % int(digits) != digits
        or int(digits) > SIZE_MAX
    ):
        raise PeerProtocolError("the witness names no size", where=where, expected="decimal digits", found=_said(reply))
    return int(digits)


def _refused(reply: Reply, where: str) -> Exception:
    found = _said(reply)
    match reply.status:
        case 404 | 403:
            return WitnessRefusedError("the witness does not take this log's checkpoints", where=where, found=found)
        case 422:
            return _disagrees(reply, where)
        case 429 | 500 | 502 | 503 | 504:
            return WitnessUnavailableError("the witness cannot answer now", where=where, found=found)
    return PeerProtocolError("the witness's answer is not one of the protocol's", where=where, found=found)


def _disagrees(reply: Reply, where: str) -> WitnessDisagreesError:
    return WitnessDisagreesError(
        "the witness has cosigned another history of this log", where=where, found=_said(reply)
    )


def _said(reply: Reply) -> str:
    """Status and the beginning of the text, printable: it comes from outside."""
    text = reply.body[:200].decode("utf-8", "replace").strip()
    return f"{reply.status}: {''.join(char if char.isprintable() else ' ' for char in text)}"


def exchange(url: str, body: bytes, seconds: float) -> Reply:
    """POST ``body`` to a witness's ``add-checkpoint`` and read the answer, all within ``seconds``.

    Raises WitnessUnavailableError, PeerProtocolError (no HTTP, or too large), ClusterConfigurationError for the address.
    """
    connection, path = _connection(url, seconds)
    stream = None
    try:
        connection.connect()
        stream = connection.sock
        # From here one deadline holds for everything, where a socket's timeout would begin anew with each byte.
        connection.sock = DeadlineConnection(stream, seconds)
        headers = {"Content-Type": "text/plain; charset=utf-8", "Connection": "close"}
        connection.request("POST", f"{path}/add-checkpoint", body, headers)
        response = connection.getresponse()
        raw = response.read(WITNESS_ANSWER_BYTES_MAX + 1)
    except OSError as error:
        raise WitnessUnavailableError(
            "the witness cannot be reached", where=url, found=error.strerror or type(error).__name__
        ) from error
    except IncompleteRead as error:
        raise _cut(url, len(error.partial)) from error
    except HTTPException as error:
        raise PeerProtocolError(
            "this is no witness: its answer is not HTTP", where=url, found=type(error).__name__
        ) from error
    except UnicodeError as error:
        raise _no_address(url) from error
    finally:
        if stream is not None:
            stream.close()
    if len(raw) > WITNESS_ANSWER_BYTES_MAX:
        raise PeerProtocolError(
            "the witness's answer is too large", where=url, expected=f"<= {WITNESS_ANSWER_BYTES_MAX} bytes"
        )
    if response.length:  # bytes that it announced and that did not come: a bounded read says nothing of them
        raise _cut(url, len(raw))
    return Reply(response.status, response.getheader("Content-Type", "") or "", raw)


def _cut(url: str, found: int) -> WitnessUnavailableError:
    """A witness that was killed in the middle of its answer has said nothing: neither of a history nor of a size."""
    return WitnessUnavailableError(
        "the witness's answer was cut", where=url, expected="all that it announced", found=f"{found} bytes"
    )


def _connection(url: str, seconds: float) -> tuple[HTTPConnection, str]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise _no_address(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return kind(parts.hostname, port, timeout=seconds), parts.path.rstrip("/")


def _no_address(url: str) -> ClusterConfigurationError:
    return ClusterConfigurationError(
        "not a witness's address", where="url", expected="http:// or https://, a host, and a path at most",
        found=f"{len(url)} characters",
    )  # fmt: skip
