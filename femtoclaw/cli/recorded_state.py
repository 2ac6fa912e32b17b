"""What a node is, read from its log beside a node that may be running: no lock, no key, nothing written."""

from __future__ import annotations

from femtoclaw.home import Home, require
from femtoclaw.restore import load_state
from femtoclaw.state import State
from wal.reader import read_log_directory


def recorded_state(home: Home) -> State:
    """The state at the head of the home's log.

    Raises ConfigurationError where no home is, CorruptRecordError, HistoryError or EventFormatError for a log that
    cannot be read or cannot have happened.
    """
    require(home)
    reader = read_log_directory(home.log)
    try:
        return load_state(reader)
    finally:
        reader.close()
