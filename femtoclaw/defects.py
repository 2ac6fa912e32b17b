"""What becomes of a defect of the runtime's own: it is put on record, and whatever it cut is closed, so that nothing hangs.

An exception that is none of ours, out of one of the core's functions, says that the program is wrong. Its text may hold anything
(I12), so type and place are told. Where even that cannot be recorded, the authority takes no command any more, and the next start
closes what is open by the crash rules.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import TracebackType

from cluster.errors import ClusterError
from femtoclaw import commands
from femtoclaw.authority import Authority
from femtoclaw.errors import FemtoClawError, Severity
from femtoclaw.lifecycle import UNKNOWN, RuntimeState
from femtoclaw.sources import Sources
from femtoclaw.state import Execution
from wal import LogError

Owns = Callable[[str, Execution], bool]
"""Whether an execution under way is of the work that failed, by its id and what is known of it."""

_OURS = ("femtoclaw.", "wal.", "cluster.")


class DefectError(FemtoClawError):
    """The runtime failed in itself. What was under way is closed on record; nothing is known to be executed twice or unrecorded."""

    exit_code = 70


@contextlib.contextmanager
def contained(authority: Authority, sources: Sources, owns: Owns) -> Iterator[None]:
    """Around work for one execution or run. Raises DefectError for an exception that is no error of these packages."""
    try:
        yield
    except (FemtoClawError, LogError, ClusterError):
        raise
    except Exception as error:
        place = _place(error.__traceback__)
        _record(authority, sources, owns, place, type(error).__name__)
        raise DefectError("the runtime failed in itself", where=place, found=type(error).__name__) from error


def _record(authority: Authority, sources: Sources, owns: Owns, place: str, kind: str) -> None:
    """The error, and the end of what it cut. Raises nothing: it is called while another error is on its way."""
    try:
        told = commands.RecordError(
            sources.new_id(), DefectError.category.value, Severity.ERROR.value, DefectError.code, place, kind
        )
        authority.perform(told)
        live = authority.state.live
        for name, execution in sorted(live.executions.items()):
            if name not in live.approvals and owns(name, execution):
                authority.perform(_end_of(name, execution, kind))
    except (
        Exception
    ) as error:  # the log, or the same defect again: nothing may go on beside an execution that nobody ends
        if authority.refusal is None:
            authority.contain(f"defect: {type(error).__name__}")


def _end_of(name: str, execution: Execution, kind: str) -> commands.Command:
    if execution.state is RuntimeState.CAPABILITY_EXECUTING:
        told = f"the runtime failed: {kind}"
        return commands.RecordOutcome(name, UNKNOWN, b"", "", "EnvironmentError", told, -1, 0, 0, 0, "", "")
    return commands.FailInference(name, DefectError.code, kind)


def _place(traceback: TracebackType | None) -> str:
    """The innermost function of these packages that the error came through."""
    place = "runtime"
    while traceback is not None:
        frame = traceback.tb_frame
        module = frame.f_globals.get("__name__", "")
        if module.startswith(_OURS) and module != __name__:
            place = f"{module}.{frame.f_code.co_name}"
        traceback = traceback.tb_next
    return place
