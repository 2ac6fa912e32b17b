"""Why a reading command stumbled: over a history that nobody could have recorded, or over a defect of its own.

Readers believe what the log holds, and check what they lean on. Who has the node's key can record what no check foresaw:
then the verification, which judges every record, has the last word.
"""

from __future__ import annotations

from femtoclaw.errors import FemtoClawError, HistoryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

READING: dict[str, tuple[str, ...]] = {
    "log": (), "show": (), "status": (), "health": (), "replay": (), "proof": (), "export": (), "approvals": (),
    "policy": ("check", "test", "explain", "diff", "show"), "config": ("show", "verify", "history"),
    "claw": ("list", "show"), "operator": ("list",), "publisher": ("list",), "secret": ("list",),
}  # fmt: skip
"""Commands that only read a history, with the words of those that also have others."""


def reads(parsed: Any) -> bool:
    """True for a command that opens no node for work: nothing of this process has the log open any more."""
    words = READING.get(parsed.command)
    if words is None:
        return False
    word = getattr(parsed, "which", None) or getattr(parsed, "what", None)
    return not words or word in words


def unsound(parsed: Any) -> HistoryError | None:
    """What is wrong with the history that a reading command was given; None when it is in order, and for the others."""
    from wal.errors import LogError

    if not reads(parsed):
        return None
    try:
        report = _verified(parsed)
    except (FemtoClawError, LogError, OSError, ValueError):
        return None  # no history at all: what the command met is a defect
    if report["ok"]:
        return None
    finding = report["findings"][0]
    # What was expected and found there are a forger's texts: `verify` shows them to who asks.
    return HistoryError(
        "this history does not hold, so nothing can be told from it", where=finding["where"],
        expected="a history that `femtoclaw verify` finds in order", found=finding["code"],
    )  # fmt: skip


def _verified(parsed: Any) -> dict[str, Any]:
    from femtoclaw import audit
    from femtoclaw.home import locate

    bundle = getattr(parsed, "bundle", None)
    if bundle is not None and parsed.command != "export":
        from femtoclaw.cli.evidence import trusted_key

        return audit.verify_bundle(bundle, trusted_key(parsed.key))
    return audit.verify_home(locate(getattr(parsed, "home", None)))
