"""What a log takes over from the one that it quotes, as events of its own: publishers, modules, secrets, erased subjects, open
incidents, alerts, containment, revoked operators. And what of a state cannot be taken over. Pure.

Each part is told by one event and carried by those behind it, so that what a node was kept from stays on record, and in force.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from femtoclaw import commands, events
from femtoclaw.errors import CommandError
from femtoclaw.events import Event
from femtoclaw.operations import SEVERITIES, TEXT_CHARACTERS_MAX, observe
from femtoclaw.state import Live, Node, State

PHASE = "inheritance"
"""Of the steps that tell what a new log took over (done) and what it could not (skipped)."""

TAKEN_OVER = (
    events.OperatorRevoked, events.PublisherTrusted, events.ClawRegistered, events.ModuleInstalled, events.SecretChanged,
    events.SecretGranted, events.SubjectErased, events.IncidentOpened, events.AlertRaised, events.NodeContained,
)  # fmt: skip
"""What may stand behind such a step."""

EVENTS_MAX = 512
"""Events of one append."""


class Part(NamedTuple):
    """One kind of what was in force, in words, and the events that put it in force again; none for what cannot be."""

    what: str
    detail: str
    carried: tuple[Event, ...] = ()


class Origins:
    """The records of a log that the state keeps only a part of, by name: the newest of each."""

    def __init__(self) -> None:
        self.installed: dict[str, events.ModuleInstalled] = {}
        self.incidents: dict[str, events.IncidentOpened] = {}
        self.alerts: dict[str, events.AlertRaised] = {}

    def take(self, event: Event) -> None:
        """The next event of the log."""
        if isinstance(event, events.ModuleInstalled):
            self.installed[event.name] = event
        elif isinstance(event, events.IncidentOpened):
            self.incidents[event.incident_id] = event
        elif isinstance(event, events.AlertRaised):
            self.alerts[event.alert_id] = event


def inherit(state: State, command: commands.Inherit) -> list[Event]:
    """The events of one part. Raises CommandError in a log in which a process has run: what is in force there, operators change."""
    fits = all(isinstance(event, TAKEN_OVER) for event in command.carried)
    if state.node.boots or not state.node.runtime_id or command.told.phase != PHASE or not fits:
        raise CommandError(
            "only a new log takes over what was in force in another", where=command.told.step[:40],
            expected="a log in which nothing has run yet",
        )  # fmt: skip
    return [*observe(state, command.told), *command.carried]


def steps(parts: Iterable[Part], at_ns: int) -> Iterator[commands.Inherit]:
    """The commands that put all parts in force, in their order."""
    for what, detail, carried in parts:
        result, shown = "done" if carried else "skipped", detail[:TEXT_CHARACTERS_MAX]
        for at in range(0, max(1, len(carried)), EVENTS_MAX):
            told = events.StepTaken("", PHASE, what, result, "", shown, at_ns)
            yield commands.Inherit(told, carried[at : at + EVENTS_MAX])


def parts_of(node: Node, live: Live, origins: Origins, operator: str, log: str) -> list[Part]:
    """All of ``node`` that protects it, as ``operator`` has it taken over from the log of origin ``log``; and what is dropped."""
    found = [
        _revoked(node, operator, log),
        _publishers(node, operator),
        _modules(node, origins),
        _secrets(node, operator),
        Part(
            "erased subjects",
            _counted(len(node.erased)),
            tuple(events.SubjectErased(name, reason, operator) for name, reason in sorted(node.erased.items())),
        ),
        _incidents(node, origins, log),
        _alerts(node, origins),
        Part(
            "containment", node.contained, (events.NodeContained(node.contained, operator),) if node.contained else ()
        ),
    ]
    return [each for each in found if each.carried] + _dropped(node, live, origins)


def _counted(count: int, names: Iterable[str] = ()) -> str:
    return f"{count}: {', '.join(names)}" if names else str(count)


def _revoked(node: Node, operator: str, log: str) -> Part:
    names = sorted(name for name, each in node.operators.items() if not each.active)
    reason = f"revoked in {log}"
    return Part("revoked operators", _counted(len(names), names),
                tuple(events.OperatorRevoked(name, reason, operator) for name in names))  # fmt: skip


def _publishers(node: Node, operator: str) -> Part:
    rows = sorted(node.publishers.items())
    return Part("publishers", _counted(len(rows), [name for name, _ in rows]),
                tuple(events.PublisherTrusted(name, key, operator) for name, key in rows))  # fmt: skip


def _modules(node: Node, origins: Origins) -> Part:
    carried: list[Event] = []
    names = [name for name in sorted(node.registry) if node.registry[name].publisher and name in origins.installed]
    for name in names:
        claw = node.registry[name]
        carried += [events.ClawRegistered(name, claw.manifest, claw.digest), origins.installed[name]]
    return Part("modules", _counted(len(names), names), tuple(carried))


def _secrets(node: Node, operator: str) -> Part:
    carried: list[Event] = []
    for name, secret in sorted(node.secrets.items()):
        carried.append(events.SecretChanged(name, secret.mark, operator))
        carried += [events.SecretGranted(name, claw, operator) for claw in secret.claws]
    return Part("secrets", _counted(len(node.secrets), sorted(node.secrets)), tuple(carried))


def _incidents(node: Node, origins: Origins, log: str) -> Part:
    """Each from its first step on: what was identified and preserved was the other log. The records that it rested on are there
    too: their indexes mean others here."""
    carried: list[Event] = []
    for name, known in sorted(node.operations.incidents.items()):
        before = origins.incidents.get(name)
        at_ns = known.respond_by_ns - SEVERITIES[known.severity] * 1_000_000_000 if before is None else before.at_ns
        detail = before.detail if before is not None else f"taken over from {log}"
        carried.append(
            events.IncidentOpened(
                name,
                known.kind,
                known.severity,
                detail,
                (),
                at_ns,
                known.respond_by_ns,
                before.operator if before else "",
            )
        )
    detail = f"{_counted(len(node.operations.incidents))}, each to be answered from its first step"
    return Part("open incidents", detail, tuple(carried))


def _alerts(node: Node, origins: Origins) -> Part:
    known = [origins.alerts[name] for name in sorted(node.operations.alerts) if name in origins.alerts]
    return Part("alerts", _counted(len(known)), tuple(each._replace(evidence=()) for each in known))


def _dropped(node: Node, live: Live, origins: Origins) -> list[Part]:
    """What no event of a new log can say: it is told, and an operator knows what to do again."""
    modules = sorted(name for name, claw in node.registry.items() if claw.publisher and name not in origins.installed)
    rows = (
        ("modules", len(modules), f"{', '.join(modules)}: install them again"),
        ("executions in flight", len(live.executions), "their outcome is unknown"),
        ("held calls", len(live.approvals), "ask for them again"),
        ("runs in flight", len(live.runs), "begin them again"),
        ("calls counted for rates", len(live.usage), "claws begin their budgets anew"),
    )
    return [Part(what, f"{count} not taken over: {why}") for what, count, why in rows if count]
