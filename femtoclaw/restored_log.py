"""A log that was restored from an archive: not opened as if nothing were missing, and what an operator's word makes of it.

A member of a cluster catches up from the others (``cluster.restored``). A node by itself has nobody to ask. Where a signed
checkpoint shows that records are missing, to go on with the log would be a fork of it: what is left is a new log behind a
stated gap. Where none does, the log goes on behind a record which says that newer records may be lost.
"""

from __future__ import annotations

import os

from femtoclaw.errors import IntegrityError
from femtoclaw.home import Home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from femtoclaw.sources import Sources

MARK = "cluster/restored"
"""The mark's file (``cluster.restored.FILE_NAME``), named here so that asking whether it is there loads nothing."""


REPORT = "restored.json"
"""In a home that ``backup restore`` made, until ``backup resume`` has put the restore on record."""

RESUMING = "restored"
"""In ``adopting`` of a start: the one with which ``backup resume`` puts the restore on record."""

ASIDE = "moved-aside"
"""In a home whose place ``backup restore --replace`` gave to another one."""


def mark_aside(home: Home, log_id: str) -> None:
    """Say in a home that another one has its place, durably; ``log_id`` is the log that was restored there. Raises OSError."""
    from wal.durable_file import write_file

    write_file(os.path.join(home.path, ASIDE), f"replaced by a restore of log {log_id}\n".encode())


def refuse_aside(home: Home) -> None:
    """Raise IntegrityError for a home that was moved aside: two homes of one node would each go on with its history."""
    path = os.path.join(home.path, ASIDE)
    if os.path.lexists(path):
        raise IntegrityError(
            "another home has taken the place of this one", where=path, expected="a home whose node may work",
            found="the mark of a home that `backup restore --replace` moved aside",
            remedy="work in the home that was restored; this one is evidence: `femtoclaw verify` and `femtoclaw log` read it. "
            "Where the restore was cut, carry it out again",
        )  # fmt: skip


def has_mark(home: Home) -> bool:
    """True when the log here was restored from an archive, and nobody has dealt with that yet."""
    return os.path.lexists(os.path.join(home.log, MARK))


def is_waiting(home: Home) -> bool:
    """True when the home came out of a backup and no operator has put on record how it goes on."""
    return os.path.lexists(os.path.join(home.path, REPORT))


def refuse_waiting(home: Home) -> None:
    """Raise IntegrityError for a home out of a backup that waits for an operator's word, whether its log is marked or not."""
    if is_waiting(home):
        raise IntegrityError(
            "this home was restored from a backup", where=os.path.join(home.path, REPORT),
            expected="a restore that an operator has put on record", found="the report of one that waits for it",
            remedy="run `femtoclaw backup resume`; a member of a cluster catches up first, when it is served",
        )  # fmt: skip


def refuse_restored(home: Home) -> None:
    """Raise IntegrityError for a restored log: to go on without a word would be another history behind its end."""
    refuse_waiting(home)
    if has_mark(home):
        raise IntegrityError(
            "this log was restored from an archive", where=os.path.join(home.log, MARK),
            expected="a log that holds all that it promised", found="the mark of a restored log",
            remedy="a member of a cluster catches up as a learner. A node by itself: give what else holds records to `femtoclaw "
            "recover --from-archive PATH`, or run `femtoclaw recover --salvage`; where records are known to be lost, `femtoclaw "
            "recover --accept-gap`",
        )  # fmt: skip


def known_size(home: Home) -> int:
    """How many records the log here is known to have had: by the mark of a restored one, else by the boot journal where that
    notes more than is here. 0 where neither does.

    Raises CorruptFileError for a mark that does not read.
    """
    if not has_mark(home):
        return _missing_size(home)
    from cluster.restored import restored_mark

    mark = restored_mark(home.log)
    return mark.known if mark is not None else 0


def _missing_size(home: Home) -> int:
    """How many records the boot journal notes, where the log can be read and lacks some of them; else 0."""
    from femtoclaw.noted_end import missing_size
    from wal.errors import LogError
    from wal.reader import read_log_directory

    try:
        reader = read_log_directory(home.log)
    except LogError:
        return 0  # damage has its own promises
    try:
        return missing_size(home, reader)
    except LogError:
        return 0
    finally:
        reader.close()


def refuse_short(home: Home, size: int, known: int) -> None:
    """Raise RollbackError when the log has fewer records than it is ``known`` to have had."""
    if size < known:
        from wal.errors import RollbackError

        way = "femtoclaw backup resume" if is_waiting(home) else "femtoclaw recover"
        raise RollbackError(
            "this log lacks records that it is known to have had", where=home.log, expected=f"{known} records",
            found=f"{size} records",
            remedy=f"give what else holds them to `{way} --from-archive PATH`; else go on in a new log: `{way} --accept-gap`",
        )  # fmt: skip


def state_the_doubt(home: Home, sources: Sources, map_bytes: int) -> bool:
    """Record in the restored log of a node by itself that records behind its end may be lost, then take the mark away.

    True when there was a mark. Raises RollbackError when records are known to be lost, MembersError for a log with members,
    whose leader has the rest; CorruptFileError for a mark that does not read; as ``open_log_directory``. A kill in between
    leaves the mark, and the next call records it again.
    """
    if not has_mark(home):
        return False
    from cluster.restored import clear_restored
    from femtoclaw.keys import load_signer
    from wal import open_log_directory
    from wal.recovered import Rebuilt, encode_recovered

    known = known_size(home)
    log, _ = open_log_directory(home.log, signer=load_signer(home), clock=sources.wall_ns, map_bytes=map_bytes)
    try:
        refuse_short(home, log.size, known)
        doubt = f"restored from an archive: what was acknowledged behind {log.size} is lost"
        log.append_recovered([encode_recovered(Rebuilt(log.size, "restored from an archive", doubt))])
    finally:
        log.close()
    clear_restored(home.log)
    return True
