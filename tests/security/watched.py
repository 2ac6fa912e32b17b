"""A process whose every audited act is written down while it runs intents through the command line. Run by path:

    watched.py OUT HOME MESSAGE...        each message as `femtoclaw --home HOME intent MESSAGE`
    watched.py OUT HOME --in-process WORKSPACE SETTINGS MESSAGE...   the claws' own functions, here: what must never be

OUT gets one JSON object for each act: in which phase, which event, with which arguments. A phase is the name of a claw
from the moment its start is durable until its result is; ``-`` is the rest.
"""

from __future__ import annotations

import json
import sys
from typing import Any

NOTED: list[tuple[str, str, str, str]] = []
phase = "-"
SILENT = (
    "object.__",
    "sys.",
    "code.",
    "compile",
    "exec",
    "marshal.",
    "builtins.id",
    "gc.",
    "cpython.",
    "array.",
    "pickle.",
)
"""Acts that reach nothing outside of this process."""


def note(event: str, arguments: tuple[Any, ...]) -> None:
    """The audit hook: never removed, never fails."""
    if event.startswith(SILENT) and event != "sys.addaudithook":
        return
    callers, frame = [], sys._getframe(1)
    while phase != "-" and frame is not None and len(callers) < 30:
        callers.append(frame.f_code.co_filename)
        frame = frame.f_back  # type: ignore[assignment]
    NOTED.append((phase, event, repr(arguments)[:2000], " ".join(callers)))


def watch_phases() -> None:
    """Mark what happens between a durable start and its durable result."""
    from femtoclaw import commands, events
    from femtoclaw.authority import Authority, Recorded

    perform = Authority.perform

    def marked(self: Authority, command: commands.Command) -> Recorded:
        global phase
        recorded = perform(self, command)
        if isinstance(recorded.events[-1], events.ExecutionStarted):
            phase = recorded.events[-1].claw
        elif isinstance(command, commands.RecordOutcome):
            phase = "-"
        return recorded

    Authority.perform = marked  # type: ignore[method-assign]


def through_the_command_line(home: str, messages: list[str]) -> None:
    from femtoclaw.cli.main import run

    watch_phases()
    for message in messages:
        sys.stdout.flush()
        code = run(["--json", "--home", home, "intent", message])
        assert code == 0, (code, message)


def in_this_process(workspace: str, settings: str, messages: list[str]) -> None:
    global phase
    from importlib import import_module

    from femtoclaw.claws import SHIPPED

    entries = {claw.name: claw.entry for claw in SHIPPED}
    for message in messages:
        call = json.loads(message)["tool_call"]
        module, function = entries[call["tool"]].split(":")
        execute = getattr(import_module(module), function)
        phase = call["tool"]
        execute(call["args"], workspace, json.loads(settings).get(call["tool"], {}))
        phase = "-"


def main() -> None:
    out, home, *rest = sys.argv[1:]
    sys.addaudithook(note)
    try:
        if rest[0] == "--in-process":
            in_this_process(rest[1], rest[2], rest[3:])
        else:
            through_the_command_line(home, rest)
    finally:
        told = list(NOTED)
        with open(out, "w") as file:
            file.writelines(json.dumps(each) + "\n" for each in told)


if __name__ == "__main__":
    main()
