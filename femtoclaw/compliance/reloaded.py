"""Measurement of a served twin whose configuration is changed while it decides: once to none, and once to another."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
import os
import threading
import time
from typing import Any, NamedTuple

from femtoclaw.authorization import CallContext, inputs_digest
from femtoclaw.compliance.laboratory import Answer, Laboratory
from femtoclaw.compliance.trails import Trail, read_trail
from femtoclaw.compliance.twin import Serving, call, serving, twin

CALLERS = 3
ENVIRONMENT = "staging"


class Reloaded(NamedTuple):
    """What the commands answered; the digests in force before, after the rejected one and after the good one; and of each decision
    at work the index and the digest of the configuration that it was made with: empty for none of those on record."""

    answers: dict[str, Answer]
    digests: tuple[str, str, str]
    decided: list[tuple[int, str]]
    trail: Trail


def reloaded(laboratory: Laboratory) -> Reloaded:
    """Serve a twin; let some callers work; ask for a configuration that is none, for a file that is none, and for another one."""
    home = laboratory.copy(laboratory.once(twin), "reloaded")
    bad = laboratory.place("bad.toml")
    with open(bad, "w") as file:
        file.write("[runtime\nsteps_max = many\n")
    over = threading.Event()
    with serving(laboratory, home) as served:
        callers = [threading.Thread(target=_work, args=(served, over)) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        try:
            digests = [_digest(served)]
            answers = {
                "out of bounds": laboratory.run(home, "config", "set", "runtime.steps_max=0"),
                "no TOML": laboratory.run(home, "config", "set", "--file", bad),
            }
            digests.append(_digest(served))
            answers["good"] = laboratory.run(home, "config", "set", f'runtime.environment="{ENVIRONMENT}"')
            digests.append(_digest(served))
            time.sleep(0.2)
        finally:
            over.set()
            for caller in callers:
                caller.join(30)
    trail = read_trail("reloaded", os.path.join(home, "log"))
    return Reloaded(answers, (digests[0], digests[1], digests[2]), _decided(trail), trail)


def _work(served: Serving, over: threading.Event) -> None:
    while not over.is_set():
        served.client.intent(call("fs.list", path="."))


def _digest(served: Serving) -> str:
    """The digest that the node says is in force."""
    return str(served.client.status().get("configuration", {}).get("digest", ""))


def _decided(trail: Trail) -> list[tuple[int, str]]:
    """Each decision on a call, with the digest of the configuration from which its inputs' digest follows."""
    configurations: dict[str, dict[str, Any]] = {
        each.event.digest: json.loads(each.event.content) for each in trail.of("ConfigurationAdopted")
    }
    found = []
    for each in trail.of("AuthorizationDecided"):
        event = each.event
        if not event.claw:
            continue
        of = ""
        for digest, body in configurations.items():
            context = CallContext("operator", "intent", "", 0, body["runtime"]["environment"])
            if (
                inputs_digest(event.call_digest, event.manifest_digest, event.policy_digest, digest, context)
                == event.inputs_digest
            ):
                of = digest
        found.append((each.index, of))
    return found
