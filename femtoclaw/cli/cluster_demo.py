"""``demo --cluster``: three machines with one log; the one that leads is killed, and another goes on. On one machine's loopback."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

from femtoclaw.cli.cluster_demo_evidence import bundle, nothing_lost, verify
from femtoclaw.cli.cluster_demo_failover import come_back, kill
from femtoclaw.cli.cluster_demo_load import Answer, Load, check_recorded, write_entry
from femtoclaw.cli.cluster_demo_machines import Etcd, Machine, find_etcd, until
from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output
from femtoclaw.errors import ConfigurationError, FemtoClawError

POLICY = """\
@id("write-entries")
permit (principal, action == Action::"fs.write", resource) when { context.path like "entry-*.txt" };

@id("sleep-only")
permit (principal, action == Action::"shell", resource) when { context.binary == "/bin/sleep" };
"""

INTERRUPTING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Demo:
    """The machines, who leads, and what was told so far. The parts of the story are functions of it."""

    def __init__(self, folder: str, output: Output, etcd: str) -> None:
        self.folder = folder
        self.output = output
        self.steps: list[dict[str, Any]] = []
        self.machines = [Machine(folder, name, output) for name in "abc"]
        self.leader = self.machines[0]
        self.etcd_program = etcd
        self.etcd: Etcd | None = None
        self.answers: list[Answer] = []
        self.old = self.leader
        self.sleeping = ""
        self.epoch = 0
        self._began_s = time.monotonic()

    @property
    def others(self) -> list[Machine]:
        """Everyone but the leader."""
        return [machine for machine in self.machines if machine is not self.leader]

    def step(self, title: str) -> None:
        """Begin a step of the story."""
        self._began_s = time.monotonic()
        self.output.line()
        self.output.line(f"{len(self.steps) + 1}. {title}", "bold")
        self.steps.append({"title": title})

    def proved(self, text: str, **facts: Any) -> None:
        """What this step has shown."""
        self.steps[-1] |= {"proved": text, "seconds": round(time.monotonic() - self._began_s, 2)} | facts
        self.output.line(f"  proved: {text}", "green")

    def by(self, machine: Machine) -> tuple[str, ...]:
        """The operator's key, for an act on this machine: it was made on the first one."""
        return (
            ()
            if machine is self.machines[0]
            else ("--operator-key", self.machines[0].inside("keys/operators/root.key"))
        )

    def led_by(self, name: str = "") -> dict[str, Any]:
        """The status of a cluster of three that works, with everything everywhere, and that ``name`` leads."""
        found: dict[str, Any] = {}

        def ready() -> bool:
            code, lines = self.others[0].run("cluster", "status", show=False)
            found.clear()
            found.update(lines[-1])
            rows = found.get("members", [])
            return code == 0 and name in ("", found["leader"]) and all(row["behind"] == 0 for row in rows)

        until(ready, f"a cluster of which every member has everything{' under ' + name if name else ''}")
        return found

    def tell_members(self, status: dict[str, Any]) -> None:
        """One line a member, of what ``cluster status`` said."""
        for row in status["members"]:
            silent = f"does not answer: {row['why']}"
            told = f"{row['role']:<9} epoch {row['epoch']}, {row['size']} records" if row["answers"] else silent
            self.output.line(f"     {row['name']}  {told}")

    def end(self) -> None:
        """End every process that is left; nobody interrupts that."""
        for number in INTERRUPTING:
            signal.signal(number, signal.SIG_IGN)
        for machine in self.machines:
            machine.abandon()
        if self.etcd is not None:
            self.etcd.end()


