"""The blocks of docs/cluster.md, as a newcomer pastes them: one shell, the launcher, real etcd, and a leader that is killed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.etcd_process import etcd_program, free_ports

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 240
PORT = re.compile(r"(?<=127\.0\.0\.1:)\d+")
BLOCK = re.compile(r"^```\n(.*?)^```$", re.DOTALL | re.MULTILINE)

WORK = """
set -eu
trap 'kill -9 $(jobs -p) 2>/dev/null || true; echo "line $LINENO ended it" >&2' ERR
"""
"""Whoever pastes sees the first command that fails; here it ends the block, and what the block has started."""


def blocks(heading: str) -> str:
    """The commands of one section of the page, in order."""
    text = (ROOT / "docs" / "cluster.md").read_text()
    found = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^\1 |^## |^### |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found is not None, heading
    return "\n".join(BLOCK.findall(found[2]))


def at_free_ports(script: str) -> str:
    """The same with free ports for those of the page."""
    named = sorted(set(PORT.findall(script)))
    free = dict(zip(named, free_ports(len(named)), strict=True))
    return PORT.sub(lambda port: str(free[port[0]]), script)


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """Where a new user stands: a checkout of their own that nobody edits meanwhile, with the packages installed already. Sealed by
    the first command."""
    folder = tmp_path / "clone"
    for name in ("femtoclaw", "wal", "cluster", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (ROOT / "pyproject.toml", *ROOT.glob("requirements*.lock")):
        shutil.copy2(file, folder)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / "tmp").mkdir()
    yield folder


def paste(script: str, clone: Path) -> str:
    """Run it in one shell; what it prints. Everything that it starts ends with it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FEMTOCLAW_")}
    with subprocess.Popen(
        ["bash", "-c", WORK + at_free_ports(script)], cwd=clone, env=kept | {"TMPDIR": str(clone.parent / "tmp")},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    ) as shell:  # fmt: skip
        try:
            told, _ = shell.communicate(timeout=SECONDS_MAX)
        finally:
            if shell.poll() is None:
                os.killpg(shell.pid, 9)
    assert shell.returncode == 0, told
    return told


def test_the_newcomers_block_survives_a_killed_leader(clone: Path) -> None:
    """Three homes, etcd, `kill -9` of the leader: the next request is answered by whom nobody had to name."""
    etcd_program()
    script = blocks("Three homes on one machine") + blocks("Killing the leader")
    assert script.count("kill -9 $N1") == 1 and script.startswith("export PATH=")
    told = paste(script, clone)
    before, _, after = told.partition('"hello"')
    assert "the cluster works: n1 leads" in before + after
    assert re.search(r"AUTHORIZED.*\n.*\n.*hello again", after), told
    assert re.search(r"AUTHORIZED.*\n.*\n.*back as a follower", after), told
    assert re.search(r"the cluster works: n[23] leads in epoch \d+; 3 of 3 voters answer", after), told


def test_without_etcd_an_operator_names_the_next_owner(clone: Path) -> None:
    """The same page's static variant, to the old owner that comes back and follows."""
    script = blocks("Without etcd")
    assert script.count("kill -9 $N1") == 1 and script.startswith("export PATH=")
    told = paste(script, clone)
    assert re.search(r"AUTHORIZED.*\n.*\n.*hello again", told), told
    assert re.search(r"AUTHORIZED.*\n.*\n.*back as a follower", told), told
