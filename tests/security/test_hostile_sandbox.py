"""Hostile calls that a deliberately broad policy authorizes, in the real sandbox: nothing outside of it is read, changed,
run, connected to or left behind."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from femtoclaw.isolation import Isolation, Outcome
from femtoclaw.manifest import Manifest
from femtoclaw.replay import replay
from femtoclaw.shell_hazards import CODES
from tests.femtoclaw.isolated import eventually
from tests.femtoclaw.simulated import Simulated
from tests.security.outside_world import World

CALLS = 330
EVERYTHING = f'@id("all") @accepts("{",".join(sorted(CODES))}") permit (principal, action, resource);'
PROGRAMS = tuple(
    path for name in ("ls", "cat", "find", "sort", "tar", "env", "sh", "bash", "cp", "ln", "perl") if (path := shutil.which(name))
)  # fmt: skip

AT_A_FILE: dict[str, list[list[str]]] = {
    "cat": [["{at}"], ["--", "{at}"], ["inside.txt", "{at}"]],
    "ls": [["-laR", "{at}"]],
    "find": [["{at}", "-exec", "cat", "{{}}", ";"], ["{at}", "-delete"], ["{at}", "-printf", "%p %y %l"], ["-L", "{at}", "-ls"],
             [".", "-fprint", "{at}"], [".", "-newer", "{at}"], ["-files0-from", "{at}"]],
    "sort": [["{at}"], ["-o", "{at}", "inside.txt"], ["--files0-from={at}"],
    ["-R", "--random-source={at}", "inside.txt"], ["-m", "{at}", "big"],
             ["-T", "{at}", "-S1k", "big"]],
    "tar": [["-cf", "new.tar", "{at}"], ["-cPhf", "new.tar", "{at}"], ["-cf", "{at}", "inside.txt"],
    ["-cT", "{at}", "-f", "new.tar"],
            ["-xf", "{at}"], ["--to-stdout", "-xf", "bad.tar", "{at}"], ["-cf", "new.tar", "-I", "cat {at}", "inside.txt"],
            ["-cf", "new.tar", "--checkpoint=1", "--checkpoint-action=exec=cat {at}", "inside.txt"]],
    "env": [["cat", "{at}"], ["-S", "cat {at}"], ["-C", "{at}/..", "ls"], ["LD_PRELOAD={at}", "ls"],
    ["sh", "-c", "cat {at} > taken"]],
    "sh": [["-c", "cat {at}; cp {at} taken; echo changed > {at}"], ["{at}"], ["-c", ". {at}"],
    ["-c", "exec 9<>{at} && echo x >&9"],
           ["-c", "mv {at} taken; rm -f {at}; ln -f {at} taken; chmod 0 {at}"], ["-c", "while read l; do echo $l; done < {at}"]],
    "cp": [["{at}", "taken"], ["inside.txt", "{at}"], ["-a", "--remove-destination", "evil", "{at}"], ["-s", "{at}", "soft"]],
    "ln": [["{at}", "taken"], ["-L", "{at}", "taken"], ["-f", "inside.txt", "{at}"], ["-sf", "evil", "{at}"]],
    "perl": [["-e", "open F,'<','{at}'; print <F>"], ["-e", "open F,'>','{at}'; print F 'x'"],
    ["-e", "unlink '{at}'; chmod 0,'{at}'"]],
}  # fmt: skip
"""Commands at a file of the outside, in any of its spellings."""

ELSEWHERE: dict[str, list[list[str]]] = {
    "ls": [["-la", "{outside}"], ["-l", "/proc/{node}/fd"], ["/root", "/home", "/tmp"]],
    "cat": [["/proc/{node}/environ"], ["/proc/{node}/maps"], ["/proc/1/environ"], ["/etc/shadow"], ["{outside}/socket"]],
    "find": [["{outside}", "-delete"], ["-L", ".", "-type", "f", "-exec", "cat", "{{}}", "+"], [".", "-fprint", "{etc}"],
             [".", "-name", "inside.txt", "-exec", "./evil", ";"], [".", "-ok", "sh", ";"]],
    "sort": [["--compress-program=./evil", "-S1k", "-T.", "big"], ["-o", "{etc}", "inside.txt"],
    ["-o{outside}/planted", "inside.txt"]],
    "tar": [["-xf", "bad.tar"], ["-xPf", "bad.tar"], ["-x", "-P", "--keep-directory-symlink", "-f", "bad.tar"],
    ["-xf", "bad.tar", "-C", "{outside}"],
            ["-xf", "bad.tar", "--to-command=./evil"], ["-cf", "127.0.0.1:x", "--rsh-command=./evil", "inside.txt"],
            ["-cf", "{etc}", "inside.txt"],
            ["-chf", "new.tar", "link-dir"], ["-xf", "bad.tar", "--one-top-level={outside}/planted"]],
    "env": [["-i", "{script}"], ["./evil"], ["PATH={outside}", "script"], ["BASH_ENV={script}", "bash", "-c", "true"],
    ["perl", "-e", "exec '{script}'"]],
    "sh": [["-c", "{script}"], ["-c", "./evil"], ["./evil"], ["-c", "echo x > {etc}"], ["-c", "echo x > /etc/passwd"],
           ["-c", "(sh -c 'while :; do :; done # {mark}' >/dev/null 2>&1 &) ; echo gone"],
           ["-c", "trap '' TERM HUP; (sh -c 'read x < /dev/zero # {mark}' >/dev/null 2>&1 &)"],
           ["-c", "kill -9 {node} -1 1"], ["-c", "echo x > /dev/shm/{mark}; echo x > /tmp/{mark}; echo x > /var/tmp/{mark}"],
           ["-c", "cd {outside} && ls"], ["-c", "ulimit -c unlimited; kill -SEGV $$"],
           ["-c", "mkfifo {outside}/planted; mknod x c 1 1"]],
    "bash": [["-c", "exec 3<>/dev/tcp/127.0.0.1/{tcp}; echo x >&3"], ["-c", "echo x > /dev/udp/127.0.0.1/{udp}"],
    ["-c", "echo x > /dev/tcp/localhost/{tcp}"],
             ["-c", "cat < /dev/tcp/127.0.0.1/{tcp}"], ["-c", "cat <(cat {key})"], ["-c", "coproc ./evil; cat <&${{COPROC[0]}}"]],
    "cp": [["-r", "{outside}", "taken"], ["-rL", "link-dir", "taken"], ["evil", "{etc}"]],
    "ln": [["-s", "{outside}", "another"], ["inside.txt", "{etc}"]],
    "perl": [
        ["-MIO::Socket", "-e", "print IO::Socket::INET->new('127.0.0.1:{tcp}') ? 'reached' : $!"],
        ["-MIO::Socket", "-e", "IO::Socket::INET->new(Proto=>'udp',PeerAddr=>'127.0.0.1:{udp}')->send('x')"],
        ["-MIO::Socket::UNIX", "-e", "print IO::Socket::UNIX->new('{outside}/socket') ? 'reached' : $!"],
        ["-e", "fork and exit; close STDOUT; close STDERR; setpgrp; $0='{mark}'; 1 while 1"],
        ["-e", "kill 9, {node}; kill 9, -1"], ["-e", "exec '{script}'"],
        ["-e", "syscall(101, 16, {node}, 0, 0); open F,'<','/proc/{node}/mem'; print <F>"],
    ],
}  # fmt: skip
"""Commands at the network, at the node, at programs, at the rest of the machine."""


def commands(world: World, chance: random.Random) -> list[tuple[str, dict[str, Any]]]:
    """Every command at something else, and as many at files, by chance, as make CALLS with those of the other claws."""
    names = {
        "outside": str(world.outside), "node": str(os.getpid()), "etc": str(world.etc), "script": str(world.script),
        "mark": world.mark,
        "tcp": str(world.tcp.getsockname()[1]), "udp": str(world.udp.getsockname()[1]), "key": str(world.key.path),
    }  # fmt: skip
    spelled = [each for token in (world.key, world.store) for each in world.spellings(token.path)]

    def shell(program: str, argv: list[str], **more: str) -> tuple[str, dict[str, Any]]:
        return "shell", {"bin": program, "argv": [each.format(**names, **more) for each in argv]}

    there = {path.rsplit("/", 1)[1] for path in PROGRAMS}
    fixed = [shell(program, argv) for program, each in ELSEWHERE.items() if program in there for argv in each]
    fixed += files_and_addresses(world, spelled, names["tcp"])
    at_files = [(program, argv) for program, each in AT_A_FILE.items() if program in there for argv in each]
    drawn = [
        shell(*at_files[number % len(at_files)], at=chance.choice(spelled)) for number in range(CALLS - len(fixed))
    ]
    found = fixed + drawn
    chance.shuffle(found)
    return found


def files_and_addresses(world: World, spelled: list[str], port: str) -> list[tuple[str, dict[str, Any]]]:
    """Calls of the other claws; those at paths that the gate refuses are not sent, it has tests of its own."""
    paths = [path for path in spelled if not path.startswith("/") and ".." not in path]
    found: list[tuple[str, dict[str, Any]]] = []
    for path in [*paths, "link-dir", "link-dir/planted", "soft", "hard", "another/node.key", "taken"]:
        found += [("fs.read", {"path": path}), ("fs.list", {"path": path})]
        found += [
            ("fs.write", {"path": path, "content": "x", "mode": mode}) for mode in ("create", "replace", "append")
        ]
    hosts = ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::1]")
    found += [("web.get", {"url": f"http://{host}:{port}/{path}"}) for host in hosts for path in ("", "x?q=1")]
    found += [("process.list", {}), ("system.info", {}), ("fs.read", {"path": "inside.txt"})]
    return found


class Kept:
    """The real sandbox, with one file of the bait among the node's own; what it answers is kept to be looked through."""

    def __init__(self, world: World) -> None:
        self.real = Isolation(str(world.workspace), protected=(str(world.key.path),))
        self.outcomes: list[Outcome] = []

    def run(self, manifest: Manifest, args: dict[str, Any], settings: dict[str, Any], **more: Any) -> Outcome:
        bounded = manifest._replace(limits=manifest.limits._replace(wall_seconds=5.0, cpu_seconds=2))
        self.outcomes.append(self.real.run(bounded, args, settings, **more))
        return self.outcomes[-1]

    def layers(self) -> dict[str, str]:
        return self.real.layers()

    def close(self) -> None:
        self.real.close()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def node(world: World, isolation: Any) -> Simulated:
    port = world.tcp.getsockname()[1]
    web = {"hosts": ["127.0.0.1", "localhost", "::1"], "ports": [port], "plain_http": True}
    own = {"shell": {"binaries": list(PROGRAMS)}, "web.get": web}
    tools = ("fs.read", "fs.list", "fs.write", "shell", "web.get", "process.list", "system.info")
    enabled = {tool: {"enabled": True} | ({"settings": own[tool]} if tool in own else {}) for tool in tools}
    return Simulated(policy=EVERYTHING, settings={"capabilities": enabled}, isolation=isolation)


