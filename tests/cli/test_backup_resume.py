"""How a restored node goes on: never as a second history of one log, and with what protected the node still in force."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.backed import Backed, Here, ended, find_newest, make
from tests.cli.node import SAY, Node
from tests.cli.test_backup_restore import restored, size_and_root
from wal.reader import read_log_directory


@pytest.fixture(scope="module")
def made(template: Node, tmp_path_factory: pytest.TempPathFactory) -> Backed:
    return make(template, tmp_path_factory.mktemp("resumed") / "at")


@pytest.fixture
def backed(made: Backed, tmp_path: Path) -> Backed:
    return made.moved(tmp_path / "at")


def test_a_home_that_was_moved_aside_does_not_go_on(backed: Backed, tmp_path: Path) -> None:
    """Neither by a start nor by a recovery, also for root, whom no mode stops; it reads as it did."""
    before = size_and_root(backed)
    aside = Here(Path(restored(backed, backed.path, "--replace")["replaced"]["path"]))
    told = [aside.call("recover", *words, expect=3) for words in ((), ("--salvage",), ("--accept-gap",))]
    for answer in (aside.intent(SAY, expect=3), *told):
        assert "another home has taken the place" in answer.body["error"]["what"]
    assert size_and_root(aside) == before
    assert aside.call("verify").body["ok"]
    assert not (backed.path / "moved-aside").exists()


def quoted(node: Node) -> tuple[str, int]:
    """The log that a node's first record quotes, and where it ended."""
    reader = read_log_directory(str(node.path / "log"))
    try:
        before = reader.genesis.predecessor
        assert before is not None
        return before.log_id.hex(), before.good_size
    finally:
        reader.close()


def test_two_restores_of_a_backup_are_not_two_histories_of_one_log(backed: Backed, tmp_path: Path) -> None:
    """Each goes on in a log of its own that quotes the restored one, and says that at least the record of the backup's end is
    lost; also of the newest backup, with the old node still at work."""
    newest = find_newest(backed)
    logs = set()
    for name in ("one", "two"):
        restored(backed, tmp_path / name)
        node = Here(tmp_path / name)
        resumed = node.call("backup", "resume").body
        assert (resumed["lost_first"], resumed["lost_last"]) == (newest.size + 1, 0)
        assert (resumed["way"], resumed["predecessor"]) == ("new log", newest.log_id)
        assert "its own end" in resumed["own_end"]
        assert quoted(node) == (newest.log_id, newest.size)
        content = json.loads(ended(node, "backup.restore").content)
        assert (content["log_id"], content["size"], content["root"]) == (newest.log_id, newest.size, newest.root)
        assert (content["nothing_newer"], content["log"]) == (False, resumed["log"])
        assert node.intent(SAY).code == 0
        assert node.call("verify").body["ok"]
        logs.add(size_and_root(node)[2])
    assert len(logs | {newest.log_id}) == 3


def test_nothing_newer_is_not_believed_where_the_place_holds_more(backed: Backed, tmp_path: Path) -> None:
    """An older backup of a place that has a newer one: also when that came only after the restore. The gap is stated instead."""
    older = find_newest(backed)
    restored(backed, tmp_path / "early")
    newer = backed.backup()["size"]
    assert restored(backed, tmp_path / "late", "--id", older.id)["known"] == newer
    for name in ("early", "late"):
        node = Here(tmp_path / name)
        told = node.call("backup", "resume", "--nothing-newer", expect=3).body["error"]
        assert (told["expected"], told["found"]) == (f"{newer} records", f"{older.size} records")
        assert "backup resume" in told["remedy"]
        resumed = node.call("backup", "resume").body
        assert (resumed["lost_first"], resumed["lost_last"], resumed["way"]) == (older.size + 1, newer, "new log")


def test_without_its_mark_a_restored_home_waits_all_the_same(backed: Backed, tmp_path: Path) -> None:
    """Whoever takes the mark out of the log does not make it start, nor does a recovery; nobody is told to try one."""
    size = restored(backed, tmp_path / "new")["size"]
    node = Here(tmp_path / "new")
    for marked in (True, False):
        if not marked:
            (node.path / "log" / "cluster" / "restored").unlink()
        told = [node.call("recover", *words, expect=3) for words in ((), ("--salvage",), ("--accept-gap",))]
        for answer in (node.intent(SAY, expect=3), *told):
            error = answer.body["error"]
            assert "restored" in error["what"]
            assert "backup resume" in error["remedy"]
            assert "--salvage" not in error["remedy"]
    assert size_and_root(node)[0] == size
    assert node.call("backup", "resume").body["way"] == "new log"
    assert node.intent(SAY).code == 0


def test_a_resume_that_was_cut_is_said_again_in_the_same_words(backed: Backed, tmp_path: Path) -> None:
    """The statement is in the signed record, so a second call needs it too."""
    restored(backed, tmp_path / "new")
    node = Here(tmp_path / "new")
    report = (node.path / "restored.json").read_bytes()
    node.call("backup", "resume", "--nothing-newer")
    (node.path / "restored.json").write_bytes(report)  # as when it had been killed before the record
    assert node.intent(SAY, expect=3)
    assert "in another way" in node.call("backup", "resume", expect=2).body["error"]["what"]
    assert node.call("backup", "resume", "--nothing-newer").body["way"] == "same log"
