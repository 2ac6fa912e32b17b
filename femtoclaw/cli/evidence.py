"""``verify``, ``replay``, ``proof`` and ``export``: what an auditor uses. Nothing here writes to the log."""

from __future__ import annotations

import base64
import os
from typing import Any

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, printable
from femtoclaw.errors import PolicyError, UsageError
from femtoclaw.home import locate, read_bounded, read_text, require
from wal import LogError, LogReader, read_log_directory

INTEGRITY = 3
BUNDLE_REMEDY = "this bundle proves nothing: ask for it again, and for the key by another way; keep both as evidence"


def verify(arguments: Arguments, output: Output) -> int:
    """0 when everything holds, 3 with the findings otherwise."""
    from femtoclaw.audit import verify_bundle, verify_home

    anchor = read_bounded(arguments.checkpoint) if arguments.checkpoint is not None else None
    if arguments.bundle is not None:
        if arguments.key is None:
            raise UsageError(
                "which key do you trust?", where="verify --bundle", expected="--key FILE or --key NAME+HASH+BASE64",
                remedy="get the node's keys/node.pub from its operator by another way than this bundle",
            )  # fmt: skip
        key = _key(arguments.key)
        try:
            report = verify_bundle(arguments.bundle, key, anchor=anchor)
        except LogError as error:
            error.remedy = BUNDLE_REMEDY
            raise
        remedy = BUNDLE_REMEDY
        what = arguments.bundle
    else:
        home = locate(getattr(arguments, "home", None))
        require(home)
        output.progress("verifying ...")
        report = verify_home(home, deep=arguments.deep, anchor=anchor)
        output.progress("")
        what, remedy = home.path, "keep this home as evidence; `femtoclaw recover --dry-run` says what can be done"
    output.data(report)
    if report["ok"]:
        output.line(f"ok: {what}", "green")
    else:
        output.line(f"NOT ok: {what}", "red")
    output.fields([(name, report[name]) for name in ("size", "root", "state_hash", "decisions") if report[name]])
    for finding in report["findings"][:50]:
        output.line(f"  {finding['code']}  {finding['where']}", "red")
        output.line(f"    expected  {printable(finding['expected'])}")
        output.line(f"    found     {printable(finding['found'])}")
    if not report["ok"]:
        output.note(remedy)
    return 0 if report["ok"] else INTEGRITY


def _key(text: str) -> Any:
    from femtoclaw.keys import load_public_key, parse_public_key

    return load_public_key(text) if os.path.exists(text) else parse_public_key(text, "--key")


def _reader(arguments: Arguments) -> LogReader:
    home = locate(getattr(arguments, "home", None))
    require(home)
    return read_log_directory(home.log)


def replay(arguments: Arguments, output: Output) -> int:
    """0 when every decision re-derives, 3 on a divergence, 1 when another policy would flip decisions."""
    from femtoclaw.replay import replay as derive

    policy = None
    if arguments.policy is not None:
        policy = read_text(arguments.policy)
    reader = _reader(arguments)
    try:
        size = reader.size
        to = size if arguments.to is None else arguments.to
        if not 1 <= to <= size:
            raise UsageError("--to is outside of the log", expected=f"1 to {size}", found=to)
        report = derive(reader.scan(1, to + 1), policy=policy)
    except PolicyError as error:
        error.where = arguments.policy
        raise
    finally:
        reader.close()
    output.data(
        {
            "size": report.size,
            "state_hash": report.state_hash,
            "decisions": report.decisions,
            "divergences": [d._asdict() for d in report.divergences],
            "flips": [f._asdict() for f in report.flips],
        }
    )
    output.line(f"replayed {report.size} records", "bold")
    output.fields([("state hash", report.state_hash), ("decisions re-derived", report.decisions)])
    for divergence in report.divergences:
        output.line(f"  divergence at index {divergence.index}", "red")
        output.line(f"    expected  {printable(divergence.expected)}")
        output.line(f"    found     {printable(divergence.found)}")
    for flip in report.flips:
        output.line(f"  flip at index {flip.index}: {flip.claw} {flip.recorded} -> {flip.derived}", "yellow")
    if report.divergences:
        return INTEGRITY
    return 1 if report.flips else 0


def proof(arguments: Arguments, output: Output) -> int:
    """Print a proof, checked before it is shown."""
    from wal.checkpoint import open_checkpoint
    from wal.merkle import leaf_hash, verify_consistency, verify_inclusion

    wanted = 1 if arguments.which == "inclusion" else 2
    if len(arguments.numbers) != wanted:
        raise UsageError(f"proof {arguments.which} takes {wanted} number(s)", found=len(arguments.numbers))
    reader = _reader(arguments)
    try:
        tree, size = reader.tree(), reader.size
        note = reader.checkpoint_note()
        body: dict[str, Any] = {"kind": arguments.which, "hash": "SHA-256, RFC 6962"}
        if arguments.which == "inclusion":
            index = arguments.numbers[0]
            signed = open_checkpoint(note, [reader.key], reader.origin).checkpoint.size if note is not None else 0
            if index <= signed:
                size = signed  # a running node's newest records are not signed yet: prove what a signature vouches for
            path, root = tree.inclusion(index, size), tree.root(size)
            leaf = leaf_hash(reader.read(index).link)
            verify_inclusion(leaf, index - 1, size, path, root)
            body |= {"index": index, "leaf_index": index - 1, "size": size, "leaf_hash": leaf.hex()}
        else:
            old, new = arguments.numbers
            if new > size:
                raise UsageError("NEW is beyond the log", expected=f"<= {size}", found=new)
            path, root, old_root = tree.consistency(old, new), tree.root(new), tree.root(old)
            verify_consistency(old, new, path, old_root, root)
            body |= {"old_size": old, "old_root": old_root.hex(), "size": new}
    finally:
        reader.close()
    body |= {"root": root.hex(), "root_base64": base64.b64encode(root).decode(), "proof": [part.hex() for part in path]}
    body["checkpoint"] = note.decode() if note is not None else None
    output.data(body)
    output.fields([(name, value) for name, value in body.items() if name not in ("proof", "checkpoint")])
    for number, part in enumerate(path, 1):
        output.line(f"  {number:>2}  {part.hex()}")
    return 0


def export(arguments: Arguments, output: Output) -> int:
    """Write a bundle and say how to check it."""
    from femtoclaw.audit import named_blobs
    from wal.bundle import write_bundle

    reader = _reader(arguments)
    try:
        blobs = named_blobs(reader.scan())
        output.progress("exporting ...")
        size = write_bundle(reader, arguments.bundle, blobs)
        output.progress("")
        left_out = reader.size - size
        vkey = reader.key.vkey()
    finally:
        reader.close()
    output.data({"bundle": arguments.bundle, "size": size, "blobs": len(blobs), "key": vkey, "not_covered": left_out})
    output.line(f"wrote {arguments.bundle}: {size} records, {len(blobs)} blobs", "green")
    if left_out:
        output.note(f"{left_out} newest records are not covered by a signed checkpoint yet and are not in the bundle")
    output.line(f"check it anywhere with: femtoclaw verify --bundle {arguments.bundle} --key {vkey}")
    return 0