@pytest.mark.invariant("I5", "I11")
@pytest.mark.requirement("WHITE-4.3", "DEPLOY-13.1", "CLAW-16.1")
def test_nothing_that_is_authorized_reaches_beyond_the_sandbox(
    world: World, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each call is authorized and runs; then the bait is as it was, no token was read, no socket touched, no process left."""
    isolation = Kept(world)
    try:
        if isolation.real.missing():
            pytest.skip(f"the kernel lacks {isolation.real.missing()}")
        made = node(world, isolation)
        steps = []
        for tool, args in commands(world, random.Random(seed)):
            world.link()  # what an earlier call made of them
            steps.append(made.intent(tool, **args))
        left = not eventually(lambda: world.processes() == [])
    finally:
        isolation.close()
    counts = Counter(step.outcome if step.decision == "AUTHORIZED" else step.decision for step in steps)
    with capsys.disabled():
        print(f"\n  hostile calls in the sandbox: {len(steps)} calls, {dict(counts)}; seed {seed}")
    assert counts["success"] > 150 and len(isolation.outcomes) >= 300, counts
    said = json.dumps([outcome._asdict() for outcome in isolation.outcomes])
    assert [token for token in (world.key, world.store) if token.text in said] == []
    assert f"{world.mark}-ran" not in said and "reached" not in said
    assert (world.copies(), world.touched(), world.strays(), left) == ([], [], [], False)
    assert world.seen() == world.before
    assert replay(made.log.scan()).divergences == ()


@pytest.mark.parametrize(
    "argv",
    [["cat", "link-key"], ["find", "../outside", "-name", "node.key", "-exec", "cat", "{}", ";"],
    ["sh", "-c", "cp link-key taken; cat taken"],
     ["env", "cat", "../outside/node.key"], ["tar", "-chf", "-", "link-key"], ["sh", "./evil"]],
    ids=lambda argv: argv[0],
)  # fmt: skip
def test_without_the_sandbox_the_bait_is_taken(argv: list[str]) -> None:
    """The same commands, free, read the token: it would be found."""
    world = World()
    try:
        done = subprocess.run(argv, cwd=world.workspace, capture_output=True, check=False, timeout=30)
        assert world.key.text.encode() in done.stdout
        assert (world.copies() != []) == (argv[-1].startswith("cp")), argv
        assert (world.seen() != world.before) == (argv[-1] == "./evil")
    finally:
        world.close()


def test_without_the_sandbox_the_sockets_are_touched(world: World) -> None:
    """Whoever connects is seen, once."""
    for trap, address in ((world.tcp, world.tcp.getsockname()), (world.unix, str(world.outside / "socket"))):
        with socket.socket(trap.family) as made:
            made.connect(address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.sendto(b"x", world.udp.getsockname())
    assert eventually(lambda: world.touched() != [])
    world.touched()
