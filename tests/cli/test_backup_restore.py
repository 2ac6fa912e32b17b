"""``backup restore`` and ``resume``: a node comes back on another machine, in order, to what was signed, and never in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.restored import restored_mark
from femtoclaw import events
from femtoclaw.backup.home_files import unpacked
from femtoclaw.backup.layout import BackupDamagedError, encode_manifest, folder_of
from femtoclaw.event_codec import decode
from femtoclaw.home import Home
from femtoclaw.key_file import KeySigner
from femtoclaw.keys import load_signer
from tests.cli.backed import Backed, Here, ended, find_newest, make
from tests.cli.cutting import cut_at
from tests.cli.filled import fill
from tests.cli.node import READ, SAY, Node
from wal.reader import read_log_directory
from wal.record import FLAG_BATCH_END, KIND_EVENT


@pytest.fixture(scope="module")
def made(template: Node, tmp_path_factory: pytest.TempPathFactory) -> Backed:
    return make(template, tmp_path_factory.mktemp("backed") / "at")


@pytest.fixture
def backed(made: Backed, tmp_path: Path) -> Backed:
    return made.moved(tmp_path / "at")


def restored(node: Backed, to: Path, *more: str, expect: int = 0) -> dict[str, Any]:
    """What restoring the newest backup says."""
    words = ("--from", str(node.place), "--key", node.key, "--to", str(to), *more)
    body: dict[str, Any] = node.call("backup", "restore", *words, expect=expect).body
    return body


def size_and_root(node: Node) -> tuple[int, str, str]:
    """Of the log as it stands."""
    reader = read_log_directory(str(node.path / "log"))
    try:
        return reader.size, reader.tree().root(reader.size).hex(), reader.log_id.hex()
    finally:
        reader.close()


def steps(node: Node) -> list[tuple[str, str, str]]:
    """The steps of a restore as the log has them."""
    reader = read_log_directory(str(node.path / "log"))
    try:
        found = [decode(each.payload) for each in reader.scan(max(1, reader.size - 100)) if each.kind == KIND_EVENT]
    finally:
        reader.close()
    taken = [each for each in found if isinstance(each, events.StepTaken) and each.phase == "restore"]
    return [(each.step, each.result, each.digest) for each in taken]


@pytest.mark.requirement("RUNBOOK-19.1", "STORAGE-22.2")
def test_a_node_comes_back_in_four_steps(backed: Backed, tmp_path: Path) -> None:
    """On a machine that has nothing of it: equal root, equal state; the steps are in the journal first, and in the log when an
    operator has said how it goes on. Before that it does not start."""
    backed.intent(READ)
    manifest_body = backed.backup()
    body = restored(backed, tmp_path / "new", "--log", manifest_body["log"])
    for name in ("size", "root", "state_hash"):
        assert body[name] == manifest_body[name]
    assert [step["step"] for step in body["steps"]] == ["verify", "configuration", "audit_log", "state"]
    node = Here(tmp_path / "new")
    assert (node.path / "log" / "cluster" / "restored").is_file()
    told = [json.loads(line) for line in (node.path / "boot.journal").read_text().splitlines()]
    assert [line["step"] for line in told if line["event"] == "restore_step"] == [s["step"] for s in body["steps"]]
    assert size_and_root(node)[:2] == (manifest_body["size"], manifest_body["root"])
    assert "may be lost" in node.call("backup", "resume", "--dry-run").body["way"]
    assert "same log" in node.call("backup", "resume", "--nothing-newer", "--dry-run").body["way"]
    assert "restored" in node.intent(SAY, expect=3).body["error"]["what"]
    for words in (("health",), ("serve", "--dry-run")):
        looked = node.call(*words, expect=1).body
        (start,) = [each for each in looked["checks"] if each["name"] == "start"]
        assert not looked["healthy"] and "femtoclaw backup resume" in start["text"], words
    resumed = node.call("backup", "resume", "--nothing-newer").body
    assert (resumed["lost_first"], resumed["lost_last"]) == (manifest_body["size"] + 1, 0)
    assert "its own end" in resumed["own_end"]
    content = json.loads(ended(node, "backup.restore").content)
    assert (content["nothing_newer"], content["way"]) == (True, "same log")
    assert steps(node) == [(step["step"], "done", step["digest"]) for step in body["steps"]]
    assert node.call("verify").body["ok"]
    assert node.intent(SAY).code == 0
    assert node.call("secret", "list").body["secrets"][0]["name"] == "token"
    reader = read_log_directory(str(node.path / "log"))
    assert reader.tree().root(manifest_body["size"]).hex() == manifest_body["root"]
    reader.close()
    assert node.call("backup", "resume", expect=2).body["error"]["what"] == "nothing waits to be resumed here"


@pytest.mark.requirement("RUNBOOK-19.1")
@pytest.mark.parametrize("what", ["manifests", "objects"])
def test_a_tampered_backup_stops_before_anything_is_written(backed: Backed, tmp_path: Path, what: str) -> None:
    """At the first step, with the object named; a place that is taken is not touched either."""
    path = sorted(backed.place.rglob(f"{what}/*"))[-1]
    raw = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(raw[:-20] + bytes([raw[-20] ^ 1]) + raw[-19:])
    before = sorted(tmp_path.iterdir())
    assert path.name in restored(backed, tmp_path / "new", expect=3)["error"]["where"]
    assert sorted(tmp_path.iterdir()) == before
    path.write_bytes(raw)
    told = restored(backed, backed.path, expect=2)["error"]
    assert "something at this place already" in told["what"]


def test_it_goes_back_to_where_an_append_ended(backed: Backed, tmp_path: Path) -> None:
    """By index and by time; the state is that of replaying so far. What is known to be lost is accepted by name, in a new log."""
    node = backed
    reader = read_log_directory(str(node.path / "log"))
    size = find_newest(node).size
    flags = {record.index: record.flags & FLAG_BATCH_END for record in reader.scan(1, size + 1)}
    inside = next(index for index in range(60, size) if not flags[index] and flags[index - 1])
    times = {record.index: record.time_ns for record in reader.scan(1, size + 1)}
    reader.close()
    body = restored(node, tmp_path / "new", "--at-index", str(inside))
    assert (body["size"], body["known"]) == (inside - 1, size)
    replayed = node.call("replay", "--to", str(inside - 1)).body
    assert body["state_hash"] == replayed["state_hash"]
    new = Here(tmp_path / "new")
    mark = restored_mark(str(new.path / "log"))
    assert mark is not None and (mark.size, mark.known) == (inside - 1, size)
    assert "lacks records" in new.call("backup", "resume", "--nothing-newer", expect=3).body["error"]["what"]
    gone_on = new.call("backup", "resume", "--accept-gap").body
    assert (gone_on["lost_first"], gone_on["lost_last"]) == (inside, size)
    assert size_and_root(new)[2] != body["log_id"]
    assert new.call("verify").body["ok"]
    second = times[size] // 10**9
    ended_by_then = [index for index in flags if flags[index] and times[index] <= second * 10**9]
    if ended_by_then:  # else the whole node is of one second
        assert restored(node, tmp_path / "later", "--at-time", str(second))["size"] == max(ended_by_then)
    assert "no append had ended" in restored(node, tmp_path / "early", "--at-time", "1", expect=2)["error"]["what"]
    assert not (tmp_path / "early").exists()


def test_configuration_and_policy_go_back_too(backed: Backed, tmp_path: Path) -> None:
    """The files are those in force at the end that was asked for: the node starts with them."""
    size = size_and_root(backed)[0]
    policy = tmp_path / "other.cedar"
    policy.write_text('@id("none") forbid (principal, action, resource);\n')
    backed.call("config", "set", "runtime.steps_max=7")
    backed.call("policy", "set", str(policy))
    backed.backup()
    body = restored(backed, tmp_path / "new", "--at-index", str(size))
    assert body["size"] == size
    new = Here(tmp_path / "new")
    new.call("backup", "resume", "--accept-gap")
    assert new.call("config", "verify").code == 0
    assert "steps_max = 16" in (new.path / "femtoclaw.toml").read_text()
    assert "none" not in (new.path / "policy.cedar").read_text()


@pytest.mark.requirement("RUNBOOK-19.2")
def test_a_longer_log_in_the_place_is_sealed_and_quoted(backed: Backed, tmp_path: Path) -> None:
    """It is moved aside as it was, with a root that the record of the restore quotes; both logs verify."""
    backed.intent(READ)
    size, root, log_id = size_and_root(backed)
    refused = restored(backed, backed.path, expect=2)["error"]
    assert "--replace" in refused["expected"]
    body = restored(backed, backed.path, "--replace")
    aside = Here(Path(body["replaced"]["path"]))
    assert (body["replaced"]["size"], body["replaced"]["root"], body["known"]) == (size, root, size)
    assert not [path for path in (aside.path / "log").rglob("*") if path.is_file() and path.stat().st_mode & 0o222]
    assert "lacks records" in backed.call("backup", "resume", "--nothing-newer", expect=3).body["error"]["what"]
    resumed = backed.call("backup", "resume").body
    assert resumed["log"] != log_id
    assert (resumed["lost_first"], resumed["lost_last"]) == (body["size"] + 1, size)
    event = ended(backed, "backup.restore")
    assert root in event.content.decode()
    assert event.result == "done"
    for node in (backed, aside):
        assert node.call("verify").body["ok"]
    assert size_and_root(aside) == (size, root, log_id)


@pytest.mark.requirement("RUNBOOK-26.2")
def test_an_archive_brings_what_came_after_the_backup(backed: Backed, tmp_path: Path) -> None:
    """Backup and archive alone: the log goes on with its genesis, all that was archived is there, and the record says from where on
    something may be lost."""
    first = find_newest(backed)
    archive = tmp_path / "archive"
    fill(backed)
    pushed = backed.call("archive", "push", str(archive)).body
    assert pushed["restorable_up_to"] > first.size
    body = restored(backed, tmp_path / "new")
    new = Here(tmp_path / "new")
    resumed = new.call("backup", "resume", "--nothing-newer", "--from-archive", str(archive)).body
    assert resumed["lost_first"] > pushed["restorable_up_to"] > body["size"]
    assert resumed["log"] == first.log_id == size_and_root(new)[2]
    reader = read_log_directory(str(new.path / "log"))
    assert reader.tree().root(first.size).hex() == first.root
    reader.close()
    content = json.loads(ended(new, "backup.restore").content)
    assert (content["lost_first"], content["lost_last"]) == (resumed["lost_first"], 0)
    assert new.call("verify").body["ok"]


def test_a_member_resumes_when_it_has_caught_up(backed: Backed, tmp_path: Path) -> None:
    """With the mark it is a learner, which nobody's word changes here."""
    (backed.path / "cluster.toml").write_text('name = "a"\nlisten = "127.0.0.1:7000"\nowner = "a"\n')
    backed_place = tmp_path / "new"
    restored(backed, backed_place)
    (backed_place / "cluster.toml").write_text('name = "a"\nlisten = "127.0.0.1:7000"\nowner = "a"\n')
    told = Here(backed_place).call("backup", "resume", expect=4).body["error"]
    assert "learner" in told["what"]
    assert restored_mark(str(backed_place / "log")) is not None


