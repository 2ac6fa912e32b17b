"""Defects of the runtime's own, a system that gives nothing, and a memory that changed: on record, closed, and nothing hangs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from femtoclaw import events
from femtoclaw.config import EMBEDDED, check_together, resolve
from femtoclaw.defects import DefectError
from femtoclaw.errors import ConfigurationError, UnavailableError
from femtoclaw.isolation import Outcome
from femtoclaw.isolation.outcome import NothingStartedError
from femtoclaw.monitoring.looked import Finding
from femtoclaw.vault import EMPTY_VAULT
from tests.femtoclaw.api_node import ApiNode
from tests.femtoclaw.simulated import POLICY, CountingIsolation, Simulated
from tests.femtoclaw.telemetered import observed
from tests.femtoclaw.test_loop import SAY, Lines, call


class Broken:
    """The empty vault, of which one function raises as often as it is told."""

    def __init__(self, name: str, times: int = 1) -> None:
        self.name = name
        self.left = times

    def __getattr__(self, name: str) -> Any:
        found = getattr(EMPTY_VAULT, name)

        def act(*arguments: Any) -> Any:
            if name == self.name and self.left:
                self.left -= 1
                raise RuntimeError("hunter2")
            return found(*arguments)

        return act


def told(node: Simulated, kind: type[Any]) -> list[Any]:
    return [event for each in node.recorded for event in each.events if isinstance(event, kind)]


@pytest.mark.parametrize(
    ("name", "ended"), [("redact", ""), ("redact_message", "no_inference"), ("redact_outcome", "outcome_unknown")]
)
@pytest.mark.requirement("ERROR-13.1")
@pytest.mark.invariant("I12")
def test_a_defect_is_recorded_and_what_it_cut_is_closed(name: str, ended: str) -> None:
    """Type and place are told, never its words; what was under way has ended, and the next run works."""
    node = Simulated()
    node.runtime._vault = Broken(name)  # type: ignore[assignment]
    with pytest.raises(DefectError) as raised:
        node.runtime.run("go", Lines(call("fs.read", path="a.txt"), SAY), source="test", agent="agent")
    assert raised.value.exit_code == 70
    (error,) = told(node, events.ErrorRecorded)
    assert (error.category, error.code, error.detail) == ("RUNTIME", "RUNTIME_ERROR", "RuntimeError")
    assert error.subsystem.startswith("femtoclaw.runtime.")
    assert [each.outcome for each in told(node, events.ExecutionFailed)] == ([ended] if ended else [])
    assert not node.state.live.executions and not node.state.live.runs
    assert b"hunter2" not in b"".join(record.payload for record in node.log.scan())
    assert node.intent("fs.read", path="a.txt").outcome == "success"


@pytest.mark.requirement("ERROR-13.1")
def test_a_defect_that_cannot_be_recorded_stops_the_authority(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing goes on beside an execution that nobody can end: the next start closes it."""
    node = Simulated()
    node.runtime._vault = Broken("redact_outcome")  # type: ignore[assignment]
    act = node.authority.perform

    def perform(command: Any) -> Any:
        if type(command).__name__ == "RecordError":
            raise RuntimeError("again")
        return act(command)

    monkeypatch.setattr(node.authority, "perform", perform)
    with pytest.raises(DefectError):
        node.intent("fs.read", path="a.txt")
    with pytest.raises(UnavailableError):
        node.intent("fs.read", path="a.txt")


class Starved(CountingIsolation):
    """Gets no process at first."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 1

    def run(self, *arguments: Any, **more: Any) -> Outcome:
        if self.left:
            self.left -= 1
            raise NothingStartedError("the claw was not started; nothing was executed", found="Cannot allocate memory")
        return super().run(*arguments, **more)


@pytest.mark.requirement("ERROR-12.1")
def test_what_the_system_does_not_give_is_an_error_of_the_system() -> None:
    """One on record beside the call's end, which says that nothing was executed; and work when there is a process again."""
    node = Simulated(isolation=Starved())
    assert node.intent("fs.read", path="a.txt").outcome == "unavailable"
    (error,) = told(node, events.ErrorRecorded)
    assert (error.category, error.code, error.subsystem) == ("SYSTEM", "SYSTEM_ERROR", "isolation")
    assert "Cannot allocate memory" in error.detail
    assert node.intent("fs.read", path="a.txt").outcome == "success"


@pytest.mark.requirement("ERROR-8.1")
def test_a_broken_chain_is_critical_and_ends_all_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The incident first, then the error of the memory, then nothing; other findings stop nobody."""
    node = ApiNode(tmp_path, policy=POLICY)
    with observed(node) as observing:
        reported: list[str] = []

        class Watching:
            def report(self, looked: Any, findings: list[Finding]) -> None:
                reported.extend(each.kind for each in findings)

        monkeypatch.setattr(observing, "watching", Watching())
        looked = observing.monitor.look()
        assert looked is not None
        observing._reported(looked, [Finding("slow_health", "slow")])
        assert node.intent("fs.read", path="a.txt").outcome == "success"
        observing._reported(looked, [Finding("chain_broken", "index 5")])
        assert reported == ["slow_health", "chain_broken"]
        (error,) = told(node, events.ErrorRecorded)
        assert (error.category, error.severity, error.code) == ("MEMORY", "CRITICAL", "MEMORY_ERROR")
        with pytest.raises(UnavailableError, match="the log does not follow from itself"):
            node.intent("fs.read", path="a.txt")
        observing._reported(looked, [Finding("chain_broken", "index 5")])
        assert len(told(node, events.ErrorRecorded)) == 1
        monkeypatch.setattr(observing, "watching", None)


@pytest.mark.requirement("CONFIG-10.1")
def test_telemetry_can_be_off_outside_of_production_alone(tmp_path: Path) -> None:
    """Whatever the other keys say, nothing of it is there then."""
    off: dict[str, Any] = {"observability": {"enabled": False}}
    with pytest.raises(ConfigurationError, match="cannot be off in production"):
        check_together(resolve(off, "test", None), "test")
    check_together(resolve(off | {"runtime": {"environment": "staging"}}, "test", None), "test")
    node = ApiNode(tmp_path, policy=POLICY)
    assert EMBEDDED["observability"]["enabled"] is True
    with observed(node, enabled=False, listen="127.0.0.1:0", log="stderr") as observing:
        assert observing.telemetry() == {"behind_records": 0, "listens": "", "sinks": {}}
        assert observing.following is None
