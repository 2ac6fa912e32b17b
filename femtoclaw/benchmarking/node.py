"""The home that is measured, made for the run, and that home open in this process, with clocks around its parts.

It has a key and a log of its own. Mode, environment, agent and the other settings that decide about a call are those of the
operator's home; what differs is named in the result.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from femtoclaw import config
from femtoclaw.benchmarking import workload
from femtoclaw.boot import start, stop
from femtoclaw.claws import SHIPPED
from femtoclaw.cli.execute import claws_isolation
from femtoclaw.cli.render import Output
from femtoclaw.config import resolve
from femtoclaw.engines import Engines
from femtoclaw.errors import CommandError, FemtoClawError
from femtoclaw.gate import NO_SECRETS, Gate, Isolation
from femtoclaw.home import Home, claw_names, effective_configuration
from femtoclaw.isolation import Outcome
from femtoclaw.manifest import Manifest
from femtoclaw.provision import initialize
from femtoclaw.runtime import Runtime, StepResult
from femtoclaw.sources import live

OWN_KEYS = {
    "runtime": ("concurrency_max", "drain_s", "brain", "brains"), "capabilities": (), "policy": (), "memory": ("map_bytes",),
    "observability": (), "security": ("workspace",),
}  # fmt: skip
"""Keys that are the bench's own, by domain; () is all of a domain."""

CARRIED = ("environment", "agent", "steps_max")
"""Keys of ``runtime`` that are taken over where they are set otherwise than by default; the mode is given at the beginning."""


class Quiet(Output):
    """An output that nobody reads."""

    def __init__(self) -> None:
        super().__init__(as_json=False)

    def _print(self, text: str) -> None:
        """Nothing."""

    def error(self, text: str) -> None:
        """Nothing."""


def make_home(folder: str, operators: Home | None, concurrency: int) -> Home:
    """A new home in ``folder`` with the bench's policy, whose settings are those of ``operators``. Raises the errors of
    ``initialize`` and of a refused setting."""
    production = effective_of(operators)
    home = Home(os.path.join(folder, "home"))
    binaries = [path for path in workload.BINARIES if os.path.exists(path)]
    initialize(
        home, enable=list(workload.ENABLED), binaries=binaries, policy=workload.POLICY, operator="bench", sources=live(),
        mode=production["runtime"]["mode"],
    )  # fmt: skip
    own = effective_of(home)
    wanted = {name: production["runtime"][name] for name in CARRIED} | {"concurrency_max": max(64, concurrency)}
    changes = [f"runtime.{name}={json.dumps(wanted[name])}" for name in wanted if wanted[name] != own["runtime"][name]]
    if production["security"]["allow_root"] and not own["security"]["allow_root"]:
        changes.append("security.allow_root=true")
    if changes:
        _configure(home, changes)
    for name in ("out", "notes"):
        os.makedirs(os.path.join(home.path, "workspace", name), exist_ok=True)
    with open(os.path.join(home.path, "workspace", "notes.txt"), "w", encoding="ascii") as file:
        file.write("Ship on Friday.\n")
    return home


def _configure(home: Home, changes: list[str]) -> None:
    import subprocess

    from femtoclaw.cli.cluster_demo_machines import command, environment

    done = subprocess.run(
        command("--home", home.path, "config", "set", *changes, "--as", "bench"), capture_output=True, check=False, timeout=60,
        env=environment(),
    )  # fmt: skip
    if done.returncode:
        raise CommandError("the bench's home takes no setting", found=done.stderr.decode(errors="replace")[-300:])


def effective_of(home: Home | None) -> dict[str, Any]:
    """A home's effective configuration; without a home that of a new one, in which root is allowed where root makes it."""
    if home is None or not os.path.exists(home.config_file):
        return resolve({"security": {"allow_root": os.geteuid() == 0}}, "the embedded configuration", None)
    return effective_configuration(home, claw_names(SHIPPED))


