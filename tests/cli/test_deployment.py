"""What a deployed node keeps: its log through a torn end, its files from others, its rules on record, its registry."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from blake3 import blake3

from femtoclaw import boot
from femtoclaw.home import Home
from femtoclaw.sources import live
from tests.cli.node import READ, Node, call
from wal import LogError, read_log_directory
from wal.directory import stopped_clean
from wal.lmdb_storage import LmdbStorage
from wal.record import KIND_RECOVERED, Record
from wal.recovered import Cut, decode_recovered

NOBODY = 65534


def records(home: Home) -> list[Record]:
    reader = read_log_directory(home.log)
    try:
        return list(reader.scan())
    finally:
        reader.close()


def restart(home: Home) -> None:
    boot.stop(boot.start(home, live()), "done")


@pytest.mark.requirement("RUNBOOK-13.2")
def test_a_torn_end_is_cut_on_record_and_nothing_before_it(node: Node) -> None:
    """What follows the last promised record and does not verify is removed, kept as evidence, and told by place and digest;
    all that was acknowledged is there. Damage before that stops the start, and changes nothing."""
    home = Home(str(node.path))
    before = records(home)
    torn = b"\x07" * 123
    storage = LmdbStorage(home.log, writable=True)
    storage.append([(len(before) + 1, torn)])
    storage.close()
    restart(home)
    after = records(home)
    assert after[: len(before)] == before
    (told,) = [decode_recovered(each.payload, "") for each in after if each.kind == KIND_RECOVERED]
    assert told == Cut(len(before) + 1, len(before) + 1, blake3(torn).hexdigest())
    assert any(torn in path.read_bytes() for path in Path(home.log, "evidence").iterdir())
    assert stopped_clean(home.log)
    assert node.call("verify").code == 0

    data = Path(home.log, "data", "data.mdb")
    raw = bytearray(data.read_bytes())
    raw[raw.index(b"Ship on Friday")] ^= 1
    data.write_bytes(raw)
    assert node.call("verify", expect=None).code == 3
    with pytest.raises(LogError):
        boot.start(home, live())
    assert data.read_bytes() == bytes(raw)


@pytest.mark.requirement("DEPLOY-9.2")
def test_the_log_is_its_owners_and_begins_as_it_began(node: Node) -> None:
    """Modes of its files, a try by another user where this one can become another; the first record after three restarts."""
    home = Home(str(node.path))
    first = records(home)[0]
    for _ in range(3):
        restart(home)
    assert records(home)[0] == first
    files = [path for path in Path(home.log).rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in files} == {0}
    assert stat.S_IMODE(Path(home.log, "data", "data.mdb").stat().st_mode) == 0o600
    if os.geteuid() == 0 and (cat := shutil.which("cat")):
        data = str(Path(home.log, "data", "data.mdb"))
        done = subprocess.run([cat, data], user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, check=False)
        assert (done.returncode, b"denied" in done.stderr, done.stdout) == (1, True, b"")


@pytest.mark.requirement("DEPLOY-7.2")
def test_each_decision_names_the_policy_that_was_in_force(node: Node) -> None:
    """The digest changes with the event that puts another policy in force, and nowhere else; that event has its version."""
    node.intent(READ)
    tighter = node.path.parent / "tighter.cedar"
    tighter.write_text(
        '@id("read") permit (principal, action == Action::"fs.read", resource) when { context.path == "x" };'
    )
    node.call("policy", "set", str(tighter))
    node.intent(READ, expect=1)
    in_force, versions, decided = "", [], 0
    for row in node.call("log", "--limit", "0").objects:
        if row["type"] == "PolicyAdopted":
            in_force = row["digest"]
            versions.append(row["version"])
        if row["type"] == "AuthorizationDecided":
            assert row["policy_digest"] == in_force
            decided += 1
    assert (versions, decided > 2) == ([1, 2], True)


@pytest.mark.requirement("DEPLOY-8.1")
def test_a_module_that_nobody_installed_is_none(node: Node, tmp_path: Path) -> None:
    """Files in the place of installed modules are found by nobody: neither listed, nor called."""
    place = node.path / "modules" / ("0" * 64)
    place.mkdir(parents=True)
    (place / "claw.json").write_text(json.dumps({"name": "text.stray", "version": "1.0.0"}))
    (place / "module.py").write_text("def execute(args):\n    open('breach.txt', 'w')\n")
    listed = json.dumps(node.call("claw", "list").objects)
    assert "text.stray" not in listed
    assert node.intent(call("text.stray", text="x"), expect=1).body["decision"] != "AUTHORIZED"
    assert not list(tmp_path.rglob("breach.txt"))
