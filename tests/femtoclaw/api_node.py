"""A node in memory behind the real service at a real socket: what reaches its sandbox is counted."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from femtoclaw.api.client import Client, connect
from femtoclaw.api.local import LocalExecutor
from femtoclaw.api.reading import rows
from femtoclaw.api.service import Service
from femtoclaw.api.socket import Served
from femtoclaw.boot import Started
from femtoclaw.home import Home
from femtoclaw.key_file import KeySigner
from femtoclaw.subject_keys import StoredKeys
from tests.femtoclaw.controlled import Controlled
from tests.femtoclaw.test_loop import call as message

READ = json.dumps(message("fs.read", path="notes.txt")).encode()


class ApiNode(Controlled):
    """``Controlled`` with an ``executor``; its home is a folder that holds the socket and keys of subjects, not its log."""

    def __init__(self, folder: Path, **more: Any) -> None:
        super().__init__(**more)
        self.home = Home(str(folder))
        signer = KeySigner("node", bytes(32))
        started = Started(
            self.home, self.sources, self.log, self.authority, cast(Any, None), (), (), (), signer,
            StoredKeys(self.home, signer),
        )  # fmt: skip
        self.executor = LocalExecutor(started, self.gate, concurrency_max=64)

    @contextlib.contextmanager
    def served(self, executor: Any = None, *, working_max: int = 4) -> Iterator[Client]:
        """A client of it; ``executor`` may stand before its own."""
        chosen = executor if executor is not None else self.executor
        served = Served(self.home, Service(chosen, lambda first, count: rows(self.log, first, count), working_max))
        try:
            with connect(self.home) as client:
                yield client
        finally:
            served.stop()
