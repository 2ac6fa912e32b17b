"""``audit retain``: archive what is older than the configured minimum, on record; nothing is deleted."""

from __future__ import annotations

import json

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output
from femtoclaw.errors import FemtoClawError, UsageError
from femtoclaw.home import Home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cluster.archive import ArchiveStore
    from femtoclaw.auditing.retention import Due
    from femtoclaw.cli.execute import Node
    from femtoclaw.state import Node as State
    from wal.reader import LogReader

SEGMENTS_TOLD_MAX = 256
"""New segments that the record names one by one; the root over the range covers all."""


class ArchiveUnsoundError(FemtoClawError):
    """What the archive gives back is not this log."""

    code = "ARCHIVE_UNSOUND"
    exit_code = 3
    default_remedy = "see `femtoclaw archive verify TARGET`; keep its objects as evidence, and archive elsewhere"


def retain(home: Home, arguments: Arguments, output: Output) -> int:
    """0 archived or nothing to do, 1 refused. Raises ArchiveUnsoundError, and what an archive raises."""
    from femtoclaw.auditing.retention import due
    from femtoclaw.cli.archiving import archive_at
    from femtoclaw.cli.asking import signer_of
    from femtoclaw.cli.execute import open_node
    from femtoclaw.control import load_cosigners
    from femtoclaw.goals import reading
    from femtoclaw.procedures import procedure

    if len(arguments.targets) != 1:
        raise UsageError("which archive?", where="audit retain", expected="a folder, or s3://BUCKET/PREFIX")
    if arguments.dry_run:
        return _tell_due(home, output)
    store = archive_at(arguments.targets[0], arguments.endpoint, create=arguments.delete is None)
    try:
        with open_node(getattr(arguments, "home", None), output) as node:
            days = _days(node.started.authority.state.node)
            signer, cosigners = signer_of(node, arguments), load_cosigners(home, arguments.cosign)
            with (
                procedure(node.started, signer, "audit.retain", store.name[-128:], cosigners=cosigners) as told,
                reading(node.started) as reader,
            ):
                old = due(reader, node.started.sources.wall_ns(), days)
                if arguments.delete is not None:
                    raise _refuse(reader, old, arguments.delete, store)
                told.content = {"days": days, "target": store.name[:1000]} | _archive(node, store, reader, old, output)
                told.result = "done" if old.seals else "skipped"
                told.detail = f"records 1 to {old.last} are archived" if old.seals else f"nothing is {days} days old"
            output.data({"procedure": told.id, "result": told.result, "ended": told.ended} | told.content)
            output.line(told.detail, "green" if old.seals else "")
            output.fields([(name, value) for name, value in told.content.items() if name != "segments"])
    finally:
        store.close()
    return 0


def _tell_due(home: Home, output: Output) -> int:
    """What is old enough by now."""
    from femtoclaw.auditing.retention import due
    from femtoclaw.restore import load_state
    from femtoclaw.sources import live
    from wal.reader import read_log_directory

    reader = read_log_directory(home.log)
    try:
        days = _days(load_state(reader).node)
        old = due(reader, live().wall_ns(), days)
    finally:
        reader.close()
    output.data({"dry_run": True, "days": days, "first": min(1, old.last), "last": old.last})
    output.line(f"would archive records 1 to {old.last}" if old.seals else f"nothing is {days} days old")
    return 0


def _days(node: State) -> int:
    from femtoclaw.config import resolve

    recorded = json.loads(node.configuration.content)
    return int(resolve(recorded, "the recorded configuration", None)["memory"]["retention_days"])


def _archive(node: Node, store: ArchiveStore, reader: LogReader, old: Due, output: Output) -> dict[str, Any]:
    """Archive, read back and verify; what the record says of it."""
    from cluster.archive_verify import verify_archive
    from cluster.archiving import Archiver
    from femtoclaw.cli.archiving import blob_names, committed

    if not old.seals:
        return {"first": 0, "last": 0, "root": "", "segments": []}
    bound = min(old.last, committed(reader) or old.last)
    archiver = Archiver(store, reader, blobs=blob_names(reader), signer=_in_force(node, reader))
    pushed = archiver.push(bound, lambda index: output.progress(f"archived up to {index} ..."))
    report = verify_archive(store, reader.log_id, blobs=blob_names())
    output.progress("")
    root = reader.tree().root(report.size)
    if not report.ok or report.size < bound or report.root != root:
        found = report.findings[0].what if report.findings else f"{report.size} records, root {report.root.hex()}"
        raise ArchiveUnsoundError(
            "the archive does not hold this log",
            where=store.name,
            expected=f"{bound} records, root {root.hex()}",
            found=found,
        )
    new = old.seals[-pushed.segments :] if pushed.segments else ()
    return {
        "first": 1, "last": bound, "root": reader.tree().root(bound).hex(), "restorable": report.restorable_up_to,
        "segments": [[seal.first, seal.head.index, seal.root.hex()] for seal in new[:SEGMENTS_TOLD_MAX]],
    }  # fmt: skip


def _in_force(node: Node, reader: LogReader) -> Any:
    """The node's key where it may sign a checkpoint of this log now."""
    signer = node.started.signer
    return signer if reader.keys().newest.key == signer.public else None


def _refuse(reader: LogReader, old: Due, wanted: int, store: ArchiveStore) -> FemtoClawError:
    """Why nothing is deleted; the archive is looked at, not the record of it only."""
    from cluster.archive_errors import ArchiveUnavailableError
    from cluster.archive_verify import verify_archive
    from cluster.errors import ClusterError
    from femtoclaw.auditing.retention import refuse_deletion
    from femtoclaw.cli.archiving import blob_names

    try:
        archived = verify_archive(store, reader.log_id, blobs=blob_names()).size
    except ArchiveUnavailableError:
        raise
    except ClusterError:
        archived = 0
    return refuse_deletion(wanted, old, archived)
