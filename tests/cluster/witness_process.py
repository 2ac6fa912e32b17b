"""A witness as its operator runs it: the real command in a process of its own, on a port of loopback."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from cluster.witness_client import WitnessAddress
from tests.cli.node import START, Answer, environment, femtoclaw
from tests.cluster.witnessed_log import ORIGIN, SIGNER, WITNESS_NAME
from wal.cosignature import CosignerKey


class WitnessDirectory:
    """A witness that watches the sample log, and the process that serves it when ``start`` was called."""

    def __init__(self, path: Path) -> None:
        self.path = path
        made = self.call("init", "--name", WITNESS_NAME, "--listen", "127.0.0.1:0")
        self.key = CosignerKey.parse(made.body["public_key"])
        self.call("add-log", ORIGIN, SIGNER.public.vkey())
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def call(self, what: str, *words: str, expect: int | None = 0) -> Answer:
        rest = [each for each in words if not each.startswith("-")] if what == "add-log" else []
        options = [each for each in words if each not in rest]
        return femtoclaw(
            "--json", "witness", what, str(self.path), *rest, *options, cwd=self.path.parent, expect=expect
        )

    def refused_start(self) -> int:
        """The exit code of ``serve`` where it must not start: one that does start anyway is killed and fails the test."""
        words = [sys.executable, "-c", START, "--json", "witness", "serve", str(self.path)]
        done = subprocess.run(words, env=environment(), capture_output=True, check=False, timeout=20)
        return done.returncode

    @property
    def address(self) -> WitnessAddress:
        return WitnessAddress(self.key, self.url)

    def start(self) -> None:
        """Start the process and wait until it listens."""
        words = [sys.executable, "-c", START, "--json", "witness", "serve", str(self.path)]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, env=environment(), stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None
        body: dict[str, Any] = json.loads(self._process.stdout.readline())
        self.url = body["url"]

    def end(self, number: int = signal.SIGKILL) -> int:
        """Send a signal and wait for the end; its exit code."""
        process = self._process
        if process is None:
            return 0
        process.send_signal(number)
        code = process.wait(30)
        if process.stdout is not None:
            process.stdout.close()
        self._process = None
        return code

    def evidence(self) -> list[Path]:
        folder = self.path / "evidence"
        return sorted(folder.iterdir()) if folder.exists() else []

    def state_file(self) -> Path:
        (path,) = (self.path / "logs").iterdir()
        return path
