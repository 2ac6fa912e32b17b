"""The bounded memory window."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from femtoclaw.memory import (
    TURN_CHARACTERS_MAX,
    WINDOW_CHARACTERS_MAX,
    WINDOW_TURNS_MAX,
    remember,
)
from femtoclaw.state import Turn

LENGTHS = st.lists(st.integers(0, TURN_CHARACTERS_MAX * 2), max_size=60)


@given(LENGTHS)
@pytest.mark.requirement("WHITE-7.1")
def test_the_window_is_bounded_and_keeps_the_newest(lengths: list[int]) -> None:
    """Whatever is remembered, both bounds hold, order is kept, and the newest turn is there."""
    window: tuple[Turn, ...] = ()
    for number, length in enumerate(lengths):
        window = remember(window, "user", f"{number}:" + "x" * length)
        assert len(window) <= WINDOW_TURNS_MAX
        assert sum(len(turn.content) for turn in window) <= WINDOW_CHARACTERS_MAX
        assert window[-1].content.startswith(f"{number}:")
        numbers = [int(turn.content.split(":")[0]) for turn in window]
        assert numbers == list(range(numbers[0], number + 1))


def test_a_cut_turn_says_how_much_is_missing() -> None:
    """A long turn keeps its beginning and a note; nothing is cut in silence."""
    (turn,) = remember((), "tool", "y" * (TURN_CHARACTERS_MAX + 5))
    assert turn.content.endswith("[5 more characters not shown]")
