"""Running the real command in real processes on homes made once and copied."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

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
        words = self.command(*([] if human else ["--json"]), *arguments)
        done = subprocess.run(
            words, input=stdin, capture_output=True, env=environment(), cwd=self.path.parent, check=False
        )
        stdout, stderr = done.stdout.decode(), done.stderr.decode()
        answer = Answer(
            done.returncode, [] if human else [json.loads(line) for line in stdout.splitlines()], stdout, stderr
        )
        assert expect is None or done.returncode == expect, answer
        return answer

    def intent(self, message: Any, expect: int | None = 0) -> Answer:
        """Gate one message, given as an object or as raw bytes."""
        raw = message if isinstance(message, bytes) else json.dumps(message).encode()
        return self.call("intent", "-", stdin=raw, expect=expect)

    def copy(self, to: Path) -> Node:
        """The same home at another place."""
        shutil.copytree(self.path, to, symlinks=True)
        return Node(to)


def environment() -> dict[str, str]:
    """This environment with the checkout importable, and without what would change the command's behaviour."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FEMTOCLAW")}
    return kept | {"PYTHONPATH": str(ROOT)}


def call(tool: str, **args: Any) -> dict[str, Any]:
    """A tool call message."""
    return {"tool_call": {"tool": tool, "args": args}}


SAY = {"message": {"content": "hello"}}
READ = call("fs.read", path="notes.txt")
