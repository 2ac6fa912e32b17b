"""A node with backups beside it: a sealed segment, a blob, a subject, a secret."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from cluster.archive_folder import FolderArchive
from femtoclaw import events
from femtoclaw.backup.layout import Manifest
from femtoclaw.backup.place import find, one_log
from femtoclaw.event_codec import decode
from tests.cli.filled import fill
from tests.cli.in_process import answer_here
from tests.cli.node import READ, Answer, Node
from wal.reader import read_log_directory
from wal.record import KIND_EVENT

TEXT = "many words " * 20_000
"""More than a record holds of a result: it becomes a blob."""

SECRET = "a value that nobody else has"


class Here(Node):
    """A node whose commands run in this process: of those that need none of their own, each saves the start of one."""

    def call(self, *arguments: str, stdin: bytes = b"", human: bool = False, expect: int | None = 0) -> Answer:
        """As ``Node.call``."""
        if stdin or human:
            return super().call(*arguments, stdin=stdin, human=human, expect=expect)
        answer = answer_here(self.path, *arguments)
        assert expect is None or answer.code == expect, answer
        return answer


class Backed(Here):
    """A node with a recovery key beside its home, and a place for its backups."""

    @property
    def key(self) -> str:
        return str(self.path.parent / "recovery.key")

    @property
    def place(self) -> Path:
        return self.path.parent / "place"

    def backup(self) -> dict[str, Any]:
        body: dict[str, Any] = self.call("backup", "create", "--to", str(self.place)).body
        return body

    def verify(self, *more: str, expect: int = 0) -> dict[str, Any]:
        body: dict[str, Any] = self.call("backup", "verify", "--from", str(self.place), *more, expect=expect).body
        return body

    def objects(self) -> list[Path]:
        return sorted(path for path in self.place.rglob("objects/*"))

    def moved(self, folder: Path) -> Backed:
        """All of it somewhere else."""
        subprocess.run(["cp", "-r", str(self.path.parent), str(folder)], check=True)
        return Backed(folder / self.path.name)


def make(template: Node, folder: Path) -> Backed:
    """Made once, with one backup; ``moved`` gives copies."""
    folder.mkdir()
    node = Backed(template.copy(folder / "home").path)
    (node.workspace / "notes.txt").write_text(TEXT)
    node.intent(READ)
    node.call("intent", '{"message":{"content":"of ada"}}', "--subject", "ada")
    node.call("secret", "set", "token", stdin=SECRET.encode())
    fill(node)
    node.call("backup", "keygen", "--out", node.key)
    node.backup()
    return node


def ended(node: Node, procedure: str) -> events.ProcedureEnded:
    """The last end of a procedure in the log."""
    reader = read_log_directory(str(node.path / "log"))
    try:
        found = [decode(each.payload) for each in reader.scan(max(1, reader.size - 200)) if each.kind == KIND_EVENT]
    finally:
        reader.close()
    return [each for each in found if isinstance(each, events.ProcedureEnded) and each.procedure == procedure][-1]


def find_newest(node: Backed) -> Manifest:
    """The newest manifest in the node's place."""
    store = FolderArchive(str(node.place))
    return find(store, one_log(store, None), None).manifest
