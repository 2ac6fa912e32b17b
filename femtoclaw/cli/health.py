"""``health``: whether the node could do its work now, each reason tried for real, without taking the writer's lock."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
from collections.abc import Iterator
from typing import NamedTuple

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, printable
from femtoclaw.config import SECURE
from femtoclaw.errors import FemtoClawError
from femtoclaw.home import Home, check_permissions, effective_configuration, locate, policy_text, require
from femtoclaw.integrity import check_recorded, mode_of
from femtoclaw.isolation.layers import IN_FORCE, REQUIRED, missing
from femtoclaw.keys import check_index
from femtoclaw.restore import load_state
from femtoclaw.state import Node
from wal.errors import LogError
from wal.reader import read_log_directory

OK, WARNING, BAD = "ok", "warning", "bad"
DISK_FREE_BYTES_MIN = 1 << 30
"""With less, the node still works, and somebody should look."""


class Check(NamedTuple):
    """One thing that was looked at: ``bad`` keeps the node from its work, ``warning`` does not."""

    name: str
    result: str
    text: str


def health(arguments: Arguments, output: Output) -> int:
    """0 when nothing is bad, 1 otherwise; 2 where there is no node."""
    home = locate(getattr(arguments, "home", None))
    require(home)
    checks = list(look(home))
    healthy = all(check.result != BAD for check in checks)
    output.data({"healthy": healthy, "checks": [check._asdict() for check in checks]})
    width = max(len(check.name) for check in checks)
    for check in checks:
        colour = {OK: "", WARNING: "yellow", BAD: "red"}[check.result]
        output.line(f"{check.result:<8} {check.name:<{width}}  {printable(check.text)}", colour)
    output.line("healthy" if healthy else "NOT healthy", "green" if healthy else "red")
    return 0 if healthy else 1


def look(home: Home) -> Iterator[Check]:
    """Every check, in the order in which a start makes them. What goes wrong in one of them is its result."""
    yield _tried("permissions", "the home is its owner's alone", lambda: check_permissions(home))
    try:
        reader = read_log_directory(home.log)
    except LogError as error:
        yield Check("log", BAD, str(error))
        return
    try:
        node = load_state(reader).node
        size = reader.size
    except (LogError, FemtoClawError) as error:
        yield Check("log", BAD, str(error))
        return
    finally:
        reader.close()
    yield Check("log", OK, f"{size} records can be read and folded")
    mode = mode_of(node)
    yield Check("mode", OK if mode == SECURE else WARNING, mode if mode == SECURE else f"{mode}: not compliant")
    yield _tried("files", "configuration and policy are the recorded ones", lambda: _compare(home, node))
    yield _tried("keys", "the key files are those of their index", lambda: _require_index(home))
    yield _encrypted(home)
    yield from _sandbox(home, node, mode)
    root = os.geteuid() == 0
    yield Check(
        "privileges", WARNING if root else OK, "root: the node needs none of its rights" if root else "a user's"
    )
    yield from _host(home)
    yield Check("contained", BAD if node.contained else OK, node.contained or "takes new work")
    disk = os.statvfs(home.log)
    free = disk.f_bavail * disk.f_frsize
    yield Check("disk", OK if free >= DISK_FREE_BYTES_MIN else WARNING, f"{free} bytes free")


def _host(home: Home) -> Iterator[Check]:
    """What a node needs of its machine, each tried for real; and whether the program's files are what was verified."""
    from femtoclaw.distribution_watch import distribution_changed
    from femtoclaw.preflight import preflight

    try:
        settings = effective_configuration(home, None)
    except FemtoClawError:
        settings = None  # told by the check of the files
    for finding in preflight(home, settings):
        result = OK if finding.ok else WARNING if finding.warning else BAD
        text = f"{finding.where}: {finding.text}" if finding.check == "permissions" else finding.text
        yield Check(f"host: {finding.check}", result, text)  # of several files each line has to say which one it is
    changed = distribution_changed(home)
    text = f"changed: {', '.join(changed[:5])}" if changed else "no file of the program has changed"
    yield Check("program", BAD if changed else OK, text)


def _tried(name: str, good: str, work: object) -> Check:
    assert callable(work)
    try:
        work()
    except (FemtoClawError, LogError) as error:
        return Check(name, BAD, str(error))
    return Check(name, OK, good)


def _compare(home: Home, node: Node) -> None:
    effective = effective_configuration(home, None)
    check_recorded(home, node, effective, policy_text(home, effective), frozenset())


def _require_index(home: Home) -> None:
    check_index(home)


def _encrypted(home: Home) -> Check:
    from femtoclaw.key_file import is_sealed

    try:
        sealed = is_sealed(home.key_file)
    except FemtoClawError as error:
        return Check("node key", BAD, str(error))
    text = "encrypted at rest" if sealed else "NOT encrypted at rest: `femtoclaw key protect`"
    return Check("node key", OK if sealed else WARNING, text)


def _sandbox(home: Home, node: Node, mode: str) -> Iterator[Check]:
    """Each layer that claws would get here, as a probe of this kernel finds it."""
    from femtoclaw.isolation.probe import available

    try:
        found = available(home.inside(effective_configuration(home, None)["security"]["workspace"]))
    except FemtoClawError as error:
        yield Check("sandbox", BAD, str(error))
        return
    lacking = missing(found)
    for name in sorted(found, key=lambda each: (each not in REQUIRED, each)):
        good = found[name].startswith(IN_FORCE)
        result = OK if good else BAD if name in REQUIRED and mode == SECURE else WARNING
        yield Check(f"sandbox: {name}", result, found[name])
    if lacking and mode == SECURE:
        yield Check("sandbox", BAD, f"no claw is run: {', '.join(lacking)} missing, and the node is in secure mode")
