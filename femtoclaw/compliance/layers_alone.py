"""Measurement of the five layers of defence, each alone: the other four are not there, and one attack still fails (SECURITY-2.1).

The sandbox's own layers are switched off in fork servers of the laboratory, by modules that are written there and named to no
other: to these servers it is as if the kernel had no such layer. Nothing of that is part of the program.
"""

from __future__ import annotations

import os
from typing import Any

from femtoclaw.compliance.checking import CannotMeasureError
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.simulation import DENYING, SETTINGS, Simulated
from femtoclaw.compliance.twin import call
from femtoclaw.distribution import ROOT
from femtoclaw.errors import CapabilityError
from femtoclaw.isolation import Isolation, Outcome, answer
from femtoclaw.isolation.layers import REQUIRED
from femtoclaw.manifest import Limits, Manifest

PERMITTING = '@id("all") permit (principal, action, resource);'

OFF = {
    "landlock": "from femtoclaw.isolation import landlock\nlandlock.abi = lambda: 0\n",
    "seccomp": "from femtoclaw.isolation import seccomp\nseccomp.ours = lambda: None\n",
    "namespaces": "from femtoclaw.isolation import namespace\nnamespace.WANTED = ()\n",
    "user": "from femtoclaw.isolation import credentials\ncredentials.is_root = lambda: False\n",
}
"""What a fork server imports to be without a layer."""

ATTACKS = """
import os

def _tried(work):
    try:
        work()
    except OSError as error:
        return {"reached": False, "errno": error.errno}
    return {"reached": True}

def key(args, workspace, settings):
    return _tried(lambda: open(args["where"]).read())

def memory(args, workspace, settings):
    return _tried(lambda: os.close(os.memfd_create("x")))

def globals_of_the_node(args, workspace, settings):
    from femtoclaw.isolation import answer
    answer.VALUES_MAX = -1
    return {"reached": answer.VALUES_MAX == -1}

def end(args, workspace, settings):
    os.kill(os.getpid(), 11)
"""

SERVERS: dict[str, tuple[str, ...]] = {
    "landlock": ("seccomp", "namespaces", "user"),
    "seccomp": ("landlock", "namespaces", "user"),
    "nothing": tuple(OFF),
}
"""Which layer is left alone, and what is off."""

MALFORMED = (
    b"{", b'{"tool_call":{"tool":"fs.read","args":{"path":"notes.txt"}},"message":{"content":"x"}}',
    b'{"tool_call":{"tool":"fs.read","args":{"path":"notes.txt"},"approved":true}}',
    b'{"tool_call":{"tool":"fs.read","args":{"path":7}}}', b'I will read {"tool_call":{"tool":"fs.read"}}',
)  # fmt: skip


def layers_alone(laboratory: Laboratory) -> dict[str, Any]:
    """What was reached with one layer, and without any. Raises CannotMeasureError where fork servers cannot be without layers."""
    return {**_above(), **_sandboxes(laboratory)}


def _above() -> dict[str, Any]:
    """The two layers before anything is executed; behind them nothing confines, and nothing is executed either."""
    enabled = {"enabled": True}
    settings = SETTINGS | {"capabilities": SETTINGS["capabilities"] | {"system.info": enabled}}
    protocol, denying, neither = Simulated(PERMITTING, settings=settings), Simulated(DENYING), Simulated(PERMITTING)
    for raw in MALFORMED:
        protocol.runtime.intent(raw)
    valid = call("fs.read", path="notes.txt")
    denying.runtime.intent(valid)
    neither.runtime.intent(valid)
    return {
        "protocol": len(protocol.isolation.calls), "authorization": len(denying.isolation.calls),
        "neither": len(neither.isolation.calls),
    }  # fmt: skip


def _sandboxes(laboratory: Laboratory) -> dict[str, Any]:
    folder = laboratory.place("layers")
    workspace, path = os.path.join(folder, "workspace"), os.path.join(folder, "code")
    os.makedirs(workspace)
    os.mkdir(path)
    for name in ("femtoclaw", "wal", "cluster"):
        os.symlink(os.path.join(ROOT, name), os.path.join(path, name))
    for name, text in {**{f"without_{layer}": text for layer, text in OFF.items()}, "layer_attacks": ATTACKS}.items():
        with open(os.path.join(path, f"{name}.py"), "w") as file:
            file.write(text)
    key = os.path.join(folder, "key")
    with open(key, "w") as file:
        file.write("secret")
    found: dict[str, Any] = {}
    before = answer.VALUES_MAX
    for left, off in SERVERS.items():
        modules = (*(f"without_{layer}" for layer in off), "layer_attacks")
        sandbox = Isolation(workspace, modules=modules, search_path=path, accept_missing=REQUIRED)
        try:
            attacks = ("key", "memory") if left != "nothing" else ("key", "memory", "globals_of_the_node", "end", "key")
            outcomes = [_tried(sandbox, name, key) for name in attacks]
            found[left] = dict(zip((*attacks[:4], "again"), outcomes, strict=False))
            found[f"{left} in force"] = sandbox.layers()
        except CapabilityError as error:
            raise CannotMeasureError(f"no sandbox can be made here without some of its layers: {error.what}") from error
        finally:
            sandbox.close()
    return found | {"value": (before, answer.VALUES_MAX)}


def _tried(sandbox: Isolation, name: str, key: str) -> Outcome:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    attack = Manifest(
        "layer.attack",
        "1.0.0",
        "an attack",
        "system",
        schema,
        {},
        f"layer_attacks:{name}",
        limits=Limits(wall_seconds=10.0),
    )
    return sandbox.run(attack, {"where": key}, {})
