"""How a restored node goes on: never as a second history of one log, and with what protected the node still in force."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.backed import Backed, Here, make
from tests.cli.node import SAY, Node
from tests.cli.test_backup_restore import restored, size_and_root


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
