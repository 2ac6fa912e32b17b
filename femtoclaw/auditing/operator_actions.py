"""What operators did: each signed request with its decision, whether it was permitted or not (RUNBOOK-4.2).

Arguments are told by their digest only: BLAKE3 of the signed content. Roles are those that the operator had when the request
was decided. A request that its operator did not sign is not on record and so is none of theirs (docs/operators.md).
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Iterable
from typing import Any, NamedTuple

from blake3 import blake3

from femtoclaw import events
from wal.record import Record

OPERATOR_ACTION = "operator_action"
"""The type under which a query asks for them."""

SEEN = (events.OperatorAdded, events.ControlRequested, events.ControlDecided)
"""The events that they are made of."""

UNDECIDED = "UNDECIDED"
"""The outcome of a request without its decision: the log ends between the two, which no append of this program does."""


class OperatorAction(NamedTuple):
    """One signed request. ``index`` and ``time_ns`` are of the request's record, ``decided`` is the index of the decision."""

    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody calls on it
    time_ns: int
    operator: str
    roles: tuple[str, ...]
    action: str
    resource: str
    arguments_digest: str
    outcome: str
    reason: str
    determining: tuple[str, ...]
    request_id: str
    decided: int
    cosigners: tuple[str, ...]

    def body(self) -> dict[str, Any]:
        """For an answer."""
        return {"index": self.index, "type": OPERATOR_ACTION} | self._asdict()


def operator_actions(history: Iterable[tuple[Record, events.Event]]) -> list[OperatorAction]:
    """The actions in a history of the events in ``SEEN``, in log order. Pure."""
    roles: dict[str, tuple[str, ...]] = {}
    open_requests: dict[str, OperatorAction] = {}
    for record, event in history:
        match event:
            case events.OperatorAdded():
                roles[event.name] = event.roles
            case events.ControlRequested():
                open_requests[event.request_id] = OperatorAction(
                    record.index, record.time_ns, event.operator, roles.get(event.operator, ()), event.action,
                    event.resource, blake3(event.content).hexdigest(), UNDECIDED, "", (), event.request_id, 0,
                    event.cosignatures[::2],
                )  # fmt: skip
            case events.ControlDecided() if event.request_id in open_requests:
                asked = open_requests[event.request_id]
                open_requests[event.request_id] = asked._replace(
                    outcome=event.decision, reason=event.reason, determining=event.determining, decided=record.index
                )
    return sorted(open_requests.values())


class Wanted(NamedTuple):
    """Conditions on actions; None is no condition. ``resource`` is the execution, or the claw, that an action is about."""

    operator: str | None = None
    resource: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None

    def fits(self, action: OperatorAction) -> bool:
        """Whether the action fulfils every condition."""
        return (
            self.operator in (None, action.operator)
            and self.resource in (None, action.resource)
            and (self.since_ns is None or action.time_ns >= self.since_ns)
            and (self.until_ns is None or action.time_ns <= self.until_ns)
        )
