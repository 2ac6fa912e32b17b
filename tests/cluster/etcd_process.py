"""Real etcd processes on free loopback ports: alone or three together, to be stopped, killed, frozen and emptied."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests import frozen

SEARCHED = f"{os.environ.get('PATH', '')}:/usr/bin:/usr/local/bin"
READY_S = 30.0
TRIES = 3


def etcd_program() -> str:
    """Where etcd is; without one the test is skipped (which FEMTOCLAW_REQUIRE_ALL=1 turns into a failure)."""
    found = shutil.which("etcd", path=SEARCHED)
    if found is None:
        pytest.skip("etcd is not installed (Debian: etcd-server)")
    return found


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def poll(ready: object, seconds: float = READY_S, pause_s: float = 0.05) -> None:
    """Until ``ready()`` is true; an AssertionError after that many seconds."""
    assert callable(ready)
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(pause_s)


class EtcdMember:
    """One etcd process with its folder. ``arguments``: further ones of its command line."""

    def __init__(self, folder: Path, name: str, client: int, peer: int, peers: str, arguments: tuple[str, ...]) -> None:
        self.folder = folder / name
        self.endpoint = f"127.0.0.1:{client}"
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._secure = "--cert-file" in arguments
        scheme = "https" if self._secure else "http"
        self._command = [
            etcd_program(), "--name", name, "--data-dir", str(self.folder), "--log-level", "warn",
            "--listen-client-urls", f"{scheme}://127.0.0.1:{client}",
            "--advertise-client-urls", f"{scheme}://127.0.0.1:{client}",
            "--listen-peer-urls", f"http://127.0.0.1:{peer}", "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
            "--initial-cluster", peers, "--initial-cluster-token", "femtoclaw-test", *arguments,
        ]  # fmt: skip

    def start(self) -> None:
        """Begin; ``wait`` says when it can be used. The process ends with ours."""
        setpriv = shutil.which("setpriv")
        tied = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*tied, *self._command],
                stdout=log,
                stderr=log,
                env={"PATH": SEARCHED, "ETCD_UNSUPPORTED_ARCH": "arm64"},
            )

    @property
    def ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def healthy(self) -> bool:
        """Whether it serves with a majority behind it."""
        if self._secure:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", int(self.endpoint.split(":")[1]))) == 0
        try:
            with urllib.request.urlopen(f"http://{self.endpoint}/health", timeout=1) as answer:
                return bool(json.load(answer)["health"] == "true")
        except (OSError, ValueError, KeyError):
            return False

    def wait(self) -> None:
        """Until it serves. Raises AssertionError with its last words when it ends instead."""

        def ready() -> bool:
            assert not self.ended, self._log.read_text()[-2000:]
            return self.healthy()

        poll(ready)

    def ask(self, path: str, **fields: object) -> dict[str, object]:
        """One call through its JSON gateway."""
        request = urllib.request.Request(f"http://{self.endpoint}{path}", json.dumps(fields).encode())
        with urllib.request.urlopen(request, timeout=5) as answer:
            told: dict[str, object] = json.load(answer)
            return told

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and wait for the end."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP; it answers nothing any more when this returns."""
        assert self._process is not None
        frozen.freeze(self._process.pid)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Forget everything: as a new etcd with the same name and addresses, and so of the same cluster id."""
        assert self.ended
        shutil.rmtree(self.folder)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(20)


class EtcdCluster:
    """One or three members."""

    def __init__(self, folder: Path, count: int = 1, arguments: tuple[str, ...] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        etcd_program()
        for left in range(TRIES, 0, -1):
            self.members = self._make(folder, count, arguments)
            try:
                for member in self.members:
                    member.start()
                for member in self.members:
                    member.wait()
            except AssertionError:
                self.end()
                # Somebody else took one of the ports in between.
                if left == 1:
                    raise
                continue
            break

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(member.endpoint for member in self.members)

    def end(self) -> None:
        for member in self.members:
            member.kill()

    def _make(self, folder: Path, count: int, arguments: tuple[str, ...]) -> list[EtcdMember]:
        ports = free_ports(2 * count)
        names = [f"etcd{number}" for number in range(count)]
        peers = ",".join(f"{name}=http://127.0.0.1:{port}" for name, port in zip(names, ports[count:], strict=True))
        for name in names:
            shutil.rmtree(folder / name, ignore_errors=True)
        return [
            EtcdMember(folder, name, client, peer, peers, arguments)
            for name, client, peer in zip(names, ports[:count], ports[count:], strict=True)
        ]
