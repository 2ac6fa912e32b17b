"""``serve``: the node stays open, answers at its socket, and takes part in its cluster if it has one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output
from femtoclaw.cluster_home import is_member
from femtoclaw.errors import UnavailableError
from femtoclaw.home import Home, locate, require
from femtoclaw.sources import live

LOOK_S = 0.2


def serve(arguments: Arguments, output: Output) -> int:
    """Serve until SIGTERM or SIGINT, and stop in order."""
    from cluster.transport import load_grpc

    home = locate(getattr(arguments, "home", None))
    require(home)
    load_grpc()  # before anything else imports it: it is told to be quiet
    return _member(home, output) if is_member(home) else _single(home, output)


def _stopping(stop: Callable[[], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop())


def _tell_ready(home: Home, output: Output, socket: str, listens: str = "") -> None:
    output.data({"serving": home.path, "socket": socket, "listens": listens, "pid": os.getpid()})
    output.line(f"serving {home.path}" + (f" at {listens}" if listens else ""), "green")


def _single(home: Home, output: Output) -> int:
    """A node of its own."""
    from femtoclaw.api.reading import rows
    from femtoclaw.api.service import Service
    from femtoclaw.api.socket import Served
    from femtoclaw.serving.session import Session

    over = threading.Event()
    _stopping(over.set)
    session = Session(home, live(), output)
    try:
        log = session.started.log
        service = Service(session.executor, lambda first, count: rows(log, first, count), session.concurrency_max)
        served = Served(home, service)
        try:
            _tell_ready(home, output, served.path)
            authority = session.started.authority
            while not over.wait(LOOK_S):
                if authority.refusal is not None:
                    raise UnavailableError(
                        "the node takes nothing any more", where=home.path, found=authority.refusal,
                        remedy="see the journal and `femtoclaw recover`; then serve it again",
                    )  # fmt: skip
        finally:
            served.stop()
    finally:
        session.end("the node was stopped")
    return 0


def _member(home: Home, output: Output) -> int:
    """A member of a cluster."""
    from femtoclaw.api.limits import WORKERS_MAX
    from femtoclaw.api.reading import rows
    from femtoclaw.api.service import Service
    from femtoclaw.api.socket import Served
    from femtoclaw.serving.member import MemberNode

    member = MemberNode(home, live(), output)
    _stopping(member.stop)

    def log_rows(first: int, count: int) -> Iterator[dict[str, Any]]:
        return rows(member.node.driver.store.log, first, count)

    served = Served(home, Service(member.executor, log_rows, WORKERS_MAX))
    member.run(lambda: _tell_ready(home, output, served.path, member.listens), served.stop)
    return 0
