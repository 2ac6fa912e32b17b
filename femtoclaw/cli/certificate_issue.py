"""``certificate issue``: three kinds of evidence, one denial with every reason, or one signed certificate; both on record."""

from __future__ import annotations

import contextlib
import json
import os
import shutil

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, printable
from femtoclaw.errors import FemtoClawError, UsageError
from femtoclaw.home import Home
from femtoclaw.launcher.refusal import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from femtoclaw.auditing.denial import Denial, Facts
    from femtoclaw.auditing.levels import Evidence
    from femtoclaw.cli.execute import Node
    from femtoclaw.key_file import KeySigner
    from femtoclaw.procedures import Procedure
    from femtoclaw.state import Node as State
    from wal.reader import LogReader

DENIED = 1
FAILING_MAX = 1000
SHOWN_MAX = 50
CONTENT_BYTES_MAX = 60_000


def issue(home: Home, arguments: Arguments, output: Output) -> int:
    """0 issued, 1 denied; either way the procedure and its reasons are on record."""
    from femtoclaw.audit import verify_home
    from femtoclaw.auditing.certificate import FOLDER
    from femtoclaw.auditing.denial import denials
    from femtoclaw.cli.asking import signer_of
    from femtoclaw.cli.certifying import read_report
    from femtoclaw.cli.execute import open_node
    from femtoclaw.compliance.report import digests
    from femtoclaw.control import load_cosigners
    from femtoclaw.goals import reading
    from femtoclaw.procedures import procedure

    if arguments.report is None or arguments.target is not None:
        raise UsageError("over which report?", where="certificate issue", expected="--report FILE")
    report = read_report(arguments.report)
    rerun = read_report(arguments.rerun) if arguments.rerun is not None else None
    digest = digests(report)[0]
    authority = _authority(arguments)
    output.progress("verifying the log ...")
    verification = verify_home(home, deep=True)
    output.progress("")
    if arguments.dry_run:
        return _tell_decision(home, report, digest, verification, arguments, output)
    with open_node(getattr(arguments, "home", None), output) as node:
        name = node.started.sources.new_id()
        folder = os.path.join(home.path, FOLDER, name)
        signer, cosigners = signer_of(node, arguments), load_cosigners(home, arguments.cosign)
        with (
            _removed_on_error(folder),
            procedure(node.started, signer, "certificate.issue", name, digest, cosigners=cosigners) as told,
            reading(node.started) as reader,
        ):
            facts = _facts(home, node.started.authority.state.node, reader, verification)
            against = denials(report, digest, facts, arguments.tier or "published")
            if against:
                _deny(told, against)
            else:
                evidence = _evidence(report, rerun, facts, verification, authority, reader)
                _issue(node, reader, told, folder, (report, verification, evidence), authority, arguments)
    _tell(told, against, folder, output)
    return DENIED if against else 0


def _tell_decision(
    home: Home, report: dict[str, Any], digest: str, verification: dict[str, Any], arguments: Arguments, output: Output
) -> int:
    """What would be decided now."""
    from femtoclaw.auditing.denial import denials
    from femtoclaw.restore import load_state
    from wal.reader import read_log_directory

    reader = read_log_directory(home.log)
    try:
        facts = _facts(home, load_state(reader).node, reader, verification)
    finally:
        reader.close()
    against = denials(report, digest, facts, arguments.tier or "published")
    output.data({"dry_run": True, "denied": bool(against), "reasons": {each.reason: each.text for each in against}})
    output.line("would be denied" if against else "would be issued", "red" if against else "green")
    _tell_reasons(against, output)
    return DENIED if against else 0


@contextlib.contextmanager
def _removed_on_error(folder: str) -> Iterator[None]:
    """A certificate that is not on record must not stay. A goal that was lost meanwhile undoes nothing: the end is on record."""
    from femtoclaw.procedures import GoalsLostError

    try:
        yield
    except GoalsLostError:
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _authority(arguments: Arguments) -> KeySigner | None:
    """The authority's key, None for the node's own. Raises as ``key_file.open_key``."""
    if arguments.authority_key is None:
        return None
    from femtoclaw.key_file import open_key, read_key_file, stated_key
    from femtoclaw.passphrase import operator_passphrase

    path = arguments.authority_key
    raw = read_key_file(path)
    return open_key(raw, path, operator_passphrase, stated_key(raw, path))


def _facts(home: Home, state: State, reader: LogReader, verification: dict[str, Any]) -> Facts:
    from femtoclaw.auditing.denial import Facts
    from femtoclaw.compliance.register import requirements
    from femtoclaw.compliance.report import build

    sound = bool(verification["ok"] and verification["state_hash"])
    return Facts(
        _reports(home, reader), build()["digest"], state.configuration.digest, state.runtime_id,
        frozenset(requirements()), sound, _binary(home),
    )  # fmt: skip


def _reports(home: Home, reader: LogReader) -> dict[str, int]:
    """Digest of each report on record to its index."""
    from femtoclaw import events
    from femtoclaw.auditing.questions import of_types
    from femtoclaw.projections.consulting import consult

    rows = consult(
        home.index_file, reader, lambda kept: list(of_types(reader, kept, events.ProcedureEnded)), lambda text: None
    )
    found: dict[str, int] = {}
    for record, event in rows:
        if isinstance(event, events.ProcedureEnded) and event.procedure == "compliance.check":
            found[str(json.loads(event.content).get("report"))] = record.index
    return found


