"""``serve``: the node stays open, answers at its socket, and takes part in its cluster if it has one."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output
from femtoclaw.cluster_home import is_member
from femtoclaw.errors import UnavailableError
from femtoclaw.home import Home, locate, require
from femtoclaw.sources import live

TYPE_CHECKING = False
if TYPE_CHECKING:
    from femtoclaw.serving.stopping import Stopped

LOOK_S = 0.2

STUCK_STOP_S = 0.5
"""How long calls are still waited for that have not come back although they were interrupted."""

STOP_EXTRA_S = 10.0
"""How long a stop may take beside what it waits for executions."""


def serve(arguments: Arguments, output: Output) -> int:
    """Serve until SIGTERM or SIGINT, and stop in order."""
    from cluster.transport import load_grpc

    home = locate(getattr(arguments, "home", None))
    require(home)
    if arguments.dry_run:
        from femtoclaw.cli.health import health

        return health(Arguments(home=home.path, record=False), output)
    load_grpc()  # before anything else imports it: it is told to be quiet
    if output.as_json:
        from femtoclaw.telemetry.error_lines import structure_stderr

        structure_stderr()
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
    from femtoclaw.api.socket import STOP_SECONDS, Served
    from femtoclaw.crash_trace import Trace
    from femtoclaw.monitoring.observing import Observing
    from femtoclaw.serving.session import Session
    from femtoclaw.serving.supervisor import watched

    over = threading.Event()
    _stopping(over.set)
    supervisor = watched()
    monitors: list[Callable[[], Any]] = []
    single = {"executes": True, "role": "single", "leader": ""}
    session = Session(
        home, live(), output, serving=lambda: single | {"monitors": monitors[0]() if monitors else {}}
    )  # fmt: skip
    trace = Trace(home, session.boot_id)
    served: Served | None = None
    died, reason = False, "the node was stopped"

    def refuse() -> None:
        seconds = session.drain_s + STOP_EXTRA_S
        supervisor.stopping(reason, seconds + STOP_EXTRA_S)
        if served is not None:
            observing.ending()
            served.refuse()

    def close(stuck: int) -> None:
        if served is not None:
            served.stop(STUCK_STOP_S if stuck else STOP_SECONDS)

    stopped: Stopped | None = None
    try:
        log, authority = session.started.log, session.started.authority
        observing = Observing(home, live(), output, session.settings["observability"], runtime_id=session.runtime_id)
        monitors.append(observing.standing)
        observing.lead(session.started)
        session.backgrounds.add(observing)
        service = Service(
            session.executor, lambda first, count: rows(log, first, count), session.concurrency_max, observing.health
        )
        served = Served(home, service, observing.handlers())
        session.backgrounds.start()
        _tell_ready(home, output, served.path)
        supervisor.ready(f"serving {home.path}")
        while not over.wait(LOOK_S):
            supervisor.alive()
            if authority.refusal is not None:
                raise UnavailableError(
                    "the node takes nothing any more", where=home.path, found=authority.refusal,
                    remedy="see the journal and `femtoclaw recover`; then serve it again",
                )  # fmt: skip
    except BaseException as error:
        died, reason = True, f"died: {type(error).__name__}"
        trace.died(error)
        raise
    finally:
        stopped = session.stop(reason, refuse, close)
        trace.close(remove=stopped is not None and not died)
        supervisor.close()
    tell_stopped(home, output, stopped)
    return 0


def tell_stopped(home: Home, output: Output, stopped: Stopped | None) -> None:
    """Print what the stop leaves; end at once where a thread has not come back, which nothing can record any more."""
    if stopped is None:
        output.note("the stop is not on record; the next start says why")
        return
    told = {"stopped": home.path, "size": stopped.size, "root": stopped.root, "state_hash": stopped.state_hash}
    output.data(told | {"ended": stopped.ended, "interrupted": list(stopped.interrupted)})
    output.line(f"stopped {home.path}")
    output.fields([("size", stopped.size), ("root", stopped.root), ("state", stopped.state_hash),
                   ("interrupted", ", ".join(stopped.interrupted) or "nothing")])  # fmt: skip
    if stopped.stuck:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(0)


def _member(home: Home, output: Output) -> int:
    """A member of a cluster."""
    from femtoclaw.api.limits import WORKERS_MAX
    from femtoclaw.api.reading import rows
    from femtoclaw.api.service import Service
    from femtoclaw.api.socket import Served
    from femtoclaw.serving.member import MemberNode
    from femtoclaw.serving.supervisor import watched

    supervisor = watched()
    member = MemberNode(home, live(), output)
    member.supervisor = supervisor
    _stopping(member.stop)

    def log_rows(first: int, count: int) -> Iterator[dict[str, Any]]:
        return rows(member.node.driver.store.log, first, count)

    def ready() -> None:
        _tell_ready(home, output, served.path, member.listens)
        supervisor.ready(f"serving {home.path} at {member.listens}")

    observing = member.observing
    served = Served(home, Service(member.executor, log_rows, WORKERS_MAX, observing.health), observing.handlers())
    member.run(ready, served.stop)
    supervisor.close()
    if member.stopped is not None:
        tell_stopped(home, output, member.stopped)
    return 0
