"""Putting records of many sources in order: the longest chain from the first record of one log, by its links alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from wal.chain import follow
from wal.errors import CorruptRecordError, ForeignLogError, LogError
from wal.genesis import decode_genesis
from wal.key_history import KeyHistory
from wal.limits import READ_CHUNK_RECORDS
from wal.note import PublicKey
from wal.record import AUTHORITY_KINDS, EMPTY, LINK_BYTES, Head, Record, decode
from wal.salvage_sources import Archives, Spool
from wal.storage import Storage

Run = list[tuple[int, bytes]]
"""Frames with their indexes, one behind the other."""


class Assembly:
    """Writes a chain into an empty storage: the store's own frames first (what LMDB finds before what only its raw bytes
    hold), then what archives have under the log's signature. ``keys`` is then the history of its keys."""

    def __init__(
        self, storage: Storage, spools: list[Spool], archives: Archives, known: tuple[PublicKey, ...], *, rotated: bool
    ) -> None:
        """``known`` are the node's key and those that led to it; ``rotated``: HEAD says that there were others, also where
        the rotations that would tell them are lost."""
        self._storage = storage
        self._spools = spools
        self._archives = archives
        self._known = known
        self._rotated = rotated
        self.keys = KeyHistory()
        self._origin = ""
        self._head = EMPTY
        self._least = (0, 0)
        self._log_id: bytes | None = None

    def run(self, log_id: bytes | None, raw_until: int | None, wanted: Mapping[int, bytes]) -> None:
        """Go on from record to record until no source has the next one.

        ``log_id`` is the link of the first record, where it is known; above ``raw_until`` frames of the second spool and
        later ones do not count; at an index in ``wanted`` only the frame with that link does. Raises ForeignLogError
        when the log's first record names another key, LogFullError.
        """
        self._head, self._least, self._log_id, self.keys = EMPTY, (0, 0), log_id, KeyHistory()
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
        for segment, signer in self._archives.covering(index):
            run = [entry for entry in segment.frames() if entry[0] >= index]
            wrong = any(wanted.get(at, raw[-LINK_BYTES:]) != raw[-LINK_BYTES:] for at, raw in run)
            if not wrong and self._follows(run, signer):
                return run
        return []

    def _follows(self, run: Run, signer: PublicKey | None = None) -> bool:
        """True when ``run`` goes on behind the head, under a key that had not been superseded before its end."""
        try:
            records = list(follow(self._head, run))
        except LogError:
            return False
        if not records or records[0].epoch < self._least[0] or records[0].time_ns < self._least[1]:
            return False
        if self._head.index == 0 and not self._is_genesis(records[0]):
            return False
        keys = self.keys
        try:
            for record in records:
                if record.index == 1:
                    genesis = decode_genesis(record)
                    keys, self._origin = KeyHistory.begin(genesis), genesis.origin
                elif record.kind in AUTHORITY_KINDS:
                    keys = keys.extended(record, self._origin)
        except CorruptRecordError:
            return False
        if signer is not None and keys.knows(signer) and signer not in keys.sealing(records[-1].index):
            return False
        self.keys = keys
        return True

    def _is_genesis(self, record: Record) -> bool:
        """True for the first record of this very log. Raises ForeignLogError when it names a key that did not lead to the
        node's: unless HEAD names that very record, and says that the key was rotated (then a rotation is lost)."""
        if self._log_id is not None and record.link != self._log_id:
            return False
        try:
            genesis = decode_genesis(record)
        except LogError:
            return False
        if genesis.key not in self._known and not (self._log_id is not None and self._rotated):
            raise ForeignLogError(
                "the log does not belong to the node's key", where="index 1", expected=self._known[0].vkey(),
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
        for segment, _ in self._archives.covering(index):
            run = [entry for entry in segment.frames() if entry[0] <= index]
            if run[-1][1].endswith(link):
                return run
        return []


def _frames(spools: list[Spool], index: int) -> Iterator[bytes]:
    for spool in spools:
        yield from spool.at(index)
