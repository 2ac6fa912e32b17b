"""What a brain gets to see, by digest: a pure function of the state in which it was asked (EXEC-4.2)."""

from __future__ import annotations

import json

from blake3 import blake3

from femtoclaw.state import State


def context_digest(state: State, run_id: str) -> str:
    """64 hex digits over the five components of a run's context: newest turn, earlier turns, execution memory,
    configuration, registry. ``state`` is the one right after the batch that left the run waiting for its brain."""
    node, window = state.node, state.live.runs[run_id].window
    components = (
        json.dumps([[turn.role, turn.content] for turn in window[-1:]]),
        json.dumps([[turn.role, turn.content] for turn in window[:-1]]),
        json.dumps([list(item) for item in state.live.recent]),
        node.configuration.digest,
        json.dumps([[name, claw.digest, claw.enabled] for name, claw in sorted(node.registry.items())]),
    )
    hashes = b"".join(blake3(part.encode("utf-8", "surrogatepass")).digest() for part in components)
    return blake3(b"femtoclaw context v1\x00" + hashes).hexdigest()
