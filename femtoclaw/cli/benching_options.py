"""The options of ``bench``, as data: part of the table in ``femtoclaw.cli.operating_options``."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BENCH: dict[str, dict[str, Any]] = {
    "what": {
        "metavar": "CATEGORY",
        "help": "start, execution, invocation, authorization, protocol, throughput, concurrency, storage, telemetry, all; "
        "or compare",
    },
    "files": {"nargs": "*", "metavar": "FILE", "help": "compare: BASELINE RESULT"},
    "--quick": {"action": "store_true", "help": "small sizes: shows that it runs, and what is far off"},
    "--seconds": {"type": float, "metavar": "N", "help": "how long each level of throughput lasts (default 60; 3600: an hour)"},
    "--seed": {"type": int, "default": 1, "metavar": "N", "help": "what the calls follow from (default 1)"},
    "--out": {"metavar": "FILE", "help": "write the whole result, raw samples too"},
}  # fmt: skip
