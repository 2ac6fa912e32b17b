"""For whoever writes a claw: declare it in a few lines, and reach what its sandbox was given.

    from femtoclaw.sdk import ArgumentError, claw

    @claw(
        name="text.count",
        version="1.0.0",
        description="Count the words of a text.",
        arguments={"text": {"type": "string", "maxLength": 100000}},
        deterministic=True,
    )
    def count(text: str) -> dict:
        return {"words": len(text.split())}

``femtoclaw.sdk.testing`` runs it in the real sandbox without a node; `femtoclaw claw test` does that for a folder.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from femtoclaw.claws.errors import AccessError, ArgumentError, ClawError, SurroundingsError
    from femtoclaw.manifest import Limits
    from femtoclaw.sdk.declaration import Claw, claw
    from femtoclaw.sdk.granted import secret
    from femtoclaw.sdk.surroundings import settings, workspace

_PLACES = {
    "claw": "femtoclaw.sdk.declaration",
    "Claw": "femtoclaw.sdk.declaration",
    "secret": "femtoclaw.sdk.granted",
    "settings": "femtoclaw.sdk.surroundings",
    "workspace": "femtoclaw.sdk.surroundings",
    "Limits": "femtoclaw.manifest",
    "ClawError": "femtoclaw.claws.errors",
    "ArgumentError": "femtoclaw.claws.errors",
    "AccessError": "femtoclaw.claws.errors",
    "SurroundingsError": "femtoclaw.claws.errors",
}

__all__ = [
    "AccessError",
    "ArgumentError",
    "Claw",
    "ClawError",
    "Limits",
    "SurroundingsError",
    "claw",
    "secret",
    "settings",
    "workspace",
]


def __getattr__(name: str) -> object:
    """Loaded when asked for: a sandbox that only hands out secrets needs no more than that."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value
