"""What a node's newest certificate is worth now: on record, unrevoked, of this build, configuration and history (CERT-17.1).

The log says which certificate was issued and whether it was revoked; the file in the home only carries what was signed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from femtoclaw import events
from femtoclaw.auditing.certificate import FOLDER, CertificateError, check_parts, digest, open_certificate, read_folder
from femtoclaw.auditing.questions import of_types
from femtoclaw.errors import FemtoClawError
from femtoclaw.home import Home
from femtoclaw.projections.consulting import consult
from femtoclaw.projections.database import Projections
from femtoclaw.state import Node
from wal.reader import LogReader

NONE, VALID, INVALID, SUSPENDED, REVOKED = "NONE", "VALID", "INVALID", "SUSPENDED", "REVOKED"
GRAVE = 2
"""An open incident of this severity or worse suspends a certificate."""

Quiet = Callable[[str], None]


def standing(home: Home, reader: LogReader, node: Node, note: Quiet = lambda text: None) -> dict[str, Any]:
    """``status`` of the newest certificate and why; ``NONE`` where none was ever issued. Raises the errors of reading the log."""

    def question(kept: Projections) -> tuple[dict[str, Any] | None, dict[str, str]]:
        return on_record(reader, kept)

    issued, revoked = consult(home.index_file, reader, question, note)
    if issued is None:
        return {"status": NONE, "why": ["no certificate is on record"]}
    told = {name: issued[name] for name in ("certificate", "level", "authority", "build", "first", "last", "index")}
    if issued["certificate"] in revoked:
        return {"status": REVOKED, "why": [revoked[issued["certificate"]]]} | told
    why = _invalid(home, reader, node, issued)
    if why:
        return {"status": INVALID, "why": why} | told
    grave = sorted(name for name, each in node.operations.incidents.items() if each.severity <= GRAVE)
    if grave or node.contained:
        found = [f"incident {name} is open" for name in grave] or [f"the node is contained: {node.contained}"]
        return {"status": SUSPENDED, "why": found} | told
    return {"status": VALID, "why": []} | told


def on_record(reader: LogReader, kept: Projections) -> tuple[dict[str, Any] | None, dict[str, str]]:
    """The newest certificate that was issued, and every revoked one with the reason."""
    issued: dict[str, Any] | None = None
    revoked: dict[str, str] = {}
    for record, event in of_types(reader, kept, events.ProcedureEnded):
        if not isinstance(event, events.ProcedureEnded) or event.result != "done":
            continue
        if event.procedure == "certificate.issue":
            issued = {"index": record.index} | json.loads(event.content)
        elif event.procedure == "certificate.revoke":
            body = json.loads(event.content)
            revoked[body["certificate"]] = body["reason"]
    return issued, revoked


def issued_ids(home: Home, reader: LogReader, note: Quiet = lambda text: None) -> list[str]:
    """The ids of all certificates on record, oldest first, whatever became of their folders. Raises as ``standing``."""

    def question(kept: Projections) -> list[str]:
        ended = [event for _, event in of_types(reader, kept, events.ProcedureEnded)]
        return [
            json.loads(each.content)["certificate"]
            for each in ended
            if isinstance(each, events.ProcedureEnded) and (each.procedure, each.result) == ("certificate.issue", "done")
        ]

    return consult(home.index_file, reader, question, note)


def _invalid(home: Home, reader: LogReader, node: Node, issued: dict[str, Any]) -> list[str]:
    """What keeps a certificate on record from being valid here and now."""
    from femtoclaw.compliance.report import build

    why = []
    try:
        note, parts = read_folder(os.path.join(home.path, FOLDER, issued["certificate"]))
        if digest(note) != issued["digest"]:
            raise CertificateError("the file is not the recorded certificate", where=issued["certificate"])
        body = open_certificate(note)
        check_parts(body, parts)
    except FemtoClawError as error:
        return [str(error)]
    now = build()["digest"]
    if body["build"] != now:
        why.append(f"the build is another: {now[:16]}... runs, {body['build'][:16]}... was certified")
    if body["configuration"] != node.configuration.digest:
        why.append("the configuration in force is not the certified one")
    if body["policy"] != node.policy.digest:
        why.append("the policy in force is not the certified one")
    if body["last"] > reader.size or reader.tree().root(body["last"]).hex() != body["root"]:
        why.append("the log does not begin with the certified records")
    return why
