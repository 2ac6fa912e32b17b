"""``health``: whether the node could do its work now, each reason tried for real, without taking the writer's lock.

Of a served node the process that serves it is asked as well, over its socket. Nothing is recorded unless ``--record`` says so: then
the result is an event of the log, whatever it is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

from femtoclaw.cli.node import locked, monitor_text
from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, printable
from femtoclaw.cli.versioning import standing_at
from femtoclaw.cluster_home import is_member
from femtoclaw.config import EMBEDDED, SECURE
from femtoclaw.errors import FemtoClawError, HistoryError, UnavailableError
from femtoclaw.home import Home, check_permissions, effective_configuration, locate, policy_text, require
from femtoclaw.integrity import check_recorded, mode_of
from femtoclaw.isolation.layers import IN_FORCE, REQUIRED, missing
from femtoclaw.keys import check_index
from femtoclaw.monitoring.backed_up import backups_check
from femtoclaw.monitoring.looked import BAD, OK, WARNING, Check, body_of, results, worst
from femtoclaw.monitoring.looking import at_rest as probes_at_rest
from femtoclaw.monitoring.looking import disk_check
from femtoclaw.recorded import recorded_configuration
from femtoclaw.restore import load_state
from femtoclaw.restored_log import refuse_aside, refuse_restored
from femtoclaw.state import Node
from wal.errors import LogError
from wal.head import read_slots
from wal.reader import LogReader, read_log_directory

COMPLIANT = "COMPLIANT"

MEASURED = ("disk", "memory", "descriptors")
"""Findings about the host whose texts hold what was measured."""

ANSWER_S = 20.0
"""How long the process that serves the home may take to look."""


def health(arguments: Arguments, output: Output) -> int:
    """0 when nothing is bad, 1 otherwise; 2 where there is no node."""
    home = locate(getattr(arguments, "home", None))
    require(home)
    record: bool = arguments.record
    served = _served(home, record)
    checks = list(look(home, served=served is not None))
    body = body_of(checks)
    if served is not None:
        checks += [Check(**each) for each in served["checks"]]
        body = body_of(checks) | {name: served[name] for name in ("monitors", "telemetry") if name in served}
    healthy = bool(body["healthy"])
    body["compliance"] = stands = standing_at(home)
    output.data(body)
    width = max(len(check.name) for check in checks)
    for check in checks:
        colour = {OK: "", WARNING: "yellow", BAD: "red"}[check.result]
        output.line(f"{check.result:<8} {check.name:<{width}}  {printable(check.text)}", colour)
    for name, standing in body.get("monitors", {}).items():
        output.line(f"monitor  {name:<{width}}  {monitor_text(standing)}", "red" if standing["stalled"] else "")
    word = stands["compliance"]
    output.line(
        f"compliance {word}" + (f": {stands['why']}" if "why" in stands else ""),
        "green" if word == COMPLIANT else "yellow",
    )
    output.line("healthy" if healthy else "NOT healthy", "green" if healthy else "red")
    if record and served is None:
        _record(arguments, output, checks)
    return 0 if healthy else 1


def _served(home: Home, record: bool) -> dict[str, Any] | None:
    """What the process that serves this home finds; None where none does, or where it does not answer: then that is a check."""
    from femtoclaw.api.socket import is_served

    if not is_served(home):
        return None
    from femtoclaw.api.client import connect

    try:
        with connect(home) as client:
            return client.health(record, ANSWER_S)
    except UnavailableError as error:
        wanted = f"; expected {error.expected}" if error.expected else ""
        text = f"the process that serves this home does not answer: {error.what}{wanted}; {error.remedy}"
        return {"checks": [Check("responsiveness", BAD, text)._asdict()]}


def _record(arguments: Arguments, output: Output, checks: list[Check]) -> None:
    """Put the look on record, which opens the node as any command does. Raises what opening and recording raise."""
    from femtoclaw import commands, events
    from femtoclaw.cli.execute import at_rest, open_node

    with open_node(getattr(arguments, "home", None), output) as node:
        started = at_rest(node, "health --record").started
        told = events.HealthChecked(worst(checks), results(checks), "request", started.sources.wall_ns())
        recorded = started.authority.perform(commands.Observe(told))
        output.line(f"recorded at index {recorded.receipt.first}")


def _startable(home: Home) -> Iterator[Check]:
    """What keeps every start away until an operator has said how it goes on: a home that was moved aside, or came out of a
    backup or an archive. Nothing for others."""
    try:
        refuse_aside(home)
        if not is_member(home):
            refuse_restored(home)
    except (FemtoClawError, LogError) as error:
        yield Check("start", BAD, f"{error}: {error.remedy}" if error.remedy else str(error))


def look(home: Home, *, served: bool = False) -> Iterator[Check]:
    """Every check that needs no process but this one, in the order in which a start makes them; of a ``served`` home without those
    that its process answers. What goes wrong in one of them is its result."""
    yield _tried("permissions", "nobody but its owner may write in the home", lambda: check_permissions(home))
    yield from _startable(home)
    try:
        reader = read_log_directory(home.log)
    except LogError as error:
        yield Check("log", BAD, str(error))
        return
    probes: tuple[Check, ...] = ()
    try:
        size = reader.size
        state = load_state(reader, size)
        node = state.node
        if not served:
            probes = (
                *_last_stop(home, reader), *probes_at_rest(home, reader, state),
                backups_check(home, reader, _backup_age_s(node), time.time_ns()),
            )  # fmt: skip
    except HistoryError:
        raise  # what nobody could record is an integrity error, and no result of a look
    except (LogError, FemtoClawError) as error:
        yield Check("log", BAD, str(error))
        return
    finally:
        reader.close()
    yield Check("log", OK, f"{size} records can be read and folded")
    yield from probes
    mode = mode_of(node)
    yield Check("mode", OK if mode == SECURE else WARNING, mode if mode == SECURE else f"{mode}: not compliant")
    yield _tried("files", "configuration and policy are the recorded ones", lambda: _compare(home, node))
    yield _index(home)
    yield _encrypted(home)
    yield from _certificate(home)
    yield from _sandbox(home, node, mode)
    root = os.geteuid() == 0
    yield Check(
        "privileges", WARNING if root else OK, "root: the node needs none of its rights" if root else "a user's"
    )
    yield from _host(home)
    yield Check("contained", BAD if node.contained else OK, node.contained or "takes new work")
    if not served:
        yield disk_check(home)


def _backup_age_s(node: Node) -> int:
    """How old the last backup may be, by the recorded configuration."""
    settings = recorded_configuration(node.configuration.content).get("observability", {})
    return int(settings.get("backup_age_s", EMBEDDED["observability"]["backup_age_s"]))


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
        if finding.check in MEASURED and finding.ok:
            text = "enough for a node"  # how much there is differs from look to look
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


def _certificate(home: Home) -> Iterator[Check]:
    """What the newest certificate of compliance is worth, where there was ever one."""
    if not os.path.isdir(home.inside("certificates")):
        return
    from femtoclaw.cli.certifying import standing_of

    try:
        found = standing_of(home, Output(as_json=True))
    except (FemtoClawError, LogError) as error:
        yield Check("certificate", WARNING, str(error))
        return
    text = ", ".join([found["status"], *found["why"]])
    yield Check("certificate", OK if found["status"] == "VALID" else WARNING, text)


def _compare(home: Home, node: Node) -> None:
    effective = effective_configuration(home, None)
    check_recorded(home, node, effective, policy_text(home, effective), frozenset())


def _last_stop(home: Home, reader: LogReader) -> Iterator[Check]:
    """That the process before was killed, where nobody is at work: until the next start nobody else tells of it."""
    if not read_slots(reader.storage.read_slots()).clean and not locked(home):
        yield Check(
            "last stop", WARNING,
            "none on record: the process before was killed, or its machine; the next start recovers (`femtoclaw recover`)",
        )  # fmt: skip


def _index(home: Home) -> Check:
    try:
        known = check_index(home)
    except (FemtoClawError, OSError) as error:
        return Check("keys", BAD, str(error))
    if not known:
        return Check(
            "keys", WARNING, "there is no index of the key files (keys/index.note): nothing says which belong there"
        )
    return Check("keys", OK, "the key files are those of their index")


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
