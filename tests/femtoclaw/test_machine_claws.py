"""``process.list``, ``system.info`` and the settings of all claws: what is told, what is kept back, what is refused."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.claws import PROCESS_LIST, SHIPPED, SYSTEM_INFO, WEB_GET
from femtoclaw.claws import process_list as claw_of_processes
from femtoclaw.claws import system_info as claw_of_the_system
from femtoclaw.errors import ConfigurationError
from femtoclaw.facts import ArgumentInvalid, Facts, facts
from femtoclaw.isolation import Isolation
from femtoclaw.manifest import TARGET_KINDS, check_manifest
from femtoclaw.settings import check_claw


@pytest.fixture
def isolation(workspace: Path) -> Iterator[Isolation]:
    isolation = Isolation(str(workspace))
    yield isolation
    isolation.close()


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process with an argument that nobody should see."""
    process = subprocess.Popen([sys.executable, "-c", "input()", "s3cr3t-argument"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()


def test_a_process_is_told_without_its_arguments(isolation: Isolation, child: subprocess.Popen[bytes]) -> None:
    """Id, parent, name, state, start and memory, from inside of the sandbox; arguments where the operator set so."""
    result = isolation.run(PROCESS_LIST, {"pid": child.pid}, {}).result or {}
    (found,) = result["processes"]
    assert (found["pid"], found["parent"], found["uid"] in (os.getuid(), None)) == (child.pid, os.getpid(), True)
    assert found["name"].startswith("python")
    assert found["rss_bytes"] > 1_000_000
    assert abs(found["started"] - Path(f"/proc/{child.pid}").stat().st_ctime) < 60
    assert "s3cr3t" not in str(result)
    result = isolation.run(PROCESS_LIST, {"pid": child.pid}, {"arguments": True}).result or {}
    assert result["processes"][0]["arguments"] == [sys.executable, "-c", "input()", "s3cr3t-argument"]


def test_processes_are_listed_in_order_and_bounded(
    isolation: Isolation, child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that can be seen, by id; more than the bound are cut, and that is said."""
    result = isolation.run(PROCESS_LIST, {}, {}).result or {}
    ids = [each["pid"] for each in result["processes"]]
    assert child.pid in ids
    assert (ids, result["truncated"]) == (sorted(ids), False)
    monkeypatch.setattr(claw_of_processes, "PROCESSES_MAX", 1)
    cut = claw_of_processes.execute({}, "/", {})
    assert (len(cut["processes"]), cut["truncated"]) == (1, True)


def test_a_process_that_is_not_there_is_an_error(isolation: Isolation) -> None:
    """Of the kind that says it was the surroundings."""
    outcome = isolation.run(PROCESS_LIST, {"pid": 2**22}, {})
    assert (outcome.status, (outcome.error or {})["class"]) == ("error", "EnvironmentError")


def test_a_name_with_brackets_does_not_move_the_fields(tmp_path: Path) -> None:
    """A process calls itself as it likes."""
    code = "import ctypes; ctypes.CDLL(None).prctl(15, b') R 1 (x', 0, 0, 0); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (found,) = claw_of_processes.execute({"pid": process.pid}, "/", {})["processes"]
        assert (found["name"], found["parent"]) == (") R 1 (x", os.getpid())
        process.kill()


@pytest.mark.requirement("POLICY-12.1")
def test_policy_sees_the_process_that_is_asked_for() -> None:
    """A positive number: 0 and below would be groups."""
    assert facts(PROCESS_LIST, {"pid": 7}, {}) == Facts({"pid": 7})
    assert facts(PROCESS_LIST, {}, {}) == Facts({})
    for value, code in ((0, "PID_OUT_OF_RANGE"), (-1, "PID_OUT_OF_RANGE"), (2**23, "PID_OUT_OF_RANGE"),
                        ("7", "TARGET_TYPE"), (True, "TARGET_TYPE"), (7.0, "TARGET_TYPE")):  # fmt: skip
        found = facts(PROCESS_LIST, {"pid": value}, {})
        assert isinstance(found, ArgumentInvalid)
        assert found.code == code


def test_the_machine_is_told_without_its_name(isolation: Isolation) -> None:
    """From inside of the sandbox, with every field filled on Linux; the name only where the operator set so."""
    result = isolation.run(SYSTEM_INFO, {}, {}).result or {}
    assert set(result) == {
        "os", "kernel", "architecture", "python", "cpus", "memory_bytes", "disk_bytes", "load", "uptime_seconds",
    }  # fmt: skip
    assert result["kernel"] == f"Linux {os.uname().release}"
    assert result["memory_bytes"]["total"] > 1 << 20
    assert result["disk_bytes"]["total"] >= result["disk_bytes"]["available"] > 0
    assert (len(result["load"]), result["uptime_seconds"] > 0) == (3, True)
    named = isolation.run(SYSTEM_INFO, {}, {"host_name": True}).result or {}
    assert named["host_name"] == socket.gethostname()


def test_what_the_machine_does_not_tell_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox that keeps the kernel's tables back leaves a total and no error."""

    def kept(path: str) -> str:
        raise PermissionError(path)

    monkeypatch.setattr(claw_of_the_system, "_read", kept)
    result = claw_of_the_system.execute({}, "/", {})
    assert (result["os"], result["uptime_seconds"], set(result["memory_bytes"])) == (None, None, {"total"})


@pytest.mark.requirement("CLAW-6.1")
def test_every_shipped_claw_declares_itself() -> None:
    """Well-formed, of a class, with rights that fit what it is; each kind of target is somebody's."""
    for manifest in SHIPPED:
        check_manifest(manifest)
    assert {manifest.category for manifest in SHIPPED} == {"filesystem", "shell", "network", "process", "system"}
    assert {kind for manifest in SHIPPED for kind in manifest.targets.values()} == set(TARGET_KINDS)
    assert [each.name for each in SHIPPED if each.trusted_output] == ["fs.write", "system.info"]
    assert [each.name for each in SHIPPED if "network" in each.permissions] == ["web.get"]
    assert not WEB_GET.idempotent


GOOD: dict[str, dict[str, Any]] = {
    "web.get": {
        "hosts": ["example.org", "*.example.org", "10.0.0.1", "::1"], "ports": [443, 1], "plain_http": True,
        "private_networks": ["10.0.0.0/8", "fd00::/8"], "redirects_max": 5, "seconds_max": 25, "bytes_max": 2097152,
        "ca_file": "/etc/ca.pem",
    },
    "shell": {"binaries": ["/bin/a"], "programs": {"/bin/a": "python3.11"}, "readable": ["/opt"]},
    "process.list": {"arguments": True},
    "system.info": {"host_name": False},
}  # fmt: skip
BAD: list[tuple[str, str, Any]] = [
    ("web.get", "hosts", "example.org"), ("web.get", "hosts", ["Example.org"]), ("web.get", "hosts", ["*"]),
    ("web.get", "hosts", ["https://example.org"]), ("web.get", "hosts", ["example.org."]), ("web.get", "hosts", [1]),
    ("web.get", "hosts", ["0x7f.1"]), ("web.get", "hosts", ["[::1]"]), ("web.get", "hosts", ["bücher.example"]),
    ("web.get", "hosts", ["a.test"] * 1025), ("web.get", "ports", [0]), ("web.get", "ports", [65536]),
    ("web.get", "ports", ["443"]), ("web.get", "plain_http", 1), ("web.get", "private_networks", ["10.0.0.1"]),
    ("web.get", "private_networks", ["10.0.0.1/8"]), ("web.get", "private_networks", [10]),
    ("web.get", "redirects_max", 6), ("web.get", "seconds_max", 0), ("web.get", "seconds_max", 26),
    ("web.get", "bytes_max", 2097153), ("web.get", "bytes_max", True), ("web.get", "ca_file", "ca.pem"),
    ("web.get", "resolver", "x"), ("shell", "programs", {"/bin/a": "unheard-of"}), ("shell", "programs", {"a": "plain"}),
    ("shell", "programs", ["plain"]), ("shell", "programs", {"/bin/a": 1}), ("shell", "readable", "/opt"),
    ("process.list", "arguments", "yes"), ("system.info", "host_name", None), ("fs.read", "anything", 1),
]  # fmt: skip


def test_settings_that_claws_take() -> None:
    """Each in the form that docs/claws.md shows."""
    for name, settings in GOOD.items():
        check_claw(name, settings, "here")


@pytest.mark.parametrize("name, key, value", BAD)
def test_settings_that_no_claw_takes(name: str, key: str, value: Any) -> None:
    """Refused where they stand, without the value that stood there."""
    with pytest.raises(ConfigurationError) as caught:
        check_claw(name, {key: value}, "here")
    assert str(caught.value.where).startswith(f"here.{key}")
