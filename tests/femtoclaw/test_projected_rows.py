"""What the five stores tell: complete and ordered rows, in the numbers that the log gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import msgpack
import pytest

from femtoclaw import commands, config
from femtoclaw.claws import SHIPPED
from femtoclaw.lifecycle import LEGAL, RuntimeState
from femtoclaw.projections.consulting import compare
from femtoclaw.projections.database import MEMORY, Projections
from femtoclaw.projections.points import CLASSES
from femtoclaw.projections.queries import Filter, matching_executions, records, select
from tests.femtoclaw.projected import adopt_retention, interrupted_node, projected
from tests.femtoclaw.simulated import Simulated
from tests.femtoclaw.test_replay import worked
from wal import KIND_EVENT, Log, LogReader, Record
from wal.record import KIND_RECOVERED


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "index" / "projections.db")


class ChangedReader:
    """A log as it would be with other records: what no writer of today writes."""

    def __init__(self, log: Log, change: Callable[[Record], Record]) -> None:
        self.log_id, self.size = log.log_id, log.size
        self._log, self._change = log, change

    def read(self, index: int) -> Record:
        return self._change(self._log.read(index))

    def scan(self, first: int, stop: int) -> Iterator[Record]:
        return map(self.read, range(first, stop))


def changed(log: Log, change: Callable[[Record], Record]) -> LogReader:
    return cast(LogReader, ChangedReader(log, change))


@pytest.mark.requirement("STORAGE-4.1")
def test_five_stores_with_counts_heads_and_digests(file: str) -> None:
    """Each store has its rows, its last record with that record's link, and a digest; each can be checked alone."""
    node = worked()
    rows = projected(node, file)
    stores = compare(file, node.log).stores
    assert list(stores) == ["execution", "audit", "telemetry", "configuration", "metadata"]
    assert {store: body["rows"] for store, body in stores.items()} == {store: len(rows[store]) for store in stores}
    for body in stores.values():
        assert body["link"] == node.log.read(body["index"]).link.hex()
    assert stores["audit"]["index"] == node.log.size
    assert len({body["digest"] for body in stores.values()}) == 5


@pytest.mark.requirement("STORAGE-5.1")
def test_every_ended_execution_has_its_six_fields() -> None:
    """Id, capability, arguments, result, status and times, however it ended; what is empty has a status for it."""
    rows = projected(interrupted_node())["execution"]
    done = {row["outcome"]: row for row in rows}
    assert set(done) == {
        "success", "denied", "rejected", "answered", "interrupted", "no_inference", "outcome_unknown",
    }  # fmt: skip
    for row in rows:
        assert row["execution_id"]
        assert row["state"] == "IDLE"
        assert row["status"] == row["outcome"]
        assert row["received_ns"] <= row["finished_ns"]
    success = next(row for row in rows if row["arguments"] == '{"path":"a"}')
    assert (success["capability"], success["status"], success["decision"]) == ("fs.read", "success", "AUTHORIZED")
    assert success["result"] == '{"echo":{"path":"a"}}'
    assert success["received_ns"] <= success["started_ns"] <= success["finished_ns"]
    assert done["denied"]["capability"] != ""
    assert done["denied"]["code"].startswith("DENIED")
    assert done["rejected"]["code"]
    assert {name: row["started_ns"] is not None for name, row in done.items()} == {
        "success": True, "denied": False, "rejected": False, "answered": False, "interrupted": False,
        "no_inference": False, "outcome_unknown": True,
    }  # fmt: skip


def test_an_open_execution_has_no_end() -> None:
    """Until it ends there is neither a status nor an end time; afterwards the same row has both."""
    node = Simulated()
    node.authority.perform(commands.StartRun("r", "waiting", "echo", "run", "agent", b"hello"))
    with closing(Projections(MEMORY)) as projections:
        projections.catch_up(node.log)
        (row,) = select(projections, "execution")
        assert (row["status"], row["finished_ns"], row["state"]) == ("", None, "INPUT_RECEIVED")
        node.authority.perform(commands.FailInference("waiting", "TIMEOUT", "no answer"))
        projections.catch_up(node.log)
        (row,) = select(projections, "execution")
        assert (row["status"], row["finished_ns"] is None, row["state"]) == ("no_inference", False, "IDLE")


