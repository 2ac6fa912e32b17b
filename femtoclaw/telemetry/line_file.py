"""Where structured lines go: a file of the node's owner alone that is renamed when it is large, or standard error."""

from __future__ import annotations

import json
import os
import stat
import sys
from typing import Any

from femtoclaw.errors import UnavailableError
from femtoclaw.telemetry.lines import text
from wal.errors import LogError
from wal.reader import LogReader

FILE_BYTES_MAX = 64 * 1024 * 1024
"""Then the file becomes NAME.old, in the place of the one before: the two never take more than twice as much."""

TAIL_BYTES = 65_536
OLD = ".old"


class LineFile:
    """A file that lines are appended to."""

    def __init__(self, path: str) -> None:
        """Nothing is opened yet."""
        self._path = path

    def require(self) -> None:
        """Raise UnavailableError when the file cannot be written: a start says it, where later telemetry only warns."""
        try:
            os.close(self._opened())
        except OSError as error:
            raise UnavailableError(
                "lines cannot be written there", where=f"observability.log {self._path}", found=error.strerror,
                remedy="make its folder, or choose another file: `femtoclaw config set 'observability.log=\"FILE.jsonl\"'`",
            ) from error  # fmt: skip

    def write(self, bodies: list[dict[str, Any]]) -> None:
        """Append some lines. Raises OSError, UnavailableError for something that is no file of ours."""
        raw = b"".join(map(text, bodies))
        fd = self._opened()
        try:
            if os.fstat(fd).st_size + len(raw) > FILE_BYTES_MAX and os.fstat(fd).st_size:
                os.replace(self._path, self._path + OLD)
                os.close(fd)
                fd = -1
                fd = self._opened()
            while raw:
                raw = raw[os.write(fd, raw) :]
        finally:
            if fd >= 0:
                os.close(fd)

    def _opened(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
        fd = os.open(self._path, flags, 0o600)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        raise UnavailableError(
            "lines cannot be written there", where=self._path, expected="a file", found="something else"
        )

    def next_index(self, log: LogReader) -> int | None:
        """The index of the first record that the file has no line of; None where it does not go on with this log: then the lines
        begin with what is new."""
        for body in reversed(self._tail()):
            index, link = body.get("index"), body.get("link")
            if type(index) is not int:
                continue
            try:
                return index + 1 if 1 <= index <= log.size and log.read(index).link.hex() == link else None
            except LogError:
                return None
        return None

    def _tail(self) -> list[dict[str, Any]]:
        try:
            with open(self._path, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
                raw = file.read(TAIL_BYTES)
        except OSError:
            return []
        found = []
        for each in raw.splitlines():
            try:
                body = json.loads(each)
            except ValueError:
                continue  # cut at its beginning, or by a crash at its end
            if isinstance(body, dict):
                found.append(body)
        return found


def write_to_stderr(bodies: list[dict[str, Any]]) -> None:
    """Lines on standard error, a batch in one piece. Raises OSError."""
    sys.stderr.write(b"".join(map(text, bodies)).decode())
    sys.stderr.flush()
