"""What the compliance monitor compares with the files of a home: what is recorded at the moment that it reads them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from femtoclaw import config, distribution, events
from femtoclaw.api import own_files
from femtoclaw.cli.render import Output
from femtoclaw.home import Home
from femtoclaw.integrity import key_index_file
from femtoclaw.launcher import sealed
from femtoclaw.monitoring.observing import Observing
from tests.femtoclaw.controlled import Controlled
from tests.femtoclaw.simulated import SIGNER

DIFFERS = "files: the configuration is not the one that is recorded"


class Kept:
    """A node in memory whose home holds the files that are recorded, and what observes it. Its monitor's rounds come when the test
    says so: the last look is as old as the test wants."""

    def __init__(self, folder: Path) -> None:
        self.node = Controlled()
        self.home = Home(str(folder))
        (folder / "workspace").mkdir()
        os.makedirs(os.path.dirname(key_index_file(self.home)))
        Path(key_index_file(self.home)).touch()
        distribution._write_pin(self.home, sealed.Pin("unverified"), SIGNER)
        self.toml, self.policy = folder / "femtoclaw.toml", folder / "policy.cedar"
        self.body = json.loads(self.node.state.node.configuration.content)
        self.put_in_place()
        self.policy.write_text(self.node.state.node.policy.text)
        for path in (self.toml, self.policy):
            path.chmod(0o600)
        settings = config.EMBEDDED["observability"]
        self.observing = Observing(self.home, self.node.sources, Output(as_json=True), settings, incidents=False)
        self.lead()

    def lead(self) -> None:
        """Lead, and be looked at once."""
        started: Any = SimpleNamespace(authority=self.node.authority, log=self.node.log)
        self.observing.lead(started)
        self.observing.monitor.look()

    def disable(self, claw: str) -> None:
        """A change in order, on record; its file is not in place yet."""
        self.body["capabilities"][claw]["enabled"] = False
        self.node.control("claw.disable", claw, config.canonical(self.body))
        assert not self.node.state.node.registry[claw].enabled

    def put_in_place(self) -> None:
        """The file that goes with it."""
        self.toml.write_bytes(own_files.configuration_text(config.canonical(self.body)))

    def compared(self) -> list[str]:
        """What has been told of files after one more round: of them alone, since somebody may work in the checkout meanwhile."""
        self.observing.monitor._rounds["compliance"].once()
        assert self.observing.monitor.standing()["compliance"]["error"] == ""
        told = [event for each in self.node.recorded for event in each.events if isinstance(event, events.AlertRaised)]
        return [each.detail for each in told if each.detail.startswith("files: ")]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path)
    yield kept
    kept.observing.stop(0.1)


@pytest.mark.requirement("RUNBOOK-29.1")
def test_files_are_compared_with_what_is_recorded_now(kept: Kept) -> None:
    """A change in order since the last look was made by nobody's hand; an edit is told before the next look."""
    assert kept.compared() == []
    kept.disable("shell")
    kept.put_in_place()
    assert kept.compared() == []
    kept.toml.write_text(kept.toml.read_text().replace("steps_max = 8", "steps_max = 9"))
    assert kept.compared() == [DIFFERS]


def test_files_are_not_compared_in_the_midst_of_a_change(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between record and file whoever changes them holds the home; what is different afterwards is told."""
    monkeypatch.setattr(own_files, "LOCK_SECONDS", 0.1)
    with own_files.alone(kept.home):
        kept.disable("shell")
        assert kept.compared() == []
    assert kept.compared() == [DIFFERS]


def test_the_files_of_a_member_that_follows_do_not_count(kept: Kept) -> None:
    """Nor between two roles, when the last look was at a leader; once it leads again they do."""
    kept.policy.write_text("// edited\n")
    kept.observing._authority = None
    assert kept.compared() == []
    kept.observing.follow(kept.node.log, lambda: kept.node.log.size, lambda: {"executes": False, "leader": "b"})
    kept.observing.monitor.look()
    assert kept.compared() == []
    kept.lead()
    assert kept.compared() == ["files: the policy is not the one that is recorded"]


def test_a_home_that_is_gone_is_told(kept: Kept) -> None:
    """Its files are not what is recorded either."""
    os.rename(kept.home.path, kept.home.path + ".gone")
    assert kept.compared() == ["files: the home cannot be read: FileNotFoundError"]
