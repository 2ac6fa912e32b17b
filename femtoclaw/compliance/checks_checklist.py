"""The check of the checklist: every line of it shown, each with its records."""

from __future__ import annotations

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.checklist import checklist
from femtoclaw.compliance.laboratory import Laboratory

KINDS = ("functional", "security", "protocol", "authorization", "memory integrity", "observability", "state machine")


@shows("CERT-6.1")
def the_checklist_is_complete(laboratory: Laboratory) -> str:
    """Some thirty items of seven kinds, each with an id of its own and the records that show it; the report lists them."""
    rows = checklist(laboratory)
    need(len(rows) >= 30 and len({row.id for row in rows}) == len(rows), "thirty items with ids", len(rows))
    every(((kind, any(row.kind == kind for row in rows)) for kind in KINDS), "items of the kind")
    every(((f"{row.id}: {row.says}", row.evidence) for row in rows), "records that show it")
    return "; ".join(f"{row.id} {row.evidence.partition(': ')[2]}" for row in rows)
