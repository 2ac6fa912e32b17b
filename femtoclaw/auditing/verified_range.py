"""The integrity layer of the audit: how far the log was verified for an answer, from the genesis record to a signature.

An answer is worth what was checked for it. Each record's own digest and its place in the chain are checked from the first
record on, and the tree's root at the newest signed checkpoint must be the signed one. What stands behind that checkpoint is
chained and not signed yet: the answer says so.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from typing import Any, NamedTuple

from wal.errors import RollbackError
from wal.limits import SEGMENT_RECORDS
from wal.merkle import Frontier, leaf_hash
from wal.reader import LogReader


class Verified(NamedTuple):
    """Records ``first`` to ``last`` follow from each other; those up to ``signed`` are under ``key``'s signature.

    ``root`` is the RFC 6962 root over all of them, ``signed_root`` that of the checkpoint; ``signed`` is 0 without one.
    """

    origin: str
    log_id: str
    first: int
    last: int
    root: str
    signed: int
    signed_root: str
    key: str

    def body(self) -> dict[str, Any]:
        """For an answer."""
        return dict(self._asdict())

    def sentence(self) -> str:
        """For people, one line."""
        signed = (
            f"signed up to {self.signed} by {self.key.partition('+')[0]}" if self.signed else "none of it signed yet"
        )
        return f"verified: records {self.first} to {self.last}, root {self.root[:16]}..., {signed}"


def verify_range(reader: LogReader, size: int | None = None) -> Verified:
    """Verify the first ``size`` records (default: all that are promised). Takes some 3 µs a record.

    Raises CorruptRecordError, CorruptFileError, SignatureError, and RollbackError when the records are not those that were
    signed.
    """
    note = reader.checkpoint_note()  # before the records: what a writer adds meanwhile is not in question
    last = reader.size if size is None else size
    covered = reader.keys().open_checkpoint(note, reader.origin) if note is not None else None
    checkpoint = covered.checkpoint if covered is not None else None
    signed = checkpoint.size if checkpoint is not None and checkpoint.size <= last else 0
    frontier, leaves = Frontier(), []
    for record in reader.scan(1, last + 1):
        leaves.append(leaf_hash(record.link))
        if len(leaves) == SEGMENT_RECORDS or record.index == signed:
            frontier.extend(leaves)
            leaves = []
            if checkpoint is not None and record.index == signed and frontier.root() != checkpoint.root:
                raise RollbackError(
                    "the records are not those of the signed checkpoint", where=f"index 1 to {signed}",
                    expected=checkpoint.root.hex(), found=frontier.root().hex(),
                )  # fmt: skip
    frontier.extend(leaves)
    return Verified(
        reader.origin, reader.log_id.hex(), 1, last, frontier.root().hex(), signed,
        checkpoint.root.hex() if checkpoint is not None and signed else "",
        reader.keys().at(signed).key.vkey() if signed else "",
    )  # fmt: skip
