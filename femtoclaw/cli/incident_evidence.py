"""``incident verify-evidence``: whether a file of evidence is what a node wrote down, checked with or without the node."""

from __future__ import annotations

import os
from typing import Any

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.recorded_state import recorded_state
from femtoclaw.cli.render import Output, printable
from femtoclaw.errors import UsageError
from femtoclaw.home import locate, require
from femtoclaw.incidents.story import Entry, preserved

INTEGRITY = 3


def verify_file(arguments: Arguments, output: Output, path: str) -> int:
    """0 when the file is whole, signed by a key that is trusted, and its log verifies; 3 otherwise."""
    from femtoclaw.incidents.evidence_file import verify_evidence

    trusted, log_keys, home = _keys(arguments)
    found = verify_evidence(path, trusted, log_keys)
    entry = _recorded(home, found.digest) if home else None
    body: dict[str, Any] = {
        "ok": found.ok, "file": path, "digest": found.digest, "signed_by": found.signer, "records": found.records,
        "tail": found.tail, "incident": str(found.case.get("incident_id", ""))[:64],
        "recorded_at": entry.index if entry is not None else None,
        "findings": [each._asdict() for each in found.findings],
    }  # fmt: skip
    output.data(body)
    output.line(f"{'ok' if found.ok else 'NOT ok'}: {path}", "green" if found.ok else "red")
    output.fields([
        ("digest", found.digest), ("signed by", found.signer or "nobody who is trusted"),
        ("log", f"{found.records} records, and {found.tail} behind them"),
        ("on record", f"index {entry.index}" if entry is not None else "not in this home's log" if home else "no home was asked"),
    ])  # fmt: skip
    for each in found.findings[:20]:
        output.line(
            f"  {each.code}  {printable(each.where)}: expected {printable(each.expected)}, found {printable(each.found)}",
            "red",
        )
    return 0 if found.ok else INTEGRITY


def _keys(arguments: Arguments) -> tuple[list[Any], list[Any], str]:
    """Keys that may have signed, keys of the log, and the log's directory where there is a home. Without --key the home's record
    says which keys there are."""
    from femtoclaw.cli.evidence import trusted_key
    from femtoclaw.keys import load_public_key, parse_public_key
    from wal.reader import read_log_directory

    home = locate(getattr(arguments, "home", None))
    given = [trusted_key(text) for text in arguments.key or []]
    if not os.path.isdir(home.log):
        if not given:
            raise UsageError(
                "which key do you trust?", where="incident verify-evidence", expected="--key KEY, or the node's home"
            )
        return given, given, ""
    if given:
        return given, given, home.log
    require(home)
    reader = read_log_directory(home.log)
    try:
        history = reader.keys()
        own = [tenure.key for tenure in history]
        members = history.newest.members
    finally:
        reader.close()
    operators = recorded_state(home).node.operators
    # Of a member that has never led no record has a signature; its key is among those of who takes part.
    others = [load_public_key(home.public_key_file), *(each.key for each in (members.members if members else ()))]
    return (
        [*own, *others, *(parse_public_key(each.public_key, name) for name, each in operators.items())],
        own,
        home.log,
    )


def _recorded(path: str, digest: str) -> Entry | None:
    from wal.reader import read_log_directory

    reader = read_log_directory(path)
    try:
        return preserved(reader, digest)
    finally:
        reader.close()
