"""Looking at a node: real probes, each of which one broken part flips; a monitor that records what is new and alerts once."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from femtoclaw import commands, config, events
from femtoclaw.authority import Authority
from femtoclaw.events import Event, Observation
from femtoclaw.home import Home
from femtoclaw.monitoring import looking as looking_module
from femtoclaw.monitoring.looked import BAD, OK, WARNING, Check, Finding, Looked
from femtoclaw.monitoring.looking import Looking, Watched
from femtoclaw.monitoring.monitor import EVERY, Monitor
from femtoclaw.monitoring.observing import Observing
from femtoclaw.policy import PolicyEngine
from femtoclaw.sources import live
from tests.femtoclaw.controlled import Controlled
from tests.femtoclaw.simulated import POLICY
from wal import limits
from wal.errors import LogFailedError

SINGLE = {"executes": True, "role": "single", "leader": ""}


def watched(node: Controlled, folder: Path, *others: Callable[[], Check]) -> Watched:
    return Watched(Home(str(folder)), node.log, node.authority, lambda: node.log.size, lambda: dict(SINGLE), others)


@pytest.fixture
def node() -> Controlled:
    node = Controlled(policy=POLICY)
    for _ in range(3):
        node.intent("fs.read", path="a.txt")
    return node


def found(looked: Looked) -> dict[str, str]:
    return {check.name: check.result for check in looked.checks}


@pytest.mark.requirement("RUNBOOK-8.1", "RUNBOOK-8.2")
def test_two_looks_at_a_node_at_rest_say_the_same_and_do_nothing(node: Controlled, tmp_path: Path) -> None:
    """Every check is ok, the texts are equal, nothing reached the sandbox and nothing was recorded."""
    looking = Looking(watched(node, tmp_path))
    before, calls = node.log.size, len(node.isolation.calls)
    first, second = looking.look(1), looking.look(2)
    assert first.checks == second.checks
    assert set(found(first)) == {
        "responsiveness", "authorization", "registry", "memory", "audit_log", "capabilities", "log_map", "disk"
    }  # fmt: skip
    assert set(found(first).values()) == {OK}
    assert (node.log.size, len(node.isolation.calls)) == (before, calls)


def break_authority(node: Controlled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking_module, "ANSWER_S", 0.05)
    held = threading.Event()
    threading.Thread(target=lambda: (node.authority._lock.acquire(), held.set()), daemon=True).start()
    assert held.wait(5)


def break_authorization(node: Controlled, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = node.authority.engines.engines(node.state.node).policy()
    object.__setattr__(engine, "_ask", lambda *_: (_ for _ in ()).throw(RuntimeError("gone")))


def break_registry(node: Controlled, monkeypatch: pytest.MonkeyPatch) -> None:
    state = node.state
    claw = state.node.registry["shell"]
    registry = state.node.registry.set("shell", claw._replace(enabled=not claw.enabled))
    node.authority._state = state._replace(node=state.node._replace(registry=registry))


def break_memory(node: Controlled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(node.log), "failure", LogFailedError("the disk is gone"))


def break_audit_log(node: Controlled, monkeypatch: pytest.MonkeyPatch) -> None:
    index = node.log.size - 1
    raw = bytearray(node.storage.records[index])
    raw[60] ^= 1
    node.storage.records[index] = bytes(raw)


def break_head(node: Controlled, monkeypatch: pytest.MonkeyPatch) -> None:
    node.storage.slots[:] = [b"", b""]


def break_log_map(node: Controlled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node.storage, "room", lambda: 0)


def break_capabilities(node: Controlled, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(manifest: Any, *rest: Any, **more: Any) -> Any:
        return original(manifest, *rest, **more)._replace(status="error", error_class="OSError")

    original = node.isolation.run
    monkeypatch.setattr(node.isolation, "run", failing)
    for _ in range(5):
        node.intent("fs.read", path="a.txt")


BREAKS = {
    "responsiveness": (break_authority, BAD), "authorization": (break_authorization, BAD), "registry": (break_registry, BAD),
    "memory": (break_memory, BAD), "audit_log": (break_audit_log, BAD), "audit_log: HEAD": (break_head, BAD),
    "log_map": (break_log_map, BAD), "capabilities": (break_capabilities, WARNING),
}  # fmt: skip


@pytest.mark.requirement("RUNBOOK-8.1")
@pytest.mark.parametrize("name", BREAKS)
def test_one_broken_part_flips_its_check_alone(
    node: Controlled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Each probe is of the real thing: what was broken is found, under its own name, and what was not is not."""
    looking = Looking(watched(node, tmp_path))
    looking.look(1)
    spoil, expected = BREAKS[name]
    spoil(node, monkeypatch)
    wrong = {check: result for check, result in found(looking.look(2)).items() if result != OK}
    assert wrong == {name.partition(":")[0]: expected}


