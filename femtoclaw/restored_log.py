"""A log that was restored from an archive: not opened as if nothing were missing, and what an operator's word makes of it.

A member of a cluster catches up from the others (``cluster.restored``). A node by itself has nobody to ask: it goes on only
behind a record which says that newer records may be lost.
"""

from __future__ import annotations

import os

from femtoclaw.errors import ConfigurationError
from femtoclaw.home import Home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from femtoclaw.sources import Sources

MARK = "cluster/restored"
"""The mark's file (``cluster.restored.FILE_NAME``), named here so that asking whether it is there loads nothing."""


def has_mark(home: Home) -> bool:
    """True when the log here was restored from an archive, and nobody has dealt with that yet."""
    return os.path.lexists(os.path.join(home.log, MARK))


def refuse_restored(home: Home) -> None:
    """Raise ConfigurationError for a restored log: to go on without a word would be another history behind its end."""
    if has_mark(home):
        raise ConfigurationError(
            "this log was restored from an archive", where=os.path.join(home.log, MARK),
            expected="a log that holds all that it promised", found="the mark of a restored log",
            remedy="a member of a cluster catches up as a learner; for a node by itself run `femtoclaw recover`, which records "
            "that newer records may be lost",
        )  # fmt: skip


def state_the_doubt(home: Home, sources: Sources, map_bytes: int) -> bool:
    """Record in the restored log of a node by itself that records behind its end may be lost, then take the mark away.

    True when there was a mark. Raises MembersError for a log with members, whose leader has the rest; CorruptFileError for a
    mark that does not read; as ``open_log_directory``. A kill in between leaves the mark, and the next call records it again.
    """
    if not has_mark(home):
        return False
    from cluster.restored import clear_restored, restored_mark
    from femtoclaw.keys import load_signer
    from wal import open_log_directory
    from wal.recovered import Rebuilt, encode_recovered

    mark = restored_mark(home.log)
    assert mark is not None
    log, _ = open_log_directory(home.log, signer=load_signer(home), clock=sources.wall_ns, map_bytes=map_bytes)
    try:
        doubt = f"restored from an archive that ends at {mark.size}: what was acknowledged behind it is lost"
        log.append_recovered([encode_recovered(Rebuilt(log.size, "restored from an archive", doubt))])
    finally:
        log.close()
    clear_restored(home.log)
    return True
