"""``verify``, ``replay``, ``proof`` and ``export``: what an auditor uses. Nothing here writes to the log."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Any

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, printable, program
from femtoclaw.errors import ConfigurationError, PolicyError, UsageError
from femtoclaw.home import Home, locate, read_bounded, read_text, require
from wal import LogError, LogReader, read_log_directory

if TYPE_CHECKING:
    from wal.tree import LogTree

INTEGRITY = 3
NEWER = 2
EPOCHS_SHOWN = 5
NEWER_REMEDY = "a newer program wrote this: judge it with the version that wrote it, or upgrade this one"
CHECKPOINT_REMEDY = (
    "nothing was verified: get the checkpoint again from where it was kept, and run the command with that file"
)
BUNDLE_REMEDY = "this bundle proves nothing: ask for it again, and for the key by another way; keep both as evidence"


def verify(arguments: Arguments, output: Output) -> int:
    """0 when everything holds, 3 with the findings otherwise; 2 when the only finding is that a newer program wrote it."""
    if arguments.fork is not None:
        from femtoclaw.cli.witnessing import verify_fork

        return verify_fork(arguments, output)
    from femtoclaw.audit import verify_bundle, verify_home
    from wal.verification import FORMAT_UNKNOWN

    anchor = _kept_checkpoint(arguments.checkpoint) if arguments.checkpoint is not None else None
    key = trusted_key(arguments.key) if arguments.key is not None else None
    if arguments.bundle is not None:
        if key is None:
            raise UsageError(
                "which key do you trust?", where="verify --bundle", expected="--key FILE or --key NAME+HASH+BASE64",
                remedy="get the node's keys/node.pub from its operator by another way than this bundle",
            )  # fmt: skip
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
        report = verify_home(home, deep=arguments.deep, key=key, anchor=anchor)
        output.progress("")
        what, remedy = home.path, "keep this home as evidence; `femtoclaw recover --dry-run` says what can be done"
    output.data(report)
    if report["ok"]:
        output.line(f"ok: {what}", "green")
    else:
        output.line(f"NOT ok: {what}", "red")
    output.fields([(name, report[name]) for name in ("size", "root", "state_hash", "decisions") if report[name]])
    _tell_sealed(report["sealed"], output)
    _tell_ended(report.get("ended"), output)
    _tell_epochs(report.get("epochs", []), output)
    for finding in report["findings"][:50]:
        output.line(f"  {finding['code']}  {finding['where']}", "red")
        output.line(f"    expected  {printable(finding['expected'])}")
        output.line(f"    found     {printable(finding['found'])}")
    for skipped in report["skipped"]:
        output.line(f"  not judged: {skipped['what']}: {printable(skipped['why'])}", "yellow")
    if report["ok"]:
        return 0
    if {finding["code"] for finding in report["findings"]} == {FORMAT_UNKNOWN}:
        output.note(NEWER_REMEDY)
        return NEWER
    output.note(remedy)
    return INTEGRITY


def _kept_checkpoint(path: str) -> bytes:
    """The checkpoint that the auditor kept. What is none says nothing about the log, so it is no finding: ConfigurationError."""
    from wal.checkpoint import claimed_checkpoint
    from wal.errors import SignatureError

    raw = read_bounded(path)
    try:
        claimed_checkpoint(raw)
    except SignatureError as error:
        # Only what is wrong, nothing of the file: it may be the private key itself.
        raise ConfigurationError(
            "this is no checkpoint", where=path, expected="a signed note of a log's origin, size and root",
            found=f"{len(raw)} bytes: {error.what}", remedy=CHECKPOINT_REMEDY,
        ) from None  # fmt: skip
    return raw


def trusted_key(text: str) -> Any:
    from femtoclaw.keys import load_public_key, parse_public_key

    if os.path.exists(text):
        return load_public_key(text)
    if text.count("+") < 2:
        # Not repeated here: it may be the private key itself.
        raise ConfigurationError(
            "no such file, and no public key either", where="--key", expected="a file, or name+hash+base64",
            found=f"{len(text)} characters", remedy="give the node's keys/node.pub, or the text in it",
        )  # fmt: skip
    return parse_public_key(text, "--key")


def _reader(arguments: Arguments) -> LogReader:
    home = locate(getattr(arguments, "home", None))
    require(home)
    return read_log_directory(home.log)


def _tell_ended(ended: dict[str, Any] | None, output: Output) -> None:
    """What a key that is not in force any more can still vouch for."""
    if ended is None:
        return
    output.note(f"the key that you trust was in force up to record {ended['first'] - 1}; then {ended['key']}")
    if ended["reason"] == "compromised":
        output.note(
            "it was given up as compromised: whoever stole it could have signed another end. Get the newer key, or a "
            "checkpoint, by another way"
        )


def _tell_epochs(epochs: list[dict[str, Any]], output: Output) -> None:
    """Who led the log, and from where on; of many, the newest."""
    if epochs:
        told = [f"{each['epoch']} from record {each['first']} ({each['leader']})" for each in epochs[-EPOCHS_SHOWN:]]
        left_out = f"{len(epochs) - len(told)} earlier ones, " if len(epochs) > len(told) else ""
        output.fields([("epochs", left_out + ", ".join(told))])


def _tell_sealed(sealed: dict[str, int], output: Output) -> None:
    for subject, count in sorted(sealed.items()):
        output.note(f"{count} appends of subject {printable(subject)} are sealed and were not derived again")


def replay(arguments: Arguments, output: Output) -> int:
    """0 when every decision re-derives, 3 on a divergence, 1 when another policy would flip decisions."""
    from femtoclaw.audit import newer
    from femtoclaw.event_codec import EventFormatError
    from femtoclaw.replay import replay as derive
    from femtoclaw.subject_keys import sealer_at

    policy = None
    if arguments.policy is not None:
        policy = read_text(arguments.policy)
    reader = _reader(arguments)
    try:
        size = reader.size
        to = size if arguments.to is None else arguments.to
        if not 1 <= to <= size:
            raise UsageError("--to is outside of the log", expected=f"1 to {size}", found=to)
        sealer = sealer_at(locate(getattr(arguments, "home", None)))
        report = derive(reader.scan(1, to + 1), policy=policy, sealer=sealer)
    except PolicyError as error:
        error.where = arguments.policy
        raise
    except EventFormatError as error:
        if newer(error):
            error.exit_code, error.remedy = NEWER, NEWER_REMEDY
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
            "sealed": dict(report.sealed),
        }
    )
    output.line(f"replayed {report.size} records", "bold")
    output.fields([("state hash", report.state_hash), ("decisions re-derived", report.decisions)])
    _tell_sealed(dict(report.sealed), output)
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
    """Print a proof, checked before it is shown: also that the store still has the root that was signed."""
    wanted = 1 if arguments.which == "inclusion" else 2
    if len(arguments.numbers) != wanted:
        raise UsageError(f"proof {arguments.which} takes {wanted} number(s)", found=len(arguments.numbers))
    reader = _reader(arguments)
    try:
        note = reader.checkpoint_note()  # before the records: what a writer adds meanwhile is not in question
        tree = reader.tree()
        signed = _signed_size(reader, tree, note)
        if arguments.which == "inclusion":
            body, path, root = _inclusion(reader, tree, arguments.numbers[0], signed)
        else:
            body, path, root = _consistency(reader, tree, *arguments.numbers)
    finally:
        reader.close()
    body = {"kind": arguments.which, "hash": "SHA-256, RFC 6962"} | body
    body |= {"root": root.hex(), "root_base64": base64.b64encode(root).decode(), "proof": [part.hex() for part in path]}
    body |= {"signed": body["size"] == signed, "checkpoint": note.decode() if note is not None else None}
    output.data(body)
    output.fields([(name, value) for name, value in body.items() if name not in ("frame", "proof", "checkpoint")])
    for number, part in enumerate(path, 1):
        output.line(f"  {number:>2}  {part.hex()}")
    return 0


def _signed_size(reader: LogReader, tree: LogTree, note: bytes | None) -> int:
    """Size of the signed checkpoint, 0 without one. Raises RollbackError when the records have another root there."""
    from wal.errors import RollbackError

    if note is None:
        return 0
    checkpoint = reader.keys().open_checkpoint(note, reader.origin).checkpoint
    root = tree.root(checkpoint.size)
    if root != checkpoint.root:
        raise RollbackError(
            "the records are not those of the signed checkpoint", where=f"index 1 to {checkpoint.size}",
            expected=checkpoint.root.hex(), found=root.hex(),
        )  # fmt: skip
    return checkpoint.size


Proof = tuple[dict[str, Any], list[bytes], bytes]
"""What is shown of a proof, its hashes, and the root that it leads to."""


def _inclusion(reader: LogReader, tree: LogTree, index: int, signed: int) -> Proof:
    """Under the signed root where there is one over this record, else under that of all records."""
    from wal.merkle import leaf_hash, verify_inclusion

    # A running node's newest records are not signed yet: prove what a signature vouches for.
    size = signed if index <= signed else reader.size
    path, root = tree.inclusion(index, size), tree.root(size)
    record = reader.read(index)
    leaf = leaf_hash(record.link)
    verify_inclusion(leaf, index - 1, size, path, root)
    frame = reader.storage.get(index) or b""
    body = {"index": index, "leaf_index": index - 1, "size": size, "leaf_hash": leaf.hex(), "link": record.link.hex()}
    return body | {"frame": base64.b64encode(frame).decode()}, path, root


def _consistency(reader: LogReader, tree: LogTree, old: int, new: int) -> Proof:
    from wal.merkle import verify_consistency

    size = reader.size
    if new > size:
        raise UsageError("NEW is beyond the log", expected=f"<= {size}", found=new)
    path, root, old_root = tree.consistency(old, new), tree.root(new), tree.root(old)
    verify_consistency(old, new, path, old_root, root)
    return {"old_size": old, "old_root": old_root.hex(), "size": new}, path, root


def export(arguments: Arguments, output: Output) -> int:
    """Write a bundle and say how to check it. An earlier bundle is replaced; nothing else, and nothing of the node."""
    from femtoclaw.audit import named_blobs
    from wal.bundle import signed_checkpoint, write_bundle

    refuse_own(locate(getattr(arguments, "home", None)), arguments.bundle, "--bundle")
    reader = _reader(arguments)
    try:
        covered = signed_checkpoint(reader)  # once: a writer may replace it, and the blobs must be those of its records
        size = covered.checkpoint.size
        blobs = named_blobs(reader.scan(1, size + 1), reader.storage)
        output.progress("exporting ...")
        write_bundle(reader, arguments.bundle, blobs, covered)
        output.progress("")
        left_out = reader.size - size
        vkey = reader.key.vkey()
    finally:
        reader.close()
    output.data({"bundle": arguments.bundle, "size": size, "blobs": len(blobs), "key": vkey, "not_covered": left_out})
    output.line(f"wrote {arguments.bundle}: {size} records, {len(blobs)} blobs", "green")
    if left_out:
        output.note(f"{left_out} newest records are not covered by a signed checkpoint yet and are not in the bundle")
    output.line(f"check it anywhere with: {program()} verify --bundle {arguments.bundle} --key {vkey}")
    return 0


def refuse_own(home: Home, path: str, option: str) -> None:
    """Keep the name of a file that ``option`` asks for out of what the node itself reads and writes, by whatever way the path
    leads there. Raises UsageError."""
    top = os.path.realpath(home.path)
    target = os.path.join(os.path.realpath(os.path.dirname(path) or "."), os.path.basename(path))
    folders = [home.log, os.path.dirname(home.key_file), os.path.dirname(home.index_file)]
    files = [
        home.config_file, home.inside("policy.cedar"), home.journal, home.old_journal, home.manifest_file,
        home.unfinished,
    ]  # fmt: skip
    # Earlier logs, damaged ones and the one that a repair is making stand beside the log, as log.SOMETHING.
    beside = os.path.relpath(target, top).startswith("log.")
    inside = any(
        os.path.commonpath([target, os.path.realpath(folder)]) == os.path.realpath(folder) for folder in folders
    )
    if beside or inside or target in map(os.path.realpath, files):
        raise UsageError(
            "this is a place of the node's own", where=option, expected="a path outside of the home", found=path,
            remedy="name a file elsewhere, such as femtoclaw.bundle",
        )  # fmt: skip
