"""Preserving evidence: what a node is at this moment, into one signed file, before anybody repairs anything.

In it: the log (an export bundle, and the records behind its checkpoint), configuration and policy as the files have them and as
the record has them, what was found altered, the boot journal, the state of the serving process, and a hash of every file of the
program. Not in it: keys,
values of secrets (struck out wherever a file of the home holds one), the environment and the memory of a process.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from blake3 import blake3

from femtoclaw.distribution import ROOT, pin_path
from femtoclaw.errors import FemtoClawError
from femtoclaw.home import Home
from femtoclaw.incidents.altered import altered_members
from femtoclaw.incidents.evidence_file import TAIL, Written, pieces, write_evidence
from femtoclaw.incidents.process_state import process_state
from femtoclaw.launcher import start
from femtoclaw.version import VERSION
from wal.bundle import signed_checkpoint, write_bundle
from wal.durable_file import read_file
from wal.reader import LogReader

if TYPE_CHECKING:
    from femtoclaw.key_file import KeySigner
    from femtoclaw.state import Node

FOLDER = "evidence"
FILE_BYTES_MAX = 4 * 1024 * 1024
"""Of one of the home's text files."""

TAIL_BYTES_MAX = 16 * 1024 * 1024
"""Of the records behind the checkpoint; what is more is said in ``case.json``."""

Redact = Callable[[bytes], bytes]


class Case(NamedTuple):
    """What the evidence is of. ``time_ns``: since 1970."""

    incident_id: str
    kind: str
    operator: str
    time_ns: int


def evidence_path(home: Home, incident_id: str, size: int) -> str:
    """Where evidence of an incident is kept when nobody says otherwise; the folder is made."""
    folder = os.path.join(home.path, FOLDER)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return os.path.join(folder, f"{incident_id}-{size}.evidence")


def preserve(
    path: str, case: Case, home: Home, node: Node, reader: LogReader, signer: KeySigner, redact: Redact
) -> Written:  # fmt: skip
    """Write the evidence of ``case`` to ``path``. Raises LogError, and what reading the log raises."""
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path) or ".", prefix=".evidence-") as folder:
        return write_evidence(path, _members(folder, case, home, node, reader, redact), signer)


def redactor(home: Home, signer: KeySigner, node: Node) -> Redact:
    """Strikes the values of the node's secrets out of bytes. Raises FemtoClawError where they cannot be read."""
    from femtoclaw.vault import open_vault

    vault, _ = open_vault(home, signer, node, tidy=False)
    return vault.redact


def _members(
    folder: str, case: Case, home: Home, node: Node, reader: LogReader, redact: Redact
) -> Iterator[tuple[str, bytes]]:  # fmt: skip
    covered = signed_checkpoint(reader)
    size = covered.checkpoint.size
    tail, last = _tail(reader, size)
    yield "case.json", _json(_case(case, home, node, reader, size, last))
    for name, raw in _texts(home, node):
        yield name, redact(raw)
    for name, raw in altered_members(home, case.incident_id):
        yield name, redact(raw)
    for name, told in process_state(home).items():
        yield f"process/{name}", redact(told)
    yield "distribution/files.json", _json(_distribution(home))
    whole = os.path.join(folder, "log.bundle")
    write_bundle(reader, whole, _blobs(reader, size), covered)
    with open(whole, "rb") as file:
        yield from pieces(file)
    if tail:
        yield TAIL, tail


def _blobs(reader: LogReader, size: int) -> set[str]:
    from femtoclaw.audit import named_blobs

    return named_blobs(reader.scan(1, size + 1), reader.storage)


def _case(case: Case, home: Home, node: Node, reader: LogReader, size: int, last: int) -> dict[str, Any]:
    head = reader.head
    return case._asdict() | {
        "node": node.runtime_id, "log": reader.origin, "program": VERSION, "python": platform.python_version(),
        "kernel": platform.release(), "home": home.path, "size": head.index, "link": head.link.hex(),
        "root": reader.tree().root(head.index).hex(), "covered_by_checkpoint": size, "last_record_here": last,
        "contained": node.contained, "boots": node.boots, "process": node.process.value,
        "configuration": {"version": node.configuration.version, "digest": node.configuration.digest},
        "policy": {"version": node.policy.version, "digest": node.policy.digest},
        "claws": {name: [claw.enabled, claw.digest] for name, claw in sorted(node.registry.items())},
        "operators": {name: [each.active, list(each.roles)] for name, each in sorted(node.operators.items())},
        "incidents": {name: each._asdict() for name, each in sorted(node.operations.incidents.items())},
        "alerts": dict(sorted(node.operations.alerts.items())),
    }  # fmt: skip


def _tail(reader: LogReader, size: int) -> tuple[bytes, int]:
    """The records behind the checkpoint as lines, and the index of the last one that is among them."""
    lines, last, total = [], size, 0
    for index in range(size + 1, reader.head.index + 1):
        frame = reader.storage.get(index)
        if frame is None or total > TAIL_BYTES_MAX:
            break
        total += len(frame)
        lines.append(json.dumps({"index": index, "frame": base64.b64encode(frame).decode()}))
        last = index
    return "".join(f"{line}\n" for line in lines).encode(), last


def _texts(home: Home, node: Node) -> Iterator[tuple[str, bytes]]:
    """Configuration, policy and journal: as the files are now, and as the record says."""
    from femtoclaw.recorded import recorded_configuration

    policy = "policy.cedar"
    try:
        policy = str(recorded_configuration(node.configuration.content)["policy"]["file"])
    except (FemtoClawError, KeyError, TypeError):
        pass  # the recorded text is there all the same
    files = {
        "configuration/femtoclaw.toml": home.config_file,
        "configuration/deployment.toml": os.path.join(home.path, "deployment.toml"),
        "policy/policy.cedar": home.inside(policy),
        "journal/boot.journal.old": home.old_journal,
        "journal/boot.journal": home.journal,
        "distribution/pin": pin_path(home),
    }
    for name, path in files.items():
        raw = _read(path)
        if raw is not None:
            yield name, raw
    yield "configuration/recorded.json", node.configuration.content
    yield "policy/recorded.cedar", node.policy.text.encode()
    yield "policy/control.cedar", node.control.text.encode()


def _read(path: str) -> bytes | None:
    """A file's bytes, the last ``FILE_BYTES_MAX`` of it; None where it is not there."""
    try:
        raw = read_file(path)
    except OSError as error:
        return f"[cannot be read: {error.strerror}]".encode()
    return raw[-FILE_BYTES_MAX:] if raw is not None else None


def _distribution(home: Home) -> dict[str, Any]:
    """Every file of the program with what it hashes to now, and what its manifest says where one vouches for it."""
    from femtoclaw.distribution_watch import distribution_changed
    from femtoclaw.seal import source_files

    found = start.verified
    hashes: dict[str, str] = {}
    for path in sorted(source_files(ROOT)):
        raw = _read(os.path.join(ROOT, path))
        hashes[path] = blake3(raw).hexdigest() if raw is not None else "gone"
    body = {"root": ROOT, "hash": "BLAKE3", "files": hashes, "changed": distribution_changed(home)}
    if found is None:
        return body | {"manifest": "none: nothing vouches for these files"}
    expected = {path: entry.digest for path, entry in sorted(found.manifest.files.items())}
    return body | {"manifest": found.manifest.digest, "manifest_hash": found.manifest.hash, "expected": expected}


def _json(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, indent=1, ensure_ascii=True).encode() + b"\n"
