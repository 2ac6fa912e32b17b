"""The machines of the cluster's demo: homes in one folder, their served processes, and one etcd, all on the loopback.

Everything runs as it would from a shell: each command and each ``serve`` is a process of its own. Started by the launcher, they
are started by it as well, and so from verified files.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from femtoclaw.cli.render import Output, printable
from femtoclaw.errors import ConfigurationError, FemtoClawError

if TYPE_CHECKING:
    from femtoclaw.state import State

COMMAND_S = 90.0
"""How long one command may take: a request waits 30 s for a leader."""

READY_S = 45.0
STOP_S = 15.0
_LOOK_S = 0.03
_SEARCHED = "/usr/local/bin:/usr/bin:/usr/sbin"


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def until(ready: Callable[[], bool], what: str, seconds: float = READY_S) -> None:
    """Wait until ``ready()``. Raises FemtoClawError, saying ``what`` did not happen, after that many seconds."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise FemtoClawError(
                "it did not happen in time", expected=f"{what} within {seconds:g} s", found="it did not"
            )
        time.sleep(_LOOK_S)


class Background:
    """A process that stays: what it prints goes into a file. It leads a group of its own, so that it ends when we say."""

    def __init__(self, command: list[str], log: str, environment: dict[str, str]) -> None:
        self.log = log
        self._frozen = False
        with open(log, "ab") as told:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=told, stderr=told, env=environment, cwd=os.path.dirname(log),
                start_new_session=True,
            )  # fmt: skip

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself, or was ended."""
        return self.process.poll() is not None

    def words(self) -> str:
        """What it has printed so far."""
        with open(self.log, errors="replace") as file:
            return file.read()

    def freeze(self) -> None:
        """SIGSTOP: it does nothing, and its connections stand."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it with this signal, the whole group with SIGKILL when that takes too long; its exit code."""
        if not self.ended:
            self.process.send_signal(number)
            self.thaw()
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL)
            return self.process.wait()


