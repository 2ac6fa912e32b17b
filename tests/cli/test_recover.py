"""``recover`` in real processes: beside others, and killed at its every step."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wal.inspection
import wal.repair
import wal.replacement
from tests.cli.node import Node, environment
from tests.cli.recovering import INTENT, beside, bundle_of, call, damage, damage_lmdb, inspect_in_fork, links

# Beside other processes.

PAUSED = """
import sys
import wal.repair
rebuild = wal.repair._spools
def paused(*arguments):
    print("under way", flush=True)
    sys.stdin.readline()
    return rebuild(*arguments)
wal.repair._spools = paused
sys.argv[0] = "femtoclaw"
from femtoclaw.__main__ import main
main()
"""


@pytest.mark.invariant("I9")
def test_no_process_can_work_on_a_log_that_is_being_repaired(node: Node) -> None:
    """While a repair is under way an intent, which would be lost, and a second repair are refused with exit 4; the
    first repair's folder is left alone, and it ends well."""
    before = links(node)
    damage_lmdb(node)
    words = [sys.executable, "-c", PAUSED, "--json", "--home", str(node.path), "recover", "--salvage"]
    first = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "under way\n"
        (attempt,) = beside(node, "repair-")
        for command in (INTENT, ("recover", "--salvage"), ("recover", "--accept-gap")):
            assert f"process {first.pid}" in call(node, *command, expect=4).stderr
        assert beside(node, "repair-") == [attempt]
        answer = json.loads(first.communicate("go on\n", timeout=60)[0])
    finally:
        first.kill()
        first.wait()
    assert (first.returncode, answer["records"]) == (0, len(before))
    assert links(node)[: len(before)] == before
    assert beside(node, "repair-") == []
    assert call(node, "verify").body["ok"]


def test_a_log_that_was_written_to_meanwhile_is_not_replaced(node: Node) -> None:
    """Should someone write without the lock after all, the repair refuses: what it rebuilt is no longer all."""
    damage_lmdb(node)
    words = [sys.executable, "-c", PAUSED, "--json", "--home", str(node.path), "recover", "--salvage"]
    first = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
    try:
        assert first.stdout is not None
        first.stdout.readline()
        checkpoint = node.path / "log" / "checkpoints" / "latest"
        checkpoint.write_bytes(checkpoint.read_bytes().replace(b"\n", b"\n\n", 1))
        answer = json.loads(first.communicate("go on\n", timeout=60)[0])
    finally:
        first.kill()
        first.wait()
    assert (first.returncode, answer["error"]["type"]) == (4, "LogUnavailableError")
    assert beside(node, "") == []


# Killed at its every step.


STEPS = ("rename", "fsync", "mkdir", "unlink", "pwrite")


def recover(node: Node, *words: str, kill_at: int = 0, exchange: bool = True, expect: int = 0) -> None:
    """Run ``recover``; with ``kill_at`` it is killed that many steps behind the one in which two logs begin to change
    places."""
    behind = -1

    def counted(act: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            nonlocal behind
            behind += behind >= 0
            if behind == kill_at > 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return act(*arguments, **options)

        return step

    def change_places(first: str, second: str) -> bool:
        nonlocal behind
        behind = 0
        return exchange_places(first, second) if exchange else False

    def prepare() -> None:
        wal.replacement._exchange = change_places
        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))

    exchange_places = wal.replacement._exchange
    call(node, "recover", *words, prepare=prepare, expect=-signal.SIGKILL if kill_at else expect)


CUT = [("--salvage", True), ("--salvage", False), ("--accept-gap", True), ("--accept-gap", False),
       ("--from-archive", True), ("", True)]  # fmt: skip


@pytest.mark.requirement("STORAGE-13.3")
@pytest.mark.parametrize("command, exchange", CUT)
def test_a_repair_that_is_killed_while_logs_change_places_ends_the_same_when_run_again(
    node: Node, tmp_path: Path, command: str, exchange: bool
) -> None:
    """Wherever it is killed, `recover` again brings the node to the same end: the same records, one damaged log kept,
    no half-built one left, and the node's key is the log's; with one system call or with two renames."""
    before = links(node)
    words = [command] if command else []
    if command == "--from-archive":
        words.append(bundle_of(node))
    if command == "":
        (node.path / "log" / "HEAD").unlink()
    elif command == "--salvage":
        damage_lmdb(node)
    else:
        damage(node)
    whole = node.copy(tmp_path / "whole")
    recover(whole, *words, exchange=exchange)
    end = end_of(whole, before)
    assert end[0] == (True, 1, 0)
    for kill_at in (1, 3) if exchange else (2, 4):
        cut = node.copy(tmp_path / f"cut-{kill_at}")
        recover(cut, *words, kill_at=kill_at, exchange=exchange)
        recover(cut, exchange=exchange)
        assert end_of(cut, before) == end


def end_of(node: Node, before: list[str]) -> tuple[tuple[bool, int, int], int]:
    """((it verifies, damaged logs kept, half-built ones left), how many of the records of before are in it)."""
    verified, _ = inspect_in_fork("verify", str(node.path / "log"))
    output = node.path.parent / "frames"
    inspect_in_fork("dump", str(node.path / "log"), str(output))
    raw, found, offset = output.read_bytes(), [], 0
    while offset < len(raw):
        offset += 100 + int.from_bytes(raw[offset + 8 : offset + 12], "big")
        found.append(raw[offset - 32 : offset].hex())
    kept = (verified["ok"], len(beside(node, "damaged-")), len(beside(node, "repair-")))
    return kept, len(before) if found[: len(before)] == before else 0
