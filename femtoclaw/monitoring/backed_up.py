"""Whether backups go on: by the last one that the log records. A node of which none was ever made is not told to make one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from femtoclaw.backup.on_record import last
from femtoclaw.monitoring.looked import OK, WARNING, Check

if TYPE_CHECKING:
    from femtoclaw.home import Home
    from wal.reader import LogReader

NAME = "backups"


def backups_check(home: Home, reader: LogReader, age_max_s: int, now_ns: int) -> Check:
    """A warning when the last backup is older than ``age_max_s`` seconds at ``now_ns``. The text holds no age: it stays while
    nothing changed."""
    found = last(home, reader)
    if found is None:
        return Check(NAME, OK, "no backup is on record")
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(found.time_ns // 1_000_000_000))
    if now_ns - found.time_ns <= age_max_s * 1_000_000_000:
        return Check(NAME, OK, f"the last one on record is no older than {age_max_s} s")
    return Check(
        NAME, WARNING, f"the last one on record is of {at}, older than {age_max_s} s: `femtoclaw backup create`"
    )
