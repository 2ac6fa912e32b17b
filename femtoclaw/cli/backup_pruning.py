"""``backup prune``: older backups go; on record where the node whose log they hold is at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output
from femtoclaw.home import Home, locate

if TYPE_CHECKING:
    from cluster.archive import ArchiveStore
    from femtoclaw.backup.place import Pruned

RESOURCE = "prune"
"""What the request is about: who may back up may let older backups go."""


def prune(arguments: Arguments, output: Output, store: ArchiveStore) -> int:
    """Remove all but the newest backups of a log, and what none of these needs: 0 done, 1 the control policy refused it."""
    from femtoclaw.backup.place import one_log
    from femtoclaw.backup.place import prune as remove

    log_id = one_log(store, arguments.log)
    home = locate(getattr(arguments, "home", None))
    ended = 0
    its = _is_its(home, store, log_id)
    if arguments.dry_run or not its:
        pruned = remove(store, log_id, arguments.keep, dry_run=arguments.dry_run)
    else:
        pruned, ended = _on_record(home, arguments, output, store, log_id)
    output.data({"place": store.name, "log": log_id, "recorded_at": ended} | pruned._asdict())
    output.line(
        f"removed {pruned.manifests} backups and {pruned.objects} objects; {len(pruned.kept)} backups are kept", "green"
    )
    if not ended and not arguments.dry_run:
        output.note("on nobody's record: the node of this log is not here")
    return 0


def _is_its(home: Home, store: ArchiveStore, log_id: str) -> bool:
    """Whether the log of this home is the one that is pruned. A home whose log cannot be read is not. Raises OtherHistoryError for
    a backup that holds other records than that log: none goes then."""
    from femtoclaw.backup.histories import disagreeing, refuse
    from femtoclaw.backup.on_record import at_hand

    found: list[tuple[str, str]] = []
    its = False
    with at_hand(home) as reader:
        if reader is not None and reader.log_id.hex() == log_id:
            found, its = disagreeing(store, reader), True
    refuse(found, store.name)
    return its


def _on_record(
    home: Home, arguments: Arguments, output: Output, store: ArchiveStore, log_id: str
) -> tuple[Pruned, int]:  # fmt: skip
    """The same as a procedure: nothing goes before the request is permitted and recorded."""
    from femtoclaw.backup.place import prune as remove
    from femtoclaw.cli.asking import signer_of
    from femtoclaw.cli.execute import open_node
    from femtoclaw.control import load_cosigners
    from femtoclaw.procedures import procedure

    with open_node(getattr(arguments, "home", None), output) as node:
        who, cosigners = signer_of(node, arguments), load_cosigners(home, arguments.cosign)
        with procedure(node.started, who, "backup.create", RESOURCE, cosigners=cosigners) as told:
            told.content = {"place": store.name[:1000], "pruned": 0}  # what failed was no backup either
            pruned = remove(store, log_id, arguments.keep)
            told.content = {"place": store.name[:1000], "pruned": pruned.manifests, "objects": pruned.objects,
                            "kept": len(pruned.kept), "oldest": pruned.kept[0] if pruned.kept else ""}  # fmt: skip
            told.detail = f"pruned: {pruned.manifests} backups went, {len(pruned.kept)} are kept"
        return pruned, told.ended