@pytest.mark.requirement("STORAGE-6.1", "STATE-18.1")
def test_the_audit_log_holds_decisions_validations_executions_and_linked_transitions() -> None:
    """All four kinds with matching ids, and per execution an unbroken walk from IDLE to IDLE; the process's own walk has no id."""
    node = worked()
    rows = projected(node)["audit"]
    assert {
        "AuthorizationDecided", "ProtocolValidated", "ProtocolRejected", "ExecutionStarted", "StateTransition",
    } <= {row["type"] for row in rows}  # fmt: skip
    walks: dict[str, list[str]] = {}
    for row in rows:
        assert row["integrity"] == node.log.read(row["log_index"]).link.hex()
        if row["type"] == "StateTransition":
            before, after = row["outcome"].split(">")
            walk = walks.setdefault(row["execution_id"], ["IDLE" if row["execution_id"] else before])
            assert walk[-1] == before
            assert RuntimeState(after) in LEGAL[RuntimeState(before)]
            walk.append(after)
    assert walks.pop("")[:2] == ["INITIALIZING", "IDLE"]
    assert len(walks) == 8
    assert all(walk[-1] == "IDLE" for walk in walks.values())


@pytest.mark.requirement("STORAGE-7.1", "OBSERVE-4.1")
def test_telemetry_has_its_points_in_the_numbers_that_the_log_gives() -> None:
    """Counts of each telemetry point equal the counts of the events they follow from; all four classes are there."""
    stores = projected(worked())
    told = [row["event_type"] for row in stores["telemetry"]]
    kinds = [row["type"] for row in stores["audit"]]
    assert told.count("input_received") == kinds.count("InputReceived") == 8
    assert told.count("authorization_decision") == kinds.count("AuthorizationDecided") == 7
    assert told.count("capability_start") == told.count("capability_complete") == kinds.count("ExecutionStarted")
    assert told.count("execution_failed") == kinds.count("ExecutionFailed")
    assert told.count("state_transition") == kinds.count("StateTransition")
    assert {row["class"] for row in stores["telemetry"]} == set(CLASSES.values())
    finished = [row for row in stores["telemetry"] if row["event_type"] == "capability_complete"]
    assert all(row["duration_ns"] > 0 and row["bytes"] > 0 for row in finished)


def test_telemetry_alone_gives_the_audit_picture() -> None:
    """Id, decision and outcome of every execution, from telemetry only and from the audit log only, are equal."""

    def picture(rows: list[dict[str, Any]], kind: str, status: str, names: tuple[str, ...]) -> set[tuple[str, ...]]:
        return {
            (row["execution_id"], row[kind].replace("_", "").lower(), row[status]) for row in rows if row[kind] in names
        }

    stores = projected(interrupted_node())
    audit = picture(
        stores["audit"], "type", "outcome", ("AuthorizationDecided", "ExecutionCompleted", "ExecutionFailed")
    )
    told = picture(
        stores["telemetry"],
        "event_type",
        "status",
        ("authorization_decision", "execution_complete", "execution_failed"),
    )
    renamed = {("authorizationdecided", "authorizationdecision"), ("executioncompleted", "executioncomplete")}
    assert {(one, dict(renamed).get(kind, kind), status) for one, kind, status in audit} == told


