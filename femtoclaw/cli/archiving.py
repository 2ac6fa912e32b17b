"""``archive``: sealed history in a folder or an object store: push, verify, list, and a log built from it."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output
from femtoclaw.errors import ConfigurationError, UsageError
from femtoclaw.home import Home, locate, require
from wal.reader import LogReader, read_log_directory

if TYPE_CHECKING:
    from cluster.archive import ArchiveStore
    from cluster.archive_reading import Wanted
    from cluster.archiving import BlobNames, Pushed
    from wal.note import Signer

INTEGRITY = 3
FINDINGS_SHOWN = 50
_LOG_ID_DIGITS = 64


def archive(arguments: Arguments, output: Output) -> int:
    """``push TARGET``, ``verify TARGET``, ``list TARGET``, ``restore TARGET --to DIR``."""
    acts = {"push": _push, "verify": _verify, "list": _list, "restore": _restore}
    _check_options(arguments)
    store = archive_at(arguments.target, arguments.endpoint, create=arguments.what == "push")
    try:
        return acts[arguments.what](store, arguments, output)
    finally:
        store.close()


def _check_options(arguments: Arguments) -> None:
    what = arguments.what
    named = arguments.log is not None or arguments.key is not None
    if named and what not in ("verify", "restore"):
        raise UsageError("--log and --key are for verify and restore", where=f"archive {what}")
    if (arguments.to is not None) != (what == "restore"):
        raise UsageError("--to DIR is for restore, and restore needs it", where=f"archive {what}")


def archive_at(target: str, endpoint: str | None = None, *, create: bool = False) -> ArchiveStore:
    """The archive that ``target`` names. Raises ArchiveTargetError or ArchiveUnavailableError."""
    from cluster.archive import open_archive

    return open_archive(target, endpoint=endpoint, create=create)


def blob_names(reader: LogReader | None = None) -> BlobNames:
    """Which blobs records name; of events that this program cannot read, what is a blob in the log of ``reader``."""
    from femtoclaw.audit import named_blobs
    from wal.memory_storage import MemoryStorage

    return partial(named_blobs, storage=reader.storage if reader is not None else MemoryStorage())


def _push(store: ArchiveStore, arguments: Arguments, output: Output) -> int:
    """Archive what is sealed; of a log with members, only what is committed."""
    from cluster.archiving import Archiver

    home = locate(getattr(arguments, "home", None))
    require(home)
    reader = read_log_directory(home.log)
    try:
        signer = _signer(home, output)
        archiver = Archiver(store, reader, blobs=blob_names(reader), signer=signer)
        pushed = archiver.push(committed(reader), lambda index: output.progress(f"archived up to {index} ..."))
        output.progress("")
        size = reader.size
    finally:
        reader.close()
    body = {"target": store.name, "log": reader.log_id.hex(), "origin": reader.origin, "size": size}
    output.data(body | pushed._asdict())
    output.line(f"archived up to record {pushed.archived_up_to} of {size} in {store.name}", "green")
    new = f"{pushed.segments} segments, {pushed.blobs} blobs, {pushed.checkpoints} checkpoints"
    output.fields([("log", reader.log_id.hex()), ("new", new), ("can be restored up to", pushed.restorable_up_to)])
    _tell_what_waits(pushed, size, output)
    return 0


def _tell_what_waits(pushed: Pushed, size: int, output: Output) -> None:
    from wal.limits import SEGMENT_RECORDS

    if size > pushed.archived_up_to:
        output.note(
            f"{size - pushed.archived_up_to} newest records are not archived: only segments of {SEGMENT_RECORDS} records are, "
            "once they are sealed (and committed); `femtoclaw export` writes all signed records into one file"
        )
    if pushed.archived_up_to and not pushed.restorable_up_to:
        output.note(
            "no archived checkpoint vouches for these records yet: the next push behind another segment brings one, or one by "
            "the node whose key is in force"
        )


def committed(reader: LogReader) -> int | None:
    """How far the members of the log have it, None for a log without members: all of it is this node's own.

    What is sealed is committed: a leader seals nothing else.
    """
    if reader.keys().newest.members is None:
        return None
    from cluster.replica_store import STATE_FILE, decode_durable

    known = decode_durable(reader.storage.get_file(STATE_FILE), reader.storage.name).commit
    return max(known, reader.manifest().head.index)


def _signer(home: Home, output: Output) -> Signer | None:
    """The node's key, to sign a checkpoint where the archived records end; None when it is locked: nobody is asked."""
    from femtoclaw.keys import check_index, load_public_key, select_signer
    from femtoclaw.passphrase import KeyLockedError, given_passphrase

    public = load_public_key(home.public_key_file)
    check_index(home, [public])
    try:
        return select_signer(home, public, given_passphrase)
    except KeyLockedError:
        output.note("the node's key is locked: checkpoints that the node has signed are archived, none is signed now")
        return None


