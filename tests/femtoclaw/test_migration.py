"""A home of format 1, made by the program of that time, is migrated: complete or untouched, equal each time, and back."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.event_codec import VERSIONS, decode, encode
from femtoclaw.events import ErrorRecorded
from femtoclaw.home import Home
from femtoclaw.key_file import KeySigner
from femtoclaw.keys import load_signer
from femtoclaw.migration import building, running
from femtoclaw.migration.formats import format_of
from femtoclaw.migration.plan import plan_of
from femtoclaw.migration.refusal import MigrationUnsoundError, NotApplicableError
from femtoclaw.migration.running import migrate, take_back, validate
from femtoclaw.migration.seal import recheck
from femtoclaw.restore import load_state
from tests.cli.node import ROOT, Node, call, femtoclaw
from wal import open_log_directory
from wal.note import sign_note
from wal.reader import LogReader, read_log_directory
from wal.record import KIND_EVENT

GOLDEN = ROOT / "tests" / "golden" / "homes" / "format1.tar.gz"
CUTS = ROOT / "tests" / "femtoclaw" / "cut_migrations.py"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home as it was made."""
    folder = tmp_path_factory.mktemp("format1")
    with tarfile.open(GOLDEN) as archive:
        archive.extractall(folder, filter="tar")
    return folder / "home"


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Home:
    return Home(str(shutil.copytree(original, tmp_path / "home")))


