"""What any member answers to readers: records, proofs and checkpoints of what is committed, and how fresh that is.

Nothing beyond the commit is shown: it may be cut by the next leader. What is shown is for the reader to verify.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from cluster.driver import Driver
from cluster.errors import PeerRefusedError
from cluster.limits import ENTRIES_RECORDS_MAX
from cluster.messages import Reason
from cluster.reading import ConsistencyProof, Freshness, InclusionProof, RecordsPage, Status

PAGE_RECORDS = 512


class ReadAnswers:
    """The reading half of a node's answers."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def _freshness(self) -> Freshness:
        driver, log = self._driver, self._driver.store.log
        return Freshness(
            driver.role,
            driver.epoch,
            log.head.index,
            self._readable(),
            driver.silence_ns(),
            log.checkpoint_note() or b"",
        )

    def _readable(self) -> int:
        """How many records may be shown."""
        return min(self._driver.commit, self._driver.store.log.head.index)

    def status(self, peer: str) -> Status:
        """Where this node stands."""
        store, driver = self._driver.store, self._driver
        return Status(self._freshness(), store.log.log_id, driver.name, driver.leader, store.head(), store.history())

    def records(self, peer: str, first: int, limit: int) -> Iterator[RecordsPage]:
        """At most ``limit`` committed records from ``first`` on, as they are on disk."""
        stop = min(self._readable(), first + min(limit, ENTRIES_RECORDS_MAX) - 1) + 1
        frames = self._driver.store.frames(max(first, 1), stop)
        while page := list(itertools.islice(frames, PAGE_RECORDS)):
            yield RecordsPage(self._freshness(), page[0][0], tuple(raw for _, raw in page))

    def inclusion(self, peer: str, index: int, size: int) -> InclusionProof:
        """Proof that the tree of ``size`` holds the record at ``index``. Raises PeerRefusedError."""
        self._check(1 <= index <= size <= self._readable())
        tree = self._driver.store.log.tree()
        return InclusionProof(self._freshness(), tree.root(size), tuple(tree.inclusion(index, size)))

    def consistency(self, peer: str, old: int, new: int) -> ConsistencyProof:
        """Proof that the tree of ``new`` continues that of ``old``. Raises PeerRefusedError."""
        self._check(1 <= old <= new <= self._readable())
        tree = self._driver.store.log.tree()
        return ConsistencyProof(self._freshness(), tree.root(old), tree.root(new), tuple(tree.consistency(old, new)))

    def checkpoint(self, peer: str) -> Freshness:
        """The newest checkpoint, and how fresh this node is."""
        return self._freshness()

    def _check(self, within: bool) -> None:
        if not within:
            raise PeerRefusedError("beyond what is committed here", Reason.GAP, expected=f"<= {self._readable()}")
