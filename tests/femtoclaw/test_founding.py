"""A node from before there were operators gets its first ones, and no other node does."""

from __future__ import annotations

import pytest

from femtoclaw import commands, events
from femtoclaw.decide import decide
from femtoclaw.engines import EngineCache
from femtoclaw.errors import CommandError
from femtoclaw.provision import default_control
from femtoclaw.replay import rebuild
from femtoclaw.state import EMPTY, Control, Operator, State
from tests.femtoclaw.installed import SIGNER

KEY = SIGNER.public.vkey()
FOUND = commands.FoundControl(("ada", KEY, "RuntimeOperator,SecurityOfficer"), default_control(), "an engine", "ada")


def state(**changes: object) -> State:
    return EMPTY._replace(node=EMPTY.node._replace(runtime_id="0" * 32, boots=3)._replace(**changes))


def test_first_operators_and_the_control_policy_are_one_append() -> None:
    """And replay derives the command from it again."""
    happened = decide(state(), FOUND, EngineCache())
    assert [type(event) for event in happened] == [events.OperatorAdded, events.ControlPolicyAdopted]
    assert rebuild(happened) == FOUND
    assert rebuild(happened[:1]) is None


@pytest.mark.parametrize(
    ("before", "command"),
    [
        (state(control=Control(1, "", "", "")), FOUND),
        (state(operators=EMPTY.node.operators.set("eve", Operator(KEY, (), True))), FOUND),
        (state(runtime_id=""), FOUND),
        (state(), FOUND._replace(operators=())),
    ],
)
def test_only_a_node_without_a_control_plane_gets_first_operators(
    before: State, command: commands.FoundControl
) -> None:
    with pytest.raises(CommandError):
        decide(before, command, EngineCache())
