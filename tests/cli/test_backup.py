"""``backup`` on a real node: what is in a backup, what it costs the second time, what finds an altered one, what a kill leaves."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cluster.archive import open_archive
from femtoclaw.backup.building_on import BuiltOn
from femtoclaw.backup.creating import create
from femtoclaw.backup.layout import CHUNK_BYTES, PARTS, BackupDamagedError, folder_of
from femtoclaw.backup.place import Objects, find, one_log
from femtoclaw.backup.recovery_key import RecoveryKey, load_recovery_public
from femtoclaw.home import Home
from femtoclaw.keys import load_signer
from femtoclaw.sources import live
from tests.cli.backed import SECRET, Backed, Here, ended, find_newest, make
from tests.cli.filled import fill
from tests.cli.node import READ, START, Node, environment
from tests.contract.s3_server import CREDENTIALS, make_bucket, s3_server
from tests.femtoclaw.serving_process import serving
from wal.reader import read_log_directory


@pytest.fixture(scope="module")
def made(template: Node, tmp_path_factory: pytest.TempPathFactory) -> Backed:
    return make(template, tmp_path_factory.mktemp("backed") / "at")


@pytest.fixture
def backed(made: Backed, tmp_path: Path) -> Backed:
    return made.moved(tmp_path / "at")


@pytest.mark.requirement("RUNBOOK-18.1", "STORAGE-22.1")
def test_a_backup_under_load_is_of_one_moment(backed: Backed, tmp_path: Path) -> None:
    """Beside a node that serves and works: the manifest names each part with a count and a hash at one size, and restoring it
    elsewhere gives that state and that root."""
    stop, done, apart = threading.Event(), list[int](), Node(backed.path)
    with serving(backed.path):

        def load() -> None:
            while not stop.is_set():
                done.append(apart.call("intent", '{"message":{"content":"x"}}').code)

        worker = threading.Thread(target=load)
        worker.start()
        try:
            made = apart.call("backup", "create", "--to", str(backed.place)).body
        finally:
            stop.set()
            worker.join()
    assert done and set(done) == {0}
    assert made["goals"] == dict.fromkeys(made["goals"], "")
    parts = made["parts"]
    assert isinstance(parts, dict) and set(parts) == set(PARTS)
    assert all(part["count"] > 0 and re.fullmatch("[0-9a-f]{64}", part["digest"]) for part in parts.values())
    assert parts["audit_log"]["count"] == made["size"]
    restored = backed.call(
        "backup", "restore", "--from", str(backed.place), "--key", backed.key, "--to", str(tmp_path / "new")
    ).body
    for name in ("size", "root", "state_hash"):
        assert restored[name] == made[name]
    event = ended(backed, "backup.create")
    assert (event.result, made["manifest"] in event.content.decode()) == ("done", True)


def test_a_second_backup_writes_what_is_new(backed: Backed) -> None:
    """Sealed segments and blobs are not put again, nor read: one whose bytes are gone from the node is still in the backup."""
    before = set(backed.objects())
    manifest = find_newest(backed)
    segment = next((backed.path / "log" / "segments").glob("*.seg"))
    raw = segment.read_bytes()
    segment.chmod(0o600)
    segment.write_bytes(bytes(len(raw)))
    made = backed.backup()
    segment.write_bytes(raw)
    new = set(backed.objects()) - before
    assert len(new) == made["new_objects"] <= 3  # the tail, the files, and nothing else that changed
    assert manifest.segments == find_newest(backed).segments
    assert manifest.others["blobs"] == find_newest(backed).others["blobs"] != ()
    assert sum(path.stat().st_size for path in new) == made["new_bytes"]
    assert backed.verify("--key", backed.key)["records"] == made["size"]


def test_what_is_altered_or_gone_is_put_anew(backed: Backed) -> None:
    """The next backup finds it, has it anew and says so; the one before stays as it is, and the one behind builds on the new."""
    first = find_newest(backed)
    (segment,), blob = first.segments[0].objects, first.others["blobs"][0]
    for name, change in ((segment, alter_object), (blob, Path.unlink)):
        change(next(path for path in backed.objects() if path.name == name))
    assert "altered or missing" in backed.verify(expect=3)["error"]["what"]
    made = backed.backup()
    assert (sorted(made["damaged"]), made["checked"] > 0) == (sorted((segment, blob)), True)
    assert json.loads(ended(backed, "backup.create").content)["damaged"] == 2
    assert backed.verify("--key", backed.key)["records"] == made["size"]
    assert "altered or missing" in backed.verify("--id", first.id, expect=3)["error"]["what"]
    second, made = find_newest(backed), backed.backup()
    assert (made["damaged"], find_newest(backed).segments) == ([], second.segments)


def test_of_a_large_place_each_backup_reads_a_share(backed: Backed, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than so many objects or bytes, from a point that is another one each time: every object has its turn."""
    monkeypatch.setattr("femtoclaw.backup.building_on.CHECKED_OBJECTS_MAX", 1)
    seed = random.randrange(1 << 32)
    print("seed", seed)
    recovery, signer = (
        load_recovery_public(str(backed.path / "keys" / "recovery.pub")),
        load_signer(Home(str(backed.path))),
    )
    names, read = sorted(find_newest(backed).objects()), set[str]()
    monkeypatch.setattr(Objects, "sealed", lambda self, name: read.add(name) or b"x")
    reader = read_log_directory(str(backed.path / "log"))
    try:
        store, keys = open_archive(str(backed.place)), reader.keys()
        assert keys.knows(signer.public)
        for chance in range(seed, seed + len(names)):
            found = BuiltOn(store, reader.log_id.hex(), keys, recovery, chance)
            assert found.checked == 1
    finally:
        reader.close()
    assert sorted(read) == names