def test_an_engine_of_another_policy_is_found_though_it_answers_alike(node: Controlled, tmp_path: Path) -> None:
    """One permit more, for a call that no probe makes: the digest is another than the recorded one."""
    manifests = list(node.authority.engines.engines(node.state.node).manifests.values())
    more = '@id("more") permit (principal, action == Action::"fs.read", resource) when { context has path && context.path == "x" };'
    other = PolicyEngine.load(POLICY + more, manifests)
    node.authority.engines.dressed(lambda made: made._replace(policy=lambda: other))
    assert found(Looking(watched(node, tmp_path)).look(1))["authorization"] == BAD


def test_a_record_that_was_replaced_by_another_valid_one_is_found(node: Controlled, tmp_path: Path) -> None:
    """A whole other history and its HEAD behind the writer's back: every checksum of it is right."""
    looking = Looking(watched(node, tmp_path))
    node.intent("fs.read", path="b.txt")
    assert found(looking.look(1))["audit_log"] == OK
    other = Controlled(policy=POLICY)
    while other.log.size < node.log.size:
        other.intent("fs.read", path="c.txt")
    assert other.log.size == node.log.size
    node.storage.records.update({index: other.storage.records[index] for index in list(node.storage.records)})
    node.storage.slots[:] = other.storage.slots
    assert found(looking.look(2))["audit_log"] == BAD


def test_a_changed_switch_on_record_is_no_difference(node: Controlled, tmp_path: Path) -> None:
    """The registry is folded on from the log: what operators change is followed."""
    looking = Looking(watched(node, tmp_path))
    looking.look(1)
    body = json.loads(node.state.node.configuration.content)
    body["capabilities"]["shell"]["enabled"] = False
    node.control("claw.disable", "shell", config.canonical(body))
    assert not node.state.node.registry["shell"].enabled
    assert found(looking.look(2))["registry"] == OK


@pytest.mark.parametrize(
    ("serving", "expected"),
    [
        ({"executes": True, "role": "leader", "leader": "a", "epoch": 2}, OK),
        ({"executes": False, "role": "follower", "leader": "b", "leader_age_ms": 5}, OK),
        ({"executes": False, "role": "follower", "leader": "b", "leader_age_ms": 60_000}, WARNING),
        ({"executes": False, "role": "follower", "leader": "", "leader_age_ms": 0}, WARNING),
        ({"executes": False, "role": "follower", "leader": "b", "leader_age_ms": 5, "frozen": "x"}, BAD),
    ],
)
def test_a_member_is_asked_for_its_replication(
    node: Controlled, tmp_path: Path, serving: dict[str, Any], expected: str
) -> None:
    """Role, leader and its silence; a follower's registry and policy are those of what is committed."""
    told = Watched(Home(str(tmp_path)), node.log, None, lambda: node.log.size, lambda: serving | {"member": "a"})
    checks = found(Looking(told).look(1))
    assert checks["replication"] == expected
    assert {result for name, result in checks.items() if name != "replication"} == {OK}


class Watch:
    """A monitor over a node in memory, its rounds one at a time."""

    def __init__(self, node: Controlled, folder: Path, **more: Any) -> None:
        self.node = node
        self.told: list[Observation] = []
        self.monitor = Monitor(Home(str(folder)), node.sources, 60.0, self.record, **more)
        self.monitor.watch(watched(node, folder))

    def record(self, event: Observation) -> bool:
        self.node.authority.perform(commands.Observe(event))
        self.told.append(event)
        return True

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.told if isinstance(event, kind)]


