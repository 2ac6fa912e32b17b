"""Where the log ended when a start or a stop noted it in the boot journal, which lies outside of the log's folder.

A log that is put back whole from before (store, HEAD, checkpoints) is sound by itself. Only what lies beside it can tell that it
was longer once. Whoever puts back the journal as well, or removes it, is not noticed here: a witness, another member or a backup
has the longer one then.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
import stat
from typing import NamedTuple

from femtoclaw.errors import IntegrityError
from femtoclaw.home import Home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wal.reader import LogReader

TAIL_BYTES = 128 * 1024
"""How much of a journal's end is read: a start writes some 4 KiB, so that the newest note is in it."""

_SIZE_MAX = 1 << 63


class Noted(NamedTuple):
    """``size`` records were in the log whose first record has the link ``log``; ``link`` is that of the last, both in hex."""

    log: str
    size: int
    link: str


def note_of(log: "LogReader", size: int, link: bytes) -> dict[str, object]:
    """The fields of a line that notes the end of this log."""
    return {"log": log.log_id.hex(), "size": size, "link": link.hex()}


def noted_end(home: Home) -> Noted | None:
    """The newest note; None where the journal has none, or cannot be read."""
    for path in (home.journal, home.old_journal):
        for line in reversed(_tail(path)):
            found = _noted(line) if b'"link"' in line else None
            if found is not None:
                return found
    return None


def missing_size(home: Home, log: "LogReader") -> int:
    """How many records this log is noted to have had, when it holds fewer or others; else 0. Of a log with members 0: what
    an epoch lost is cut from it. Raises the errors of reading the log."""
    noted = noted_end(home)
    if noted is None or not log.size or log.log_id.hex() != noted.log or log.keys().newest.members is not None:
        return 0
    return 0 if log.size >= noted.size and log.read(noted.size).link.hex() == noted.link else noted.size


def refuse_older(home: Home, log: "LogReader") -> None:
    """Raise IntegrityError for a log that ends before the noted end, or has another record there."""
    size = missing_size(home, log)
    if size:
        raise IntegrityError(
            "an older log was put in the place of this node's", where=home.log, expected=f"{size} records, as {home.journal} notes",
            found=f"{log.size} records",
            remedy="keep this log as evidence; put the newer one back, or give what else holds its records to `femtoclaw recover "
            "--from-archive PATH`; where nothing does, go on in a new log behind a stated gap: `femtoclaw recover --accept-gap`",
        )  # fmt: skip


def _tail(path: str) -> list[bytes]:
    """The last lines; none of what is no regular file, which is not waited for."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                return []
            file.seek(max(0, found.st_size - TAIL_BYTES))
            return file.read(TAIL_BYTES).splitlines()
    except OSError:
        return []


def _noted(line: bytes) -> Noted | None:
    import json

    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    log, size, link = told.get("log"), told.get("size"), told.get("link")
    if not isinstance(log, str) or not isinstance(link, str) or type(size) is not int or not 0 < size < _SIZE_MAX:
        return None
    return Noted(log, size, link)
