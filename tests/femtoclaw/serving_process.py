"""A process that serves one home, without any cluster: opens the node as a command does, and answers at its socket."""

from __future__ import annotations

import signal
import sys
import threading

from femtoclaw.api.local import LocalExecutor
from femtoclaw.api.reading import rows
from femtoclaw.api.service import Service
from femtoclaw.api.socket import Served
from femtoclaw.cli.execute import open_node
from femtoclaw.cli.render import Output


def main(home: str) -> None:
    """Serve until SIGTERM; prints one line when it answers."""
    stopping = threading.Event()
    output = Output(as_json=False)
    with open_node(home, output) as node:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        executor = LocalExecutor(
            node.started, node.gate, concurrency_max=node.settings["runtime"]["concurrency_max"]
        )  # fmt: skip
        log = node.started.log
        served = Served(node.started.home, Service(executor, lambda first, count: rows(log, first, count), 4))
        print("serving", flush=True)
        while not stopping.wait(0.2):
            pass
        served.stop()


if __name__ == "__main__":
    main(sys.argv[1])
