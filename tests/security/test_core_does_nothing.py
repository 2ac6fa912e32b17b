"""An audit hook in the node's own process, from its first import on: what it opens, executes and connects to while claws
work is its own, and nothing is done on a claw's behalf.

The hook sees what Python code does, not what C libraries do by themselves; of those the node has LMDB, which writes the
log, and the libraries of the policy engine and of signatures, which open nothing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cli.node import Node, call, environment
from tests.femtoclaw.web_site import Site, answer, site

MARK = "bait-7f3a"
"""In every path, program argument and address of the calls, and nowhere else."""

PROGRAM = shutil.which("cksum") or "/usr/bin/cksum"
POLICY = '@id("all") permit (principal, action, resource);'


class Act(NamedTuple):
    """One audited act of the node's process."""

    phase: str
    event: str
    arguments: str
    callers: str
    """Files of the code that did it, the innermost first; only within a phase."""


class Watched(NamedTuple):
    """A node with every claw, a site that it may ask, and one call of each claw."""

    node: Node
    where: Site
    settings: dict[str, Any]
    messages: list[str]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    policy = folder / "policy.cedar"
    policy.write_text(POLICY)
    node = Node(folder / "home")
    claws = ("fs.read", "fs.list", "fs.write", "shell", "web.get", "process.list", "system.info")
    node.call(
        "init", *(word for claw in claws for word in ("--enable", claw)), "--binary", PROGRAM, "--policy", str(policy)
    )
    with site(answer(b"from the site")) as where:
        web = {"hosts": ["127.0.0.1"], "ports": [where.port], "plain_http": True, "private_networks": ["127.0.0.0/8"]}
        lines = [f'capabilities."web.get".settings.{name}={json.dumps(value)}' for name, value in web.items()]
        node.call("config", "set", *lines)
        (node.workspace / MARK).mkdir()
        (node.workspace / MARK).chmod(0o777)
        (node.workspace / f"{MARK}.txt").write_text("bait\n")
        calls = [
            call("fs.read", path=f"{MARK}.txt"), call("fs.list", path=MARK),
            call("fs.write", path=f"{MARK}/written", content="x", mode="create"), call("shell", bin=PROGRAM, argv=[f"{MARK}.txt"]),
            call("web.get", url=f"http://127.0.0.1:{where.port}/{MARK}"), call("process.list", pid=1), call("system.info"),
        ]  # fmt: skip
        yield Watched(
            node, where, {"shell": {"binaries": [PROGRAM]}, "web.get": web}, [json.dumps(each) for each in calls]
        )


def acts(watched: Watched, *words: str) -> list[Act]:
    """What the process did that was told ``words``."""
    out = watched.node.path.parent / "acts.jsonl"
    program = str(Path(__file__).with_name("watched.py"))
    done = subprocess.run(
        [sys.executable, program, str(out), str(watched.node.path), *words], capture_output=True, check=False, timeout=120,
        env=environment(), cwd=watched.node.path.parent,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout[-1000:], done.stderr[-2000:])
    return [Act(*json.loads(line)) for line in out.read_text().splitlines()]


def on_behalf(act: Act, port: int) -> bool:
    """Whether something of a call shows in the act: its path, its program, its address, what it is about."""
    shown = (
        MARK, PROGRAM, "cksum", f", {port})", "127.0.0.1", "/proc/1/", "'/proc'", "/proc/meminfo", "/proc/uptime", "os-release",
    )  # fmt: skip
    return any(each in act.arguments for each in shown)


NEVER = {
    "socket.connect", "socket.getaddrinfo", "socket.bind", "os.exec", "os.system", "os.fork", "os.forkpty", "os.posix_spawn",
    "os.spawn", "pty.spawn",
}  # fmt: skip
"""What the node's process has no use for at all."""


def own(act: Act) -> bool:
    """Whether it is what the isolation needs: pairs of sockets without an address, one of which is handed to the fork server,
    and the fork server itself, which is this interpreter."""
    if act.event == "socket.__new__":
        return act.arguments.endswith(", 1, 1, 0)") and "/isolation/client.py" in act.callers  # AF_UNIX, SOCK_STREAM
    if act.event == "socket.sendmsg":
        return act.arguments.endswith(", None)") and "/isolation/client.py" in act.callers
    if act.event == "subprocess.Popen":
        began = f"({sys.executable!r}, [{sys.executable!r}, '-I', '-c', \"import sys; sys.path.insert(0, "
        return act.arguments.startswith(began) and "from femtoclaw.isolation.server import main" in act.arguments
    return act.event == "open" and act.arguments.startswith("('/dev/null', ") and "/subprocess.py" in act.callers


@pytest.mark.invariant("I5", "I12")
@pytest.mark.requirement("DEPLOY-2.2")
def test_the_node_itself_touches_nothing_of_a_call(watched: Watched) -> None:
    """Between each durable start and its durable result there is only what the isolation needs; and at no time, from the
    process's beginning to its end, does anything of a call show in what it opens, executes, lists or connects to."""
    peers = watched.where.peers
    done = acts(watched, *watched.messages)
    phases = {act.phase for act in done} - {"-"}
    assert phases == {json.loads(message)["tool_call"]["tool"] for message in watched.messages}
    assert [act for act in done if act.phase != "-" and not own(act)] == []
    assert [act for act in done if on_behalf(act, watched.where.port)] == []
    assert [act for act in done if act.event in NEVER] == []
    # They did run, elsewhere.
    assert (watched.node.workspace / MARK / "written").read_text() == "x"
    assert watched.where.peers == peers + 1
    (watched.node.workspace / MARK / "written").unlink()


SHOWS = {
    "fs.read": ("open", f"{MARK}.txt"), "fs.list": ("open", MARK), "fs.write": ("open", "written"),
    "shell": ("subprocess.Popen", PROGRAM), "web.get": ("socket.connect", "127.0.0.1"), "process.list": ("open", "/proc/1/"),
    "system.info": ("open", "/proc/"),
}  # fmt: skip


@pytest.mark.invariant("I5")
def test_a_claw_that_ran_in_the_node_would_be_seen(watched: Watched) -> None:
    """The claws' own functions, called in a process with the same hook: every one shows what it is about."""
    settings = json.dumps(watched.settings)
    done = acts(watched, "--in-process", str(watched.node.workspace), settings, *watched.messages)
    for tool, (event, text) in SHOWS.items():
        mine = [act for act in done if act.phase == tool]
        assert [act for act in mine if act.event == event and text in act.arguments], (tool, mine[:20])
        assert [act for act in mine if not own(act)], tool
    assert {act.phase for act in done if on_behalf(act, watched.where.port)} >= set(SHOWS)
    (watched.node.workspace / MARK / "written").unlink()
