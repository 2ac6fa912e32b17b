"""Claws run in processes of their own, made by a fork server that never held a descriptor of the store.

``Isolation`` is the front door; only ``femtoclaw.gate`` calls its ``run``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from femtoclaw.isolation.client import Isolation
    from femtoclaw.isolation.outcome import Outcome, OutcomeUnknownError

__all__ = ["Isolation", "Outcome", "OutcomeUnknownError"]


def __getattr__(name: str) -> object:
    """Loaded when asked for: the fork server, which imports this package too, needs none of the node's end."""
    if name == "Isolation":
        from femtoclaw.isolation import client as module
    elif name in __all__:
        from femtoclaw.isolation import outcome as module  # type: ignore[no-redef]
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(module, name)
    globals()[name] = value
    return value
