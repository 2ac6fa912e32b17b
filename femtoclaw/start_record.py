"""What of a start goes into the log: the starts that failed before it, why the process before it ended, and its own steps.

Steps were taken before the log was open; they are told with the time at which they were. Steps of a start are recorded where a
node is served. One that opens for one command has them in the boot journal: its log would be made of them.
"""

from __future__ import annotations

from femtoclaw import commands, events
from femtoclaw.boot_journal import Since
from femtoclaw.crash_trace import Cause, cause_of_end, died
from femtoclaw.event_codec import decode
from femtoclaw.lifecycle import RuntimeState
from femtoclaw.verified_start import Steps
from femtoclaw.version import VERSION
from wal.record import KIND_EVENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from femtoclaw.boot import Started

TOLD_BEFORE_RECORDS = 4096
"""How far back the log is asked whether it has a failed start already."""

RECOVER = "recover"


def record_begin(started: Started, steps: Steps, since: Since, checks: tuple[str, ...], *, served: bool) -> None:
    """Record what comes before the start itself: an unclean end with its cause and what was verified since, and the steps."""
    node, log = started.authority.state.node, started.log
    cause = _cause(started, since)
    again = f"restart={'true' if node.boots else 'false'}, program {VERSION}, {log.size} records before it"
    if served or cause is not None:
        root = log.frontier().root().hex()
        steps.passed("runtime", root, f"{again}, their root {root}", "done")
    else:
        steps.passed("runtime", log.head.link.hex(), again, "done")
    if cause is not None:
        for event in _recovery(started, steps, cause, checks):
            started.authority.perform(commands.Observe(event))
    if served:
        for taken in steps.taken:
            started.authority.perform(commands.Observe(taken))


def record_failures(started: Started, since: Since) -> None:
    """Record the starts that failed since the last good one, each once: a crash may have come behind their record before."""
    if not since.failures:
        return
    known = _told_before(started)
    for failure in since.failures:
        if failure not in known:
            started.authority.perform(commands.Observe(events.StartFailed(*failure)))
    if since.more:
        told = f"{since.more} more before these are in the boot journal only"
        event = events.StartFailed("", "MORE", told, since.failures[0].at_ns)
        if event[:] not in known:
            started.authority.perform(commands.Observe(event))


def _told_before(started: Started) -> set[tuple[object, ...]]:
    size = started.log.size
    records = started.log.scan(max(1, size - TOLD_BEFORE_RECORDS), size + 1)
    decoded = (decode(record.payload) for record in records if record.kind == KIND_EVENT)
    return {tuple(event) for event in decoded if isinstance(event, events.StartFailed)}


def _cause(started: Started, since: Since) -> Cause | None:
    """Why the process before this one ended, None where it stopped in order or was another machine's."""
    node = started.authority.state.node
    if not node.boots:
        return None
    stopped = node.process is not RuntimeState.IDLE
    elsewhere = started.log.keys().newest.members is not None and since.last_boot != node.boot_id
    if elsewhere or (stopped and not died(started.home, node.boot_id)):
        return None
    closed = started.examination.slots.clean
    return cause_of_end(started.home, node.boot_id, closed=closed, told=since.storage)


def _recovery(started: Started, steps: Steps, cause: Cause, checks: tuple[str, ...]) -> list[events.StepTaken]:
    """The steps of a recovery (RUNBOOK-12.1, 13.1): they were taken, and come before the start."""
    log, examination, state = started.log, started.examination, started.authority.state
    at_ns = started.sources.wall_ns()
    found = {checks[at]: checks[at + 1 : at + 3] for at in range(0, len(checks), 4)}
    cut = sum(1 for execution in state.live.executions.values() if execution.started)

    def verified(component: str) -> tuple[str, str]:
        result, digest = found.get(component, ("", ""))
        return ("verified" if result == "verified" else "skipped"), digest

    distribution, configuration = verified("distribution"), verified("configuration")
    taken = (
        ("cause", "done", cause.digest, f"{cause.kind}: {cause.detail}" if cause.detail else cause.kind),
        ("distribution", *distribution, ""),
        ("configuration", *configuration, ""),
        ("audit_log", "verified", log.head.link.hex(), f"{examination.case.verdict.value}, {log.size} records"),
        ("state", "done", "", f"{len(state.live.executions)} executions in flight, {cut} of them started"),
        ("restart", "done", "", f"of boot {state.node.boot_id}"),
    )  # fmt: skip
    return [events.StepTaken(steps.boot_id, RECOVER, *each, at_ns) for each in taken]
