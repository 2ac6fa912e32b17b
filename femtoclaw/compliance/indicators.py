"""Measurement of the monitor: one indicator at a time is made to fail, and what it raises within two rounds is counted."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from femtoclaw import events
from femtoclaw.boot import Started
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.session import Quiet
from femtoclaw.compliance.simulation import Simulated
from femtoclaw.compliance.twin import call
from femtoclaw.config import EMBEDDED
from femtoclaw.home import Home
from femtoclaw.monitoring.looking import ANSWER_S
from femtoclaw.monitoring.observing import Observing

ROUNDS = 2
"""Of the monitor, after the failure: an alert comes within two intervals or not at all."""

_ALTERED_BYTE = 60
_FAILURES = 5


class Raised(NamedTuple):
    """Rules of the alerts before the failure, and of those in the rounds after it."""

    before: tuple[str, ...]
    after: tuple[str, ...]


class _Scene:
    """A node in memory with everything that observes a served one."""

    def __init__(self, home: Home) -> None:
        self.node = node = Simulated()
        effective = EMBEDDED["observability"] | {"log": "telemetry.jsonl"}
        self.observing = Observing(home, node.sources, Quiet(), effective, incidents=False, compliance=_nothing)
        started: Any = Started(home, node.sources, node.log, node.authority, None, (), (), (), None, None)  # type: ignore[arg-type]
        self.observing.lead(started)
        for _ in range(3):
            node.runtime.intent(call("fs.read", path="notes.txt"))

    def rules(self) -> tuple[str, ...]:
        """Of every alert on record, oldest first."""
        happened = (event for each in self.node.recorded for event in each.events)
        return tuple(event.rule for event in happened if isinstance(event, events.AlertRaised))


def _nothing(looked: object) -> list[Any]:
    """A node in memory has no files of its own to compare."""
    return []


def _gate_raises(scene: _Scene) -> None:
    def gone(*_: object) -> Any:
        raise RuntimeError("gone")

    node = scene.node
    object.__setattr__(node.authority.engines.engines(node.authority.state.node).policy(), "_ask", gone)


def _claw_fails(scene: _Scene) -> None:
    isolation: Any = scene.node.isolation
    run = isolation.run

    def failing(*given: Any, **more: Any) -> Any:
        return run(*given, **more)._replace(status="error", result=None, error={"class": "OSError", "message": ""})

    isolation.run = failing
    for _ in range(_FAILURES):
        scene.node.runtime.intent(call("fs.read", path="notes.txt"))


def _map_is_full(scene: _Scene) -> None:
    storage: Any = scene.node.storage
    storage.room = lambda: 0


def _chain_breaks(scene: _Scene) -> None:
    storage = scene.node.storage
    index = scene.node.log.size - 1
    raw = bytearray(storage.records[index])
    raw[_ALTERED_BYTE] ^= 1
    storage.records[index] = bytes(raw)


def _telemetry_disk_is_full(scene: _Scene) -> None:
    sink = scene.observing._lines
    assert sink is not None

    def write(items: list[Any]) -> None:
        with open("/dev/full", "wb", 0) as file:
            file.write(b"\n" * len(items))

    sink._write = write
    sink.start()
    sink.offer({})
    sink.flush(0.2)


def _loop_hangs(scene: _Scene) -> None:
    """The authority is held for longer than a look waits for it."""
    lock, held, over = scene.node.authority._lock, threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            over.wait(ANSWER_S + 0.3)

    threading.Thread(target=hold, daemon=True).start()
    held.wait(ANSWER_S)


FAILURES: dict[str, tuple[str, Callable[[_Scene], None]]] = {
    "the gate raises": ("health.authorization", _gate_raises),
    "a claw fails 5 times of 5": ("health.capabilities", _claw_fails),
    "the log's map is full": ("health.log_map", _map_is_full),
    "the chain does not match": ("health.audit_log", _chain_breaks),
    "the disk of the telemetry is full": ("health.telemetry", _telemetry_disk_is_full),
    "the loop hangs": ("health.responsiveness", _loop_hangs),
}
"""By what fails: the rule of the alert that must come of it, and what makes it so."""


def indicators(laboratory: Laboratory) -> dict[str, Raised]:
    """What each failure raises: the real monitor, over a real authority and log in memory."""
    found = {}
    for name, (_, fail) in FAILURES.items():
        path = laboratory.place("indicator")
        os.mkdir(path, 0o700)
        scene = _Scene(Home(path))
        try:
            scene.observing.monitor.once()
            before = scene.rules()
            fail(scene)
            for _ in range(ROUNDS):
                scene.observing.monitor.once()
            found[name] = Raised(before, scene.rules()[len(before) :])
        finally:
            scene.observing.pause()  # what is broken is read no more
            scene.observing.stop(0.1)
    return found