def test_a_policy_outside_of_the_home_is_written_from_the_record(backed: Backed, tmp_path: Path) -> None:
    """Where the machine has none at that place; the node starts with it."""
    outside = tmp_path / "outside.cedar"
    outside.write_bytes((backed.path / "policy.cedar").read_bytes())
    backed.call("config", "set", f'policy.file="{outside}"')
    backed.backup()
    outside.unlink()
    restored(backed, tmp_path / "new")
    assert outside.read_bytes() == (backed.path / "policy.cedar").read_bytes()
    Here(tmp_path / "new").call("backup", "resume")


def test_what_others_know_of_is_not_passed_over(backed: Backed, tmp_path: Path) -> None:
    """Where the old node may still run, or somebody has a checkpoint beyond the backup's end, the restored log is not gone on with:
    that would be a second history of it. What was said once stays known."""
    size = restored(backed, tmp_path / "new")["size"]
    new = Here(tmp_path / "new")
    told = new.call("backup", "resume", "--nothing-newer", "--known", str(size + 5), expect=3).body["error"]
    assert "lacks records" in told["what"]
    assert new.call("backup", "resume", "--nothing-newer", expect=3)
    resumed = new.call("backup", "resume").body
    assert (resumed["lost_first"], resumed["lost_last"]) == (size + 1, size + 5)
    assert size_and_root(new)[2] == resumed["log"] != find_newest(backed).log_id


