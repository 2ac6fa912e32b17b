"""A brain that answers with the user's own words."""

from __future__ import annotations

import json

from femtoclaw.brains import Context, Thought


class EchoBrain:
    """Answers the last user turn."""

    def __init__(self) -> None:
        self.name = "echo"

    def think(self, context: Context) -> Thought:
        """A message with the last user turn's content."""
        said = [turn.content for turn in context.turns if turn.role == "user"]
        raw = json.dumps({"message": {"content": said[-1] if said else ""}}, ensure_ascii=False).encode()
        return Thought(raw, {})
