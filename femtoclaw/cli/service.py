"""``service show``: the files with which a service manager keeps a node, filled in for this program and this home."""

from __future__ import annotations

import os
import re
import sys

from femtoclaw.errors import UsageError
from femtoclaw.home import locate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from femtoclaw.cli.options import Arguments
    from femtoclaw.cli.render import Output

FILES = {"systemd": "femtoclaw.service", "container": "Containerfile", "kubernetes": "kubernetes.yaml"}
FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "service_files")
USER = "femtoclaw"

_PATH = re.compile(r"/[A-Za-z0-9._/@+:-]*")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")


def service(arguments: Arguments, output: Output) -> int:
    """Print one of the files; it is for whoever administers the machine to put in its place."""
    home = locate(getattr(arguments, "home", None))
    text = filled(arguments.kind, home.path, program(), arguments.user)
    output.data({"kind": arguments.kind, "file": FILES[arguments.kind], "text": text})
    output.line(text.rstrip("\n"))
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