def test_every_append_is_a_write_and_a_commit() -> None:
    """First and last record and the bytes of each, without gap: the whole log is told."""
    node = worked()
    rows = [row for row in projected(node)["telemetry"] if row["class"] == "storage"]
    writes = [row for row in rows if row["event_type"] == "storage_write"]
    commits = [row for row in rows if row["event_type"] == "storage_commit"]
    assert [row["sequence"] for row in writes] == [1] + [row["sequence"] + 1 for row in commits[:-1]]
    assert commits[-1]["sequence"] == node.log.size
    assert all(row["hash"] == node.log.read(row["sequence"]).link.hex() for row in commits)
    frames = sum(len(record.payload) + 100 for record in node.log.scan())
    assert sum(row["bytes"] for row in writes) == sum(row["bytes"] for row in commits) == frames


def test_a_start_tells_the_head_of_each_recovered_store() -> None:
    """The four stores with last record and link as they were before it: what projecting the log's beginning gives."""
    node = interrupted_node()
    rows = [row for row in projected(node)["telemetry"] if row["event_type"] == "storage_recovery"]
    last = rows[-1]["log_index"]
    told = {row["store"]: (row["sequence"], row["hash"]) for row in rows if row["log_index"] == last}
    with closing(Projections(MEMORY)) as before:
        before.catch_up(node.log, last - 1)
        heads = {store: (body["index"], body["link"]) for store, body in before.summary().items()}
    del heads["metadata"]
    assert told == heads
    assert rows[-1]["detail"] == "1 executions in doubt"


def test_repairs_and_storage_failures_are_told() -> None:
    """A cut tail is a recovery with what was cut; a recorded error of the storage is an error and a failure."""
    node = worked()
    told = node.log.append([msgpack.packb(["cut", 5, 7, "ab" * 32])]).last
    node.authority.perform(commands.RecordError("e1", "MEMORY", "ERROR", "DISK", "storage", "it failed"))
    with closing(Projections(MEMORY)) as projections:
        projections.catch_up(
            changed(node.log, lambda record: record._replace(kind=KIND_RECOVERED) if record.index == told else record)
        )
        rows = select(projections, "telemetry")
        (line,) = select(projections, "audit", Filter(kind="log:recovered"))
    assert (line["log_index"], line["outcome"]) == (told, "cut")
    cut = next(row for row in rows if row["status"] == "cut")
    assert (cut["event_type"], cut["store"], cut["detail"]) == ("storage_recovery", "log", f"5 7 {'ab' * 32}")
    failed = [row["event_type"] for row in rows if row["status"] == "DISK"]
    assert failed == ["error", "storage_failure"]


def test_telemetry_is_bounded_and_the_audit_log_is_not(file: str) -> None:
    """The recorded configuration's bound leaves the newest rows, numbered on; the audit log stays whole."""
    node = worked()
    every = projected(node)["telemetry"]
    adopt_retention(node, 10)
    with closing(Projections(file)) as projections:
        projections.catch_up(node.log)
        rows = select(projections, "telemetry")
        assert [row["number"] for row in rows] == list(range(len(every) - 7, len(every) + 3))
        assert projections.telemetry_dropped == len(every) - 8
        assert select(projections, "audit")[0]["log_index"] == 1
    assert rows[:8] == every[-8:]
    assert projected(node, file) == projected(node)


@pytest.mark.requirement("STORAGE-8.1", "STORAGE-9.1")
def test_configuration_history_and_metadata() -> None:
    """Each version with digest, operator, time and exact content; identity, versions and registry in the metadata."""
    node = worked()
    adopt_retention(node, 10)
    stores = projected(node)
    versions = [(row["kind"], row["version"], row["operator"]) for row in stores["configuration"]]
    assert versions == [("configuration", 1, "tester"), ("policy", 1, "tester"), ("configuration", 2, "tester")]
    first, _, second = stores["configuration"]
    assert second["previous"] == first["digest"] == config.digest(first["content"].encode())
    assert json.loads(second["content"])["observability"]["telemetry_retention_events"] == 10
    assert all(row["time_ns"] > 0 for row in stores["configuration"])
    metadata = {row["key"]: row["value"] for row in stores["metadata"]}
    assert metadata["runtime_id"] == node.state.node.runtime_id
    assert metadata["runtime_version"] == "test"
    assert metadata["enabled.fs.read"] == "true"
    assert metadata["module.shell"] == node.state.node.registry["shell"].digest
    assert metadata["module_version.shell"] == next(claw.version for claw in SHIPPED if claw.name == "shell")