@pytest.mark.requirement("RUNBOOK-8.2", "RUNBOOK-7.1")
def test_a_look_is_recorded_at_first_when_it_differs_and_every_tenth_time(
    node: Controlled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the log is not flooded, and no change is missed; every record names the six indicators."""
    watch = Watch(node, tmp_path)
    for _ in range(1 + EVERY):
        watch.monitor.look()
    assert [event.cause for event in watch.of(events.HealthChecked)] == ["start", "interval"]
    monkeypatch.setattr(node.storage, "room", lambda: 0)
    watch.monitor.look()
    watch.monitor.look()
    monkeypatch.undo()
    watch.monitor.look()
    told = watch.of(events.HealthChecked)
    assert [(event.cause, event.result) for event in told[2:]] == [("change", BAD), ("change", OK)]
    for event in told:
        names = set(event.checks[::2])
        assert names >= {"responsiveness", "authorization", "capabilities", "memory", "audit_log", "monitors"}
    watch.monitor.look("request", record=True)
    assert watch.of(events.HealthChecked)[-1].cause == "request"


@pytest.mark.requirement("RUNBOOK-7.2", "RUNBOOK-27.2")
@pytest.mark.parametrize("name", ["authorization", "audit_log", "log_map", "capabilities"])
def test_a_failing_check_raises_one_alert_until_it_is_well_again(
    node: Controlled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Within one round; with source, rule and severity; and not again with every look."""
    watch = Watch(node, tmp_path)
    watch.monitor.once()
    BREAKS[name][0](node, monkeypatch)
    for _ in range(3):
        watch.monitor.once()
    (alert,) = watch.of(events.AlertRaised)
    assert (alert.rule, alert.source, alert.incident_id) == (f"health.{name}", "health", "")
    assert alert.severity == {"audit_log": 1, "capabilities": 3}.get(name, 2)
    assert name in alert.detail
    assert alert.evidence and all(1 <= int(index) <= node.log.size for index in alert.evidence)
    if name == "log_map":
        node.control("alert.acknowledge", alert.alert_id, {})
        assert alert.alert_id not in node.state.node.operations.alerts


def test_a_check_that_was_well_meanwhile_alerts_again(
    node: Controlled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time that it fails is news."""
    watch = Watch(node, tmp_path)
    for _ in range(2):
        monkeypatch.setattr(node.storage, "room", lambda: 0)
        watch.monitor.once()
        monkeypatch.undo()
        watch.monitor.once()
    assert [alert.rule for alert in watch.of(events.AlertRaised)] == ["health.log_map", "health.log_map"]


def test_what_a_detector_explains_is_reported_and_no_second_alert_raised(
    node: Controlled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The detectors get the look; what they find goes to whoever opens incidents."""
    seen: list[Looked] = []
    reported: list[Finding] = []

    def detector(looked: Looked) -> list[Finding]:
        seen.append(looked)
        check = looked.check("log_map")
        return [Finding("disk_low", "no room", check="log_map")] if check is not None and check.result == BAD else []

    watch = Watch(node, tmp_path, detectors=[detector], report=lambda looked, findings: reported.extend(findings))
    monkeypatch.setattr(node.storage, "room", lambda: 0)
    watch.monitor.once()
    assert [finding.kind for finding in reported] == ["disk_low"]
    assert watch.of(events.AlertRaised) == []
    assert (seen[0].before, seen[0].leads, seen[0].state.node.runtime_id) == (
        seen[0].size,
        True,
        node.state.node.runtime_id,
    )


def test_one_detector_that_raises_does_not_silence_the_others(node: Controlled, tmp_path: Path) -> None:
    """It is in the journal by its type alone: what it says may hold anything."""
    asked = []

    def failing(looked: Looked) -> list[Finding]:
        raise RuntimeError("hunter2")

    def detector(looked: Looked) -> list[Finding]:
        asked.append(looked.size)
        return []

    watch = Watch(node, tmp_path, detectors=[failing, detector])
    watch.monitor.once()
    assert asked
    journal = (tmp_path / "boot.journal").read_text()
    assert "RuntimeError" in journal
    assert "hunter2" not in journal
    assert watch.monitor.standing()["security"]["runs"] == 0
    assert watch.monitor.standing()["health"]["runs"] == 1


@pytest.mark.requirement("RUNBOOK-27.1")
@pytest.mark.parametrize("name", ["security", "compliance"])
def test_a_monitor_that_hangs_is_stalled_and_the_others_say_so(node: Controlled, tmp_path: Path, name: str) -> None:
    """Real threads: one monitor never comes back, an alert names it, and the other two go on."""
    release = threading.Event()

    def hanging(looked: Looked) -> list[Finding]:
        release.wait(30)
        return []

    told: list[Observation] = []
    more: dict[str, Any] = {"detectors": [hanging]} if name == "security" else {"compliance": hanging}
    monitor = Monitor(Home(str(tmp_path)), live(), 0.05, lambda event: told.append(event) is None, **more)
    monitor.watch(watched(node, tmp_path))
    monitor.start()
    try:
        until = time.monotonic() + 10
        while not any(isinstance(event, events.AlertRaised) for event in told) and time.monotonic() < until:
            time.sleep(0.02)
        (alert,) = [
            event for event in told if isinstance(event, events.AlertRaised) and event.rule == "monitor_stalled"
        ]
        assert (alert.source, alert.severity) == (name, 2)
        standing = monitor.standing()
        assert [each for each in standing if standing[each]["stalled"]] == [name]
        assert monitor.check().result == WARNING
        runs = standing["health"]["runs"]
        while monitor.standing()["health"]["runs"] <= runs and time.monotonic() < until:
            time.sleep(0.02)
        assert monitor.standing()["health"]["runs"] > runs
    finally:
        release.set()
        monitor.stop()


@pytest.mark.requirement("RUNBOOK-29.1")
def test_what_the_compliance_monitor_finds_is_one_alert(node: Controlled, tmp_path: Path) -> None:
    """While it lasts; and again when it comes back."""
    drifted = [Finding("files", "the policy is not the recorded one")]
    watch = Watch(node, tmp_path, compliance=lambda looked: list(drifted))
    watch.monitor.once()
    watch.monitor.once()
    drifted.clear()
    watch.monitor.once()
    drifted.append(Finding("files", "the policy is not the recorded one"))
    watch.monitor.once()
    assert [alert.rule for alert in watch.of(events.AlertRaised)] == ["noncompliance", "noncompliance"]


def test_a_node_that_follows_leaves_what_is_new_in_its_journal(node: Controlled, tmp_path: Path) -> None:
    """Nothing is recorded there, and nothing is lost."""
    size = node.log.size
    monitor = Monitor(Home(str(tmp_path)), node.sources, 60.0, lambda event: False)
    monitor.watch(
        Watched(Home(str(tmp_path)), node.log, None, lambda: size, lambda: {"member": "a"} | SINGLE | {"epoch": 1})
    )
    monitor.once()
    assert '"event": "HealthChecked"' in (tmp_path / "boot.journal").read_text()
    assert node.log.size == size


def test_a_look_that_cannot_be_recorded_is_tried_again(node: Controlled, tmp_path: Path) -> None:
    """A refusal is no reason to forget what was found."""
    watch = Watch(node, tmp_path)
    refusing: list[Authority] = [node.authority]
    performing = node.authority.perform

    def refuse(command: Any) -> Any:
        if refusing:
            raise LogFailedError("not now")
        return performing(command)

    node.authority.perform = refuse  # type: ignore[method-assign]
    watch.monitor.look()
    assert watch.told == []
    refusing.clear()
    watch.monitor.look()
    assert [event.cause for event in watch.of(events.HealthChecked)] == ["start"]


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    until = time.monotonic() + 5
    while any(each.name.startswith("monitor-") for each in threading.enumerate()) and time.monotonic() < until:
        time.sleep(0.01)
    assert not [each.name for each in threading.enumerate() if each.name.startswith("monitor-")]


@pytest.mark.parametrize(("free", "signed"), [(0, 0), (limits.DISK_RESERVE_BYTES, 0), (1 << 40, 1)])
def test_no_checkpoint_is_signed_where_it_may_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, signed: int
) -> None:
    """A file that does not fit stops the log; an append that is refused does not."""
    observing: Any = object.__new__(Observing)
    calls: list[int] = []
    observing.__dict__.update(_home=Home(str(tmp_path)), _vouch=lambda: calls.append(1), _lines=None)
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=free, f_frsize=1))
    observing._sample_health(SimpleNamespace(checks=()))
    assert len(calls) == signed
