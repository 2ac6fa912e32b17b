"""Every attack meets a layer, and each layer that is said to stop it stops it alone, with all others switched off.

With nothing on, the same attack reaches what it is after: so these tests can fail. The layers are switched off in the
fork server, as if the kernel did not have them.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from femtoclaw.isolation import Isolation, Outcome, client
from femtoclaw.isolation.layers import REQUIRED
from tests.femtoclaw.isolated import ROOT, declared

ATTACKS = "tests.femtoclaw.hostile_attacks"
READ, WRITE, EXECUTE, NETWORK, PROCESSES = "workspace.read", "workspace.write", "execute", "network", "processes"

_OFF = {
    "landlock": "tests.femtoclaw.without_landlock",
    "seccomp": "tests.femtoclaw.without_seccomp",
    "namespaces": "tests.femtoclaw.without_namespaces",
    "user": "tests.femtoclaw.without_other_user",
}
LAYERS = ("landlock", "seccomp", "namespaces")
"""Those that are shown alone; a dropped user shows in what root's files still are (``test_isolation_users``)."""

CONFIGURATIONS: dict[str, tuple[str, ...]] = {
    "all": (),
    **{layer: tuple(module for name, module in _OFF.items() if name != layer) for layer in LAYERS},
    "none": tuple(_OFF.values()),
}
"""Which modules the fork server loads for it: a layer alone is all others switched off."""

ROOT_IS_REFUSED = ("reads_memory", "reads_environment", "traces")
"""Of root without its capabilities by the kernel itself: a victim with more of them is not traced."""


class Attack(NamedTuple):
    """What is tried with which permissions, and which layers stop it alone."""

    name: str
    permissions: tuple[str, ...]
    stopped_by: tuple[str, ...]


ROWS = (
    Attack("reads_key", (READ,), ("landlock", "namespaces")),
    Attack("reads_key", (READ, WRITE, EXECUTE, NETWORK), ("landlock", "namespaces")),
    Attack("writes_log", (READ, WRITE), ("landlock", "namespaces")),
    Attack("truncates_log", (READ,), LAYERS),
    Attack("opens_key_to_all", (READ,), ("seccomp", "namespaces")),
    Attack("opens_key_to_all", (READ, WRITE), ("namespaces",)),
    Attack("writes_outside", (READ, WRITE), ("landlock", "namespaces")),
    Attack("removes_outside", (READ, WRITE), ("landlock", "namespaces")),
    Attack("leaves_files", (READ, WRITE), ("landlock", "namespaces")),
    Attack("links_out", (READ, WRITE), ("landlock", "namespaces")),
    Attack("links_in", (READ, WRITE), ("landlock", "namespaces")),
    Attack("swapped_link", (READ, WRITE), ("landlock", "namespaces")),
    Attack("connects", (READ,), LAYERS),
    Attack("listens", (READ,), ("landlock", "seccomp")),
    Attack("listens", (READ, NETWORK), ("landlock", "seccomp")),
    Attack("listens_unbound", (READ, NETWORK), ("seccomp",)),
    Attack("sends_datagram", (READ,), ("seccomp", "namespaces")),
    Attack("opens_raw", (READ, NETWORK), ("seccomp",)),
    Attack("connects_abstract", (READ,), LAYERS),
    Attack("connects_named", (READ,), ("seccomp",)),
    Attack("signals", (READ,), ("landlock", "namespaces")),
    Attack("limits_others", (READ,), ("seccomp", "namespaces")),
    Attack("reads_memory", (READ, PROCESSES), ("landlock",)),
    Attack("reads_environment", (READ, PROCESSES), ("landlock",)),
    Attack("traces", (READ,), LAYERS),
    Attack("leaves_namespaces", (READ, EXECUTE), ("seccomp",)),
    Attack("mounts", (READ, EXECUTE), ("landlock", "seccomp")),
    Attack("uses_io_uring", (READ,), ("seccomp",)),
    Attack("asks_for_keys", (READ,), ("seccomp",)),
    Attack("compares", (READ,), ("seccomp",)),
    Attack("changes_personality", (READ, EXECUTE), ("seccomp",)),
    Attack("runs_script", (READ,), ("landlock", "seccomp")),
    Attack("runs_script", (READ, EXECUTE), ("landlock",)),
    Attack("runs_own", (READ, WRITE), LAYERS),
    Attack("runs_own", (READ, WRITE, EXECUTE), ("landlock", "namespaces")),
    Attack("runs_from_memory", (READ, EXECUTE), ("seccomp",)),
    Attack("leaves_set_uid", (READ, WRITE), ("seccomp",)),
    Attack("opens_workspace_to_all", (READ, WRITE), ("seccomp",)),
    Attack("holds_segment", (READ,), ("seccomp",)),
    Attack("holds_semaphores", (READ,), ("seccomp",)),
    Attack("holds_queue", (READ,), ("seccomp",)),
    Attack("holds_named_queue", (READ,), ("seccomp",)),
    Attack("fills_memory", (READ,), ("seccomp",)),
    Attack("fills_memory", (READ, EXECUTE), ("seccomp",)),
)


