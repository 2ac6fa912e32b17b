"""The generated code is that of the contract, and nobody pays for it who has no cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
HEAVY = {"grpc", "google.protobuf", "zstandard", "cryptography"}


def test_generated_code_is_fresh(tmp_path: Path) -> None:
    """scripts/protoc makes byte for byte what is committed."""
    pytest.importorskip("grpc_tools")
    made = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "protoc.py"), str(tmp_path)], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "cluster/v1/replication_pb2.py" in made
    for name in made:
        assert (tmp_path / name).read_bytes() == (ROOT / name).read_bytes(), f"{name}: run scripts/protoc"


def test_every_message_and_field_is_explained() -> None:
    """A comment stands above each message, enum, value, field, service and call of the contract."""
    unexplained, before = [], ""
    for line in (ROOT / "proto/cluster/v1/replication.proto").read_text().splitlines():
        text = line.strip()
        said = text.startswith(("//", "reserved ", "oneof ", "syntax", "package", "}")) or not text
        if not said and not before.startswith("//"):
            unexplained.append(line)
        before = text
    assert unexplained == []


def imported(home: Path, *arguments: str) -> set[str]:
    """Modules that a command loads."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "FEMTOCLAW_HOME": str(home)}
    command = [sys.executable, "-X", "importtime", "-m", "femtoclaw", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    return {line.rpartition("|")[2].strip() for line in run.stderr.splitlines() if line.startswith("import time:")}


def test_commands_without_a_cluster_do_not_load_it(tmp_path: Path) -> None:
    """A start stays quick: neither gRPC nor what belongs to it is imported where there is no cluster."""
    home = tmp_path / "home"
    commands = [["--version"], ["--help"], ["init"], ["status"], ["run", "hi", "--brain", "echo"], ["log"]]
    for command in commands:
        loaded = imported(home, *command)
        assert not HEAVY & loaded, command
    assert "lmdb" in loaded, "what is imported is seen"
