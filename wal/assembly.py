"""Putting records of many sources in order: the longest chain from the first record of one log, by its links alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from wal.chain import follow
from wal.errors import ForeignLogError, LogError
from wal.genesis import decode_genesis
from wal.limits import READ_CHUNK_RECORDS
from wal.note import PublicKey
from wal.record import EMPTY, LINK_BYTES, Head, Record, decode
from wal.salvage_sources import Archives, Spool
from wal.storage import Storage

Run = list[tuple[int, bytes]]
"""Frames with their indexes, one behind the other."""


class Assembly:
    """Writes a chain into an empty storage: the store's own frames first (what LMDB finds before what only its raw bytes
    hold), then what archives have under the log's signature."""

    def __init__(self, storage: Storage, spools: list[Spool], archives: Archives, key: PublicKey) -> None:
        self._storage = storage
        self._spools = spools
        self._archives = archives
        self._key = key
        self._head = EMPTY
        self._least = (0, 0)
        self._log_id: bytes | None = None

    def run(self, log_id: bytes | None, raw_until: int | None, wanted: Mapping[int, bytes]) -> None:
        """Go on from record to record until no source has the next one.

        ``log_id`` is the link of the first record, where it is known; above ``raw_until`` frames of the second spool and
        later ones do not count; at an index in ``wanted`` only the frame with that link does. Raises ForeignLogError
        when the log's first record names another key, LogFullError.
        """
        self._head, self._least, self._log_id = EMPTY, (0, 0), log_id
        waiting: Run = []
        while run := self._next(raw_until, wanted):
            last = decode(run[-1][1])
            self._head, self._least = Head(last.index, last.link), (last.epoch, last.time_ns)
            waiting.extend(run)
            if len(waiting) >= READ_CHUNK_RECORDS:
                self._storage.append(waiting)
                waiting = []
        self._storage.append(waiting)

    def _next(self, raw_until: int | None, wanted: Mapping[int, bytes]) -> Run:
        index = self._head.index + 1
        spools = self._spools if raw_until is None or index <= raw_until else self._spools[:1]
        for raw in _frames(spools, index):
            if (index not in wanted or raw.endswith(wanted[index])) and self._follows([(index, raw)]):
                return [(index, raw)]
        for segment in self._archives.covering(index):
            run = [entry for entry in segment.frames() if entry[0] >= index]
            if all(wanted.get(at, raw[-LINK_BYTES:]) == raw[-LINK_BYTES:] for at, raw in run) and self._follows(run):
                return run
        return []

    def _follows(self, run: Run) -> bool:
        try:
            records = list(follow(self._head, run))
        except LogError:
            return False
        if not records or records[0].epoch < self._least[0] or records[0].time_ns < self._least[1]:
            return False
        return self._head.index > 0 or self._is_genesis(records[0])

    def _is_genesis(self, record: Record) -> bool:
        """True for the first record of this very log. Raises ForeignLogError when it names another key."""
        if self._log_id is not None and record.link != self._log_id:
            return False
        try:
            genesis = decode_genesis(record)
        except LogError:
            return False
        if genesis.key != self._key:
            raise ForeignLogError(
                "the log does not belong to the node's key", where="index 1", expected=self._key.vkey(),
                found=genesis.key.vkey(),
            )  # fmt: skip
        return True

    def links_back_from(self, head: Head) -> dict[int, bytes]:
        """The link at each index that leads to ``head``, down to the first that no source has."""
        links: dict[int, bytes] = {}
        index, link = head
        while index > 0 and (run := self._ending_in(index, link)):
            for at, raw in run:
                links[at] = raw[-LINK_BYTES:]
            index, link = run[0][0] - 1, decode(run[0][1]).prev
        return links

    def _ending_in(self, index: int, link: bytes) -> Run:
        for raw in _frames(self._spools, index):
            if raw.endswith(link):
                return [(index, raw)]
        for segment in self._archives.covering(index):
            run = [entry for entry in segment.frames() if entry[0] <= index]
            if run[-1][1].endswith(link):
                return run
        return []


def _frames(spools: list[Spool], index: int) -> Iterator[bytes]:
    for spool in spools:
        yield from spool.at(index)
