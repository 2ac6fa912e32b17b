"""THE CRASH RULES: what happens to work that a crash cut in the middle. Pure.

CR-1  A started execution without a result is OUTCOME_UNKNOWN: its effect may or may not have happened. It is closed,
      reported, and never re-run by itself (I7).
CR-2  An execution that had not started had no effect: it is closed as interrupted.
CR-3  A run whose process is gone is closed as interrupted: its brain's context died with it. The operator starts a
      new one, which the validator and the gate judge afresh.
CR-3a A held call, and its run, are not cut: they wait for operators, however often the process is started again.
CR-4  Nothing is inferred from the outside world: no file, process or clock is asked whether the effect happened.
CR-5  Where records at the end of the log may be lost, CR-2 cannot be told from CR-1: what had not started as far as the
      log goes is OUTCOME_UNKNOWN too; a held call as well, for its approval and start may be among what was lost.
"""

from __future__ import annotations

from femtoclaw import events
from femtoclaw.errors import Category, Severity, StateMachineError
from femtoclaw.events import Event
from femtoclaw.state import Execution, Node, Run, State

UNKNOWN_REASON = "the process ended after the execution started and before its result was recorded"
LOST_REASON = "records at the end of the log may be lost: whether the execution had started is not known"
RUN_REASON = "the process ended"
INTERRUPTED_REASON = "the process ended before the execution started; nothing was executed"


def interrupted(state: State) -> tuple[list[str], list[str]]:
    """Ids of the executions and runs that were in flight, sorted: what a new process must close before it works."""
    live = state.live
    spared = {} if state.node.tail_in_doubt else live.approvals
    executions = sorted(name for name in live.executions if name not in spared)
    waiting = {live.executions[name].run_id for name in spared}
    return executions, sorted(name for name in live.runs if name not in waiting)


def _require_cut(begun: Execution | Run, node: Node, where: str) -> None:
    """Only what an earlier start of the runtime began has been cut; what this one began has an owner."""
    if begun.boot >= node.boots:
        raise StateMachineError(
            "not cut by a crash", where=where, expected=f"begun before start {node.boots}", found=f"start {begun.boot}"
        )


def close_run(run_id: str, run: Run, node: Node) -> list[Event]:
    """The event that closes one cut run (CR-3). Raises StateMachineError for a run of this very process."""
    _require_cut(run, node, run_id)
    return [events.RunEnded(run_id, "interrupted", RUN_REASON)]


def close_interrupted(execution_id: str, execution: Execution, node: Node, *, held: bool = False) -> list[Event]:
    """The events that close one cut execution (CR-1, CR-2).

    Raises StateMachineError for an execution of this very process, and for a held one that nothing puts in doubt.
    """
    _require_cut(execution, node, execution_id)
    if held and not node.tail_in_doubt:
        raise StateMachineError("a held call is not cut by a crash", where=execution_id, found="held")
    if execution.started or node.tail_in_doubt:
        reason = UNKNOWN_REASON if execution.started else LOST_REASON
        return [
            events.OutcomeUnknown(execution_id, reason),
            events.ExecutionFailed(
                execution_id,
                execution.state.value,
                "outcome_unknown",
                Category.RUNTIME.value,
                Severity.WARNING.value,
                "OUTCOME_UNKNOWN",
                reason,
            ),
        ]
    return [
        events.ExecutionFailed(
            execution_id,
            execution.state.value,
            "interrupted",
            Category.RUNTIME.value,
            Severity.WARNING.value,
            "INTERRUPTED",
            INTERRUPTED_REASON,
        )
    ]
