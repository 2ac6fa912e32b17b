"""The options of ``audit`` and ``certificate``, as data."""

from __future__ import annotations

from femtoclaw.cli.shared_options import COSIGNING, moment, utf8

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

AUDIT: dict[str, dict[str, Any]] = COSIGNING | {
    "what": {"choices": ("query", "trace"), "help": "query; trace EXECUTION_ID"},
    "targets": {"type": utf8, "nargs": "*", "metavar": "EXECUTION_ID"},
    "--execution": {"type": utf8, "metavar": "ID", "help": "query: of this execution"},
    "--type": {"type": utf8, "metavar": "KIND", "help": "query: an event type, or operator_action"},
    "--since": {
        "type": moment,
        "metavar": "TIME",
        "help": "query: UTC, such as 2026-11-21T10:00:00, or seconds since 1970",
    },
    "--until": {"type": moment, "metavar": "TIME"},
    "--capability": {"type": utf8, "metavar": "NAME", "help": "query: of this claw"},
    "--operator": {"type": utf8, "metavar": "NAME", "help": "query: by this operator"},
    "--limit": {"type": int, "default": 0, "metavar": "N", "help": "query: the newest N (default: all)"},
}