FAR = (1 << 64) - 2_000_000_000


def test_a_clock_in_the_far_future_breaks_no_question(file: str) -> None:
    """Times beyond SQLite's integers are kept, ordered and asked for exactly."""
    node = worked()
    size = node.log.size
    node.intent("fs.read", path="late")
    with closing(Projections(file)) as projections:
        projections.catch_up(
            changed(node.log, lambda record: record._replace(time_ns=FAR) if record.index > size else record)
        )
        assert records(projections, Filter(since_ns=FAR)) == list(range(size + 1, node.log.size + 1))
        assert records(projections, Filter(until_ns=FAR - 1)) == list(range(1, size + 1))
        assert select(projections, "execution")[-1]["finished_ns"] == FAR


NEWER: dict[str, tuple[bytes, str]] = {
    "a newer type": (msgpack.packb([99, 1, "x"]), "type 99 version 1"),
    "a newer version": (msgpack.packb([26, 7, "x"]), "type 26 version 7"),
    "fields of other types": (msgpack.packb([31, 1, 5, "done"]), "type 31 version 1"),
    "no event": (b"\xc1", "type -1 version -1"),
    "no array": (msgpack.packb({"a": 1}), "type -1 version -1"),
}


@pytest.mark.parametrize("name", NEWER)
def test_what_this_program_cannot_read_is_passed_on(name: str) -> None:
    """An audit line of its own, and what comes behind it is projected as ever."""
    raw, said = NEWER[name]
    node = worked()
    node.log.append([raw], KIND_EVENT)
    index = node.log.size
    node.intent("fs.read", path="after")
    rows = projected(node)["audit"]
    line = next(row for row in rows if row["log_index"] == index)
    assert (line["type"], line["outcome"]) == ("unknown", said)
    assert rows[-1]["log_index"] == node.log.size


def test_conditions_on_audit_lines_join() -> None:
    """Each alone and all together give the lines that a plain look at every line gives, transitions too."""
    node = worked()
    rows = projected(node)["audit"]
    one = next(row for row in rows if row["type"] == "ExecutionStarted" and row["capability"] == "shell")
    wanted = {"execution": "execution_id", "kind": "type", "capability": "capability"}
    with closing(Projections(MEMORY)) as projections:
        projections.catch_up(node.log)
        for kind in ("ExecutionStarted", "StateTransition", "log:genesis"):
            given = {"execution": one["execution_id"], "kind": kind, "capability": "shell"}
            for chosen in ([], ["kind"], ["execution"], ["capability"], ["execution", "kind"], list(given)):
                expected = [row for row in rows if all(row[wanted[name]] == given[name] for name in chosen)]
                asked = Filter(**{name: given[name] for name in chosen})
                assert select(projections, "audit", asked) == expected
                assert select(projections, "audit", asked._replace(newest=2)) == expected[-2:]
                assert records(projections, asked) == list(dict.fromkeys(row["log_index"] for row in expected))


def test_ids_are_found_by_either_end() -> None:
    """Whole, beginning or end; several are several; nothing is nothing."""
    node = interrupted_node()
    with closing(Projections(MEMORY)) as projections:
        projections.catch_up(node.log)
        for part, found in {
            "cut-late": ["cut-late"], "cut-l": ["cut-late"], "late": ["cut-late"], "silent": ["silent"],
            "cut-": ["cut-early", "cut-late"], "ut-": [], "": [], "%": [], "nobody": [],
        }.items():  # fmt: skip
            assert matching_executions(projections, part) == found, part
        assert len(matching_executions(projections, "0")) == 8