class Place:
    """A folder that everybody may pass, with a workspace and the node's files; and a victim with something to take."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="femtoclaw-test-"))
        self.folder.chmod(0o755)
        self.workspace, self.where = self.folder / "workspace", self.folder / "home"
        self.victim = subprocess.Popen(["/bin/sleep", "600"])
        self.tcp, self.udp = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.name = f"femtoclaw-test-{os.getpid()}-{os.urandom(4).hex()}"
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind("\0" + self.name)
        self.abstract.listen()
        self.reset()

    def reset(self) -> None:
        """As before any attack; the folders themselves stay."""
        for folder in (self.workspace, self.where, self.where / "keys", self.where / "store"):
            folder.mkdir(mode=0o755, exist_ok=True)
            folder.chmod(0o755)
            for entry in folder.iterdir():
                if not entry.is_dir():
                    entry.unlink()
        for name, text in (("keys/key", "secret"), ("store/data", "log")):
            (self.where / name).write_text(text)
            (self.where / name).chmod(0o600)
        (self.where / "script").write_text("#!/bin/sh\nexit 0\n")
        (self.where / "script").chmod(0o755)

    def arguments(self, attack: str) -> dict[str, Any]:
        datagram = attack == "sends_datagram"
        return {
            "attack": attack,
            "where": str(self.where),
            "name": self.name,
            "port": (self.udp if datagram else self.tcp).getsockname()[1],
            "abstract": self.name,
            "victim": self.victim.pid,
            "address": int(Path(f"/proc/{self.victim.pid}/maps").read_text().split("-")[0], 16),
            "times": 1000,
        }

    def left(self) -> list[str]:
        """What an attack has left where nothing of a claw may stay."""
        return [f for f in ("/dev/shm", "/tmp", "/var/tmp") if os.path.exists(os.path.join(f, self.name))]

    def close(self) -> None:
        self.victim.kill()
        self.victim.wait()
        for held in (self.tcp, self.udp, self.abstract):
            held.close()
        shutil.rmtree(self.folder)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    made = Place()
    yield made
    made.close()


@pytest.fixture(scope="module")
def isolations(place: Place) -> Iterator[dict[str, Isolation]]:
    """One fork server for each configuration, all on one workspace."""
    found = {
        name: Isolation(
            str(place.workspace),
            modules=(*modules, ATTACKS),
            search_path=str(ROOT),
            protected=(str(place.where / "keys"), str(place.where / "store")),
            accept_missing=REQUIRED,
        )
        for name, modules in CONFIGURATIONS.items()
    }
    yield found
    for isolation in found.values():
        isolation.close()


def run(isolation: Isolation, place: Place, attack: Attack) -> Outcome:
    claw = declared(ATTACKS, "attack", 20.0, attack.permissions)
    return isolation.run(claw, place.arguments(attack.name), {})


@pytest.mark.requirement("THREAT-7.1", "WHITE-4.3", "SECURITY-2.1", "DEPLOY-12.1", "DEPLOY-13.1")
@pytest.mark.parametrize("configuration", list(CONFIGURATIONS))
@pytest.mark.parametrize("attack", ROWS, ids=lambda row: f"{row.name}-{'+'.join(row.permissions)}")
def test_an_attack_reaches_nothing_where_a_layer_stops_it(
    isolations: dict[str, Isolation], place: Place, attack: Attack, configuration: str
) -> None:
    """All layers on: nothing. One layer of the row alone: nothing. None: it reaches what it is after."""
    if configuration in LAYERS and configuration not in attack.stopped_by:
        return  # not said to stop it
    place.reset()
    with socket.socket(socket.AF_UNIX) as named:
        named.bind(str(place.where / "socket"))
        named.listen()
        (place.where / "socket").chmod(0o666)
        outcome = run(isolations[configuration], place, attack)
    left = place.left()
    for folder in left:
        os.unlink(os.path.join(folder, place.name))
    assert outcome.result is not None, outcome
    refused_root = attack.name in ROOT_IS_REFUSED and os.geteuid() == 0
    expected = configuration == "none" and not refused_root
    assert (outcome.result["reached"], bool(left)) == (expected, expected and attack.name == "leaves_files"), outcome
    if configuration != "none":
        assert ((place.where / "keys/key").read_text(), (place.where / "store/data").read_text()) == ("secret", "log")


def test_the_layers_of_each_configuration_are_those_it_names(isolations: dict[str, Isolation]) -> None:
    """What is switched off is said to be off, and what is on is on: the rows above show what they say."""
    named = {"landlock": "landlock_filesystem", "seccomp": "seccomp", "namespaces": "mount_namespace"}
    for name, isolation in isolations.items():
        layers = isolation.layers()
        for layer, shown in named.items():
            assert layers[shown].startswith("in force") == (name in ("all", layer)), (name, shown, layers[shown])


def test_a_temporary_folder_has_a_bound_in_all(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are each within their bound fill the folder, not the disk."""
    monkeypatch.setattr(client, "TEMPORARY_BYTES_MAX", 64 << 20)
    isolation = Isolation(str(place.workspace), modules=(ATTACKS,), search_path=str(ROOT))
    try:
        if not isolation.layers()["mount_namespace"].startswith("in force"):
            pytest.skip("the kernel grants no mount namespace")
        outcome = run(isolation, place, Attack("fills_folder", (READ,), ()))
    finally:
        isolation.close()
    assert outcome.result == {"reached": False, "errno": 28}
