"""Drills of a cluster of three on the loopback, whose log one member owns: a follower that was away, and a majority that is."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from femtoclaw.cli.cluster_demo_machines import Machine, until
from femtoclaw.drills.drill import Drill, call

MISSED = 8
"""Executions while a follower is away."""


def stale_follower(drill: Drill) -> None:
    """A follower misses what happens meanwhile."""
    drill.step("Three members; one of them stops, and work goes on")
    a, b, c = _together(drill)
    c.end(signal.SIGKILL)
    for number in range(MISSED):
        drill.write(a, f"missed-{number}.txt", show=False)
    behind = a.size() - c.size()
    status = a.call("cluster", "status")
    silent = [row["name"] for row in status["members"] if not row["answers"]]
    drill.check("the one that is away is named", silent, ["c"])
    drill.proved(f"c lacks {behind} records; the other two acknowledge", behind=behind)
    drill.step("It comes back")
    c.serve()
    c.listening()
    _whole(drill, a)
    drill.check("it has the leader's records", (c.size(), c.journal(0) != []), (a.size(), True))
    drill.proved("it caught up by itself, record by record verified", size=a.size())
    _all_stopped(drill, [a, b, c])


def lost_quorum(drill: Drill) -> None:
    """Two of three members are gone: nothing is acknowledged, and nothing is lost."""
    drill.step("Three members; two of them are killed")
    a, b, c = _together(drill)
    for each in (b, c):
        each.end(signal.SIGKILL)
    code, lines = a.run("intent", call("fs.write", path="unanswered.txt", content="x", mode="create"))
    drill.check("no answer counts without a majority", code in (4, 5), True)
    drill.proved(f"exit {code}: {lines[-1]['error']['what']}")
    drill.step("One comes back")
    b.serve()
    b.listening()
    until(lambda: _answered(drill, a, "answered"), "an execution is acknowledged again")
    drill.proved("two of three acknowledge; what was said before was not repeated")
    drill.step("All of them")
    c.serve()
    c.listening()
    _whole(drill, a)
    drill.proved("every member has everything", size=a.size())
    _all_stopped(drill, [a, b, c])


def _together(drill: Drill) -> list[Machine]:
    """A node, two others let in and given a vote: all three serve, and each has everything."""
    first = drill.node("a")
    others = [drill.machine(name) for name in "bc"]
    first.call("cluster", "init", *first.place, "--coordinator", "static", show=False)
    first.serve()
    with ThreadPoolExecutor() as pool:
        asked = [
            pool.submit(each.call, "cluster", "request", *each.place, "--out", each.file("request"), show=False)
            for each in others
        ]
        for request in asked:
            request.result()
    first.listening()
    until(lambda: first.run("cluster", "status", show=False)[0] == 0, "a leads")
    for each in others:
        first.call("cluster", "join", each.file("request"), "--out", each.file("invitation"), show=False)
        each.call("cluster", "accept", each.file("invitation"), "--key", first.inside("keys/node.pub"), show=False)
        each.serve()
    for each in others:
        each.listening()
        _vote(first, each)
    _whole(drill, first)
    return [first, *others]


def _vote(leader: Machine, member: Machine) -> None:
    """Wait until it has everything, and give it a vote."""
    promote = ("cluster", "promote", member.name)
    until(lambda: leader.run(*promote, show=False)[0] == 0, f"{member.name} has a vote")


def _whole(drill: Drill, leader: Machine) -> dict[str, Any]:
    """Wait until all three answer and have everything."""
    found: dict[str, Any] = {}

    def ready() -> bool:
        code, lines = leader.run("cluster", "status", show=False)
        found.clear()
        found.update(lines[-1])
        rows = found.get("members", [])
        return code == 0 and len(rows) == 3 and all(row["answers"] and row["behind"] == 0 for row in rows)

    until(ready, "every member has everything")
    return found


def _answered(drill: Drill, machine: Machine, name: str) -> bool:
    """Whether an execution is acknowledged; each try writes a file of its own."""
    name = f"{name}-{len(drill.steps)}-{machine.size()}.txt"
    return machine.run("intent", call("fs.write", path=name, content=name, mode="create"))[0] == 0


def _all_stopped(drill: Drill, machines: list[Machine]) -> None:
    """The last step: all stop in order, and three logs are one history that verifies."""
    drill.step("Stop in order; three logs, one history")
    codes = [machine.end() for machine in machines]
    drill.check("each `serve` ended with exit 0", codes, [0, 0, 0])
    reports = [drill.sound(machine) for machine in machines]
    smallest = min(reports, key=lambda each: int(each["size"]))
    for machine, report in zip(machines, reports, strict=True):
        if report["size"] > smallest["size"]:
            machine.call("proof", "consistency", str(smallest["size"]), str(report["size"]), show=False)
        else:
            drill.check("equal sizes have equal roots", report["root"], smallest["root"])
    drill.proved(f"{smallest['size']} records are the same in all of them", root=smallest["root"])
