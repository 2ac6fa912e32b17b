"""A brain that replays given outputs, one raw line each: for tests, drills and demonstrations."""

from __future__ import annotations

from femtoclaw.brains import Context, ExhaustedError, Thought
from femtoclaw.home import read_bounded

SCRIPT_BYTES_MAX = 16 * 1024 * 1024


class ScriptBrain:
    """Answers with the lines of a file in order."""

    def __init__(self, path: str) -> None:
        self.name = "script"
        self._path = path
        self._lines = read_bounded(path, SCRIPT_BYTES_MAX).splitlines()
        self._next = 0

    def think(self, context: Context) -> Thought:
        """The next line. Raises ExhaustedError behind the last."""
        if self._next >= len(self._lines):
            raise ExhaustedError(
                "the script has run out", where=self._path, expected="another line", found=len(self._lines)
            )
        line = self._lines[self._next]
        self._next += 1
        return Thought(line, {"script_line": str(self._next)})
