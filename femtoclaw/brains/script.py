"""A brain that replays given outputs, one raw line each: for tests, drills and demonstrations."""

from __future__ import annotations

import os
import stat

from femtoclaw.brains import Context, ExhaustedError, Thought
from femtoclaw.errors import ConfigurationError

SCRIPT_BYTES_MAX = 16 * 1024 * 1024


class ScriptBrain:
    """Answers with the lines of a regular file in order, at most SCRIPT_BYTES_MAX bytes. Raises ConfigurationError."""

    def __init__(self, path: str) -> None:
        self.name = "script"
        self._path = path
        self._lines = _read(path).splitlines()
        self._next = 0

    def skip(self, lines: int) -> None:
        """Go on behind the first ``lines``: they were said before."""
        self._next = lines

    def think(self, context: Context) -> Thought:
        """The next line. Raises ExhaustedError behind the last."""
        if self._next >= len(self._lines):
            raise ExhaustedError(
                "the script has run out", where=self._path, expected="another line", found=len(self._lines)
            )
        line = self._lines[self._next]
        self._next += 1
        return Thought(line, {"script_line": str(self._next)})


def _read(path: str) -> bytes:
    """The whole file. A pipe or a device is refused at once: what it would say, and when, is anybody's guess."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            regular = stat.S_ISREG(os.fstat(fd).st_mode)
            raw = file.read(SCRIPT_BYTES_MAX + 1) if regular else b""
    except (OSError, ValueError) as error:
        found = error.strerror if isinstance(error, OSError) else "a name that no file can have"
        raise ConfigurationError("the script cannot be read", where=path, found=found) from error
    if not regular:
        raise ConfigurationError("the script is no file", where=path, expected="a regular file", found="something else")
    if len(raw) > SCRIPT_BYTES_MAX:
        raise ConfigurationError("the script is too large", where=path, expected=f"<= {SCRIPT_BYTES_MAX} bytes")
    return raw
