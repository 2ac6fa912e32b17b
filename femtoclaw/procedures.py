"""A procedure of the runbook, on record from its begin to its end (RUNBOOK-2.1, RUNBOOK-2.2).

    with open_node(...) as node, procedure(node.started, signer_of(node, arguments), "backup.create", "daily", digest) as p:
        ...                       # done only when the begin is durable, and only when the control policy permits it
        p.content = {"size": 7}   # canonical JSON in the end's record: at most 65,536 bytes, no secret, no value of an argument
        p.detail = "7 records"    # one line for people

- Begin and end are control requests that the operator signs; the control policy decides at the begin. A refusal raises
  ProcedureRefusedError (exit 1) and the body is not entered.
- When the body raises, the end is recorded as ``failed`` with the error's sentence, and the error goes on. Should the end itself
  fail then, the body's error still is what is told.
- ``p.result = "skipped"`` where there was nothing to do.
- ``p.goals`` is set at the end: each of ``operations.GOALS`` to "" or what keeps it from being met (``femtoclaw.goals``). A goal
  that was met before the begin and is not at the end makes the procedure ``failed`` and raises GoalsLostError (exit 1).
- It works on a node at rest (``boot.Started``) and over the socket of a served one (``cli.served.ServedStarted``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from femtoclaw import events
from femtoclaw.control import request
from femtoclaw.errors import AnswerIsNoError, Category, FemtoClawError
from femtoclaw.goals import OpenNode, look_at_goals
from femtoclaw.key_file import KeySigner
from femtoclaw.operations import TEXT_CHARACTERS_MAX
from wal.errors import LogError

DONE, FAILED, SKIPPED = "done", "failed", "skipped"


class ProcedureRefusedError(AnswerIsNoError):
    """The control policy does not permit this operator the procedure, which is on record; nothing was done."""

    code = "PROCEDURE_REFUSED"
    default_remedy = "see `femtoclaw operator list` for the roles, and --cosign where two have to sign"


class GoalsLostError(FemtoClawError):
    """What a procedure has to protect was in order before it and is not after it; the end says so on record."""

    category = Category.RUNTIME
    code = "GOALS_LOST"
    exit_code = 1
    default_remedy = "see `femtoclaw health`; what the procedure did stands"


class Procedure:
    """One procedure under way. The body sets ``result``, ``detail`` and ``content``."""

    def __init__(self, name: str, procedure_id: str, resource: str) -> None:
        self.name = name
        self.id = procedure_id
        self.resource = resource
        self.begun = 0
        """Index of the request that began it."""
        self.ended = 0
        """Index of the request that ended it; 0 before."""
        self.result = DONE
        self.detail = ""
        self.content: dict[str, Any] = {}
        self.goals: dict[str, str] = {}
        """Goal to what keeps it from being met, empty for nothing; set at the end."""


@contextlib.contextmanager
def procedure(
    started: OpenNode, signer: KeySigner, action: str, resource: str, digest: str = "", *,
    cosigners: tuple[KeySigner, ...] = (),
) -> Iterator[Procedure]:  # fmt: skip
    """Record the begin of ``action`` (one of ``operations.PROCEDURES``), enter the body, record the end.

    ``digest`` is of what it works on. Raises ProcedureRefusedError, ControlRefusedError, ConfigurationError, GoalsLostError, and
    what recording raises, at the end too when the body did not fail.
    """
    before = look_at_goals(started)
    told = Procedure(action, started.sources.new_id(), resource)
    begin = {"phase": "begin", "id": told.id, "digest": digest}
    told.begun = _ask(started, signer, cosigners, told, begin)
    try:
        yield told
    except BaseException as error:
        told.result, told.detail = FAILED, told.detail or _sentence(error)
        with contextlib.suppress(FemtoClawError, LogError, OSError):
            _end(started, signer, cosigners, told, look_at_goals(started))
        raise
    after = look_at_goals(started)
    lost = [goal for goal, found in after.items() if found and not before[goal]]
    if lost:
        told.result, told.detail = FAILED, f"lost {', '.join(lost)}: {after[lost[0]]}"
    _end(started, signer, cosigners, told, after)
    if lost:
        raise GoalsLostError(
            f"{action} has ended with a goal lost",
            where=resource,
            expected=f"{', '.join(lost)} as before",
            found=after[lost[0]],
        )


def _end(
    started: OpenNode, signer: KeySigner, cosigners: tuple[KeySigner, ...], told: Procedure, goals: dict[str, str]
) -> None:
    told.goals = goals
    body = {
        "phase": "end", "id": told.id, "result": told.result, "detail": printable(told.detail), "content": told.content,
        "goals": {goal: not found for goal, found in told.goals.items()},
    }  # fmt: skip
    told.ended = _ask(started, signer, cosigners, told, body)


def _ask(
    started: OpenNode, signer: KeySigner, cosigners: tuple[KeySigner, ...], told: Procedure, body: dict[str, Any]
) -> int:
    """Sign and record one request; the index where its records begin. Raises ProcedureRefusedError."""
    return ask(started, signer, cosigners, told.name, told.resource, body)


def ask(
    started: OpenNode, signer: KeySigner, cosigners: tuple[KeySigner, ...], action: str, resource: str, body: dict[str, Any]
) -> int:
    """Sign and record one request of a procedure; the index where its records begin. Raises ProcedureRefusedError."""
    node = started.authority.state.node
    asked = request(node, signer, started.sources, action, resource, body, cosigners=cosigners)
    recorded = started.authority.perform(asked)
    decided = next(event for event in recorded.events if isinstance(event, events.ControlDecided))
    if decided.decision != "AUTHORIZED":
        raise ProcedureRefusedError(
            f"{action} was refused", where=resource, expected="a control policy that permits it",
            found=f"{decided.reason} for operator {signer.public.name}",
        )  # fmt: skip
    return int(recorded.receipt.first)


def _sentence(error: BaseException) -> str:
    """What is recorded of an error: its sentence where it is one of ours, which never holds a secret (I12), else its type."""
    what = getattr(error, "what", None)
    return what if isinstance(what, str) else type(error).__name__


def printable(text: str) -> str:
    """``text`` as a record takes it: printable, at most ``TEXT_CHARACTERS_MAX`` characters."""
    shown = "".join(each if each.isprintable() else "?" for each in text)
    return shown[:TEXT_CHARACTERS_MAX]
