"""Checks of faults inside of the core: what is recorded, in which order, and that nothing hangs."""

from __future__ import annotations

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.injected import FAULTS, SIX, TIMES, Injected, cut_commits, injected, injected_again
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.observed import observed
from femtoclaw.lifecycle import FAILURES

MEMORY = ("memory is queued", "memory")
"""Faults after which the log's end is in doubt: nothing is taken any more, and the next start closes what was cut."""

PHASES = {
    "input": "input is recorded", "inference": "inference", "validation": "validation", "authorization": "authorization",
    "capability": "capability", "memory": "memory",
}  # fmt: skip
"""The six failures, and the fault that each is injected by."""


@shows("EXEC-9.1")
def six_failures_are_six_ends(laboratory: Laboratory) -> str:
    """Failing input, inference, validation, authorization, capability and memory each end one execution, with their phase."""
    found = laboratory.once(injected)
    said = []
    for name, fault in PHASES.items():
        told = found[fault]
        need(len(told.failed) == 1, f"one failed execution ({name})", told.failed)
        phase, category, severity, code, _ = told.failed[0]
        need(phase and category and severity and code, f"phase and category ({name})", told.failed)
        need(any(row[1] == "error" and row[2] for row in told.rows), f"telemetry of an error ({name})", told.rows[-4:])
        need(told.refused == (name == "memory"), "input refused after a failing memory alone", (name, told.refused))
        need(told.after == "success", f"work afterwards, or at the next start ({name})", told.after)
        said.append(f"{name}: {phase} {category} {code}")
    denial = found["authorization"].failed[0]
    need(denial[1] == "AUTHORIZATION" and denial[4] == "denied", "a denial for an exception in the gate", denial)
    return "; ".join(said)


@shows("ERROR-13.1")
def defects_are_recorded_and_hang_nothing(laboratory: Laboratory) -> str:
    """Each of the core's functions raising in turn: one error on record, nothing left under way, a sound log, and no traceback."""
    found = laboratory.once(injected)
    need(len(found) == len(FAULTS) >= 15, "fifteen functions", len(found))
    for name, told in found.items():
        own = [each for each in told.errors if each == ("RUNTIME", "ERROR", "RUNTIME_ERROR")]
        contained = [each for each in told.failed if each[1] in ("RUNTIME", "SYSTEM", "AUTHORIZATION")]
        need(len(own) == 1 if own else len(contained) == 1, f"one error on record ({name})", (told.errors, told.failed))
        need(own or name in MEMORY or told.told == "", f"nobody told of what is not on record ({name})", told.told)
        need(not told.hung and told.after == "success", f"nothing under way, and work afterwards ({name})", told)
        need(
            told.sound and not told.marked, f"a sound log without the error's words ({name})", (told.sound, told.marked)
        )
        need(told.refused == (name in MEMORY), f"a stop exactly where the log is in doubt ({name})", told.refused)
    need(
        b"Traceback" not in laboratory.once(observed).told["stderr"], "no unhandled exception of a served node's thread"
    )
    return (
        f"{len(found)} functions: {', '.join(found)}; {sum(bool(each.errors) for each in found.values())} RUNTIME_ERROR"
    )


@shows("ERROR-8.2")
def errors_are_handled_in_order(laboratory: Laboratory) -> str:
    """For each injected fault: told and classified, recorded, then the move to ERROR, then the recovery, in rising order."""
    found = laboratory.once(injected)
    moves = 0
    for name, told in found.items():
        moves += _in_order(name, told)
        classified = [each[1:4] for each in told.failed] + told.errors
        need(classified and all(all(each) for each in classified), f"category, severity and code ({name})", classified)
    return f"{moves} moves to ERROR of {len(found)} faults, each between its error and its end; stops after: {', '.join(MEMORY)}"


def _in_order(name: str, told: Injected) -> int:
    """How many moves to ERROR there are in the rows, each in its place."""
    count = 0
    for at, (point, _, execution, status) in enumerate(told.rows):
        if point != "state_transition" or not execution or not status.endswith(">ERROR"):
            continue
        count += 1
        before = [row for row in told.rows[:at] if row[2] == execution and _tells_an_error(row)]
        after = [row for row in told.rows[at:] if row[2] == execution and row[3] == "ERROR>IDLE"]
        need(before, f"an error told before the move to ERROR ({name})", status)
        need(len(after) == 1, f"one way back ({name})", after)
    need(count or not told.failed, f"a move to ERROR ({name})", told.moves)
    return count


def _tells_an_error(row: tuple[str, str, str, str]) -> bool:
    """A row of the class, a denial, or how a claw ended that gave no result."""
    point, kind, _, status = row
    return kind == "error" or status.startswith("DENIED") or (point == "capability_complete" and status in FAILURES)


@shows("ERROR-16.1")
def the_same_fault_is_handled_alike(laboratory: Laboratory) -> str:
    """Twenty times each: what the caller is told, category, severity, code, transitions and exit status are the same."""
    found = laboratory.once(injected_again)
    need(set(found) == set(FAULTS), "every injected fault", sorted(found))
    for name, told in found.items():
        need(len(told) == TIMES, f"{TIMES} times ({name})", len(told))
        need(
            all(each == told[0] for each in told),
            f"the same each time ({name})",
            [each for each in told if each != told[0]],
        )
        once = laboratory.once(injected)[name]
        need(told[0][2:4] == (once.errors, once.failed), f"what was found once ({name})", told[0])
    return f"{TIMES} times each: {', '.join(found)}"


@shows("EXEC-4.8")
def a_commit_is_whole_or_closed(laboratory: Laboratory) -> str:
    """Whichever call of the storage fails, after a restart all six items are there, or the execution is closed without a result."""
    found = laboratory.once(cut_commits)
    whole = [name for name, told in found.items() if set(SIX) <= set(told)]
    closed = [name for name, told in found.items() if told and name not in whole]
    nothing = [name for name, told in found.items() if not told]
    need(whole and len(closed) >= 2, "commits that were cut and some that were not", found)
    for name in closed:
        told = found[name]
        need(told[-1] == "ExecutionFailed", f"a closed execution ({name})", told)
        need(
            "ExecutionFinished" not in told and "ExecutionCompleted" not in told, f"no part of a result ({name})", told
        )
    every(
        ((name, "acknowledged" not in name) for name in (*closed, *nothing)), "nothing acknowledged that is not there"
    )
    return f"whole: {', '.join(whole)}; closed: {', '.join(closed)}; nothing recorded: {', '.join(nothing) or 'never'}"
