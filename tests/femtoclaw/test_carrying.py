"""Taking over what was in force in another log: allowed where nothing has run yet, and nothing else than what protects a node."""

from __future__ import annotations

import pytest

from femtoclaw import commands, events
from femtoclaw.apply import fold
from femtoclaw.carrying import EVENTS_MAX, PHASE, Part, steps
from femtoclaw.decide import decide
from femtoclaw.engines import EngineCache
from femtoclaw.errors import CommandError
from femtoclaw.replay import rebuild
from femtoclaw.state import EMPTY, State

CONTAINED = events.NodeContained("looked at", "owner")


def told(phase: str = PHASE) -> events.StepTaken:
    """What stands before what is taken over."""
    return events.StepTaken("", phase, "containment", "done", "", "looked at", 5)


def after(*happened: events.Event) -> State:
    return fold(EMPTY, (events.NodeProvisioned("node", "1", "owner"), *happened))


STARTED = events.RuntimeStarted("boot", "1", "3", "open", 0)


@pytest.mark.invariant("I5")
@pytest.mark.parametrize(
    ("state", "phase", "carried"),
    [
        (after(STARTED), PHASE, CONTAINED),
        (EMPTY, PHASE, CONTAINED),
        (after(), "start", CONTAINED),
        (after(), PHASE, events.NodeReleased("so", "owner")),
        (after(), PHASE, events.OperatorAdded("eve", "key", ("SecurityOfficer",), "", 0)),
    ],
)
def test_only_a_new_log_takes_over(state: State, phase: str, carried: events.Event) -> None:
    """Not one in which a process has run, nor one without identity; and never who may do what, or a release."""
    with pytest.raises(CommandError):
        decide(state, commands.Inherit(told(phase), (carried,)), EngineCache())


def test_what_is_taken_over_is_derived_again() -> None:
    """A replay rebuilds the command from its events; a step alone is an observation as before."""
    command = commands.Inherit(told(), (CONTAINED,))
    happened = decide(after(), command, EngineCache())
    assert happened == [told(), CONTAINED]
    assert rebuild(happened) == command
    assert rebuild([told()]) == commands.Observe(told())
    assert fold(after(), happened).node.contained == "looked at"


def test_what_cannot_be_taken_over_is_told_and_much_is_taken_in_parts() -> None:
    """One step without events for what is dropped; more events than an append holds come in several."""
    many = tuple(events.SubjectErased(str(each), "asked", "owner") for each in range(EVENTS_MAX + 1))
    dropped, first, second = steps([Part("runs", "2 not taken over"), Part("subjects", "513", many)], 7)
    assert (dropped.told.result, dropped.carried) == ("skipped", ())
    assert (first.told.result, len(first.carried), len(second.carried)) == ("done", EVENTS_MAX, 1)