def _wanted(arguments: Arguments) -> Wanted:
    """The log by --log and --key, else the home's own."""
    from cluster.archive_reading import Wanted

    named = arguments.log
    if named is None:
        if arguments.key is not None:
            raise UsageError("--key needs --log ORIGIN", where="archive")
        home = locate(getattr(arguments, "home", None))
        require(home)
        reader = read_log_directory(home.log)
        reader.close()
        return Wanted(log_id=reader.log_id)
    if len(named) == _LOG_ID_DIGITS and not named.strip("0123456789abcdef"):
        if arguments.key is not None:
            raise UsageError("a log's id is its genesis key's word already: --key is for --log ORIGIN", where="archive")
        return Wanted(log_id=bytes.fromhex(named))
    if arguments.key is None:
        raise UsageError(
            "which key do you trust?", where="--log", expected="the log's id (64 digits), or ORIGIN with --key KEY",
            remedy="the genesis key is the first line of `femtoclaw key list`; the id is in what `archive push` printed",
        )  # fmt: skip
    from femtoclaw.cli.evidence import trusted_key

    return Wanted(origin=named, key=trusted_key(arguments.key))


def _verify(store: ArchiveStore, arguments: Arguments, output: Output) -> int:
    """Read and check every object; beside a home, also that the archive is of the same history. 0, or 3 with findings."""
    from cluster.archive_reading import find_log
    from cluster.archive_verify import ArchiveFinding, verify_archive

    log_id = find_log(store, _wanted(arguments))
    report = verify_archive(
        store, log_id, blobs=blob_names(), told=lambda index: output.progress(f"verified up to {index} ...")
    )
    output.progress("")
    findings = list(report.findings)
    if arguments.log is None:
        own = _own_root(arguments, report.size)
        if own not in (None, report.root):
            found = f"root at {report.size}: expected {own.hex() if own else ''}, found {report.root.hex()}"
            findings.append(ArchiveFinding(store.name, "ANOTHER_HISTORY", found))
    body = report._asdict() | {"log_id": log_id.hex(), "root": report.root.hex(), "ok": not findings}
    output.data({"target": store.name} | body | {"findings": [finding._asdict() for finding in findings]})
    output.line(f"ok: {store.name}" if not findings else f"NOT ok: {store.name}", "red" if findings else "green")
    told = ("log_id", "origin", "size", "root", "segments", "blobs", "checkpoints", "restorable_up_to")
    output.fields([(name, body[name]) for name in told])
    for finding in findings[:FINDINGS_SHOWN]:
        output.line(f"  {finding.code}  {finding.where}", "red")
        output.line(f"    {finding.what}")
    if findings:
        output.note(
            "keep these objects as evidence outside of the archive, then push again from a node that has the log"
        )
    return INTEGRITY if findings else 0


def _own_root(arguments: Arguments, size: int) -> bytes | None:
    """The root of the home's own log at ``size``; None when it does not reach there."""
    reader = read_log_directory(locate(getattr(arguments, "home", None)).log)
    try:
        return reader.tree().root(size) if size <= reader.size else None
    finally:
        reader.close()


def _list(store: ArchiveStore, arguments: Arguments, output: Output) -> int:
    """What is there by its names; nothing is verified."""
    from cluster.archive_verify import list_archive

    rows: list[dict[str, Any]] = [each._asdict() | {"log_id": each.log_id.hex()} for each in list_archive(store)]
    output.data({"target": store.name, "logs": rows})
    for row in rows:
        output.line(row["log_id"], "bold")
        output.fields([(name, value) for name, value in row.items() if name != "log_id"])
    if not rows:
        output.line("this archive holds no log")
    return 0


def _restore(store: ArchiveStore, arguments: Arguments, output: Output) -> int:
    """Build the log in a new directory, marked as restored."""
    from cluster.archive_restore import restore_from_archive
    from femtoclaw.sources import live

    parent = os.path.dirname(os.path.abspath(arguments.to))
    if not os.path.isdir(parent):
        raise ConfigurationError(
            "there is no such folder", where="--to", expected="a new name in a folder that exists", found=parent
        )
    built = restore_from_archive(
        store, _wanted(arguments), arguments.to, clock=live().wall_ns, blobs=blob_names(),
        told=lambda index: output.progress(f"restored up to {index} ..."),
    )  # fmt: skip
    output.progress("")
    body = {
        "directory": arguments.to, "log_id": built.log_id.hex(), "origin": built.origin, "size": built.head.index,
        "link": built.head.link.hex(), "root": built.root.hex(), "checkpoint": built.checkpoint,
        "known_size": built.promised, "blobs": built.blobs, "incarnation": built.incarnation.hex(),
    }  # fmt: skip
    output.data(body)
    output.line(f"restored {built.head.index} records into {arguments.to}", "green")
    output.fields(list(body.items()))
    if built.promised > built.head.index:
        output.note(f"the log had {built.promised} records at least: a peer, a bundle or a copy may have the rest")
    output.note(
        "it is marked as restored: a member of a cluster begins as a learner; a node by itself looks for the rest, then runs "
        "`femtoclaw recover --from-archive PATH`, or --salvage, or --accept-gap (docs/archive.md)"
    )
    return 0
