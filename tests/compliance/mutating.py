"""For each live check something that is not so any more: the check must turn red.

Three kinds: an event that is missing or different in the twin's history; a measurement made where the attack was left out, the
policy permits everything or the guard is switched off; and an answer of the program, or a file, that is another one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from femtoclaw.compliance.checks_deploy import items
from femtoclaw.compliance.deployment import (
    module,
    surroundings,
)
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.session import session
from femtoclaw.compliance.sources import read_source, sources
from femtoclaw.compliance.starts import starts
from femtoclaw.compliance.stores import stores
from femtoclaw.compliance.tracing import FAULTS, failing, failures
from femtoclaw.compliance.trails import Told

Mutation = Callable[[Laboratory], Laboratory]


MUTATIONS: dict[str, Mutation] = {}


def twin_trail(change: Callable[[list[Told]], list[Told]]) -> Mutation:
    """The twin's history with other events."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(session)
        return laboratory.replaced(session, found._replace(trail=found.trail.changed(change)))

    return mutation


def without(*types: str, nth: int | None = None) -> Callable[[list[Told]], list[Told]]:
    """All events of these types are missing, or only the nth."""

    def change(told: list[Told]) -> list[Told]:
        found = [at for at, each in enumerate(told) if each.type in types]
        assert found, types
        gone = found if nth is None else [found[nth]]
        return [each for at, each in enumerate(told) if at not in gone]

    return change


def altered(kind: str, nth: int = 0, **fields: Any) -> Callable[[list[Told]], list[Told]]:
    """The nth event of this type has other fields."""

    def change(told: list[Told]) -> list[Told]:
        at = [place for place, each in enumerate(told) if each.type == kind][nth]
        told[at] = told[at]._replace(event=told[at].event._replace(**fields))
        return told

    return change


def none_with(named: str, /, **fields: Any) -> Callable[[list[Told]], list[Told]]:
    """No event of this type with these fields."""

    def change(told: list[Told]) -> list[Told]:
        return [
            each for each in told
            if each.type != named or any(getattr(each.event, name) != value for name, value in fields.items())
        ]  # fmt: skip

    return change


def step_is(name: str, **fields: Any) -> Mutation:
    """The served twin answered one message differently."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(session)
        return laboratory.replaced(
            session, found._replace(steps=found.steps | {name: found.steps[name]._replace(**fields)})
        )

    return mutation


def measured(measure: Callable[[Laboratory], Any], **fields: Any) -> Mutation:
    """A measurement found something else in these fields, or keys."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(measure)
        other = found | fields if isinstance(found, dict) else found._replace(**fields)
        return laboratory.replaced(measure, other)

    return mutation


def never_failing(laboratory: Laboratory) -> Laboratory:
    """The storage did not fail: nobody is told of anything."""
    return laboratory.replaced(failures, {name: failing("append", 0) for name in FAULTS})


def row_is(store: str, nth: int, **fields: Any) -> Mutation:
    """The nth row of a store is another."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(stores)
        rows = list(found[store])
        rows[nth] = rows[nth] | fields
        return laboratory.replaced(stores, found | {store: rows})

    return mutation


def in_reach(laboratory: Laboratory) -> Laboratory:
    """A claw's attack reached the log."""
    found = laboratory.once(session)
    return laboratory.replaced(session, found._replace(attacks=found.attacks | {"read the log": True}))


def unbroken(laboratory: Laboratory) -> Laboratory:
    """What breaks the copies was left out: each start is that of a whole home."""
    found = laboratory.once(starts)
    return laboratory.replaced(starts, dict.fromkeys(found, found["nothing"]))


def source_says(name: str, text: str) -> Mutation:
    """A file of the program says something else too."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(sources)
        return laboratory.replaced(sources, found | {name: read_source(name, text)})

    return mutation


def a_risk_got_through(laboratory: Laboratory) -> Laboratory:
    """One output of the corpus was authorized."""
    found = laboratory.once(session)
    steps = list(found.corpus["uncontrolled side effects"])
    steps[3] = steps[3]._replace(decision="AUTHORIZED")
    return laboratory.replaced(session, found._replace(corpus=found.corpus | {"uncontrolled side effects": steps}))


def answer_is(measure: Callable[[Laboratory], Any], name: str, **fields: Any) -> Mutation:
    """One command of a procedure, or of a measurement that has its answers by name, answered differently."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(measure)
        answers = found.answers | {name: found.answers[name]._replace(**fields)}
        return laboratory.replaced(measure, found._replace(answers=answers))

    return mutation


def module_answer(name: str, **fields: Any) -> Mutation:
    """One command about the module answered differently."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(module)
        answers = found["answers"] | {name: found["answers"][name]._replace(**fields)}
        return laboratory.replaced(module, found | {"answers": answers})

    return mutation


CONFINED = {
    "container": "/.dockerenv", "uid": 10001, "no_new_privileges": "1", "capabilities": 0, "read_only_root": True,
    "home_volume": True,
}  # fmt: skip


PREPARED: dict[str, Mutation] = {
    "containers_are_confined": lambda laboratory: laboratory.replaced(surroundings, CONFINED),
    "containers_keep_their_home": lambda laboratory: laboratory.replaced(surroundings, CONFINED),
    "the_deployment_is_compliant": lambda laboratory: laboratory.replaced(
        items, laboratory.once(items) | {"distribution": True}
    ),
}
"""Checks that are green on a sealed distribution, or in a container of ours, alone: what stands for those in a checkout."""


def replaced_by(measure: Callable[[Laboratory], Any], found: Any) -> Mutation:
    """The measurement found this instead."""
    return lambda laboratory: laboratory.replaced(measure, found)
