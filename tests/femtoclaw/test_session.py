"""One time of being open, of a node over a real home: how it ends when it cannot in order, and when it is of no use any more."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from cluster.errors import NotReplicatedError
from femtoclaw.boot import Started
from femtoclaw.cli import execute
from femtoclaw.cli.render import Output
from femtoclaw.home import Home
from femtoclaw.provision import initialize
from femtoclaw.serving.member import why_useless
from femtoclaw.serving.session import Session
from femtoclaw.sources import live
from wal.errors import LogFailedError
from wal.writer import Receipt

POLICY = '@id("read") permit (principal, action == Action::"fs.read", resource);\n'
SOURCES = live()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "home"
    initialize(Home(str(path)), enable=["fs.read"], binaries=[], policy=POLICY, operator="tester", sources=SOURCES)
    return path


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Home:
    return Home(str(shutil.copytree(template, tmp_path / "home")))


@pytest.fixture
def session(home: Home) -> Iterator[Session]:
    made = Session(home, SOURCES, Output(as_json=False))
    yield made
    made.end("the test is over")


def unanswered(receipt: Receipt) -> Receipt:
    """Enough others store nothing any more."""
    raise NotReplicatedError("a record was not acknowledged by enough others in time", found=f"index {receipt.last}")


def test_a_stop_without_a_majority_ends_all_the_same(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """That the node stopped cannot be shown to be stored; its claws and its log are closed, and the operator is told."""
    session = Session(home, SOURCES, Output(as_json=False))
    session.started.log.acknowledge = unanswered
    session.end("the node was stopped")
    assert "the log could not be closed in order: a record was not acknowledged" in capsys.readouterr().err
    again = Session(home, SOURCES, Output(as_json=False))
    again.end("the test is over")
    assert "could not be closed" not in capsys.readouterr().err


def test_what_cannot_execute_any_more_does_not_keep_others_from_leading(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room another member may have it; where there is no other, leading anew makes none. An authority that takes nothing,
    or a log that failed, is to be opened anew in either case."""
    assert (why_useless(session, alone=False), why_useless(session, alone=True)) == ("", "")
    log = session.started.log
    with monkeypatch.context() as full:
        full.setattr(log.storage, "room", lambda: 0)
        assert why_useless(session, alone=False) == "there is no room for new work"
        assert why_useless(session, alone=True) == ""
    with monkeypatch.context() as failed:
        failed.setattr(type(log), "failure", LogFailedError("the disk is gone"))
        assert why_useless(session, alone=True) == "the disk is gone"
    session.started.authority.contain("it met what it does not know")
    assert why_useless(session, alone=False) == why_useless(session, alone=True) == "it met what it does not know"


def test_what_a_command_does_behind_its_end_can_be_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it closes the log no second signal counts; whoever opens the node again, or waits for something, hears one again."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    within: list[object] = []

    def stop(*_: object) -> None:
        within.extend(signal.getsignal(number) for number in numbers)
        raise LogFailedError("a disk")

    monkeypatch.setattr(execute, "stop", stop)
    with pytest.raises(LogFailedError):
        execute._end(cast(Started, None), None, "the test is over", Output(as_json=False))
    assert within == [signal.SIG_IGN] * 2
    assert [signal.getsignal(number) for number in numbers] == before
