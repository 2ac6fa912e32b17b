"""Measurements of a twin that watches itself: what it makes of tampering, of denials in a burst, and of who acknowledges."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
import signal
import time
from typing import Any, NamedTuple

from femtoclaw.compliance.laboratory import Answer, Laboratory, end
from femtoclaw.compliance.starts import BREAKINGS
from femtoclaw.compliance.trails import Trail, read_trail
from femtoclaw.compliance.twin import call, serving, twin

PATIENCE_S = 12.0


class Monitored(NamedTuple):
    """The history of a served twin in whose files somebody edits; what it answered meanwhile, and who acknowledged."""

    trail: Trail
    during: Any
    answers: dict[str, Answer]
    status: dict[str, Any]
    seconds: float


def monitored(laboratory: Laboratory) -> Monitored:
    """Serve a twin that looks at itself every second; edit its configuration and policy; acknowledge an alert."""
    home = laboratory.copy(laboratory.once(twin), "monitored")
    answers = {
        "config": laboratory.run(
            home, "config", "set", "observability.health_interval_s=1", "observability.denial_burst=5"
        )
    }
    log = os.path.join(home, "log")
    with serving(laboratory, home) as served:
        for _ in range(8):
            served.client.intent(call("fs.read", path="prod.env"))
        begun = time.monotonic()
        _wait(log, lambda trail: "authorization_failures" in _kinds(trail))
        BREAKINGS["configuration changed"](home)
        _wait(log, lambda trail: "configuration_tampering" in _kinds(trail))
        seconds = time.monotonic() - begun
        BREAKINGS["policy changed"](home)
        _wait(log, lambda trail: "policy_tampering" in _kinds(trail))
        during = served.client.intent(call("fs.read", path="notes.txt"))
        alerts = read_trail("monitored", log).of("AlertRaised")
        if alerts:
            answers["acknowledge"] = laboratory.run(home, "incident", "acknowledge", alerts[0].event.alert_id)
        answers["health"] = laboratory.run(home, "health")
        status = served.client.status()
        end(served.process, signal.SIGTERM)
    return Monitored(read_trail("monitored", log), during, answers, status, seconds)


def _kinds(trail: Trail) -> set[str]:
    return {each.event.kind for each in trail.of("IncidentOpened")}


def _wait(log: str, there: Any) -> None:
    limit = time.monotonic() + PATIENCE_S
    while time.monotonic() < limit and not there(read_trail("monitored", log)):
        time.sleep(0.1)
