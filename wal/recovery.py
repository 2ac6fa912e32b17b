"""THE RECOVERY DECISION: what opening a log means, as a table. Pure.

``wal.examination`` gathers the evidence; ``decide`` finds the one row that matches. The rule behind the rows: a record at
or below the commit point is never cut, and what was promised must be there (I2, I3). Rows follow the published
recovery table in ``docs/crash-safety.md``.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from enum import Enum
from typing import NamedTuple


class Evidence(NamedTuple):
    """Eleven yes-or-no facts about a store, in the order in which they are asked."""

    exists: bool
    """A record, a HEAD slot, a checkpoint or a segment manifest is there."""
    readable: bool
    """A probe process could read every record it was asked to, without a fault."""
    known_format: bool
    """Nothing was written by a newer version."""
    same_log: bool
    """Genesis, HEAD slots and key name one log."""
    head_known: bool
    """At least one HEAD slot is whole: the commit point is known."""
    sound_below: bool
    """Every checked record at or below the commit point verifies."""
    reaches: bool
    """The store is at least as long as the commit point and the newest checkpoint."""
    matches: bool
    """The chain at the commit point, and the root at the checkpoint, are the promised ones."""
    vouched: bool
    """The newest checkpoint is there and signed by the log's own key: not only HEAD, which anyone can write, says so."""
    head_whole: bool
    """No HEAD slot is damaged: none that is lost could have promised more than the one that is left."""
    sound_above: bool
    """Every record above the commit point verifies."""


class Verdict(str, Enum):
    """What to do. Halting verdicts change nothing on disk."""

    CREATE = "create"
    OPEN = "open"
    CUT_TAIL = "cut-tail"
    HALT_UNREADABLE = "halt-unreadable"
    REFUSE_FORMAT = "refuse-format"
    HALT_FOREIGN = "halt-foreign"
    HALT_HEAD_MISSING = "halt-head-missing"
    HALT_DAMAGED = "halt-damaged"
    HALT_ROLLED_BACK = "halt-rolled-back"
    HALT_FORKED = "halt-forked"
    HALT_UNVOUCHED = "halt-unvouched"
    HALT_UNCERTAIN = "halt-uncertain"


class Case(NamedTuple):
    """One row: a label, a pattern over Evidence (None matches both) and the verdict."""

    label: str
    pattern: tuple[bool | None, ...]
    verdict: Verdict
    reason: str


Y, N, ANY = True, False, None
# fmt: off
CASES = (
    #           exists readable format same head below reaches matches vouched whole above
    Case("@A", (N, ANY, ANY, ANY, ANY, ANY, ANY, ANY, ANY, ANY, ANY), Verdict.CREATE, "nothing is here and nothing was promised"),
    Case("@B", (Y, N, ANY, ANY, ANY, ANY, ANY, ANY, ANY, ANY, ANY), Verdict.HALT_UNREADABLE, "reading the store faults"),
    Case("@C", (Y, Y, N, ANY, ANY, ANY, ANY, ANY, ANY, ANY, ANY), Verdict.REFUSE_FORMAT, "written by a newer version"),
    Case("@D", (Y, Y, Y, N, ANY, ANY, ANY, ANY, ANY, ANY, ANY), Verdict.HALT_FOREIGN, "parts of different logs are mixed"),
    Case("@E", (Y, Y, Y, Y, N, ANY, ANY, ANY, ANY, ANY, ANY), Verdict.HALT_HEAD_MISSING, "no HEAD slot says what was promised"),
    Case("@F", (Y, Y, Y, Y, Y, N, ANY, ANY, ANY, ANY, ANY), Verdict.HALT_DAMAGED, "a promised record is damaged"),
    Case("@G", (Y, Y, Y, Y, Y, Y, N, ANY, ANY, ANY, ANY), Verdict.HALT_ROLLED_BACK, "shorter than what was promised"),
    Case("@H", (Y, Y, Y, Y, Y, Y, Y, N, ANY, ANY, ANY), Verdict.HALT_FORKED, "valid, but not the promised history"),
    Case("@I", (Y, Y, Y, Y, Y, Y, Y, Y, N, ANY, ANY), Verdict.HALT_UNVOUCHED, "no signed checkpoint vouches for this history"),
    Case("@J", (Y, Y, Y, Y, Y, Y, Y, Y, Y, N, N), Verdict.HALT_UNCERTAIN, "the tail is damaged, and so is what may promise it"),
    Case("@K", (Y, Y, Y, Y, Y, Y, Y, Y, Y, Y, N), Verdict.CUT_TAIL, "damage only above the commit point"),
    Case("@L", (Y, Y, Y, Y, Y, Y, Y, Y, Y, ANY, Y), Verdict.OPEN, "everything promised is here and verifies"),
)
# fmt: on


def decide(evidence: Evidence) -> Case:
    """The first and only case whose pattern matches; total over all 2,048 patterns (tested)."""
    for case in CASES:
        if all(want is None or want == have for want, have in zip(case.pattern, evidence, strict=True)):
            return case
    raise AssertionError(f"no recovery case matches {evidence}")
