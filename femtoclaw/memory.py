"""The bounded memory window of a run: which turns the brain gets to see. Pure, so it is the same on every replay."""

from __future__ import annotations

from femtoclaw.state import Turn

RUNTIME = "runtime"
"""Source of what the runtime itself tells a brain: rejections and denials."""

WINDOW_TURNS_MAX = 32
"""Turns kept; the oldest leave first."""

WINDOW_CHARACTERS_MAX = 64 * 1024
"""Characters kept over all turns."""

TURN_CHARACTERS_MAX = 16 * 1024
"""One turn; a longer one keeps its beginning and says how much was cut."""


def clip(text: str) -> str:
    """The text as it enters memory: at most ``TURN_CHARACTERS_MAX``, with a note of what was cut."""
    if len(text) <= TURN_CHARACTERS_MAX:
        return text
    return f"{text[:TURN_CHARACTERS_MAX]}\n[{len(text) - TURN_CHARACTERS_MAX} more characters not shown]"


def remember(
    window: tuple[Turn, ...], role: str, text: str, source: str = "", *, whole: bool = False
) -> tuple[Turn, ...]:  # fmt: skip
    """The window with one more turn, oldest turns evicted until both bounds hold. The newest turn always stays.

    ``whole`` is for sealed texts, which a cut would make useless: they are clipped when they are opened.
    """
    turns = (*window[-(WINDOW_TURNS_MAX - 1) :], Turn(role, text if whole else clip(text), source))
    total = sum(len(turn.content) for turn in turns)
    start = 0
    while total > WINDOW_CHARACTERS_MAX and start < len(turns) - 1:
        total -= len(turns[start].content)
        start += 1
    return turns[start:]


assert TURN_CHARACTERS_MAX < WINDOW_CHARACTERS_MAX
