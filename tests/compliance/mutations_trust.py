"""Mutations under which the checks of declared trust turn red."""

from __future__ import annotations

from femtoclaw.compliance.checks_trust import trust
from tests.compliance.mutating import MUTATIONS, measured

MUTATIONS |= {"trust_is_declared": measured(trust, hashes={"MD5": ["femtoclaw/gate.py"]})}