def configuration_beside(own: dict[str, Any], production: dict[str, Any]) -> dict[str, Any]:
    """Both configurations by digest, whole and without the keys that are the bench's own."""
    rest = {name: config.digest(json.dumps(_rest(each), sort_keys=True).encode()) for name, each in
            (("bench_rest", own), ("production_rest", production))}  # fmt: skip
    differing = sorted(
        f"{domain}.{key}"
        for domain, keys in OWN_KEYS.items() for key in own[domain].keys() | production[domain].keys()
        if (not keys or key in keys) and own[domain].get(key) != production[domain].get(key)
    )  # fmt: skip
    whole = {"bench": config.digest(config.canonical(own)), "production": config.digest(config.canonical(production))}
    return whole | rest | {"differing": differing, "mode": own["runtime"]["mode"]}


def _rest(effective: dict[str, Any]) -> dict[str, Any]:
    """What both must have in common."""
    found = {}
    for domain, values in effective.items():
        keys = OWN_KEYS[domain]
        found[domain] = {key: value for key, value in values.items() if keys and key not in keys}
    return found


class TimedIsolation:
    """An isolation whose calls are timed: ``dispatched`` is told wall and claw's own nanoseconds of each."""

    def __init__(self, inner: Isolation) -> None:
        self._inner = inner
        self.dispatched: Callable[[int, int], None] = lambda wall, own: None

    def run(
        self, manifest: Manifest, args: dict[str, Any], settings: dict[str, Any], *, idempotency_key: str = "",
        secrets: Mapping[str, str] = NO_SECRETS,
    ) -> Outcome:  # fmt: skip
        """As the isolation does."""
        begun = time.perf_counter_ns()
        outcome = self._inner.run(manifest, args, settings, idempotency_key=idempotency_key, secrets=secrets)
        self.dispatched(time.perf_counter_ns() - begun, max(0, outcome.ended_ns - outcome.started_ns))
        return outcome

    def layers(self) -> dict[str, str]:
        """The layers in force."""
        return self._inner.layers()

    def close(self) -> None:
        """Stop it."""
        self._inner.close()


class BenchNode:
    """The bench's home, open for work in this process: real engines, a real log, real sandboxes."""

    def __init__(self, home: Home) -> None:
        """Raises the errors of a start."""
        self.home = home
        self.started = start(home, live())
        recorded = json.loads(self.started.authority.state.node.configuration.content)
        self.settings = resolve(recorded, "the recorded configuration", None)
        self.isolation = TimedIsolation(claws_isolation(self.started, self.settings, Quiet()))
        self.gate = Gate(self.isolation, lambda: self.started.authority.state)
        self.runtime = self._runtime(self.gate)

    def _runtime(self, gate: Gate) -> Runtime:
        return Runtime(
            self.started.log, self.started.authority, gate, self.started.sources,
            concurrency_max=self.settings["runtime"]["concurrency_max"],
        )  # fmt: skip

    @contextlib.contextmanager
    def another(self) -> Iterator[tuple[Runtime, TimedIsolation]]:
        """The same node with a sandbox whose fork server has not been started, behind a gate of its own."""
        isolation = TimedIsolation(claws_isolation(self.started, self.settings, Quiet()))
        gate = Gate(isolation, lambda: self.started.authority.state)
        try:
            yield self._runtime(gate), isolation
        finally:
            gate.close()

    def intent(self, raw: bytes) -> StepResult:
        """One execution, as any."""
        return self.runtime.intent(raw)

    def engines(self) -> Engines:
        """Validator and policy in force."""
        return self.started.authority.engines.engines(self.started.authority.state.node)

    def close(self) -> None:
        """Stop claws and node in order."""
        self.gate.close()
        stop(self.started, "the bench ended")


@contextlib.contextmanager
def opened(home: Home) -> Iterator[BenchNode]:
    """The node, stopped in order whatever happens inside."""
    node = BenchNode(home)
    try:
        yield node
    finally:
        with contextlib.suppress(FemtoClawError):
            node.close()