def test_a_dry_run_changes_nothing(backed: Backed, tmp_path: Path) -> None:
    """Of each act; a restore's finds a tampered backup all the same."""
    fill(backed)
    state = size_and_root(backed), sorted(backed.place.rglob("*")), sorted(tmp_path.iterdir())
    place = ("--from", str(backed.place))
    told = backed.call("backup", "create", "--to", str(backed.place), "--dry-run").body
    assert (told["size"], told["new_segments"], told["newest"]) == (state[0][0], 1, find_newest(backed).id)
    assert backed.call("backup", "create", "--to", str(tmp_path / "other"), "--dry-run").body["new_segments"] == 2
    assert backed.call("backup", "prune", *place, "--keep", "1", "--dry-run").body["manifests"] == 0
    assert restored(backed, tmp_path / "new", "--dry-run")["size"] == find_newest(backed).size
    assert (size_and_root(backed), sorted(backed.place.rglob("*")), sorted(tmp_path.iterdir())) == state
    next(backed.place.rglob("objects/*")).rename(tmp_path / "gone")
    restored(backed, tmp_path / "new", "--dry-run", expect=3)


def test_only_who_may_says_how_it_goes_on(backed: Backed, tmp_path: Path) -> None:
    """A Compliance Officer may not: the mark stays, and nothing is recorded."""
    key = tmp_path / "ada.key"
    public = backed.call("operator", "keygen", "ada", "--out", str(key)).body["public_key"]
    backed.call("operator", "add", "ada", "--public-key", public, "--role", "ComplianceOfficer")
    backed.backup()
    restored(backed, tmp_path / "new")
    new = Here(tmp_path / "new")
    size = size_and_root(new)[0]
    told = new.call("backup", "resume", "--operator-key", str(key), expect=1).body["error"]
    assert "may not say" in told["what"]
    assert size_and_root(new)[0] == size
    assert restored_mark(str(new.path / "log")) is not None


