"""What a start asks of a migrated home. Loads nothing more for the others."""

from __future__ import annotations

import os

from wal.genesis import decode_genesis

TYPE_CHECKING = False
if TYPE_CHECKING:
    from femtoclaw.home import Home
    from wal.reader import LogReader


def check_migrated(home: Home, log: LogReader) -> None:
    """Raise MigrationUnsoundError for a migrated log that does not begin with what the migration sealed. A home that was made
    from an archive has no seal: its log's own signatures vouch for it."""
    if decode_genesis(log.read(1)).predecessor is not None and os.path.isdir(os.path.join(home.path, "migrations")):
        from femtoclaw.migration.seal import recheck

        recheck(home, log)
