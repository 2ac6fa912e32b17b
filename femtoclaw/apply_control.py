"""The fold of what operators do to the node itself: ``apply_control(node, event) -> node``. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from femtoclaw import events
from femtoclaw.errors import StateMachineError
from femtoclaw.events import Event
from femtoclaw.operations import folded as _operated
from femtoclaw.operations import next_step
from femtoclaw.state import REQUESTS_SEEN_MAX, Control, Node, Operator, Secret


def apply_control(node: Node, event: Event) -> Node:
    """The node after ``event``, one of ``CONTROL_EVENTS``. Raises StateMachineError when it cannot happen now."""
    return _TAKE[type(event)](node, event)


def _forbidden(event: Event, found: object) -> StateMachineError:
    return StateMachineError("event cannot happen now", where=type(event).__name__, found=found)


def _operator_added(node: Node, event: events.OperatorAdded) -> Node:
    if event.name in node.operators:
        raise _forbidden(event, f"operator {event.name} exists")
    added = Operator(event.public_key, event.roles, True, event.at_ns)
    return node._replace(operators=node.operators.set(event.name, added))


def _operator_revoked(node: Node, event: events.OperatorRevoked) -> Node:
    operator = _operator(node, event, event.name)
    return node._replace(operators=node.operators.set(event.name, operator._replace(active=False)))


def _operator_rekeyed(node: Node, event: events.OperatorRekeyed) -> Node:
    operator = _operator(node, event, event.name)._replace(public_key=event.public_key)
    return node._replace(operators=node.operators.set(event.name, operator))


def _operator(node: Node, event: Event, name: str) -> Operator:
    operator = node.operators.get(name)
    if operator is None:
        raise _forbidden(event, f"no operator {name}")
    return operator


def _control_policy(node: Node, event: events.ControlPolicyAdopted) -> Node:
    current = node.control
    if event.version != current.version + 1 or event.previous != current.digest:
        raise _forbidden(event, f"version {event.version} after {current.version}")
    return node._replace(control=Control(event.version, event.digest, event.text, event.engine))


def _requested(node: Node, event: events.ControlRequested) -> Node:
    """Recorded means signed by this operator: the same one is not heard again."""
    operator = _operator(node, event, event.operator)
    if not operator.active or event.request_id in operator.seen:
        raise _forbidden(event, f"operator {event.operator}, request {event.request_id}")
    seen = (*operator.seen[-(REQUESTS_SEEN_MAX - 1) :], event.request_id)
    return node._replace(operators=node.operators.set(event.operator, operator._replace(seen=seen)))


def _publisher_trusted(node: Node, event: events.PublisherTrusted) -> Node:
    return node._replace(publishers=node.publishers.set(event.name, event.public_key))


def _publisher_distrusted(node: Node, event: events.PublisherDistrusted) -> Node:
    if event.name not in node.publishers:
        raise _forbidden(event, f"no publisher {event.name}")
    registry = node.registry
    for name, claw in node.registry.items():
        if claw.publisher == event.name:
            registry = registry.set(name, claw._replace(enabled=False))
    return node._replace(publishers=node.publishers.delete(event.name), registry=registry)


def _installed(node: Node, event: events.ModuleInstalled) -> Node:
    claw = node.registry.get(event.name)
    if claw is None or claw.digest != event.manifest_digest:
        raise _forbidden(event, f"{event.name} is not registered so")
    # Only this program's own claws are believed when they call their output trustworthy.
    installed = claw._replace(publisher=event.publisher, trusted=False)
    return node._replace(registry=node.registry.set(event.name, installed))


def _removed(node: Node, event: events.ClawRemoved) -> Node:
    if event.name not in node.registry:
        raise _forbidden(event, f"no claw {event.name}")
    return node._replace(registry=node.registry.delete(event.name))


def _secret_changed(node: Node, event: events.SecretChanged) -> Node:
    known = node.secrets.get(event.name)
    if not event.mark:
        if known is None:
            raise _forbidden(event, f"no secret {event.name}")
        return node._replace(secrets=node.secrets.delete(event.name))
    claws = known.claws if known is not None else ()
    return node._replace(secrets=node.secrets.set(event.name, Secret(event.mark, claws)))


def _secret_granted(node: Node, event: events.SecretGranted | events.SecretWithdrawn) -> Node:
    known = node.secrets.get(event.name)
    if known is None:
        raise _forbidden(event, f"no secret {event.name}")
    claws = set(known.claws) - {event.claw}
    if isinstance(event, events.SecretGranted):
        claws.add(event.claw)
    return node._replace(secrets=node.secrets.set(event.name, Secret(known.mark, tuple(sorted(claws)))))


def _erased(node: Node, event: events.SubjectErased) -> Node:
    return node._replace(erased=node.erased.set(event.subject, event.reason))


def _contained(node: Node, event: events.NodeContained) -> Node:
    return node._replace(contained=event.reason)


def _released(node: Node, event: events.NodeReleased) -> Node:
    return node._replace(contained="")


def _incident_opened(node: Node, event: events.IncidentOpened) -> Node:
    if event.incident_id in node.operations.incidents:
        raise _forbidden(event, f"incident {event.incident_id} is open")
    return _operated(node, event)


def _incident_stepped(node: Node, event: events.IncidentStepped) -> Node:
    known = node.operations.incidents.get(event.incident_id)
    if known is None or next_step(known) != event.step:
        raise _forbidden(event, f"{event.step} of incident {event.incident_id}")
    return _operated(node, event)


def _alert_acknowledged(node: Node, event: events.AlertAcknowledged) -> Node:
    if event.alert_id not in node.operations.alerts:
        raise _forbidden(event, f"no alert {event.alert_id}")
    return _operated(node, event)


def _told(node: Node, event: Event) -> Node:
    """What only states a fact."""
    return node


_TAKE: dict[type[Any], Callable[[Node, Any], Node]] = {
    events.OperatorAdded: _operator_added,
    events.OperatorRevoked: _operator_revoked,
    events.OperatorRekeyed: _operator_rekeyed,
    events.ControlPolicyAdopted: _control_policy,
    events.ControlRequested: _requested,
    events.ControlDecided: _told,
    events.PublisherTrusted: _publisher_trusted,
    events.PublisherDistrusted: _publisher_distrusted,
    events.ModuleInstalled: _installed,
    events.ModuleRejected: _told,
    events.ClawRemoved: _removed,
    events.SecretChanged: _secret_changed,
    events.SecretGranted: _secret_granted,
    events.SecretWithdrawn: _secret_granted,
    events.NodeKeyRotated: _told,
    events.MembershipOrdered: _told,
    events.SubjectErased: _erased,
    events.NodeContained: _contained,
    events.NodeReleased: _released,
    events.StepTaken: _told,
    events.StartFailed: _told,
    events.HealthChecked: _told,
    events.AlertRaised: _operated,
    events.AlertAcknowledged: _alert_acknowledged,
    events.IncidentOpened: _incident_opened,
    events.IncidentStepped: _incident_stepped,
    events.ProcedureBegun: _told,
    events.ProcedureEnded: _told,
}

CONTROL_EVENTS = tuple(_TAKE)