def test_what_a_killed_backup_left_is_read_before_it_is_built_on(backed: Backed) -> None:
    """No signed manifest vouches for it: here the manifest is gone, and three bytes of what it named."""
    manifest = next(backed.place.rglob("manifests/*"))
    altered = find_newest(backed).segments[0].objects[0]
    manifest.unlink()
    alter_object(next(path for path in backed.objects() if path.name == altered))
    assert backed.backup()["damaged"] == [altered]
    assert backed.verify("--key", backed.key)["ok"]


def alter_object(path: Path) -> None:
    """Three bytes of it, in place."""
    raw = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(raw[:50] + bytes(255 - each for each in raw[50:53]) + raw[53:])


def test_each_backup_opens_under_its_own_recovery_key_alone(backed: Backed) -> None:
    """After another key came into force nothing is built on that the old one opens; back under the old one, all of it is."""
    first, other = find_newest(backed), str(backed.path.parent / "other.key")
    backed.call("backup", "keygen", "--out", other, "--replace")
    made = backed.backup()
    assert not set(first.objects()) & set(find_newest(backed).objects())
    assert backed.verify("--key", other)["records"] == made["size"]
    backed.verify("--key", backed.key, expect=2)
    backed.call("backup", "keygen", "--key", backed.key.replace(".key", ".pub"), "--replace")
    made = backed.backup()
    assert find_newest(backed).segments == first.segments
    assert backed.verify("--key", backed.key)["records"] == made["size"]


def test_a_recovery_key_is_not_written_under_the_name_of_a_public_half(node: Node, tmp_path: Path) -> None:
    """Whoever hands out files that end so would hand out the key."""
    refused = node.call("backup", "keygen", "--out", str(tmp_path / "recovery.pub"), expect=2).body["error"]
    assert (refused["where"], refused["expected"]) == ("--out", "a name without .pub")
    assert not [*tmp_path.glob("*.pub*")]


@pytest.mark.requirement("RUNBOOK-18.2")
def test_nothing_of_a_node_can_be_read_in_a_place(backed: Backed, tmp_path: Path) -> None:
    """Neither texts nor names of files, and no other key opens it; the key that does is not in the home."""
    raw = b"".join(path.read_bytes() for path in backed.place.rglob("*") if path.is_file())
    for text in (b"many words", b"fs.read", b"node.key", b"of ada", b"subjects", b"token", b"femtoclaw.toml"):
        assert text not in raw
    other = str(tmp_path / "other.key")
    Node(tmp_path / "nowhere").call("backup", "keygen", "--out", other)
    sealed = backed.objects()[0]
    with pytest.raises(BackupDamagedError, match="does not open under this recovery key"):
        RecoveryKey(other).open(sealed.read_bytes(), str(sealed))
    seed = re.search(r'"box": "([0-9a-f]{64})"', Path(backed.key).read_text())
    assert seed is not None
    assert all(seed[1] not in path.read_bytes().decode("latin1") for path in backed.path.rglob("*") if path.is_file())


def test_what_is_sealed_stays_sealed(backed: Backed) -> None:
    """Opened with the recovery key, a secret's value is still not there: its box is as it was at rest."""
    from cluster.archive_folder import FolderArchive

    store = FolderArchive(str(backed.place))
    manifest = find_newest(backed)
    objects = Objects(store, manifest.log_id, RecoveryKey(backed.key))
    plain = b"".join(map(objects.open, manifest.objects()))
    assert b"femtoclaw.toml" in plain and b"secrets/token.box" in plain and b"subjects/" in plain
    assert SECRET.encode() not in plain
    assert max(len(objects.open(name)) for name in manifest.objects()) <= CHUNK_BYTES


