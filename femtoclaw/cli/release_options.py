"""The commands ``release`` and ``migrate`` and their options, as data."""

from __future__ import annotations

from femtoclaw.cli.shared_options import COSIGNING, SIGNING, utf8

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RELEASE: dict[str, dict[str, Any]] = COSIGNING | {
    "what": {
        "choices": ("build", "verify", "deploy", "rollback", "list", "prune", "repair", "finish"),
        "help": "build --out FILE --key KEYFILE, verify FILE --key KEY, deploy FILE, rollback, list, prune, repair FILE",
    },
    "file": {"nargs": "?", "metavar": "FILE", "help": "verify, deploy, repair: the release"},
    "--out": {"metavar": "FILE", "help": "build: the new file"},
    "--key": {
        "metavar": "KEY",
        "help": "build: the file with the release's key; verify, deploy: the public key you trust, a file or name+hash+base64",
    },
    "--from": {"metavar": "DIR", "help": "build: a sealed checkout (default: the program that runs)"},
    "--counter": {"type": int, "metavar": "N", "help": "build: grows from release to release (default: the seal's)"},
    "--floor": {
        "type": int,
        "default": 0,
        "metavar": "N",
        "help": "build: the least counter that is safe to go back to",
    },
    "--root": {"metavar": "DIR", "help": "the installation (default: the one that runs, or $FEMTOCLAW_INSTALLATION)"},
    "--wait": {
        "type": int,
        "default": 30,
        "metavar": "SECONDS",
        "help": "deploy, rollback: for a served node to be back",
    },
    "--major": {"action": "store_true", "help": "deploy: also a release with another first number of its version"},
    "--dry-run": {"action": "store_true", "help": "deploy, rollback, prune: only say what would be done"},
}

MIGRATE: dict[str, dict[str, Any]] = SIGNING | {
    "what": {"choices": ("plan", "run", "validate", "rollback", "history")},
    "--owner": {
        "type": utf8,
        "metavar": "NAME",
        "help": "run: the first operator of the node (default: the login's name)",
    },
    "--dry-run": {"action": "store_true", "help": "run, rollback: only say what would be done"},
}
