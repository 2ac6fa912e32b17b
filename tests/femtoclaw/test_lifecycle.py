"""The published state machines: exhaustive over their pairs."""

import itertools

import pytest

from femtoclaw.errors import StateMachineError
from femtoclaw.lifecycle import LEGAL, MARKER_STATE, Marker, RuntimeState, step, step_marker

S = RuntimeState
PUBLISHED = {
    (S.INITIALIZING, S.IDLE),
    (S.INITIALIZING, S.ERROR),
    (S.IDLE, S.INPUT_RECEIVED),
    (S.IDLE, S.SHUTDOWN),
    (S.INPUT_RECEIVED, S.PROTOCOL_VALIDATING),
    (S.INPUT_RECEIVED, S.ERROR),
    (S.PROTOCOL_VALIDATING, S.AUTHORIZATION_EVALUATING),
    (S.PROTOCOL_VALIDATING, S.ERROR),
    (S.AUTHORIZATION_EVALUATING, S.CAPABILITY_EXECUTING),
    (S.AUTHORIZATION_EVALUATING, S.ERROR),
    (S.CAPABILITY_EXECUTING, S.MEMORY_COMMITTING),
    (S.CAPABILITY_EXECUTING, S.ERROR),
    (S.MEMORY_COMMITTING, S.COMPLETED),
    (S.MEMORY_COMMITTING, S.ERROR),
    (S.COMPLETED, S.IDLE),
    (S.ERROR, S.IDLE),
    (S.ERROR, S.SHUTDOWN),
    (S.SHUTDOWN, S.TERMINATED),
}


@pytest.mark.parametrize("before, after", list(itertools.product(S, S)))
def test_exactly_the_published_pairs_are_legal(before: S, after: S) -> None:
    """18 of the 121 pairs pass; each of the others raises StateMachineError."""
    if (before, after) in PUBLISHED:
        assert step(before, after) is after
    else:
        with pytest.raises(StateMachineError, match="illegal transition"):
            step(before, after)


def test_there_are_eighteen() -> None:
    """The table and the published list have the same size."""
    assert sum(len(successors) for successors in LEGAL.values()) == len(PUBLISHED) == 18


def test_markers_only_succeed_each_other() -> None:
    """Of the 100 ordered marker pairs the 9 successive ones and COMPLETE to IDLE pass."""
    order = list(Marker)
    allowed = {(a, b) for a, b in itertools.pairwise(order)} | {(order[-1], order[0])}
    for pair in itertools.product(Marker, Marker):
        if pair in allowed:
            assert step_marker(*pair) is pair[1]
        else:
            with pytest.raises(StateMachineError, match="phase skipped or repeated"):
                step_marker(*pair)


def test_every_marker_has_its_runtime_state() -> None:
    """The published mapping is total, and follows the machine's order."""
    path = [MARKER_STATE[marker] for marker in Marker]
    assert set(MARKER_STATE) == set(Marker)
    assert all(a is b or b in LEGAL[a] for a, b in itertools.pairwise(path))