@pytest.fixture(scope="module")
def migrated(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Node:
    """A home that was migrated by the command."""
    node = Node(Path(shutil.copytree(original, tmp_path_factory.mktemp("migrated") / "home")))
    node.call("migrate", "run", "--owner", "ada")
    return node


@contextlib.contextmanager
def reading(path: str) -> Iterator[LogReader]:
    reader = read_log_directory(path)
    try:
        yield reader
    finally:
        reader.close()


def unasked(log: str, key: KeySigner) -> None:
    """The owner's request is not what these tests are about."""


def nothing(step: str) -> None:
    """No step is cut."""


def in_use(home: Home) -> tuple[int, str]:
    """Format and root of the log in use."""
    with reading(home.log) as reader:
        return format_of(load_state(reader).node), reader.tree().root(reader.size).hex()


def events_of(node: Node, kind: str) -> list[dict[str, Any]]:
    return node.call("log", "--limit", "0", "--kind", kind).objects


@pytest.mark.requirement("STORAGE-23.1", "UPGRADE-25.1", "SUITE-3.3")
def test_a_home_of_the_format_before_is_migrated(migrated: Node, original: Path) -> None:
    """As many records at their indexes and times, no event of an earlier version, both chains whole, the decisions derived again,
    the old bytes still there."""
    home = Home(str(migrated.path))
    found = validate(home)
    with reading(str(original / "log")) as old, reading(home.log) as new, reading(f"{found.folder}/log") as kept:
        size = old.size
        assert new.size > size
        assert [record.payload for record in kept.scan(1, size + 1)] == [
            record.payload for record in old.scan(1, size + 1)
        ]
        versions = {(record.payload[1], record.payload[2]) for record in new.scan(2, size + 1)}
        assert any(record.payload[2] == 1 and VERSIONS[record.payload[1]] == 2 for record in old.scan(2, size + 1))
        assert all(version == VERSIONS[code] for code, version in versions if code < 128)
        assert [decode(a.payload) for a in old.scan(2, size + 1)] == [decode(b.payload) for b in new.scan(2, size + 1)]
    assert migrated.call("verify").body["ok"] is True
    assert migrated.call("replay").body["decisions"] >= 10


@pytest.mark.requirement("UPGRADE-9.1", "UPGRADE-22.1")
def test_a_migration_is_on_record(migrated: Node) -> None:
    """Authorized by the first operator before it came into force; formats, root and time in the log, told by the command."""
    begun, ended = events_of(migrated, "ProcedureBegun")[0], events_of(migrated, "ProcedureEnded")[0]
    assert (begun["procedure"], ended["result"], ended["operator"]) == ("migration.run", "done", "ada")
    started = events_of(migrated, "RuntimeStarted")
    assert begun["index"] < max(row["index"] for row in started) < ended["index"]
    body = migrated.call("migrate", "history").body
    row = body["history"][0]
    assert (row["from"], row["to"], row["root"]) == (1, 2, body["predecessor"]["root"])
    assert row["time_ns"] > 0


def test_what_was_migrated_is_a_node_like_every_other(migrated: Node, tmp_path: Path) -> None:
    """It works under the policy that it had, its operator changes it, and nobody else does."""
    node = migrated.copy(tmp_path / "home")
    assert node.intent(call("fs.read", path="todo.txt")).body["decision"] == "AUTHORIZED"
    assert (
        node.intent(call("fs.write", path="other.txt", content="x", mode="create"), expect=1).body["decision"]
        == "DENIED_POLICY_VIOLATION"
    )
    node.call("contain", "--reason", "a test")
    assert [row["name"] for row in node.call("operator", "list").body["operators"]] == ["ada"]
    assert "newest format" in json.dumps(node.call("migrate", "run", expect=1).body)


@pytest.mark.requirement("UPGRADE-10.1")
def test_the_configuration_means_the_same(migrated: Node, original: Path) -> None:
    """What was set is as it was, keys that came later have their defaults, and the file is the recorded one."""
    with reading(str(original / "log")) as old:
        before = json.loads(load_state(old).node.configuration.content)
    after = migrated.call("config", "show").body["configuration"]
    assert after["runtime"]["steps_max"] == before["runtime"]["steps_max"] == 8
    for name, entry in before["capabilities"].items():
        assert after["capabilities"][name]["enabled"] == entry["enabled"]
    assert after["policy"] == before["policy"]
    assert migrated.call("config", "verify").body["ok"] is True


@pytest.mark.requirement("UPGRADE-7.1", "STORAGE-23.2", "UPGRADE-19.1")
def test_a_migration_that_is_killed_leaves_the_old_home_or_the_new_one(original: Path, tmp_path: Path) -> None:
    """At more than 30 points; what was left is migrated afterwards to the very same root."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else str(tmp_path)
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        done = subprocess.run(
            [sys.executable, str(CUTS), str(original), folder, "30"], capture_output=True, text=True, check=False,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) >= 30
    assert {row["ended"] for row in rows} == {77}
    assert all(row["untouched"] == row["old"] for row in rows)
    assert {row["old"] for row in rows} == {True, False}
    assert {row["again"] for row in rows if "again" in row} == {0}
    assert {row["root"] for row in rows if "root" in row} == {rows[0]["expected"]}


@pytest.mark.requirement("UPGRADE-19.1")
def test_two_copies_become_the_same(home: Home, tmp_path: Path) -> None:
    """The root of what was made follows from the old log, the node's key and the operator's."""
    other = Home(str(tmp_path / "other"))
    first = migrate(Home(str(shutil.copytree(home.path, tmp_path / "first"))), "ada", unasked, nothing)
    shutil.copytree(home.path, other.path)
    shutil.copytree(tmp_path / "first" / "keys" / "operators", Path(other.path) / "keys" / "operators")
    second = migrate(other, "ada", unasked, nothing)
    assert first.built == second.built
    assert in_use(other) == in_use(Home(str(tmp_path / "first")))


@pytest.mark.requirement("UPGRADE-8.1")
@pytest.mark.parametrize("change", [(b"Ship on Friday", b"Ship on Monday"), (b"3.11.7", b"3.11.8")])
def test_what_a_step_gets_wrong_is_found_and_not_put_in_use(
    home: Home, monkeypatch: pytest.MonkeyPatch, change: tuple[bytes, bytes]
) -> None:
    """An event that says another thing: one from which something follows, and one from which nothing does."""
    before = in_use(home)
    right = building.renewed

    def wrong(record: Any) -> bytes:
        raw = right(record)
        return raw.replace(*change) if record.kind == KIND_EVENT else raw

    monkeypatch.setattr(building, "renewed", wrong)
    with pytest.raises(MigrationUnsoundError):
        migrate(home, "ada", unasked, nothing)
    assert in_use(home) == before


@pytest.mark.requirement("UPGRADE-8.1")
def test_a_log_that_was_not_copied_whole_is_not_put_in_use(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    before = in_use(home)
    monkeypatch.setattr(building, "appends", lambda records: list(appends(records))[:-1])
    with pytest.raises(MigrationUnsoundError):
        migrate(home, "ada", unasked, nothing)
    assert in_use(home) == before


appends = building.appends


@pytest.mark.requirement("UPGRADE-21.1")
def test_a_migration_that_nobody_permits_is_not_put_in_use(home: Home) -> None:
    def refuse(log: str, key: KeySigner) -> None:
        raise PermissionError("the control policy says no")

    before = in_use(home)
    with pytest.raises(PermissionError):
        migrate(home, "ada", refuse, nothing)
    assert in_use(home) == before


@pytest.mark.requirement("UPGRADE-22.1")
def test_a_migration_is_taken_back_to_the_sealed_old_log(migrated: Node, tmp_path: Path) -> None:
    """What was recorded since stays beside it and is verified; both logs say so; the old one goes on under its own name."""
    node = migrated.copy(tmp_path / "home")
    node.call("run", "since", "--brain", "echo")
    size = node.call("status").body["size"]
    assert node.call("migrate", "rollback", "--dry-run").body["would_roll_back"] is True
    told = node.call("migrate", "rollback").body
    home = Home(str(node.path))
    assert in_use(home)[0] == 1
    kept = Node(tmp_path / "newer")
    shutil.copytree(node.path, kept.path)
    with reading(f"{told['kept']}/log") as newer, reading(home.log) as old:
        assert newer.size > size
        assert any(b"since" in record.payload for record in newer.scan(1, newer.size + 1))
        assert old.tree().root(told["size"]).hex() == told["root"]
        assert old.size == told["size"] + 1
        assert newer.origin != old.origin
    assert "MIGRATION_ROLLED_BACK" in json.dumps(events_of(node, "ErrorRecorded"))
    assert node.call("verify").body["ok"] is True
    assert node.call("migrate", "run", "--owner", "ada").body["migrated"] is True


@pytest.mark.requirement("UPGRADE-15.1")
@pytest.mark.parametrize("cut", ["files", "exchange", "exchanged", "tell"])
def test_a_way_back_that_is_cut_ends_at_one_of_the_two(migrated: Node, tmp_path: Path, cut: str) -> None:
    """Whichever it is, a start works with it, and its configuration is the recorded one."""
    node = migrated.copy(tmp_path / "home")
    home = Home(str(node.path))

    def step(name: str) -> None:
        if name == cut:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take_back(home, validate(home), lambda *_: None, step)
    assert in_use(home)[0] == (2 if cut in ("files", "exchange") else 1)
    allowed = {"FEMTOCLAW_SET": "security.allow_root=true"} if os.geteuid() == 0 and in_use(home)[0] == 1 else {}
    words = ("--json", "--home", home.path, "run", "hello", "--brain", "echo")
    assert femtoclaw(*words, cwd=tmp_path, **allowed).body["outcome"] == "answered"
    if not allowed:
        assert node.call("config", "verify").body["ok"] is True


def test_an_old_log_that_was_changed_is_not_taken_back(migrated: Node, tmp_path: Path) -> None:
    node = migrated.copy(tmp_path / "home")
    home = Home(str(node.path))
    found = validate(home)
    path = Path(found.folder) / "log" / "data" / "data.mdb"
    raw = bytearray(path.read_bytes())
    at = raw.rindex(b"Ship on Friday")
    raw[at] ^= 1
    path.write_bytes(raw)
    before = in_use(home)
    assert node.call("migrate", "rollback", expect=3).code == 3
    with pytest.raises(Exception, match=r"index|root|sealed|record"):
        take_back(home, found, lambda *_: None, nothing)
    assert in_use(home) == before


def test_an_old_log_that_went_on_is_not_taken_back(migrated: Node, tmp_path: Path) -> None:
    """Somebody with the node's key wrote to it: it is whole, and not what was sealed."""
    node = migrated.copy(tmp_path / "home")
    home = Home(str(node.path))
    found = validate(home)
    log, _ = open_log_directory(f"{found.folder}/log", signer=load_signer(home), clock=lambda: 2**62, threaded=False)
    log.append([encode(ErrorRecorded("1", "MEMORY", "INFO", "MORE", "test", "written behind the seal"))])
    log.close()
    before = in_use(home)
    with pytest.raises(MigrationUnsoundError):
        take_back(home, found, lambda *_: None, nothing)
    assert in_use(home) == before


@pytest.mark.requirement("UPGRADE-19.1")
def test_the_seal_is_checked_again(migrated: Node, tmp_path: Path) -> None:
    """A seal by another key, one of another root, and none at all."""
    node = migrated.copy(tmp_path / "home")
    home = Home(str(node.path))
    with reading(home.log) as reader:
        assert recheck(home, reader) is not None
    path = Path(validate(home).folder) / "seal.note"
    raw = path.read_bytes()
    text = raw.rpartition(b"\n\n")[0].decode() + "\n"
    signer, other = load_signer(home), KeySigner("femtoclaw.log/another", bytes(32))
    changed = text.replace("migrated 1", "migrated 2")
    for forged in (sign_note(text, [other]), sign_note(changed, [signer]), raw.replace(b"root ", b"root 0", 1), None):
        path.unlink(missing_ok=True)
        if forged is not None:
            path.write_bytes(forged)
        with reading(home.log) as reader, pytest.raises(MigrationUnsoundError):
            recheck(home, reader)
    assert "seal" in node.call("run", "hello", "--brain", "echo", expect=3).body["error"]["what"]
    shutil.rmtree(node.path / "migrations")
    node.call("run", "restored from a backup", "--brain", "echo")


def test_a_migration_stopped_right_behind_the_exchange_is_ended_on_record(home: Home) -> None:
    from femtoclaw.cli.migrating import _begin

    migrate(home, "ada", lambda log, key: void(_begin(home, log, key)), nothing)
    node = Node(Path(home.path))
    assert events_of(node, "ProcedureEnded") == []
    assert node.call("migrate", "run").body["migrated"] is True
    assert [row["result"] for row in events_of(node, "ProcedureEnded")] == ["done"]


def void(value: object) -> None:
    """What the step gave is of no use."""


@pytest.mark.requirement("UPGRADE-8.1")
def test_there_is_nothing_to_migrate_in_a_home_of_the_newest_format(migrated: Node) -> None:
    with pytest.raises(NotApplicableError):
        plan_of(Home(str(migrated.path)))


def test_a_file_system_that_cannot_exchange_is_told_and_nothing_done(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = in_use(home)
    monkeypatch.setattr(running, "exchange", lambda first, second: False)
    with pytest.raises(Exception, match="change places"):
        migrate(home, "ada", unasked, nothing)
    assert in_use(home) == before
