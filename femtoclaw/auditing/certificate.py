"""A certificate: one signed note, and beside it the four parts that it rests on, each by its digest (CERT-4.1).

The note's text is a line that names the format, and canonical JSON in ASCII. The parts are results (the compliance report), logs
of the verification, the configuration, and the signed checkpoint over the certified range; the authority's identity is its key,
which the note names and which signs it.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from femtoclaw.errors import ConfigurationError, IntegrityError, UnavailableError
from wal.checkpoint import open_checkpoint
from wal.errors import LogError
from wal.note import PublicKey, Signer, open_note, sign_note

FORMAT = "femtoclaw certificate v1"
NOTE = "certificate.note"
REPORT, VERIFICATION, CONFIGURATION, CHECKPOINT = (
    "report.json",
    "verification.json",
    "configuration.json",
    "checkpoint.note",
)
PARTS = (REPORT, VERIFICATION, CONFIGURATION, CHECKPOINT)
FOLDER = "certificates"
"""In the home: one folder a certificate, named by its id."""
PART_BYTES_MAX = 64 * 1024 * 1024
FIELDS = {
    "id": str, "issued_ns": int, "authority": str, "authority_kind": str, "runtime_id": str, "log": str, "node_key": str,
    "version": str, "build": str, "configuration": str, "policy": str, "first": int, "last": int, "root": str, "level": int,
    "level_steps": list, "tier": str, "documents": dict, "report": str, "parts": dict,
}  # fmt: skip


class CertificateError(IntegrityError):
    """A certificate that proves nothing."""

    code = "CERTIFICATE_INVALID"
    default_remedy = "this certificate proves nothing: ask for it again, and for the authority's key by another way"


def sign_certificate(body: dict[str, Any], parts: dict[str, bytes], signer: Signer) -> bytes:
    """The note over ``body`` and the digests of its parts."""
    told = body | {"authority": signer.public.vkey(), "parts": {name: digest(parts[name]) for name in PARTS}}
    assert {name: type(value) for name, value in told.items()} == FIELDS
    return sign_note(f"{FORMAT}\n{json.dumps(told, sort_keys=True, separators=(',', ':'))}\n", [signer])


def digest(raw: bytes) -> str:
    """SHA-256, 64 hex digits."""
    return hashlib.sha256(raw).hexdigest()


def open_certificate(note: bytes, key: PublicKey | None = None) -> dict[str, Any]:
    """What a certificate says, its signature verified by ``key``, or by the key that it names itself: then only that nobody changed
    it since. Raises CertificateError."""
    try:
        stated = _read(note.rpartition(b"\n\n")[0].decode() + "\n")
        signer = PublicKey.parse(stated["authority"])
        if key is not None and key != signer:
            raise CertificateError(
                "the certificate names another authority", where=NOTE, expected=key.vkey(), found=signer.vkey()
            )
        return _read(open_note(note, [signer]).text)
    except (LogError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CertificateError(
            "not a certificate that its authority signed", where=NOTE, found=type(error).__name__
        ) from None


def _read(text: str) -> dict[str, Any]:
    form, line, *rest = text.split("\n")
    body = json.loads(line)
    if form != FORMAT or rest != [""] or not isinstance(body, dict):
        raise ValueError(form)
    if {name: type(value) for name, value in body.items()} != FIELDS:
        raise ValueError("fields")
    return body


def check_parts(body: dict[str, Any], parts: dict[str, bytes]) -> None:
    """Every part is there and is the one that was signed for, and they fit together. Raises CertificateError."""
    for name in PARTS:
        found = digest(parts[name]) if name in parts else "nothing"
        if body["parts"].get(name) != found:
            raise CertificateError(
                "a part is not the certified one", where=name, expected=body["parts"].get(name), found=found
            )
    if _report_of(parts[REPORT]) != (body["report"], body["build"]):
        raise CertificateError(
            "the report is of another run or build", where=REPORT, expected=body["report"], found="another"
        )
    try:
        key = PublicKey.parse(body["node_key"])
        checkpoint = open_checkpoint(parts[CHECKPOINT], [key], body["log"]).checkpoint
    except LogError as error:
        raise CertificateError("the checkpoint is not the node's", where=CHECKPOINT, found=error.what) from None
    if (checkpoint.size, checkpoint.root.hex()) != (body["last"], body["root"]):
        raise CertificateError(
            "the checkpoint is of another range", where=CHECKPOINT, expected=body["last"], found=checkpoint.size
        )


def _report_of(raw: bytes) -> tuple[str, str]:
    """Digest and build of a report; empty for what is none."""
    from femtoclaw.compliance.report import digests

    try:
        report = json.loads(raw)
        return digests(report)[0], str(report["build"]["digest"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "", ""


def write_folder(path: str, note: bytes, parts: dict[str, bytes]) -> None:
    """A new folder with the note and its parts, whole or not there. Raises ConfigurationError when it is there already."""
    from wal.durable_file import sync_folder, write_file

    if os.path.lexists(path):
        raise ConfigurationError("there is something already", where=path, expected="a new folder")
    unfinished = f"{path}.unfinished"
    try:
        os.makedirs(unfinished, 0o700, exist_ok=True)
        for name, raw in {**parts, NOTE: note}.items():
            write_file(os.path.join(unfinished, name), raw)
        os.rename(unfinished, path)
        sync_folder(os.path.dirname(path))
    except OSError as error:
        raise UnavailableError("the certificate cannot be written", where=path, found=error.strerror) from error


def read_folder(path: str) -> tuple[bytes, dict[str, bytes]]:
    """The note, and the parts that are there. Raises ConfigurationError."""
    from femtoclaw.home import read_bounded

    note = read_bounded(os.path.join(path, NOTE))
    there = [name for name in PARTS if os.path.lexists(os.path.join(path, name))]
    return note, {name: read_bounded(os.path.join(path, name), PART_BYTES_MAX) for name in there}
