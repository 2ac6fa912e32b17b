"""The options of ``audit`` and ``certificate``, as data."""

from __future__ import annotations

from femtoclaw.cli.shared_options import COSIGNING, moment, utf8

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

AUDIT: dict[str, dict[str, Any]] = COSIGNING | {
    "what": {
        "choices": ("query", "trace", "export", "statement", "retain", "signatures"),
        "help": "query; trace EXECUTION_ID; export --out FILE; statement FILE --key KEY; retain ARCHIVE; signatures FILE ...",
    },
    "targets": {"type": utf8, "nargs": "*", "metavar": "EXECUTION_ID|FILE|ARCHIVE"},
    "--execution": {"type": utf8, "metavar": "ID", "help": "query, export --format scitt: of this execution"},
    "--type": {"type": utf8, "metavar": "KIND", "help": "query: an event type, or operator_action"},
    "--since": {
        "type": moment,
        "metavar": "TIME",
        "help": "query: UTC, such as 2026-11-21T10:00:00, or seconds since 1970",
    },
    "--until": {"type": moment, "metavar": "TIME"},
    "--capability": {"type": utf8, "metavar": "NAME", "help": "query: of this claw"},
    "--operator": {"type": utf8, "metavar": "NAME", "help": "query: by this operator"},
    "--format": {
        "choices": ("jsonl", "ocsf", "scitt"),
        "help": "export: JSON lines (default), OCSF events, a COSE statement",
    },
    "--out": {"type": utf8, "metavar": "FILE", "help": "export: the new file"},
    "--first": {"type": int, "metavar": "N", "help": "export: from this record on (default 1)"},
    "--last": {"type": int, "metavar": "N", "help": "export: to this record (default: the last signed one)"},
    "--key": {"metavar": "KEY", "help": "statement: the public key you trust: a file, or name+hash+base64"},
    "--endpoint": {"type": utf8, "metavar": "URL", "help": "retain s3://...: of an S3-compatible service"},
    "--delete": {"type": int, "metavar": "N", "help": "retain: ask that records 1 to N go; says why they do not"},
    "--dry-run": {"action": "store_true", "help": "export, retain: only say what would be done; nothing is recorded"},
    "--limit": {"type": int, "default": 0, "metavar": "N", "help": "query: the newest N (default: all)"},
}

CERTIFICATE: dict[str, dict[str, Any]] = COSIGNING | {
    "what": {
        "choices": ("issue", "show", "verify", "revoke", "status"),
        "help": "issue --report FILE; show [ID]; verify FOLDER --key KEY; revoke ID --reason TEXT; status",
    },
    "target": {"type": utf8, "nargs": "?", "metavar": "ID|FOLDER"},
    "--report": {"metavar": "FILE", "help": "issue: what `femtoclaw comply --out FILE` wrote"},
    "--rerun": {"metavar": "FILE", "help": "issue: the report of another run on record, for level 2 and above"},
    "--authority-key": {"metavar": "FILE", "help": "issue: the key of the authority that signs (default: the node's)"},
    "--authority-kind": {
        "choices": ("internal", "independent", "enterprise"),
        "help": "issue: what kind of authority signs",
    },
    "--tier": {"choices": ("published", "enterprise", "reference"), "help": "issue: against which specifications"},
    "--key": {"metavar": "KEY", "help": "verify: the authority's public key: a file, or name+hash+base64"},
    "--reason": {"type": utf8, "metavar": "TEXT", "help": "revoke: why; on record"},
    "--dry-run": {"action": "store_true", "help": "issue: only say what would be decided; nothing is recorded"},
}
