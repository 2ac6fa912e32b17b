"""The options of ``backup``, as data."""

from __future__ import annotations

from femtoclaw.cli.shared_options import COSIGNING, moment, utf8

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BACKUP: dict[str, dict[str, Any]] = COSIGNING | {
    "what": {
        "choices": ("keygen", "create", "list", "verify", "restore", "resume", "prune"),
        "help": "keygen --out FILE; create --to PLACE; list, verify, prune --from PLACE; restore --from PLACE --to HOME; resume",
    },
    "--to": {"metavar": "PLACE|HOME", "help": "create: a folder, or s3://BUCKET/PREFIX; restore: the home to make"},
    "--from": {"metavar": "PLACE", "help": "list, verify, restore, prune: where the backups are"},
    "--key": {"metavar": "FILE", "help": "keygen: a public half that is there already, to be put in force; create: the one that "
              "must be in force; verify, restore: the recovery key"},
    "--out": {"metavar": "FILE", "help": "keygen: the new recovery key; its public half, put in force: FILE with .pub"},
    "--id": {"type": utf8, "metavar": "ID", "help": "verify, restore: the backup by the beginning of its id (default: the newest)"},
    "--log": {"type": utf8, "metavar": "LOG_ID", "help": "the log, where the place holds several, or to be sure which one it is"},
    "--at-index": {"type": int, "metavar": "N", "help": "restore: only up to the last append that ends at or below record N"},
    "--at-time": {"type": moment, "metavar": "TIME", "help": "restore: only what was recorded until then (UTC)"},
    "--replace": {"action": "store_true", "help": "restore: move the home that stands there aside; keygen: another recovery key "
                  "instead of the one in force"},
    "--from-archive": {"action": "append", "metavar": "PATH", "help": "resume: what else holds records (as for `recover`)"},
    "--accept-gap": {"action": "store_true", "help": "resume: go on in a new log that says what is lost (the default)"},
    "--nothing-newer": {"action": "store_true", "help": "resume: go on in the same log. You state that the old node is gone and "
                        "that nothing behind the backup was ever acknowledged"},
    "--known": {"type": int, "metavar": "N", "help": "resume: somebody knows that the log had N records (a checkpoint, a peer)"},
    "--keep": {"type": int, "metavar": "N", "help": "prune: how many of the newest backups stay"},
    "--dry-run": {"action": "store_true", "help": "create, restore, resume, prune: only say what would be done"},
    "--work": {"metavar": "DIR", "help": "verify: where there is room for a restored log (default: $TMPDIR)"},
    "--endpoint": {"metavar": "URL", "help": "of an S3-compatible service"},
}  # fmt: skip
