"""Loaded by the fork server of one measurement: for its first calls the system has no memory for another process, then it has."""

from __future__ import annotations

import errno
import os
import sys

REFUSED = 4
"""Forks for calls that fail. The server tries two for each: a supervisor, and the next one ahead of its call."""

_fork = os.fork
_count = 0


def _failing() -> int:
    """As the kernel answers it."""
    global _count
    if sys._getframe(1).f_code.co_name == "_fork":
        _count += 1
        if _count <= REFUSED:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    return _fork()


os.fork = _failing
