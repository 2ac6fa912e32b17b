"""Requests to an executor and its replies, whichever way they came: over the node's own socket, or from another member."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.errors import NotLeadingError, OutcomeUnknownError
from femtoclaw.api import codec
from femtoclaw.api.executor import Executor
from femtoclaw.authority import Recorded


def intent(executor: Executor, message: Any) -> Any:
    """``Intent``."""
    asked = codec.read_intent(message)
    return codec.intent_reply(executor.intent(asked.raw, asked.subject))


def run(executor: Executor, message: Any, listener: Callable[[Recorded], None], abandoned: Callable[[], bool]) -> Any:
    """``Run``: the last reply of its stream."""
    asked = codec.read_run(message)
    return codec.result_reply(executor.run(asked.text, asked.brain, asked.subject, listener, abandoned))


def control(executor: Executor, message: Any) -> Any:
    """``Control``."""
    asked = codec.read_control(message)
    return codec.control_reply(*executor.control(asked.command, asked.brain, asked.compared_size))


def told(error: BaseException) -> BaseException:
    """The error as a caller may rely on it. A leadership that was lost in the middle says nothing of what was recorded
    before: only NotTakenError says that nothing was."""
    if isinstance(error, NotLeadingError):
        return OutcomeUnknownError(
            "the node stopped leading while it was at work",
            where=error.where,
            expected=error.expected,
            found=error.found,
        )
    return error
