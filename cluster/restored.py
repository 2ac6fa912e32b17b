"""The mark of a log that was rebuilt from an archive: it may lack what this node once acknowledged.

As long as the mark is there, the node must start as a learner: it stores and verifies, and neither votes, nor promises, nor
leads, until it holds all that the cluster has committed. The mark is written before the rebuilt log gets its name, so no
rebuilt log is ever without it; the random incarnation tells two restores of the same node apart.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import base64
import binascii
import os
from typing import NamedTuple

from blake3 import blake3

from wal.durable_file import read_file, sync_folder, write_file
from wal.errors import CorruptFileError, LogError, LogFailedError

FILE_NAME = "cluster/restored"
INCARNATION_BYTES = 16
_TITLE = "femtoclaw restored v1"


class Restored(NamedTuple):
    """What a restored log held when it was made: its size and root, when (nanoseconds since 1970), the incarnation, and how
    many records the log is known to have had, by signed checkpoints in the archive: at least ``size``."""

    log_id: bytes
    size: int
    root: bytes
    time_ns: int
    incarnation: bytes
    known: int

    def text(self) -> bytes:
        """The file: one field a line, and the BLAKE3 of all lines before."""
        lines = [_TITLE, self.log_id.hex(), str(self.size), base64.b64encode(self.root).decode()]
        body = "\n".join([*lines, str(self.time_ns), self.incarnation.hex(), str(self.known), ""]).encode()
        return body + blake3(body).hexdigest().encode() + b"\n"


def mark_restored(path: str, mark: Restored) -> None:
    """Mark the log directory at ``path``, durably when this returns. Raises LogFailedError."""
    try:
        write_file(os.path.join(path, FILE_NAME), mark.text())
    except OSError as error:
        raise LogFailedError("the mark of a restored log cannot be written", where=path, found=error) from error


def restored_mark(path: str) -> Restored | None:
    """The mark of the log directory at ``path``, None when it was not restored, or has caught up since.

    Raises CorruptFileError or LogUnavailableError for a mark that cannot be read: such a node must not do more than a learner.
    """
    where = os.path.join(path, FILE_NAME)
    raw = read_file(where)
    if raw is None:
        return None
    try:
        mark = _parsed(raw)
    except (ValueError, binascii.Error):
        mark = None
    if mark is None or mark.text() != raw:
        raise CorruptFileError(
            "the mark of a restored log is damaged", where=where, expected="a mark that this program wrote",
            found=f"{len(raw)} bytes", remedy="keep the node a learner; restore it again from the archive",
        )  # fmt: skip
    return mark


def _parsed(raw: bytes) -> Restored:
    title, log_id, size, root, time_ns, incarnation, known, _, end = raw.decode("ascii").split("\n")
    if title != _TITLE or end:
        raise ValueError(title)
    mark = Restored(
        bytes.fromhex(log_id),
        int(size),
        base64.b64decode(root, validate=True),
        int(time_ns), bytes.fromhex(incarnation),
        int(known),
    )  # fmt: skip
    if (len(mark.log_id), len(mark.root), len(mark.incarnation)) != (
        32,
        32,
        INCARNATION_BYTES,
    ) or not 1 <= mark.size <= mark.known:
        raise ValueError("a field out of its range")
    return mark


def clear_restored(path: str) -> None:
    """Take the mark away, durably: the node holds all that was committed. Idempotent. Raises LogFailedError."""
    file = os.path.join(path, FILE_NAME)
    try:
        if os.path.lexists(file):
            os.unlink(file)
        if os.path.isdir(os.path.dirname(file)):
            sync_folder(os.path.dirname(file))
    except OSError as error:
        raise LogFailedError("the mark of a restored log cannot be removed", where=file, found=error) from error


def is_restored(path: str) -> bool:
    """True when the log at ``path`` must be treated as restored: there is a mark, readable or not."""
    try:
        return restored_mark(path) is not None
    except LogError:
        return True
