"""Repairs of damaged logs for tests: ``recover`` in forks of the test's process, and ways to damage what it repairs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import femtoclaw.boot
import femtoclaw.cli.execute
import femtoclaw.cli.history
import femtoclaw.provision
import wal.inspection
import wal.repair
import wal.replacement
from femtoclaw import commands
from femtoclaw.cli.main import run
from femtoclaw.home import Home
from femtoclaw.sources import live
from tests.cli.node import READ, SAY, Answer, Node
from wal import read_log_directory
from wal.head import SLOT_BYTES, SLOT_STRIDE, decode_slot
from wal.inspection import Finding

INTENT = ("intent", json.dumps(SAY))


def in_child(act: Callable[[], int], stdout: int, stderr: int) -> int:
    """Run ``act`` in a fork and return how it ended: a process of its own, without an interpreter's start."""
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(stdout, 1)
            os.dup2(stderr, 2)
            with open(1, "w", closefd=False) as sys.stdout, open(2, "w", closefd=False) as sys.stderr:
                code = act()
            os._exit(code)
        finally:
            os._exit(70)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def inspect_in_fork(command: str, path: str, *arguments: str) -> tuple[Any, Any]:
    """As ``wal.inspection.inspect``, whose child is an interpreter of its own."""

    def act() -> int:
        wal.inspection.main([command, path, *arguments])
        return 0

    with TemporaryFile() as output:
        code = in_child(act, output.fileno(), output.fileno())
        output.seek(0)
        text = output.read()
    return (json.loads(text), None) if code == 0 else (None, Finding("STORE_UNREADABLE", path, "", str(code)))


def call(
    node: Node, *words: str, expect: int = 0, human: bool = False, prepare: Callable[[], object] = lambda: None
) -> Answer:
    """As ``Node.call``, in a fork; ``prepare`` runs in it first."""

    def act() -> int:
        wal.inspection.inspect = wal.repair.inspect = inspect_in_fork
        prepare()
        return run([*([] if human else ["--json"]), "--home", str(node.path), *words])

    with TemporaryFile() as output, TemporaryFile() as error:
        code = in_child(act, output.fileno(), error.fileno())
        output.seek(0)
        error.seek(0)
        stdout, stderr = output.read().decode(), error.read().decode()
    objects = [] if human else [json.loads(line) for line in stdout.splitlines()]
    answer = Answer(code, objects, stdout, stderr)
    assert code == expect, answer
    return answer


def links(node: Node) -> list[str]:
    return [entry["link"] for entry in call(node, "log", "--limit", "0").objects]


def beside(node: Node, infix: str) -> list[Path]:
    return sorted(path for path in node.path.iterdir() if path.name.startswith(f"log.{infix}"))


def damage(node: Node, text: bytes = b"Ship on Friday") -> None:
    """One bit of the last record that holds ``text``."""
    path = node.path / "log" / "data" / "data.mdb"
    raw = bytearray(path.read_bytes())
    raw[raw.rfind(text)] ^= 1
    path.write_bytes(raw)


def damage_lmdb(node: Node) -> None:
    """Both meta pages: LMDB can reach nothing, the records are all there."""
    path = node.path / "log" / "data" / "data.mdb"
    raw = bytearray(path.read_bytes())
    for page in (0, 4096):
        raw[page + 16 : page + 24] = b"\xff" * 8
    path.write_bytes(raw)


def bundle_of(node: Node) -> str:
    bundle = str(node.path.parent / "archive.bundle")
    call(node, "export", "--bundle", bundle)
    return bundle


def cut_at_work(node: Node) -> int:
    """A node killed with one execution started and one run waiting for its brain; returns how many records it promised."""
    started = femtoclaw.boot.start(Home(str(node.path)), live())
    started.authority.perform(commands.SubmitIntent("started", json.dumps(READ).encode()))
    started.authority.perform(commands.StartRun("run", "waiting", "brain", "test", "agent", b"go"))
    started.log.abandon()
    return started.log.head.index


def flip_link(node: Node, index: int) -> None:
    """One bit of the link that record ``index`` ends with, wherever LMDB has it."""
    reader = read_log_directory(str(node.path / "log"))
    link = reader.read(index).link
    reader.close()
    path = node.path / "log" / "data" / "data.mdb"
    raw = bytearray(path.read_bytes())
    raw[raw.rfind(link)] ^= 1
    path.write_bytes(raw)


def lose_newest_slot(node: Node) -> None:
    path = node.path / "log" / "HEAD"
    raw = bytearray(path.read_bytes())
    slots = [decode_slot(bytes(raw[at : at + SLOT_BYTES])) for at in (0, SLOT_STRIDE)]
    newest = max(range(2), key=lambda number: slots[number].sequence)  # type: ignore[union-attr]
    raw[newest * SLOT_STRIDE + 20] ^= 1
    path.write_bytes(raw)
