"""Which release a rollback goes back to, by what the log says and what is in use."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from femtoclaw.event_codec import encode
from femtoclaw.events import ProcedureBegun, ProcedureEnded
from femtoclaw.home import Home
from femtoclaw.releases.deploying import Work, earlier
from tests.wal.sample_log import GENESIS, SIGNER, ticking_clock
from wal.directory import create_log_directory, open_log_directory

DEPLOY, ROLLBACK = "release.deploy", "release.rollback"


def work_of(folder: Path, done: list[tuple[str, str]], current: str, cut: tuple[str, str] | None = None) -> Work:
    """An installation with a, b and c, whose log has these procedures and, begun and not ended, ``cut``."""
    home = Home(str(folder))
    Path(home.log).parent.mkdir(parents=True, exist_ok=True)
    create_log_directory(home.log, GENESIS, signer=SIGNER, clock=ticking_clock())
    log = open_log_directory(home.log, signer=SIGNER, clock=ticking_clock())[0]
    for number, (procedure, name) in enumerate([*done, *([cut] if cut is not None else [])]):
        log.append([encode(ProcedureBegun(procedure, str(number), f"release:{name}", "", "owner"))])
        if number < len(done):
            installed = {"name": name, "digest": "d", "key": "k", "counter": "1"}
            content = json.dumps({"installed": installed}).encode()
            log.append([encode(ProcedureEnded(procedure, str(number), "done", "", content, (), "owner"))])
    log.close()
    installation = SimpleNamespace(names=lambda: ["a", "b", "c"], current=lambda: current, root="root")
    return cast(Any, Work)(home, installation, None, print, 0.0, False)


BOTH = [(DEPLOY, "a"), (DEPLOY, "b")]


@pytest.mark.parametrize(
    ("done", "current", "cut", "target"),
    [
        (BOTH, "b", None, "a"),
        (BOTH, "b", (ROLLBACK, "a"), "a"),
        (BOTH, "a", (ROLLBACK, "a"), "a"),
        (BOTH, "a", (DEPLOY, "a"), "b"),
        (BOTH, "c", (DEPLOY, "c"), "b"),
        ([*BOTH, (DEPLOY, "c")], "b", (ROLLBACK, "b"), "b"),
        ([*BOTH, (DEPLOY, "c"), (ROLLBACK, "b")], "b", None, "a"),
    ],
    ids=["whole", "cut before the switch", "cut behind it", "deploy cut of what was there", "deploy cut", "of three", "two back"],
)
def test_a_rollback_that_was_cut_is_finished_by_the_next(
    tmp_path: Path, done: list[tuple[str, str]], current: str, cut: tuple[str, str] | None, target: str
) -> None:
    """And does not put the release back in use that is being left."""
    assert earlier(work_of(tmp_path, done, current, cut)).name == target
