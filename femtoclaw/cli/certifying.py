"""``certificate``: issued over evidence on record, checked by anyone, revoked on record."""

from __future__ import annotations

import json
import os

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, printable, when
from femtoclaw.errors import ConfigurationError, UsageError
from femtoclaw.home import Home, locate, require

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

INTEGRITY = 3


def certificate(arguments: Arguments, output: Output) -> int:
    """``issue``, ``show``, ``verify``, ``revoke``, ``status``."""
    from femtoclaw.cli.certificate_issue import issue

    acts = {"issue": issue, "show": _show, "verify": _verify, "revoke": _revoke, "status": _status}
    home = locate(getattr(arguments, "home", None))
    if arguments.what != "verify":  # whoever checks one needs no node
        require(home)
    return acts[arguments.what](home, arguments, output)


def standing_of(home: Home, output: Output) -> dict[str, Any]:
    """What the newest certificate of a home is worth: ``status`` and why. Raises as ``standing``."""
    from femtoclaw.auditing.standing import standing
    from femtoclaw.restore import load_state
    from wal.reader import read_log_directory

    reader = read_log_directory(home.log)
    try:
        return standing(home, reader, load_state(reader).node, output.note)
    finally:
        reader.close()


def _status(home: Home, arguments: Arguments, output: Output) -> int:
    """0 when the newest certificate is valid, 1 otherwise."""
    body = standing_of(home, output)
    output.data(body)
    valid = body["status"] == "VALID"
    output.line(body["status"], "green" if valid else "red" if body["status"] != "NONE" else "yellow")
    output.fields([(name, value) for name, value in body.items() if name not in ("status", "why")])
    for why in body["why"]:
        output.line(f"  {printable(why)}", "red")
    return 0 if valid else 1


def _folder(home: Home, arguments: Arguments, output: Output) -> str:
    """The folder of a certificate of this home: the one that is named, or the newest."""
    from femtoclaw.auditing.certificate import FOLDER

    name = arguments.target
    if name is None:
        name = standing_of(home, output).get("certificate")
        if name is None:
            raise UsageError("no certificate is on record", where="certificate show", expected="ID")
    if not name.isalnum():
        raise UsageError("not the id of a certificate", where="certificate", expected="32 hex digits", found="another")
    return os.path.join(home.path, FOLDER, name)


def _show(home: Home, arguments: Arguments, output: Output) -> int:
    """What a certificate of this home says, its parts compared."""
    from femtoclaw.auditing.certificate import check_parts, open_certificate, read_folder

    folder = _folder(home, arguments, output)
    note, parts = read_folder(folder)
    body = open_certificate(note)
    check_parts(body, parts)
    _tell(body, folder, output)
    return 0


def _verify(home: Home, arguments: Arguments, output: Output) -> int:
    """Check a certificate and its four parts by the authority's key: 0, or 3."""
    from femtoclaw.auditing.certificate import check_parts, open_certificate, read_folder
    from femtoclaw.cli.evidence import trusted_key

    if arguments.target is None or arguments.key is None:
        raise UsageError("which certificate, and which authority do you trust?", where="certificate verify",
                         expected="FOLDER --key KEY")  # fmt: skip
    note, parts = read_folder(arguments.target)
    body = open_certificate(note, trusted_key(arguments.key))
    check_parts(body, parts)
    _tell(body, arguments.target, output)
    output.note("revocation is in the node's log: `femtoclaw certificate status` there, or its exported records")
    return 0


def _tell(body: dict[str, Any], folder: str, output: Output) -> None:
    output.data({"ok": True, "folder": folder} | body)
    output.line(f"certificate {body['id']}, level {body['level']}", "green")
    told = (
        "authority_kind",
        "authority",
        "runtime_id",
        "log",
        "version",
        "build",
        "configuration",
        "policy",
        "first",
        "last",
        "root",
        "tier",
    )
    output.fields([("issued", when(body["issued_ns"])), *((name, body[name]) for name in told)])
    for name, counts in body["documents"].items():
        output.line(f"  {name:<10} shown {counts['shown']}, not applicable {counts['not applicable']}")


def _issued(home: Home, part: str) -> str:
    """The one certificate on record whose id is ``part`` or begins so: its folder may be gone. Raises ConfigurationError."""
    from femtoclaw.auditing.standing import issued_ids
    from wal.reader import read_log_directory

    reader = read_log_directory(home.log)
    try:
        known = issued_ids(home, reader)
    finally:
        reader.close()
    found = [each for each in known if each == part] or [each for each in known if part and each.startswith(part)]
    if len(found) != 1:
        raise ConfigurationError(
            "several certificates begin so" if found else "no such certificate is on record", where="certificate revoke",
            expected="an ID that this node has issued", found=part[:64],
        )  # fmt: skip
    return found[0]


def _revoke(home: Home, arguments: Arguments, output: Output) -> int:
    """Revoke a certificate of this node, on record: 0 done, 1 refused."""
    from femtoclaw.cli.asking import signer_of
    from femtoclaw.cli.execute import open_node
    from femtoclaw.control import load_cosigners
    from femtoclaw.procedures import procedure

    if arguments.target is None or not arguments.reason:
        raise UsageError("which certificate, and why?", where="certificate revoke", expected="ID --reason TEXT")
    name = _issued(home, arguments.target)
    with open_node(getattr(arguments, "home", None), output) as node:
        signer, cosigners = signer_of(node, arguments), load_cosigners(home, arguments.cosign)
        with procedure(node.started, signer, "certificate.revoke", name, cosigners=cosigners) as told:
            told.content = {"certificate": name, "reason": arguments.reason[:1000]}
            told.detail = f"revoked: {arguments.reason}"
        output.data({"certificate": name, "status": "REVOKED", "reason": arguments.reason, "ended": told.ended})
        output.line(f"certificate {name} is revoked, recorded at index {told.ended}", "green")
    return 0


def read_report(path: str) -> dict[str, Any]:
    """A report's file. Raises ConfigurationError."""
    from femtoclaw.auditing.certificate import PART_BYTES_MAX
    from femtoclaw.auditing.denial import check_report
    from femtoclaw.home import read_bounded

    try:
        report = json.loads(read_bounded(path, PART_BYTES_MAX))
    except (ValueError, RecursionError):
        report = None
    return check_report(report, path)
