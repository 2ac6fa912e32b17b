"""Procedures begin and end on record, with the seven goals as they are found, on a node at rest and on a served one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from femtoclaw import events
from femtoclaw.api.client import connect
from femtoclaw.boot import Started, start, stop
from femtoclaw.cli.served import ServedStarted
from femtoclaw.control import operator_signer
from femtoclaw.errors import UnavailableError
from femtoclaw.event_codec import decode
from femtoclaw.goals import look_at_goals
from femtoclaw.home import Home
from femtoclaw.key_file import KeySigner
from femtoclaw.operations import GOALS, TEXT_CHARACTERS_MAX
from femtoclaw.procedures import GoalsLostError, ProcedureRefusedError, printable, procedure
from femtoclaw.sources import live
from tests.cli.node import Node
from tests.femtoclaw.serving_process import serving
from wal.errors import LogFullError
from wal.reader import LogReader, read_log_directory
from wal.record import KIND_EVENT

MET = tuple(text for goal in GOALS for text in (goal, "true"))


@contextmanager
def at_rest(node: Node) -> Iterator[tuple[Started, KeySigner]]:
    """The node open in this process, with its operator's key."""
    home = Home(str(node.path))
    started = start(home, live())
    try:
        yield started, operator_signer(home, started.authority.state.node)
    finally:
        stop(started, "test")


def recorded(log: LogReader) -> list[events.Event]:
    """What the log holds of procedures and control decisions."""
    found = [decode(each.payload) for each in log.scan() if each.kind == KIND_EVENT]
    kinds = (events.ProcedureBegun, events.ProcedureEnded, events.ControlDecided)
    return [each for each in found if isinstance(each, kinds)]


@pytest.mark.requirement("RUNBOOK-2.1")
def test_a_procedure_at_rest_is_begun_before_and_ended_after_its_body(node: Node) -> None:
    """The begin is durable when the body runs, and the end says what the body said, with every goal met."""
    with at_rest(node) as (started, signer), procedure(started, signer, "backup.create", "daily", "ab") as told:
        assert recorded(started.log)[-1] == events.ProcedureBegun(
            "backup.create", told.id, "daily", "ab", signer.public.name
        )
        told.content, told.detail = {"size": 7}, "7 records\x1b[2J"
    assert told.goals == dict.fromkeys(GOALS, "")
    reader = read_log_directory(str(node.path / "log"))
    end = recorded(reader)[-1]
    reader.close()
    text, who = "7 records?[2J", signer.public.name
    assert end == events.ProcedureEnded("backup.create", told.id, "done", text, b'{"size":7}', MET, who)
    assert 0 < told.begun < told.ended


def test_a_body_that_raises_ends_as_failed_and_its_error_goes_on(node: Node) -> None:
    """The sentence of an error of ours is recorded, of any other only its type: it may hold anything."""
    with at_rest(node) as (started, signer):
        cases: tuple[tuple[Exception, str], ...] = (
            (LogFullError("no room"), "no room"),
            (ValueError("a secret"), "ValueError"),
        )
        for error, told in cases:
            with pytest.raises(type(error)), procedure(started, signer, "drill.run", "x"):
                raise error
            end = recorded(started.log)[-1]
            assert isinstance(end, events.ProcedureEnded)
            assert (end.result, end.detail, end.goals) == ("failed", told, MET)


def test_a_body_s_error_is_told_also_where_the_end_cannot_be_recorded(node: Node) -> None:
    with at_rest(node) as (started, signer):
        with pytest.raises(UnavailableError, match="the body's"), procedure(started, signer, "drill.run", "x"):
            started.authority.contain("test")
            raise UnavailableError("the body's")
        assert isinstance(recorded(started.log)[-1], events.ProcedureBegun)


def test_who_may_not_does_nothing(node: Node) -> None:
    """The refusal is on record, and the body is not entered."""
    key = node.path.parent / "ada.key"
    public = node.call("operator", "keygen", "ada", "--out", str(key)).body["public_key"]
    node.call("operator", "add", "ada", "--public-key", public, "--role", "ComplianceOfficer")
    home = Home(str(node.path))
    with at_rest(node) as (started, _):
        ada = operator_signer(home, started.authority.state.node, "ada", str(key))
        with pytest.raises(ProcedureRefusedError), procedure(started, ada, "backup.create", "x"):
            pytest.fail("the body was entered")
        refused = recorded(started.log)[-1]
    assert isinstance(refused, events.ControlDecided)
    assert (refused.decision, refused.reason) == ("DENIED_POLICY_VIOLATION", "NO_PERMIT")


@pytest.mark.requirement("RUNBOOK-2.1")
def test_each_goal_is_looked_at(node: Node) -> None:
    """What was met is not any more, once the thing itself has changed; the other goals stay."""
    with at_rest(node) as (started, _):
        assert set(look_at_goals(started).values()) == {""}
        config = node.path / "femtoclaw.toml"
        config.write_text(config.read_text() + "\n[observability]\ntelemetry_retention_events = 777\n")
        os.chmod(node.path / "keys" / "node.key", 0o644)
        checkpoint = node.path / "log" / "checkpoints" / "latest"
        checkpoint.chmod(0o600)
        checkpoint.write_bytes(b"")
        (node.path / "log" / "cluster").mkdir(exist_ok=True)
        (node.path / "log" / "cluster" / "restored").write_bytes(b"x")
        started.authority.contain("test")
        found = {goal for goal, why in look_at_goals(started).items() if why}
        assert found == set(GOALS) - {"availability", "distribution_integrity"}
        (node.path / "log" / "cluster" / "restored").unlink()


@pytest.mark.requirement("RUNBOOK-2.1")
def test_a_goal_that_is_lost_on_the_way_makes_it_fail(node: Node) -> None:
    """What was not met before is no news; the booleans of the end say which one was lost."""
    with at_rest(node) as (started, signer):
        slot = node.path / "log" / "cluster"
        os.chmod(node.path / "femtoclaw.toml", 0o666)
        with pytest.raises(GoalsLostError, match="goal lost"), procedure(started, signer, "drill.run", "x"):
            slot.mkdir(exist_ok=True)
            (slot / "restored").write_bytes(b"x")
        end = recorded(started.log)[-1]
        (slot / "restored").unlink()
    assert isinstance(end, events.ProcedureEnded)
    assert (end.result, end.detail) == ("failed", "lost recoverability: the log was restored from an archive")
    goals = dict(zip(end.goals[::2], end.goals[1::2], strict=True))
    assert [goal for goal in GOALS if goals[goal] == "false"] == ["security_posture", "recoverability"]


def test_a_served_node_records_it_too(node: Node) -> None:
    """Over its socket, by the same two requests, while it goes on serving."""
    home = Home(str(node.path))
    with serving(node.path), connect(home) as client:
        started = ServedStarted(home, client)
        signer = operator_signer(home, started.authority.state.node)
        with procedure(started, signer, "backup.create", "daily") as told:
            told.result = "skipped"
    reader = read_log_directory(str(node.path / "log"))
    end = recorded(reader)[-1]
    reader.close()
    assert isinstance(end, events.ProcedureEnded)
    assert (end.procedure_id, end.result, end.goals) == (told.id, "skipped", MET)
    assert json.loads(end.content) == {}


def test_a_record_takes_what_can_be_printed() -> None:
    assert printable("a\nb\u202e") == "a?b?"
    assert len(printable("x" * 2 * TEXT_CHARACTERS_MAX)) == TEXT_CHARACTERS_MAX
