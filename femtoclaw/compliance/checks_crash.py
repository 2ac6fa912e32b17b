"""Checks of crashes: a twin killed at work, what was acknowledged, what recovery says and does."""

from __future__ import annotations

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.crashes import crash
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.trails import Told

RECOVERY = ("cause", "distribution", "configuration", "audit_log", "state", "restart")


@shows("STORAGE-2.2", "STORAGE-11.1")
def nothing_acknowledged_is_lost(laboratory: Laboratory) -> str:
    """Every answer that a client got before SIGKILL is in the log afterwards, whole, and the log verifies."""
    found = laboratory.once(crash)
    ended = found.trail.ended()
    lost = [each for each in found.acknowledged if each not in ended]
    need(len(found.acknowledged) >= 30, "thirty answers before the kills", len(found.acknowledged))
    need(not lost, "each of them in the log", lost[:2])
    need(found.report.get("ok"), "a log that verifies", found.report.get("findings"))
    root = found.report["root"][:16]
    return f"{len(found.acknowledged)} answers before three SIGKILLs, all in {found.trail.size} records, root {root}"


@shows("STATE-9.1", "RUNBOOK-12.2", "STORAGE-13.1")
def a_cut_execution_is_closed_and_not_repeated(laboratory: Laboratory) -> str:
    """A claw at work at SIGKILL: its execution is closed as OUTCOME_UNKNOWN, and its effect stays one."""
    found = laboratory.once(crash)
    unknown = [each for each in found.trail.of("OutcomeUnknown") if each.event.execution_id == found.in_flight]
    need(found.in_flight and unknown, "OUTCOME_UNKNOWN for it", found.in_flight)
    started = [each for each in found.trail.of("ExecutionStarted") if each.event.execution_id == found.in_flight]
    need(len(started) == 1, "one start", len(started))
    need(found.effects == 1, "one effect", found.effects)
    return f"started at crash: {started[0].index}, closed at {unknown[0].index}; one line written"


@shows("RUNBOOK-12.1", "RUNBOOK-13.1")
def recovery_takes_its_steps(laboratory: Laboratory) -> str:
    """A crash's cause, then distribution, configuration, audit log, state and restart are on record before the runtime is up."""
    trail = laboratory.once(crash).trail
    steps = [each for each in trail.of("StepTaken") if each.event.phase == "recover"]
    need(steps, "steps of a recovery")
    by_boot: dict[str, list[Told]] = {}
    for each in steps:
        by_boot.setdefault(each.event.boot_id, []).append(each)
    for boot, taken in by_boot.items():
        named = tuple(each.event.step for each in taken)
        need(named == RECOVERY, " > ".join(RECOVERY), " > ".join(named))
        need(taken[0].event.detail, "a cause", taken[0].event)
        inputs = [each.index for each in trail.of("InputReceived") if each.index > taken[0].index]
        need(not inputs or inputs[0] > taken[-1].index, f"no input during the recovery of {boot}", inputs[:1])
    return f"{len(by_boot)} recoveries; cause `{steps[0].event.detail}` at crash: {steps[0].index}"


@shows("RUNBOOK-13.2", "STORAGE-13.3")
def recovery_keeps_history(laboratory: Laboratory) -> str:
    """After three kills the log begins with the same record, loses none, and a second recovery finds nothing to do."""
    found = laboratory.once(crash)
    need(found.genesis[0] == found.genesis[1], "the same first record", found.genesis)
    need(found.recovered.code == 0, "a recovery that succeeds", found.recovered.stderr[-200:])
    body = found.recovered.body
    need(body.get("verdict") == "open" and not body.get("findings"), "nothing to repair", body)
    need(found.report.get("ok"), "a log that verifies", found.report.get("findings"))
    return f"{body['reason']}; {body['size']} records"


@shows("RUNBOOK-25.1", "OPS-9.1")
def it_comes_back(laboratory: Laboratory) -> str:
    """After SIGKILL the node takes work again, within a stated bound of ten seconds, and the restart names what it follows."""
    found = laboratory.once(crash)
    need(found.again.code == 0, "work after the recovery", found.again.stderr[-200:])
    need(found.seconds < 10, "ten seconds at most", f"{found.seconds:.2f} s")
    runtime = [
        each for each in found.trail.of("StepTaken") if each.event.phase == "start" and each.event.step == "runtime"
    ]
    need(
        any("restart=true" in each.event.detail for each in runtime), "restart=true with what was before", runtime[-1:]
    )
    return f"recovered in {found.seconds * 1000:.0f} ms; {runtime[-1].event.detail[:100]}"


@shows("ERROR-19.1", "STATE-12.1")
def errors_end_in_idle(laboratory: Laboratory) -> str:
    """Executions that failed without being fatal end in IDLE, and the next ones work."""
    trail = laboratory.once(crash).trail
    failed = trail.of("ExecutionFailed")
    after = [each for each in trail.of("ExecutionCompleted") if failed and each.index > failed[0].index]
    need(failed and after, "a completed execution after a failed one", (len(failed), len(after)))
    every(((f"index {each.index}", each.event.category and each.event.code) for each in failed), "category and code")
    return f"failed at crash: {failed[0].index}, completed at {after[0].index}"
