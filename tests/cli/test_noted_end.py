"""A log folder that is put back whole from before is sound by itself: the boot journal beside it notes where it ended."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.node import Node

MESSAGE = '{"message":{"content":"Is anybody there?"}}'


@pytest.fixture
def put_back(node: Node, tmp_path: Path) -> int:
    """How many records there were before an older log took the place of the node's; ``newer.bundle`` has them."""
    node.call("intent", MESSAGE)
    shutil.copytree(node.path / "log", tmp_path / "older")
    node.call("intent", MESSAGE)
    node.call("export", "--bundle", str(tmp_path / "newer.bundle"))
    size = int(node.call("status").body["size"])
    shutil.rmtree(node.path / "log")
    shutil.copytree(tmp_path / "older", node.path / "log")
    return size


@pytest.mark.invariant("I2")
def test_an_older_log_in_the_place_of_this_one_is_refused(node: Node, put_back: int) -> None:
    """Exit 3, also of `recover`; nothing is appended; where the newer records are, they come back."""
    before = int(node.call("status").body["size"])
    assert before < put_back
    for words in (("intent", MESSAGE), ("recover",)):
        refused = node.call(*words, expect=3).body["error"]
        assert refused["what"] == "an older log was put in the place of this node's", refused
    node.call("recover", "--dry-run", expect=3)
    node.call("recover", "--salvage", expect=3)  # it has no more records than these
    assert node.call("status").body["size"] == before
    assert node.call("recover", "--from-archive", str(node.path.parent / "newer.bundle")).body["records"] >= put_back
    node.call("intent", MESSAGE)
    assert node.call("verify").body["findings"] == []


def test_where_nothing_holds_the_newer_records_a_new_log_states_the_gap(node: Node, put_back: int) -> None:
    """The size that was noted is in the statement."""
    told = node.call("recover", "--accept-gap").body
    assert told["promised_size"] == put_back > told["good_size"]
    node.call("intent", MESSAGE)


def test_a_journal_that_is_gone_or_of_another_log_stops_nothing(node: Node) -> None:
    """It is a remark about this log, and no promise that is needed."""
    node.call("intent", MESSAGE)
    journal = node.path / "boot.journal"
    journal.write_text('{"event":"stopped","log":"00","size":99999,"link":"00"}\nno line\n{"link":3}\n')
    node.call("intent", MESSAGE)
    journal.unlink()
    node.call("intent", MESSAGE)
