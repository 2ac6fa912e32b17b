"""The five stores are projections: complete, ordered, rebuilt from the log to equal content."""

from __future__ import annotations

from pathlib import Path

import pytest

from femtoclaw.lifecycle import LEGAL, RuntimeState
from femtoclaw.projections import STORES, Projections
from tests.femtoclaw.simulated import Simulated
from tests.femtoclaw.test_replay import worked


def content(projections: Projections) -> dict[str, list[dict[str, object]]]:
    return {store: list(projections.rows(store)) for store in STORES}


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "index" / "projections.db")


@pytest.mark.requirement("STORAGE-4.1", "STORAGE-9.2")
def test_a_deleted_projection_is_rebuilt_equal(file: str) -> None:
    """The five stores come back from the log to the same content after the file is gone."""
    node = worked()
    first = Projections(file)
    assert first.catch_up(node.log) == node.log.size
    before = content(first)
    first.close()
    Path(file).unlink()
    second = Projections(file)
    second.catch_up(node.log)
    assert content(second) == before
    assert all(before.values())


def test_catching_up_in_pieces_equals_catching_up_at_once(file: str, tmp_path: Path) -> None:
    """Projection after every batch gives the same rows as one projection at the end, and a second one adds nothing."""
    node = Simulated()
    pieces = Projections(file)
    for number in range(5):
        node.intent("fs.read", path=f"{number}")
        pieces.catch_up(node.log)
    once = Projections(str(tmp_path / "other" / "projections.db"))
    once.catch_up(node.log)
    assert content(pieces) == content(once)
    assert pieces.catch_up(node.log) == 0


def test_a_damaged_or_foreign_file_is_replaced(file: str) -> None:
    """Bytes that are no database, or another log's projection, are thrown away and rebuilt."""
    node = worked()
    path = Path(file)
    path.parent.mkdir()
    path.write_bytes(b"this is no database" * 100)
    projections = Projections(file)
    projections.catch_up(node.log)
    expected = content(projections)
    projections.close()
    other = Simulated(seed=9)
    other.intent("fs.read", path="other")
    foreign = Projections(file)
    foreign.catch_up(other.log)
    assert content(foreign) != expected
    foreign.catch_up(node.log)
    assert content(foreign) == expected


@pytest.mark.requirement("STORAGE-5.1")
def test_execution_records_have_their_six_fields(file: str) -> None:
    """Id, capability, arguments, result, status and times, for successful, denied and rejected executions."""
    node = worked()
    projections = Projections(file)
    projections.catch_up(node.log)
    rows = {(row["capability"], row["outcome"]): row for row in projections.rows("execution_log")}
    done = rows["fs.read", "success"]
    assert (done["arguments"], done["status"], done["decision"]) == ('{"path":"a"}', "success", "AUTHORIZED")
    assert done["result"] == '{"echo":{"path":"a"}}'
    assert done["received_ns"] <= done["started_ns"] <= done["finished_ns"]
    assert rows["fs.read", "denied"]["decision"] == "DENIED_POLICY_VIOLATION"
    assert rows["fs.read", "denied"]["finished_ns"] == 0
    assert rows["", "rejected"]["status"]
    assert all(row["execution_id"] and row["state"] == "IDLE" for row in projections.rows("execution_log"))


@pytest.mark.requirement("STORAGE-6.1", "STATE-18.1")
def test_the_audit_log_holds_decisions_validations_executions_and_linked_transitions(file: str) -> None:
    """All four kinds with matching ids, and per execution an unbroken walk from IDLE to IDLE."""
    node = worked()
    projections = Projections(file)
    projections.catch_up(node.log)
    rows = list(projections.audit())
    kinds = {row.type for row in rows}
    assert {
        "AuthorizationDecided",
        "ProtocolValidated",
        "ProtocolRejected",
        "ExecutionStarted",
        "StateTransition",
    } <= kinds
    walks: dict[str, list[str]] = {}
    for row in rows:
        if row.type == "StateTransition":
            before, after = row.outcome.split(">")
            walk = walks.setdefault(row.execution_id, ["IDLE"])
            assert walk[-1] == before
            assert RuntimeState(after) in LEGAL[RuntimeState(before)]
            walk.append(after)
    assert len(walks) == 8
    assert all(walk[-1] == "IDLE" for walk in walks.values())


@pytest.mark.requirement("STORAGE-7.1", "OBSERVE-4.1")
def test_telemetry_has_its_points_in_the_numbers_that_the_log_gives(file: str) -> None:
    """Counts of each telemetry point equal the counts of the events they follow from."""
    node = worked()
    projections = Projections(file)
    projections.catch_up(node.log)
    points = [row["event_type"] for row in projections.rows("telemetry")]
    kinds = [row.type for row in projections.audit()]
    assert points.count("input_received") == kinds.count("InputReceived") == 8
    assert points.count("authorization_decision") == kinds.count("AuthorizationDecided") == 7
    assert points.count("capability_start") == points.count("capability_complete") == kinds.count("ExecutionStarted")
    assert points.count("execution_failed") == kinds.count("ExecutionFailed")
    assert sum(str(point).startswith("state_transition") for point in points) == kinds.count("StateTransition")


def test_telemetry_is_bounded_and_the_audit_log_is_not(file: str) -> None:
    """Retention trims telemetry to the newest records; audit rows all stay."""
    node = worked()
    projections = Projections(file)
    projections.catch_up(node.log, telemetry_retention=10)
    assert {int(str(row["log_index"])) for row in projections.rows("telemetry")} <= set(
        range(node.log.size - 9, node.log.size + 1)
    )
    assert min(row.log_index for row in projections.audit()) == 1


@pytest.mark.requirement("STORAGE-8.1", "STORAGE-9.1")
def test_configuration_history_and_metadata(file: str) -> None:
    """Each version with digest, operator and time; identity, versions and registry in the metadata."""
    node = worked()
    projections = Projections(file)
    projections.catch_up(node.log)
    versions = [(row["kind"], row["version"], row["operator"]) for row in projections.rows("configuration")]
    assert versions == [("configuration", 1, "tester"), ("policy", 1, "tester")]
    metadata = {row["key"]: row["value"] for row in projections.rows("metadata")}
    assert metadata["runtime_id"] == node.state.node.runtime_id
    assert metadata["enabled.fs.read"] == "true"
    assert metadata["module.shell"] == node.state.node.registry["shell"].digest