@pytest.mark.requirement("RUNBOOK-18.2", "STORAGE-22.2", "RUNBOOK-19.1")
def test_a_flipped_byte_is_found_and_nothing_is_written(backed: Backed, tmp_path: Path) -> None:
    """In every object and in the manifest, before a restore has written anything."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    files = [path for path in backed.place.rglob("*") if path.is_file() and not path.name.startswith(".")]
    assert len(files) >= 6
    words = ("--from", str(backed.place), "--key", backed.key)
    for path in files:
        raw = path.read_bytes()
        at = chance.randrange(len(raw))
        path.chmod(0o600)
        path.write_bytes(raw[:at] + bytes([raw[at] ^ (1 << chance.randrange(8))]) + raw[at + 1 :])
        assert verified_here(backed) == "BackupDamagedError", (path, at)
        path.write_bytes(raw)
    assert verified_here(backed) == ""
    gone = chance.choice([path for path in files if "objects" in path.parts])
    gone.rename(tmp_path / "gone")
    told = backed.call("backup", "restore", *words, "--to", str(tmp_path / "new"), expect=3).body["error"]
    assert gone.name in told["where"]
    assert sorted(tmp_path.iterdir()) == [tmp_path / "at", tmp_path / "gone"]


@pytest.mark.requirement("RUNBOOK-18.2")
def test_a_manifest_says_what_was_signed(backed: Backed) -> None:
    """Another number in it is found, though it still reads."""
    path = next(backed.place.rglob("manifests/*"))
    raw = path.read_bytes()
    body, _, note = raw.partition(b"\n")
    changed = json.loads(body)
    changed["parts"]["memory"][0] += 1
    path.chmod(0o600)
    path.write_bytes(json.dumps(changed, sort_keys=True, separators=(",", ":")).encode() + b"\n" + note)
    assert "not the one that was signed" in backed.verify(expect=3)["error"]["what"]


def test_what_an_operator_changes_meanwhile_is_in_it_whole(backed: Backed, tmp_path: Path) -> None:
    """The files and the records of one moment: a change in between has both taken again, another request does not."""
    home, apart, sizes = Home(str(backed.path)), Node(backed.path), list[int]()
    reader = read_log_directory(home.log)
    changes = [("contain", "--reason", "x"), ("contain", "--lift"), ("config", "set", "runtime.steps_max=7")]

    def change(index: int) -> None:
        sizes.append(reader.size)
        for words in changes:
            apart.call(*words)
        changes.clear()

    store = open_archive(str(backed.place))
    recovery = load_recovery_public(str(backed.path / "keys" / "recovery.pub"))
    try:
        made = create(store, home, reader, load_signer(home), recovery, live(), told=change).manifest
    finally:
        reader.close()
    assert sizes[0] < sizes[1] == made.size
    words = ("--from", str(backed.place), "--key", backed.key, "--to", str(tmp_path / "new"))
    backed.call("backup", "restore", *words)
    restored = Here(tmp_path / "new")
    restored.call("backup", "resume")
    assert restored.call("config", "verify").code == 0


def verified_here(node: Backed) -> str:
    """What verifying by restoring raises, in this process."""
    from cluster.archive_folder import FolderArchive
    from femtoclaw.backup.verifying import verify
    from femtoclaw.errors import FemtoClawError

    try:
        store = FolderArchive(str(node.place))
        verify(store, find(store, one_log(store, None), None), None, live())
    except FemtoClawError as error:
        return type(error).__name__
    return ""


KILLED = """
import os, sys
from cluster import archive_folder
count = 0
put = archive_folder.FolderArchive.put_if_absent
NUMBER = int(sys.argv[-1])
def once(self, name, raw):
    global count
    count += 1
    if count == NUMBER:
        os._exit(9)
    return put(self, name, raw)