def test_a_cut_restore_is_done_again(backed: Backed, tmp_path: Path) -> None:
    """What a killed one left beside the name is swept; a home that was moved aside still says what is known."""
    words = ("backup", "restore", "--from", str(backed.place), "--key", backed.key, "--to", str(tmp_path / "new"))
    for place in ("femtoclaw.backup.rebuilding:mark_restored", "femtoclaw.backup.restoring:write_file"):
        cut_at(backed, place, *words)
        assert (tmp_path / "new.restoring").exists() and not (tmp_path / "new").exists()
    size = size_and_root(backed)[0]
    backed.path.rename(backed.path.parent / f"home.replaced-{size}-{'0' * 16}")
    body = restored(backed, backed.path)
    assert body["known"] == size
    restored(backed, tmp_path / "new")
    assert not (tmp_path / "new.restoring").exists()


def resigned(node: Backed, **changes: object) -> None:
    """Put a manifest into the place that says something else, signed by the node's key, or by ``signer``."""
    signer = changes.pop("signer", None) or load_signer(Home(str(node.path)))
    assert isinstance(signer, KeySigner)
    manifest = find_newest(node)._replace(node_key=signer.public.vkey(), **changes)  # type: ignore[arg-type]
    for path in node.place.rglob("manifests/*"):
        path.unlink()
    path = node.place / folder_of(manifest.log_id, "manifests") / manifest.name
    path.write_bytes(encode_manifest(manifest, signer))


@pytest.mark.parametrize("field", ["root", "link", "state_hash"])
def test_a_manifest_of_another_history_restores_nothing(backed: Backed, tmp_path: Path, field: str) -> None:
    """Also a signed one: what is restored is compared, and nothing is left where it is not the same."""
    resigned(backed, **{field: "0" * 64})
    before = sorted(tmp_path.iterdir())
    told = restored(backed, tmp_path / "new", expect=3)["error"]
    assert told["expected"] == "0" * 64
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_that_no_backup_has_is_not_written(tmp_path: Path) -> None:
    """Not out of the home, not into the log: a stream of files is bytes from a disk."""
    for path in ("../x", "/x", "a//b", "a/./b", "", "a/\x00"):
        header = json.dumps({"path": path, "mode": 0o600, "size": 0}).encode()
        with pytest.raises(BackupDamagedError):
            list(unpacked(iter([len(header).to_bytes(4, "big") + header]), "test"))
    for raw in (b"\x00", (4).to_bytes(4, "big") + b"null", (9).to_bytes(4, "big") + b"{"):
        with pytest.raises(BackupDamagedError):
            list(unpacked(iter([raw]), "test"))


def test_a_manifest_of_a_stranger_restores_nothing(backed: Backed, tmp_path: Path) -> None:
    """Whoever can write the place can sign a manifest with a key of their own, which the log in it does not know."""
    resigned(backed, signer=KeySigner("stranger", bytes(32)))
    told = restored(backed, tmp_path / "new", expect=3)["error"]
    assert "signed by nobody" in told["what"]
    assert not (tmp_path / "new").exists()