def _binary(home: Home) -> str:
    """Whether the files of the program that runs are verified, and still what was verified."""
    from femtoclaw.distribution import altered_interpreter, integrity
    from femtoclaw.distribution_watch import distribution_changed

    try:
        if integrity().result != "verified":
            return "nothing verified the program that runs: start the sealed distribution"
    except (FemtoClawError, Refused) as error:
        return str(error)
    changed = [*distribution_changed(home), *altered_interpreter()]
    return f"changed since it was verified: {', '.join(changed[:5])}" if changed else "verified"


def _evidence(
    report: dict[str, Any], rerun: dict[str, Any] | None, facts: Facts, verification: dict[str, Any],
    authority: KeySigner | None, reader: LogReader,
) -> Evidence:  # fmt: skip
    """What there is; a rerun counts when it is on record, another run, and came to the same."""
    from femtoclaw.auditing.levels import Evidence
    from femtoclaw.compliance.report import digests

    same = False
    if rerun is not None:
        (whole, stable), (other, other_stable) = digests(report), digests(rerun)
        same = other in facts.on_record and other != whole and stable == other_stable
    keys = reader.keys()
    members = keys.newest.members
    return Evidence(
        report["overall"] == "COMPLIANT", facts.log_sound and not verification["skipped"], same,
        authority is not None and not keys.knows(authority.public),
        members is not None and len(members.members) > 1 and reader.checkpoint_note() is not None,
    )  # fmt: skip


def _deny(told: Procedure, against: list[Denial]) -> None:
    failing = [each.reason for each in against[:FAILING_MAX]]
    reasons = {each.reason: each.text for each in against}
    told.content = {"denied": True, "failing": failing, "reasons": reasons}
    if len(json.dumps(told.content)) > CONTENT_BYTES_MAX:
        told.content = {"denied": True, "failing": failing}
    told.result = "failed"
    told.detail = f"denied for {len(against)} reasons: {', '.join(failing[:20])}"


def _issue(
    node: Node, reader: LogReader, told: Procedure, folder: str, over: tuple[dict[str, Any], dict[str, Any], Evidence],
    authority: KeySigner | None, arguments: Arguments,
) -> None:  # fmt: skip
    """Sign and write the certificate; what is recorded of it."""
    from femtoclaw.auditing.certificate import (
        CHECKPOINT,
        CONFIGURATION,
        REPORT,
        VERIFICATION,
        digest,
        sign_certificate,
        write_folder,
    )  # fmt: skip
    from femtoclaw.auditing.levels import level, steps
    from femtoclaw.compliance.grading import canonical
    from femtoclaw.compliance.report import digests
    from wal.bundle import signed_checkpoint

    report, verification, evidence = over
    state, signer = node.started.authority.state.node, authority or node.started.signer
    covered = signed_checkpoint(reader)
    parts = {
        REPORT: canonical(report), VERIFICATION: canonical(verification),
        CONFIGURATION: state.configuration.content, CHECKPOINT: covered.note,
    }  # fmt: skip
    body = {
        "id": told.resource, "issued_ns": node.started.sources.wall_ns(),
        "authority_kind": arguments.authority_kind or ("internal" if authority is None else "independent"),
        "runtime_id": state.runtime_id, "log": reader.origin,
        "node_key": reader.keys().at(covered.checkpoint.size).key.vkey(),
        "version": str(report["build"].get("version", "")), "build": report["build"]["digest"],
        "configuration": state.configuration.digest, "policy": state.policy.digest,
        "first": 1, "last": covered.checkpoint.size, "root": covered.checkpoint.root.hex(), "level": level(evidence),
        "level_steps": [list(step) for step in steps(evidence)], "tier": "published",
        "documents": report["documents"], "report": digests(report)[0],
    }  # fmt: skip
    note = sign_certificate(body, parts, signer)
    write_folder(folder, note, parts)
    told.content = {
        "certificate": told.resource, "digest": digest(note), "level": body["level"], "authority": signer.public.vkey(),
        "build": body["build"], "configuration": body["configuration"], "report": body["report"], "first": 1,
        "last": body["last"], "root": body["root"],
    }  # fmt: skip
    told.detail = f"level {body['level']}, signed by {signer.public.name}"


def _tell(told: Procedure, against: list[Denial], folder: str, output: Output) -> None:
    output.data({"issued": not against, "folder": "" if against else folder, "ended": told.ended} | told.content)
    if against:
        output.line(f"denied, recorded at index {told.ended}", "red")
        _tell_reasons(against, output)
        return
    output.line(f"certificate {told.resource}, level {told.content['level']}, in {folder}", "green")
    output.line(f"  signed by {told.content['authority']}, recorded at index {told.ended}")


def _tell_reasons(against: list[Denial], output: Output) -> None:
    for each in against[:SHOWN_MAX]:
        output.line(f"  {each.reason:<22} {printable(each.text)}", "red")
    if len(against) > SHOWN_MAX:
        output.line(f"  and {len(against) - SHOWN_MAX} more: --json has all")