def cluster_demo(arguments: Arguments, output: Output) -> int:
    """Run the whole story; 0 when every step showed what it claims, 1 when one did not."""
    etcd = "" if arguments.static else find_etcd()
    if arguments.keep is not None and os.path.lexists(arguments.keep):
        raise ConfigurationError("--keep needs a new directory", where=arguments.keep)
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_ending_in_order())
        if arguments.keep is not None:
            os.makedirs(arguments.keep, 0o700)
            folder = os.path.abspath(arguments.keep)
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="femtoclaw-cluster-"))
        demo = Demo(folder, output, etcd)
        stack.callback(demo.end)
        try:
            _story(demo)
        except FemtoClawError as error:
            error.exit_code = 1
            raise
    seconds = round(time.monotonic() - begun, 2)
    output.data({"ok": True, "seconds": seconds, "steps": demo.steps})
    output.line()
    output.line(f"all {len(demo.steps)} steps did what they claim, in {seconds} s", "green")
    return 0


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
    """Whoever ends this process has everything ended that it started."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = [(number, signal.signal(number, interrupt)) for number in INTERRUPTING]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _story(demo: Demo) -> None:
    _come_together(demo)
    _ask_a_follower(demo)
    if demo.etcd_program:
        _transfer(demo)
    kill(demo)
    nothing_lost(demo)
    come_back(demo)
    verify(demo)
    _stop(demo)
    bundle(demo)


def _come_together(demo: Demo) -> None:
    demo.step("Three machines, one log: make a node, let two others in, give them a vote")
    first, *others = demo.machines
    coordinator = ["--coordinator", "static"]
    if demo.etcd_program:
        demo.etcd = Etcd(demo.folder, demo.etcd_program)
        coordinator = ["--coordinator", "etcd", "--etcd", demo.etcd.endpoint]
    policy = os.path.join(demo.folder, "policy.cedar")
    with open(policy, "w") as file:
        file.write(POLICY)
    claws = ("--enable", "fs.write", "--enable", "shell", "--binary", "/bin/sleep")
    first.call("init", *claws, "--policy", policy)
    first.call("cluster", "init", *first.place, *coordinator)
    if demo.etcd is not None:
        demo.etcd.ready()
    first.serve()
    with ThreadPoolExecutor() as pool:
        asked = [
            pool.submit(each.call, "cluster", "request", *each.place, "--out", each.file("request")) for each in others
        ]
        first.listening()
        for request in asked:
            request.result()
    until(lambda: first.run("cluster", "status", show=False)[0] == 0, "a leads")
    for each in others:
        first.call("cluster", "join", each.file("request"), "--out", each.file("invitation"))
        each.call("cluster", "accept", each.file("invitation"), "--key", first.inside("keys/node.pub"))
        each.serve()
    for each in others:
        each.listening()
        until(lambda each=each: first.run("cluster", "promote", each.name)[0] == 0, f"{each.name} has a vote")  # type: ignore[misc]
    found = demo.led_by("a")
    demo.tell_members(found)
    if found["voters"] != 3 or found["answering_voters"] != 3:
        raise FemtoClawError("three voters were to answer", found=found)
    demo.proved(
        f"a leads in epoch {found['epoch']}; all three voters answer, and each has all {found['commit']} records",
        epoch=found["epoch"], size=found["commit"],
    )  # fmt: skip


def _ask_a_follower(demo: Demo) -> None:
    demo.step("Ask a follower: it has the leader execute")
    follower = demo.machines[2]
    answers = [write_entry(follower, f"entry-follower-{number}.txt", show=True) for number in (1, 2)]
    demo.answers += answers
    if not all(each.acknowledged for each in answers):
        raise FemtoClawError("a request at a follower was not executed", found=answers)
    demo.led_by(demo.leader.name)
    check_recorded(follower, [demo.leader], answers)
    demo.proved(
        f"asked at {follower.name}, executed on {demo.leader.name} alone; it is in the log of {follower.name} as well",
        executions=[each.execution for each in answers],
    )  # fmt: skip


def _transfer(demo: Demo) -> None:
    demo.step("Hand the leadership over while clients go on asking")
    target = demo.machines[1]
    load = Load([target, demo.machines[2]], "transfer")
    until(lambda: len(load.acknowledged()) >= 2, "two answers")
    begun = time.monotonic()
    demo.leader.call("cluster", "transfer", target.name)
    seconds = round(time.monotonic() - begun, 2)
    demo.leader = target
    since = time.monotonic()
    until(lambda: len(load.acknowledged(since)) >= 2, f"two answers under {target.name}")
    answers = load.answers()
    demo.answers += answers
    failed = [each for each in answers if not each.acknowledged]
    if failed:
        raise FemtoClawError("a client noticed the transfer", expected="no error", found=failed)
    demo.proved(
        f"{target.name} leads after {seconds} s; all {len(answers)} requests that were made meanwhile were answered, none "
        "with an error", transfer_s=seconds, answered=len(answers),
    )  # fmt: skip


def _stop(demo: Demo) -> None:
    demo.step("Stop everything in order: the leader while the others still store what it records last")
    codes = {demo.leader.name: demo.leader.end()}
    with ThreadPoolExecutor() as pool:
        codes |= zip((each.name for each in demo.others), pool.map(Machine.end, demo.others), strict=True)
    if set(codes.values()) != {0}:
        raise FemtoClawError("a node did not stop in order", expected="exit 0", found=codes)
    demo.proved("each `serve` ended with exit code 0")
