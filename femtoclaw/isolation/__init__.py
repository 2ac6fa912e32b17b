"""Claws run in processes of their own, made by a fork server that never held a descriptor of the store.

``Isolation`` is the front door; only ``femtoclaw.gate`` calls its ``run``.
"""

from __future__ import annotations

from femtoclaw.isolation.client import Isolation
from femtoclaw.isolation.outcome import Outcome, OutcomeUnknownError

__all__ = ["Isolation", "Outcome", "OutcomeUnknownError"]
