"""Running the real command in real processes on homes made once and copied."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

from tests.cli.warm_process import WarmProcess

ROOT = Path(__file__).resolve().parent.parent.parent
START = "import sys; sys.argv[0] = 'femtoclaw'; from femtoclaw.__main__ import main; main()"


class Answer(NamedTuple):
    """Exit code, the JSON objects on stdout, and both streams."""

    code: int
    objects: list[Any]
    stdout: str
    stderr: str

    @property
    def body(self) -> Any:
        """The one JSON object."""
        assert len(self.objects) == 1, self
        return self.objects[0]


class Node:
    """A home in a directory of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def workspace(self) -> Path:
        return self.path / "workspace"

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", START, "--home", str(self.path), *arguments]

    def call(self, *arguments: str, stdin: bytes = b"", human: bool = False, expect: int | None = 0) -> Answer:
        """Run one command; by default with --json, and exit 0 is expected."""
        words = [*([] if human else ["--json"]), "--home", str(self.path), *arguments]
        return femtoclaw(*words, cwd=self.path.parent, stdin=stdin, expect=expect)

    def intent(self, message: Any, expect: int | None = 0) -> Answer:
        """Gate one message, given as an object or as raw bytes."""
        raw = message if isinstance(message, bytes) else json.dumps(message).encode()
        return self.call("intent", "-", stdin=raw, expect=expect)

    def copy(self, to: Path) -> Node:
        """The same home at another place."""
        shutil.copytree(self.path, to, symlinks=True)
        return Node(to)


def femtoclaw(
    *words: str, cwd: Path, stdin: bytes = b"", expect: int | None = 0, python: str = sys.executable, **variables: str
) -> Answer:
    """Run the real command in ``cwd``; what it prints is read as JSON lines when the words ask for them."""
    ended = _warm(words, cwd, stdin, variables) if python == sys.executable else None
    if ended is None:
        done = subprocess.run(
            [python, "-c", START, *words], input=stdin, capture_output=True, env=environment() | variables, cwd=cwd,
            check=False,
        )  # fmt: skip
        ended = done.returncode, done.stdout, done.stderr
    code, stdout, stderr = ended[0], ended[1].decode(), ended[2].decode()
    objects = [json.loads(line) for line in stdout.splitlines()] if "--json" in words else []
    answer = Answer(code, objects, stdout, stderr)
    assert expect is None or code == expect, answer
    return answer


_first = True
_server: WarmProcess | None = None
_busy = threading.Lock()


def _warm(words: tuple[str, ...], cwd: Path, stdin: bytes, variables: dict[str, str]) -> tuple[int, bytes, bytes] | None:
    """The command's end in a process that has third-party packages loaded; None where it must start from scratch: when a variable
    is to change the interpreter, for the first one of a test run, which may be the only one, and while another thread's command
    is at work there."""
    global _first, _server
    if _first or any(name.startswith(("PYTHON", "LD_", "LC_", "LANG")) for name in variables):
        _first = False
        return None
    if not _busy.acquire(blocking=False):
        return None
    try:
        if _server is None or not _server.usable:
            _server = WarmProcess()
        return _server.run(START, list(words), str(cwd), environment() | variables, stdin)
    finally:
        _busy.release()


def environment() -> dict[str, str]:
    """This environment with the checkout importable, and without what would change the command's behaviour."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FEMTOCLAW")}
    return kept | {"PYTHONPATH": str(ROOT)}


def call(tool: str, **args: Any) -> dict[str, Any]:
    """A tool call message."""
    return {"tool_call": {"tool": tool, "args": args}}


SAY = {"message": {"content": "hello"}}
READ = call("fs.read", path="notes.txt")