class Machine:
    """One home, and the process that serves it. ``number`` is its place: a, b or c."""

    def __init__(self, folder: str, name: str, output: Output) -> None:
        self.folder = folder
        self.name = name
        self.home = os.path.join(folder, name)
        self.address = f"127.0.0.1:{free_port()}"
        self._output = output
        self._served: Background | None = None
        self._clients: set[subprocess.Popen[bytes]] = set()

    @property
    def place(self) -> tuple[str, ...]:
        """The words that say who this member is."""
        return ("--name", self.name, "--listen", self.address)

    def file(self, ending: str) -> str:
        """A file of this member's, beside the homes."""
        return os.path.join(self.folder, f"{self.name}.{ending}")

    def inside(self, path: str) -> str:
        """A path in its home."""
        return os.path.join(self.home, path)

    def run(self, *words: str, show: bool = True) -> tuple[int, list[dict[str, Any]]]:
        """Run one real command in this home; its exit code and its lines of JSON."""
        if show:
            short = (word.replace(self.folder + "/", "") for word in words)
            told = " ".join(word if len(word) <= 60 else word[:57] + "..." for word in short)
            self._output.line(f"  {self.name} $ femtoclaw {printable(told, 150)}", "dim")
        client = self.prepare(*words, stdin=subprocess.DEVNULL)
        try:
            out, errors = client.communicate(timeout=COMMAND_S)
        finally:
            self._clients.discard(client)
            client.kill()
        lines = out.decode().splitlines()
        return client.returncode, [json.loads(line) for line in lines] or [{"stderr": errors.decode()[-800:]}]

    def prepare(self, *words: str, stdin: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
        """Start one command. One that waits for its standard input has its start behind it when it gets it."""
        client = subprocess.Popen(
            command("--home", self.home, "--json", *words), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment(), cwd=self.folder, start_new_session=True,
        )  # fmt: skip
        self._clients.add(client)
        return client

    def call(self, *words: str, expect: int = 0, show: bool = True) -> dict[str, Any]:
        """Run one real command; its last line of JSON. Raises FemtoClawError for another exit code than expected."""
        code, body = self.run(*words, show=show)
        if code != expect:
            raise FemtoClawError(
                f"`{' '.join(words[:2])}` on machine {self.name} did not do what it should", where=self.home,
                expected=f"exit {expect}", found=f"exit {code}: {json.dumps(body[-1])[:600]}",
            )  # fmt: skip
        return body[-1]

    # --- the process that serves ---

    def serve(self) -> None:
        """Start ``serve``; ``listening`` waits for it."""
        self._output.line(f"  {self.name} $ femtoclaw serve &", "dim")
        self._served = Background(command("--home", self.home, "serve"), self.file("log"), environment())

    def listening(self) -> None:
        """Wait until it serves. Raises FemtoClawError with its last words when it ends instead."""
        from femtoclaw.api.socket import is_served
        from femtoclaw.home import Home

        served = self.served

        def ready() -> bool:
            if served.ended:
                raise FemtoClawError("`serve` ended by itself", where=self.home, found=served.words()[-800:])
            return is_served(Home(self.home))

        until(ready, f"machine {self.name} serves")

    @property
    def served(self) -> Background:
        """The process that serves, which must have been started."""
        assert self._served is not None
        return self._served

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End ``serve``, if it was started; its exit code, 0 when it was not."""
        return self._served.end(number) if self._served is not None else 0

    def abandon(self) -> None:
        """End everything of this machine at once."""
        for client in list(self._clients):
            client.kill()
            client.wait()
        self.end(signal.SIGKILL)

    # --- what its log says, read beside whoever serves it ---

    @contextlib.contextmanager
    def reading(self) -> Iterator[Any]:
        """The log, for reading only."""
        from wal.reader import read_log_directory

        reader = read_log_directory(os.path.join(self.home, "log"))
        try:
            yield reader
        finally:
            reader.close()

    def size(self) -> int:
        """Records that are here."""
        with self.reading() as reader:
            return int(reader.size)

    def state(self) -> State:
        """The state that follows from them."""
        from femtoclaw.restore import load_state

        with self.reading() as reader:
            return load_state(reader)

    def journal(self, since_ns: int) -> list[dict[str, Any]]:
        """What its boot journal says since then."""
        with open(os.path.join(self.home, "boot.journal")) as file:
            rows = [json.loads(line) for line in file]
        return [row for row in rows if row["time_ns"] >= since_ns]


class Etcd:
    """One etcd process with an empty data folder."""

    def __init__(self, folder: str, program: str) -> None:
        client, peer = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
        self.endpoint = client.removeprefix("http://")
        self._process = Background(
            [
                program, "--name", "demo", "--data-dir", os.path.join(folder, "etcd"), "--log-level", "warn",
                "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"demo={peer}",
            ],
            os.path.join(folder, "etcd.log"), {"PATH": _SEARCHED, "ETCD_UNSUPPORTED_ARCH": "arm64"},
        )  # fmt: skip

    def ready(self) -> None:
        """Wait until it serves. Raises FemtoClawError with its last words when it ends instead."""
        import urllib.request

        def healthy() -> bool:
            if self._process.ended:
                raise FemtoClawError(
                    "etcd ended by itself", where=self._process.log, found=self._process.words()[-800:]
                )
            try:
                with urllib.request.urlopen(f"http://{self.endpoint}/health", timeout=1) as answer:
                    return bool(json.load(answer)["health"] == "true")
            except (OSError, ValueError, KeyError):
                return False

        until(healthy, "etcd serves")

    def end(self) -> None:
        """End it."""
        self._process.end()


def find_etcd() -> str:
    """Where etcd is. Raises ConfigurationError saying how to install it, or to do without."""
    found = shutil.which("etcd", path=f"{os.environ.get('PATH', '')}:{_SEARCHED}")
    if found is None:
        raise ConfigurationError(
            "etcd is not installed on this machine", where="PATH", expected="etcd 3.4.22 or newer", found="none",
            remedy="install it (Debian, Ubuntu: `apt-get install etcd-server`), or show a cluster without one: --static",
        )  # fmt: skip
    return found


def command(*words: str) -> list[str]:
    """The command line of one femtoclaw process, in the way in which this one was started."""
    if launched():
        from femtoclaw.launcher.start import stub

        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        return [sys.executable, "-I", "-S", "-c", stub("start", "main", root), *words]
    return [sys.executable, "-P", "-m", "femtoclaw", *words]


def launched() -> bool:
    """Whether the launcher has started this process: nothing else does so in this way."""
    return bool(sys.flags.isolated and sys.flags.no_site)


def environment() -> dict[str, str]:
    """This environment without what would configure a node, but for how it is called."""
    kept = ("FEMTOCLAW_PROGRAM", "FEMTOCLAW_DEBUG")
    return {name: value for name, value in os.environ.items() if not name.startswith("FEMTOCLAW") or name in kept}
