"""Erasures that another member recorded: this machine's own copy of the key goes as soon as the record is committed here."""

from __future__ import annotations

import os

from femtoclaw.event_codec import EventFormatError, decode
from femtoclaw.events import SubjectErased
from femtoclaw.home import Home
from femtoclaw.key_file import KeySigner
from femtoclaw.subject_keys import destroy_erased, folder
from wal.errors import LogError
from wal.reader import LogReader
from wal.record import KIND_EVENT

RECORDS_MAX = 10_000
"""Records looked at in one go: the loop that calls this has other things to do."""


class Erasures:
    """Follows the committed records of the log, where this home has keys of subjects at all."""

    def __init__(self, home: Home, signer: KeySigner) -> None:
        self._home = home
        self._signer = signer
        self._looked = 0

    def follow(self, reader: LogReader, commit: int) -> None:
        """Destroy what was erased in the committed records that were not looked at before. Raises SecurityError, LogError."""
        if self._looked >= commit or not self._has_keys():
            return
        stop = min(commit, self._looked + RECORDS_MAX, reader.head.index)
        erased = []
        try:
            for record in reader.scan(self._looked + 1, stop + 1):
                if record.kind == KIND_EVENT:
                    event = _read(record.payload)
                    if isinstance(event, SubjectErased):
                        erased.append(event.subject)
        except LogError:
            return  # cut in the middle, or damaged: others find out, and say so
        destroy_erased(self._home, self._signer, erased)
        self._looked = stop

    def _has_keys(self) -> bool:
        try:
            return bool(os.listdir(folder(self._home)))
        except OSError:
            return False


def _read(payload: bytes) -> object:
    try:
        return decode(payload)
    except EventFormatError:
        return None
