"""What is free on the disk under a log, asked often enough that it holds also where others write to the same disk."""

from __future__ import annotations

import os
import time

from wal import limits

ANSWER_NS = 50_000_000
"""How long an answer holds while plenty was free: somebody else would have to write 5 GB/s to use up what it left."""

PLENTY_TIMES = 16
"""Multiples of the reserve above which an answer holds for a while; below, each append asks anew. Asking costs two
microseconds, and a commit may have to wait for the interpreter's lock after it."""


class DiskRoom:
    """The file system that the open file ``fd`` lies on; the caller keeps it open."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._free = 0
        self._until_ns = 0

    def free(self) -> int:
        """Bytes free for this user, at most ``ANSWER_NS`` old, and no older than the call where that is little. Raises OSError."""
        now = time.monotonic_ns()
        if now >= self._until_ns or self._free < PLENTY_TIMES * limits.DISK_RESERVE_BYTES:
            self._free = self.asked()
            self._until_ns = now + ANSWER_NS
        return self._free

    def used(self, size: int) -> None:
        """``size`` bytes were written by the caller since."""
        self._free -= size

    def asked(self) -> int:
        """Bytes free now. Raises OSError."""
        disk = os.fstatvfs(self._fd)
        return disk.f_bavail * disk.f_frsize
