"""The service files: what offline checkers say of them, and that they hold what the node relies on."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from femtoclaw import config
from femtoclaw.cli.service import FILES, FOLDER, filled
from femtoclaw.errors import UsageError
from femtoclaw.home import Home
from tests.cli.node import ROOT, femtoclaw

EXPOSURE_MAX = 30
"""Tenths of what `systemd-analyze security` counts, of 100: claws need namespaces, the node the network."""

PROGRAM, HOME = str(ROOT / "scripts" / "femtoclaw"), "/var/lib/femtoclaw/home"


def tool(name: str) -> str:
    """A checker, from this environment or the machine."""
    found = shutil.which(name, path=os.pathsep.join((os.path.dirname(sys.executable), os.environ.get("PATH", ""))))
    if found is None:
        if os.environ.get("FEMTOCLAW_REQUIRE_ALL") == "1":
            pytest.fail(f"{name} is not there")
        pytest.skip(f"{name} is not there")
    return found


def checked(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    file = tmp_path / "femtoclaw.service"
    file.write_text(filled("systemd", HOME, PROGRAM, "femtoclaw"))
    return file


def settings(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def test_systemd_takes_its_unit_and_finds_little_exposed(unit: Path) -> None:
    """No word of complaint, and an exposure below the stated one."""
    analyze = tool("systemd-analyze")
    assert checked(analyze, "verify", str(unit)) == ""
    checked(analyze, "security", "--offline=yes", "--no-pager", f"--threshold={EXPOSURE_MAX}", str(unit))


def test_the_unit_waits_as_long_as_a_stop_may_take(unit: Path) -> None:
    """A drain of the default bound fits into its time; what is killed and what is not started again is as the node means it."""
    found = settings(unit)
    assert int(found["TimeoutStopSec"][0]) > config.EMBEDDED["runtime"]["drain_s"] + 20
    assert (found["Type"], found["KillMode"], found["RestartPreventExitStatus"]) == (["notify"], ["mixed"], ["2 3"])
    assert found["ExecStart"] == [f"{PROGRAM} --home {HOME} serve"]
    assert not re.search("@[A-Z]+@", unit.read_text())


def test_what_systemd_says_of_an_end_is_what_the_next_start_reads(tmp_path: Path) -> None:
    """The very command of the unit, as systemd would run it."""
    from femtoclaw.crash_trace import Trace, cause_of_end

    home = tmp_path / "home"
    home.mkdir()
    text = filled("systemd", str(home), PROGRAM, "femtoclaw")
    line = next(line for line in text.splitlines() if line.startswith("ExecStopPost="))
    command = line.removeprefix("ExecStopPost=/bin/sh -c '").removesuffix("'")
    Trace(Home(str(home)), "b").close()
    said = {"SERVICE_RESULT": "oom-kill", "EXIT_CODE": "killed", "EXIT_STATUS": "KILL"}
    subprocess.run(["/bin/sh", "-c", command], env=said, check=True)
    cause = cause_of_end(Home(str(home)), "b", closed=False, told="")
    assert cause == ("out of memory", "", "the service manager says: oom-kill killed KILL")
    assert (home / "serve.word").stat().st_mode & 0o077 == 0


def test_the_container_is_nobodys_that_could_write_it() -> None:
    """The linter finds nothing; the last image runs as another user than root, who owns the data and not the program."""
    file = Path(FOLDER, FILES["container"])
    assert checked(tool("hadolint"), "--strict-labels", "--failure-threshold", "info", str(file)) == ""
    last = file.read_text().rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert 'CMD ["serve"]' in last
    for option in ("--read-only", "--cap-drop ALL", "--security-opt no-new-privileges"):
        assert option in file.read_text()
    assert "chown" not in last.lower().replace("--owner", "")


def documents() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    with open(os.path.join(FOLDER, FILES["kubernetes"]), encoding="utf-8") as file:
        return {each["kind"]: each for each in yaml.safe_load_all(file)}


def test_kubernetes_takes_the_manifests() -> None:
    """Each by the schema of its version, unknown fields refused."""
    said = checked(tool("kubernetes-validate"), "--strict", os.path.join(FOLDER, FILES["kubernetes"]))
    assert said.count(" passed ") == len(documents())


def test_a_pod_has_no_more_rights_than_it_needs() -> None:
    """The restricted profile, a root file system that is read-only, the node's data on a claim that outlives the pod; one
    writer; time enough to stop; and only the job makes a node."""
    found = documents()
    spec = found["StatefulSet"]["spec"]["template"]["spec"]
    made = found["Job"]["spec"]["template"]["spec"]
    for pod in (spec, made):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert (
            pod["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
        )  # the node refuses files that a group may write
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "femtoclaw"}
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            context = container["securityContext"]
            assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["volumeMounts"][0] == {"name": "home", "mountPath": "/var/lib/femtoclaw"}
    (node,) = spec["containers"]
    assert (node["args"], found["StatefulSet"]["spec"]["replicas"]) == (["serve"], 1)
    assert found["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert spec["terminationGracePeriodSeconds"] > config.EMBEDDED["runtime"]["drain_s"] + 20
    assert node["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert node["readinessProbe"]["httpGet"]["path"] == "/readyz"
    ports = {each["name"]: each["containerPort"] for each in node["ports"]}
    listen = made["containers"][0]["args"][-1]
    assert listen == f"observability.listen=0.0.0.0:{ports['observe']}"


def test_a_container_without_its_volume_starts_no_node(tmp_path: Path) -> None:
    """What is there then is an empty folder: `serve` makes no node of it."""
    empty = tmp_path / "volume"
    empty.mkdir()
    answer = femtoclaw("--json", "--home", str(empty / "home"), "serve", cwd=tmp_path, expect=2)
    assert answer.body["error"]["what"] == "there is no node here"
    assert not list(empty.iterdir())


def test_the_command_prints_each_file(tmp_path: Path) -> None:
    """Filled in for this home and this program; what cannot stand in such a file is refused."""
    for kind, name in FILES.items():
        body = femtoclaw("--json", "--home", HOME, "service", "show", kind, cwd=tmp_path).body
        assert (body["file"], body["kind"]) == (name, kind)
        plain = femtoclaw("--home", HOME, "service", "show", kind, cwd=tmp_path).stdout
        assert plain.rstrip("\n") == body["text"].rstrip("\n")
    assert json.dumps(body)
    for home, program, user in (
        ("/a b", PROGRAM, "u"),
        ("/a%h", PROGRAM, "u"),
        ("/a\nExecStart=/x", PROGRAM, "u"),
        (HOME, "/x'y", "u"),
        (HOME, PROGRAM, "root; x"),
        ("relative", PROGRAM, "u"),
    ):
        with pytest.raises(UsageError):
            filled("systemd", home, program, user)
