"""What the operator sees: one JSON object (or JSON lines) with --json, plain text otherwise, colour on a terminal only."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "dim": "2", "bold": "1"}


class Output:
    """Where a command's answer goes. A stream that cannot be written never disturbs the work: it is noted in
    ``failure``, the rest of the output is dropped, and the command goes on to its own exit code."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.failure: OSError | None = None
        self._ascii = True
        self._colour = False
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # file names need not be UTF-8
        if sys.stdout is not None:
            self._ascii = sys.stdout.encoding.lower() not in ("utf-8", "utf8")
            self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def _print(self, text: str) -> None:
        if self.failure is not None or sys.stdout is None:
            return
        try:
            sys.stdout.write(text + "\n")  # in one piece: an interrupt must not come between a line and its end
            sys.stdout.flush()
        except OSError as error:
            self.failure = error
            _discard(sys.stdout)

    def data(self, body: dict[str, Any]) -> None:
        """The command's answer as one JSON object on one line; only with --json."""
        if self.as_json:
            import json

            self._print(_one_line(json.dumps(body, ensure_ascii=self._ascii, sort_keys=False, default=str)))

    def line(self, text: str = "", colour: str = "") -> None:
        """One line for people; silent with --json."""
        if not self.as_json:
            self._print(self.paint(text, colour))

    def note(self, text: str) -> None:
        """A remark on stderr that is not part of the answer."""
        self.error(f"femtoclaw: {addressed(text)}")

    def error(self, text: str) -> None:
        """Text on stderr."""
        if sys.stderr is None:
            return
        try:
            print(text, file=sys.stderr, flush=True)
        except OSError:
            _discard(sys.stderr)  # nobody can be told

    def paint(self, text: str, colour: str) -> str:
        """The text in a colour when standard output is a terminal."""
        return f"\033[{_COLOURS[colour]}m{text}\033[0m" if colour and self._colour else text

    def progress(self, text: str) -> None:
        """A passing line on a terminal's stderr; nothing anywhere else."""
        if sys.stderr is not None and sys.stderr.isatty() and not self.as_json:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def fields(self, pairs: list[tuple[str, object]], limit: int = 400) -> None:
        """Aligned ``name  value`` lines, each value of at most ``limit`` characters."""
        width = max((len(name) for name, _ in pairs), default=0)
        for name, value in pairs:
            self.line(f"  {name:<{width}}  {printable(str(value), limit)}")


def _discard(stream: TextIO) -> None:
    """Send what is still buffered, and all that follows, nowhere: the interpreter flushes once more when it ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def _one_line(text: str) -> str:
    """JSON text with every character escaped that ends a line somewhere (U+0085, U+2028), steers a terminal (U+009B) or turns
    the direction of text (U+202E): what is recorded of a brain must not make two lines of one, nor another one. Its value
    is the same."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(ord(c)) for c in text)


def _escaped(point: int) -> str:
    if point < 0x10000:
        return f"\\u{point:04x}"
    return f"\\u{0xD7C0 + (point >> 10):04x}\\u{0xDC00 + (point & 0x3FF):04x}"


def printable(text: str, limit: int = 400) -> str:
    """One line that is safe on a terminal: control characters escaped, bounded. Text from brains and claws is data."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: limit + 1])
    return safe if len(text) <= limit else f"{safe[:limit]}... ({len(text)} characters)"


def program() -> str:
    """The name by which this program was called: FEMTOCLAW_PROGRAM, which a launcher sets, or the command's own."""
    name = os.environ.get("FEMTOCLAW_PROGRAM") or os.path.basename(sys.argv[0])
    return "python -m femtoclaw" if name == "__main__.py" else printable(name) or "femtoclaw"


def addressed(text: str) -> str:
    """The text with its `femtoclaw ...` commands as this operator can type them."""
    return text.replace("`femtoclaw ", f"`{program()} ") if "`femtoclaw " in text else text


def when(time_ns: int) -> str:
    """UTC with milliseconds."""
    import time

    seconds, rest = divmod(time_ns, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest // 1_000_000:03d}Z"


def error_text(error: Any) -> str:
    """What an operator needs of an error: what, where, expected and found, what to do, which exit code."""
    lines = [f"femtoclaw: {printable(str(error.what), 1000)}"]
    if error.where:
        lines.append(f"  where     {printable(str(error.where))}")
    if error.expected is not None:
        lines.append(f"  expected  {printable(addressed(str(error.expected)))}")
    if error.found is not None:
        lines.append(f"  found     {printable(str(error.found))}")
    lines.append(f"  next      {printable(addressed(error.remedy), 1000)}")
    lines.append(f"  exit code {error.exit_code}")
    return "\n".join(lines)


def error_body(error: Any) -> dict[str, Any]:
    """The same for machines."""
    return {
        "error": {
            "type": type(error).__name__,
            "category": getattr(getattr(error, "category", None), "value", "MEMORY"),
            "what": error.what,
            "where": str(error.where),
            "expected": None if error.expected is None else addressed(str(error.expected)),
            "found": None if error.found is None else str(error.found),
            "remedy": addressed(error.remedy),
            "exit_code": error.exit_code,
        }
    }
