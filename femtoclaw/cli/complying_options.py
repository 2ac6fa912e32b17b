"""The options of ``comply``, as data: part of the table in ``femtoclaw.cli.operating_options``."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COMPLY: dict[str, dict[str, Any]] = {
    "what": {
        "nargs": "?", "default": "run", "choices": ("run", "coverage", "methods", "again"),
        "help": "run (default); coverage by tests; methods: the four, kept in --out; again: run those of --from once more",
    },
    "--domain": {
        "action": "append", "metavar": "DOC",
        "help": "only this document, domain or id; seed: the five seeds (repeatable)",
    },
    "--out": {"metavar": "FILE", "help": "write the report as canonical JSON; methods: what they printed"},
    "--from": {"dest": "source", "metavar": "FILE", "help": "again: a file of `comply methods`"},
    "--html": {"metavar": "FILE", "help": "write it as one page that needs nothing else"},
    "--level": {"action": "store_true", "help": "say the level, and what the next one asks for"},
    "--dry-run": {"action": "store_true", "help": "record nothing"},
    "--as": {"metavar": "NAME", "help": "the operator who asks (default: the login's)"},
    "--operator-key": {"metavar": "FILE", "help": "their key file, where it is not in the home"},
}  # fmt: skip
