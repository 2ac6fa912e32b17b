"""What every drill is made of: machines in a folder of its own, steps that are told, and checks that end it when they do not hold.

Everything that a drill does to a node it does as an operator would, by commands in processes of their own. Only the fault itself is
built by hand.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from femtoclaw.cli.cluster_demo_machines import Machine
from femtoclaw.cli.render import Output
from femtoclaw.errors import AnswerIsNoError

AnyMachine = TypeVar("AnyMachine", bound=Machine)

POLICY = """\
@id("work")
permit (principal, action in [Action::"fs.read", Action::"fs.list", Action::"fs.write"], resource);
@id("sleep")
permit (principal, action == Action::"shell", resource) when { context.binary == "/bin/sleep" };
"""


class DrillFailedError(AnswerIsNoError):
    """A drill found something else than the runbook says: the node, or the runbook, is not what it should be."""

    code = "DRILL_FAILED"
    default_remedy = "run it with --keep DIR, and look at the homes and the boot journals in there"


class Kind(NamedTuple):
    """A drill of the list: its name, what it builds, the section of docs/runbook.md that it walks, and how."""

    name: str
    what: str
    section: str
    run: Callable[[Drill], None]


class Drill:
    """One drill under way in ``folder``."""

    def __init__(self, name: str, folder: str, output: Output) -> None:
        self.name = name
        self.folder = folder
        self.output = output
        self.steps: list[dict[str, Any]] = []
        self._machines: list[Machine] = []
        self._began_s = time.monotonic()

    # --- the story ---

    def step(self, title: str) -> None:
        """Begin a step."""
        self._began_s = time.monotonic()
        self.output.line(f"  {len(self.steps) + 1}. {title}", "bold")
        self.steps.append({"title": title})

    def proved(self, text: str, **facts: Any) -> None:
        """What the step has shown."""
        self.steps[-1] |= {"proved": text, "seconds": round(time.monotonic() - self._began_s, 2)} | facts
        self.output.line(f"     proved: {text}", "green")

    def check(self, what: str, found: Any, expected: Any) -> None:
        """Raises DrillFailedError unless they are equal."""
        if found != expected:
            raise DrillFailedError(f"{self.name}: {what}", where=self.folder, expected=expected, found=str(found)[:600])

    # --- machines ---

    def machine(self, name: str = "node") -> Machine:
        """A machine without a home so far."""
        return self.adopt(Machine(self.folder, name, self.output))

    def adopt(self, made: AnyMachine) -> AnyMachine:
        """A machine that ends with this drill."""
        self._machines.append(made)
        return made

    def node(self, name: str = "node", made: Machine | None = None) -> Machine:
        """A machine (``made``, or a new one) with a node that has done some work: a file written and read, a call denied."""
        made = made or self.machine(name)
        policy = self.file("policy.cedar", POLICY)
        claws = [word for claw in ("fs.read", "fs.list", "fs.write", "shell") for word in ("--enable", claw)]
        made.call("init", *claws, "--binary", "/bin/sleep", "--policy", policy, show=False)
        for number in range(3):
            self.write(made, f"report-{number}.txt", show=False)
        made.call("intent", call("web.get", url="https://example.org/"), expect=1, show=False)
        return made

    def write(self, machine: Machine, name: str, *, show: bool = True) -> dict[str, Any]:
        """Have one file written: an execution with an effect."""
        return machine.call("intent", call("fs.write", path=name, content=name, mode="create"), show=show)

    def file(self, name: str, text: str) -> str:
        """A file beside the homes."""
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def recorded(self, machine: Machine, kind: str) -> list[dict[str, Any]]:
        """The recorded events of this kind: the audit trail."""
        code, lines = machine.run("log", "--kind", kind, "--limit", "0", show=False)
        self.check("the log can be read", code, 0)
        return [each for each in lines if each.get("type") == kind]

    def sound(self, machine: Machine) -> dict[str, Any]:
        """``verify`` and ``replay`` find nothing; what ``verify`` answers."""
        report = machine.call("verify")
        self.check("verify finds nothing", (report["ok"], report["findings"]), (True, []))
        again = machine.call("replay")
        self.check("replay finds nothing", again["divergences"], [])
        return report

    def end(self) -> None:
        """End every process that is left."""
        for machine in self._machines:
            machine.abandon()


def call(tool: str, **args: Any) -> str:
    """A proposal, as a brain would write it."""
    return json.dumps({"tool_call": {"tool": tool, "args": args}})
