"""The node under the confinement that the container file asks for, made of the kernel's own parts: another user than root, no
capability, no new privileges, a root file system that is read-only, namespaces of its own, one volume.

No image is built and no container engine runs: what the engine adds (its seccomp profile, cgroups, a pid namespace, the image's own
files and its sealed program) is not shown here. The program is this checkout's.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.boot import operator_name
from femtoclaw.cli.service import FILES, FOLDER
from femtoclaw.compliance.corpus import RISKS
from tests.cli.node import ROOT, START, Node, call, environment
from wal.note import Ed25519Signer

CONTAINERFILE = Path(FOLDER, FILES["container"]).read_text()
HOME = "/mnt/volume/home"
ENTER = """\
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs /mnt
mkdir /mnt/volume
mount -t tmpfs tmpfs /var/tmp
if [ -n "$VOLUME" ]; then mount --bind "$VOLUME" /mnt/volume; else mount -o remount,bind,ro /mnt; fi
mount -o remount,bind,ro /
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all --ambient-caps=-all "$@"
"""
SERVES_S = 30.0


def user() -> str:
    """Who the file says that the node is."""
    found = re.search(r"^USER ([0-9]+):\1$", CONTAINERFILE, re.MULTILINE)
    assert found is not None
    return found[1]


def confined(volume: Path | None, *words: str) -> list[str]:
    """A command in a new container-like place, with this volume or without one."""
    spaces = ["--user", "--mount", "--ipc", "--uts", "--net", "--cgroup", "--keep-caps"]
    who = [f"--map-user={user()}", f"--map-group={user()}"]
    variables = [f"VOLUME={volume if volume is not None else ''}", f"FEMTOCLAW_HOME={HOME}"]
    return ["unshare", *spaces, *who, "env", "-u", "TMPDIR", *variables, "sh", "-c", ENTER, "sh", *words]


def ran(volume: Path | None, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        confined(volume, *words), capture_output=True, text=True, check=False, env=environment(), cwd=ROOT
    )


def program(volume: Path | None, *words: str, expect: int = 0) -> list[dict[str, Any]]:
    """A command of this program there; its objects."""
    done = ran(volume, sys.executable, "-c", START, "--json", *words)
    assert done.returncode == expect, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """An empty volume; skips where such a place cannot be made."""
    missing = [name for name in ("unshare", "setpriv", "mount") if shutil.which(name) is None]
    made = tmp_path / "volume"
    made.mkdir()
    tried = ran(made, "true") if not missing else None
    if tried is None or tried.returncode:
        pytest.skip(f"no namespaces here: {', '.join(missing) if tried is None else tried.stderr.strip()}")
    return made


def test_the_place_is_as_the_file_asks(volume: Path) -> None:
    """Not root, no capability that could come back, nothing to be written but the volume, no network but its own."""
    for option in ("--read-only", "--cap-drop ALL", "--security-opt no-new-privileges", "--tmpfs /tmp"):
        assert option in CONTAINERFILE
    status = ran(volume, "cat", "/proc/self/status").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == [user()] * 4 and fields["NoNewPrivs"] == "1"
    assert all(int(fields[name], 16) == 0 for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"))
    assert ran(volume, "touch", str(ROOT / "written")).returncode and not (ROOT / "written").exists()
    assert ran(volume, "touch", "/mnt/volume/written").returncode == 0 and (volume / "written").exists()
    assert ran(volume, "cat", "/proc/net/dev").stdout.count(":") == 1, "loopback alone"


def decisions(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What was decided about each message, without ids and times."""
    names = ("claw", "call_digest", "decision", "reason", "determining", "policy_digest")
    return [tuple(json.dumps(row.get(name)) for name in names) for row in rows]


def test_decisions_are_those_of_a_node_outside(volume: Path, tmp_path: Path) -> None:
    """The same messages under the same policy: equal decisions inside and outside; and claws run in their sandbox there."""
    messages = [output for outputs in RISKS.values() for output in outputs[:6] if b"\n" not in output]
    lines = [*messages, json.dumps(call("fs.list", path=".")).encode(), b'{"message":{"content":"end"}}']
    brain = volume / "brain.jsonl"
    brain.write_bytes(b"".join(line + b"\n" for line in lines))
    enabled = ("--enable", "fs.list", "--enable", "fs.read", "--enable", "fs.write")
    outside = Node(tmp_path / "outside")
    outside.call("init", *enabled)
    outside.call("config", "set", "runtime.steps_max=64")
    outside.call("run", "go", "--brain", f"script:{brain}", expect=None)
    program(volume, "init", *enabled)
    program(volume, "config", "set", "runtime.steps_max=64")
    (result,) = program(volume, "run", "go", "--brain", "script:/mnt/volume/brain.jsonl")[-1:]
    inside = decisions(program(volume, "log", "--kind", "AuthorizationDecided", "--limit", "0"))
    assert inside == decisions(outside.call("log", "--kind", "AuthorizationDecided", "--limit", "0").objects)
    assert len(inside) > 10 and sum('"DENIED' in row[2] for row in inside) > 10
    assert result["outcome"] == "answered"
    finished = program(volume, "log", "--kind", "ExecutionFinished", "--limit", "0")
    assert finished[-1]["status"] == "success"
    assert not [row for row in program(volume, "health")[0]["checks"] if row["result"] == "bad"]


def kept(volume: Path) -> tuple[Any, ...]:
    """Configuration, root of the log, and number of telemetry rows, as a new container finds them."""
    (status,) = program(volume, "status")
    (verified,) = program(volume, "verify")
    rows = program(volume, "log", "--store", "telemetry", "--limit", "0")
    return status["configuration"]["digest"], verified["size"], verified["root"], len(rows)


def test_what_it_keeps_is_there_for_the_next_one(volume: Path) -> None:
    """It serves until SIGTERM; another place on the same volume has configuration, log and telemetry as they were left."""
    program(volume, "init", "--enable", "fs.list")
    process = subprocess.Popen(
        confined(volume, sys.executable, "-c", START, "--json", "serve"), stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, env=environment(), cwd=ROOT,
    )  # fmt: skip
    try:
        assert process.stdout is not None and b"serving" in process.stdout.readline()
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(SERVES_S) == 0
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    assert kept(volume) == kept(volume)
    assert kept(volume)[3] > 0
    program(volume, "intent", json.dumps(call("fs.list", path=".")))


def test_without_its_volume_there_is_no_node_and_none_is_made(volume: Path) -> None:
    """`serve` ends with 2 and makes nothing, `init` finds nowhere to write."""
    (told,) = program(None, "serve", expect=2)
    assert told["error"]["what"] == "there is no node here"
    program(None, "init", expect=4)
    assert not list(volume.iterdir())


def test_a_user_without_a_name_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a container runs as a number that no file of users knows, `init` makes a key under it."""

    def unknown(number: int) -> Any:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert Ed25519Signer(operator_name(), bytes(32)).public.name == f"uid-{os.getuid()}"
