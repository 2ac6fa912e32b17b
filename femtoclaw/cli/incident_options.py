"""What ``incident`` takes, as data: part of the table in ``femtoclaw.cli.options``."""

from __future__ import annotations

from femtoclaw.cli.shared_options import COSIGNING, utf8

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WORDS = (
    "list", "show", "open", "acknowledge", "identify", "contain", "preserve", "restore", "verify", "resume", "resolve", "respond",
    "verify-evidence",
)  # fmt: skip

INCIDENT: dict[str, dict[str, Any]] = COSIGNING | {
    "what": {
        "choices": WORDS,
        "metavar": "WHAT",
        "help": "list; show ID; open KIND; acknowledge ALERT; the steps identify, contain, preserve, restore, verify, resume ID; "
        "respond ID: all that remain; resolve ID: those after preserve; verify-evidence FILE",
    },
    "target": {"type": utf8, "nargs": "?", "metavar": "ID|KIND|ALERT|FILE"},
    "--all": {"action": "store_true", "help": "list: resolved ones too"},
    "--severity": {"type": int, "metavar": "1..4", "help": "open: how grave, where it is graver than its kind"},
    "--dry-run": {"action": "store_true", "help": "open, acknowledge, every step: only say what would be decided or taken"},
    "--detail": {"type": utf8, "metavar": "TEXT", "help": "open, and every step: what is recorded of it"},
    "--evidence": {"action": "append", "type": utf8, "metavar": "INDEX", "help": "open: a record it rests on (repeatable)"},
    "--skip": {"type": utf8, "metavar": "REASON", "help": "contain, restore: not needed here, because"},
    "--claw": {"action": "append", "type": utf8, "metavar": "NAME", "help": "contain: disable this claw (repeatable)"},
    "--operator": {"action": "append", "type": utf8, "metavar": "NAME", "help": "contain: revoke this operator (repeatable)"},
    "--publisher": {"action": "append", "type": utf8, "metavar": "NAME", "help": "contain: distrust this publisher (repeatable)"},
    "--distribution-key": {"type": utf8, "metavar": "KEY", "help": "contain: revoke this key of distributions"},
    "--out": {"metavar": "FILE", "help": "preserve: where the evidence goes (default: the home's folder evidence)"},
    "--sign-as-operator": {
        "action": "store_true",
        "help": "preserve: the operator's key signs the evidence; for where the node's is suspect",
    },
    "--no-restart": {"type": utf8, "metavar": "REASON", "help": "resume: the node was not restarted, because"},
    "--key": {"action": "append", "metavar": "KEY", "help": "verify-evidence: a key you trust: a file, or name+hash+base64"},
}  # fmt: skip
