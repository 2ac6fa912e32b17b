"""``service``: the files with which a service manager keeps a node, filled in for this program and this home; and the process that
serves it, stopped in order, or restarted by whoever keeps it, with the time in which nobody answered."""

from __future__ import annotations

import os
import re
import sys

from femtoclaw.errors import UsageError
from femtoclaw.home import locate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from femtoclaw.cli.options import Arguments
    from femtoclaw.cli.render import Output
    from femtoclaw.home import Home

FILES = {"systemd": "femtoclaw.service", "container": "Containerfile", "kubernetes": "kubernetes.yaml"}
FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "service_files")
USER = "femtoclaw"

_PATH = re.compile(r"/[A-Za-z0-9._/@+:-]*")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")


def service(arguments: Arguments, output: Output) -> int:
    """0 printed or done, 1 where nobody serves the home (stop, restart), 4 where nobody starts it again in time (restart)."""
    home = locate(getattr(arguments, "home", None))
    if arguments.which != "show":
        return _end(home, arguments, output)
    if arguments.kind is None:
        raise UsageError("which file?", where="service show", expected=", ".join(FILES))
    text = filled(arguments.kind, home.path, program(), arguments.user)
    output.data({"kind": arguments.kind, "file": FILES[arguments.kind], "text": text})
    output.line(text.rstrip("\n"))
    return 0


def _end(home: Home, arguments: Arguments, output: Output) -> int:
    """Have the serving process stop as SIGTERM has it stop: what runs ends, and the stop is on record."""
    import time

    from femtoclaw.errors import UnavailableError
    from femtoclaw.home import require
    from femtoclaw.releases.restarting import restart, server_of, stop

    require(home)
    pid = server_of(home)
    body: dict[str, Any] = {"pid": pid, "dry_run": arguments.dry_run}
    if pid is None or arguments.dry_run:
        output.data(body)
        output.line(f"would {arguments.which} process {pid}" if pid is not None else "nobody serves this home")
        return 0 if pid is not None else 1
    if arguments.which == "stop":
        begun = time.monotonic()
        stop(pid)
        taken = round((time.monotonic() - begun) * 1000)
        output.data(body | {"stopped_in_ms": taken})
        output.line(f"process {pid} stopped in order, in {taken} ms", "green")
        return 0
    down = restart(home, float(arguments.wait))
    if down is None:
        raise UnavailableError(
            "the node is stopped, and nobody has started it again", where=home.path, expected=f"within {arguments.wait} s",
            remedy="start it: `femtoclaw serve`, or see its service manager",
        )  # fmt: skip
    output.data(body | {"downtime_ms": round(down), "served_by": server_of(home)})
    output.line(f"restarted: nobody answered for {round(down)} ms", "green")
    return 0


def filled(kind: str, home: str, started_by: str, user: str) -> str:
    """The file of this kind for a node in ``home``, served by ``user`` with the program ``started_by``. Raises UsageError for
    what would mean something else in such a file: blanks, quotes, percent signs."""
    path = "an absolute path of letters, digits and . _ @ + : -"
    for name, value, shape, expected in (
        ("--home", home, _PATH, path), ("the program", started_by, _PATH, path),
        ("--user", user, _USER, "small letters, digits, _ and -"),
    ):  # fmt: skip
        if not shape.fullmatch(value):
            raise UsageError(
                "this cannot stand in a service file", where=name, expected=expected, found=ascii(value)[:80]
            )  # fmt: skip
    with open(os.path.join(FOLDER, FILES[kind]), encoding="utf-8") as file:
        text = file.read()
    root = os.path.dirname(os.path.dirname(started_by))
    for name, value in (("HOME", home), ("PROGRAM", started_by), ("USER", user), ("ROOT", root)):
        text = text.replace(f"@{name}@", value)
    return text


def program() -> str:
    """The absolute path of the command that starts this program: as it was typed, as it is installed, or the checkout's."""
    installed = os.path.join(os.path.dirname(sys.executable), "femtoclaw")
    checkout = os.path.join(os.path.dirname(os.path.dirname(FOLDER)), "scripts", "femtoclaw")
    typed = os.environ.get("FEMTOCLAW_PROGRAM", "")
    found = [each for each in (typed, installed, checkout) if each and os.access(each, os.X_OK)]
    return os.path.abspath(found[0] if found else sys.argv[0])
