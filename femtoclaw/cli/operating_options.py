"""The commands of operating a node and their options, as data: part of the table in ``femtoclaw.cli.options``."""

from __future__ import annotations

from femtoclaw.cli.audit_options import AUDIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OPERATING: dict[str, tuple[str, str, dict[str, dict[str, Any]]]] = {
    "audit": ("what auditors ask: query, trace", "auditing", AUDIT),
}
"""Name to (help, module in femtoclaw.cli, what it takes)."""