archive_folder.FolderArchive.put_if_absent = once
sys.argv.pop()
"""


def test_a_kill_leaves_the_backups_before_whole(backed: Backed) -> None:
    """At each step of the next one; and what it had put by then is not put again."""
    first = find_newest(backed)
    fill(backed)
    kills = 0
    for number in range(1, 12):
        words = ["--json", "--home", str(backed.path), "backup", "create", "--to", str(backed.place), str(number)]
        done = subprocess.run(
            [sys.executable, "-c", KILLED + START, *words],
            env=environment(),
            check=False,
            cwd=backed.path.parent,
            capture_output=True,
        )
        if done.returncode == 0:
            break
        assert done.returncode == 9, done.stderr
        kills += 1
        assert find_newest(backed) == first
        assert verified_here(backed) == ""
    assert kills >= 3
    assert find_newest(backed).size > first.size
    assert backed.verify("--key", backed.key)["ok"]


def test_old_backups_go_and_what_newer_ones_need_stays(backed: Backed) -> None:
    """Whatever lies there that no kept backup needs, also what a killed backup left."""
    backed.backup()
    backed.intent(READ)
    last = backed.backup()
    stray = backed.objects()[0].parent / ("0" * 32 + "-" + "0" * 64)
    stray.write_bytes(b"x")
    before = len(backed.objects())
    refused = backed.call("backup", "prune", "--from", str(backed.place), "--keep", "0", expect=2)
    assert len(backed.objects()) == before, refused
    pruned = backed.call("backup", "prune", "--from", str(backed.place), "--keep", "1").body
    assert (pruned["manifests"], pruned["kept"]) == (2, [last["id"]])
    assert len(backed.objects()) == before - pruned["objects"] == last["objects"]
    assert not stray.exists()
    ended = backed.call("log", "--kind", "ProcedureEnded").objects[-1]
    assert (ended["procedure"], ended["result"], pruned["recorded_at"] > 0) == ("backup.create", "done", True)
    assert (json.loads(ended["content"])["pruned"], ended["detail"]) == (2, "pruned: 2 backups went, 1 are kept")
    assert backed.verify("--key", backed.key)["records"] == last["size"]
    manifest = next(backed.place.rglob("manifests/*"))
    manifest.chmod(0o600)
    manifest.write_bytes(manifest.read_bytes()[:-9])
    procedures = {row["section"]: row for row in backed.call("runbook", "list").body["procedures"]}
    backed.call("backup", "prune", "--from", str(backed.place), "--keep", "1", expect=3)
    assert len(backed.objects()) == last["objects"]
    assert backed.call("log", "--kind", "ProcedureEnded").objects[-1]["result"] == "failed"
    rows = {row["section"]: row for row in backed.call("runbook", "list").body["procedures"]}
    assert rows[18]["last_result"] == procedures[18]["last_result"] == "done", "no backup has failed"


def test_a_backup_needs_a_key_and_a_place_of_its_own(template: Node, tmp_path: Path) -> None:
    """Never unsealed, never into what it is of, never to a key that is not for it."""
    node = Backed(template.copy(tmp_path / "home").path)
    assert "no recovery key" in node.call("backup", "create", "--to", str(node.place), expect=2).body["error"]["what"]
    node.call("backup", "keygen", "--out", node.key)
    inside = node.call("backup", "create", "--to", str(node.path / "backups"), expect=2).body
    assert "inside" in inside["error"]["what"]
    words = ("backup", "create", "--to", str(node.place), "--key", str(node.path / "keys" / "node.pub"))
    assert "not a recovery key" in node.call(*words, expect=2).body["error"]["what"]
    assert not node.place.exists()
    os.chmod(node.path / "keys" / "recovery.pub", 0o666)
    assert "too wide" in node.call("backup", "create", "--to", str(node.place), expect=2).body["error"]["what"]


def test_an_object_store_holds_backups_too(backed: Backed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the archive's port, but for removing: that is not a right its credentials need."""
    pytest.importorskip("obstore")
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with s3_server() as endpoint:
        make_bucket(endpoint, "backups")
        place = ("s3://backups/node", "--endpoint", endpoint)
        made = backed.call("backup", "create", "--to", *place).body
        restored = backed.call(
            "backup", "restore", "--from", *place, "--key", backed.key, "--to", str(tmp_path / "new")
        ).body
        assert restored["state_hash"] == made["state_hash"]
        told = backed.call("backup", "prune", "--from", *place, "--keep", "1", expect=2).body["error"]
        assert "object store" in told["what"]


def test_a_listing_tells_what_does_not_read(backed: Backed) -> None:
    rows = backed.call("backup", "list", "--from", str(backed.place)).body["backups"]
    assert [row["ok"] for row in rows] == [True]
    folder = backed.place / folder_of(rows[0]["log"], "manifests")
    (folder / ("1".zfill(20) + "-" + "2".zfill(16) + "-" + "3" * 32)).write_bytes(b"{}\n")
    rows = backed.call("backup", "list", "--from", str(backed.place), expect=3).body["backups"]
    assert [row["ok"] for row in rows] == [False, True]
