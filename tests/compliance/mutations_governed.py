"""Mutations under which the checks of policy and protocol turn red."""

from __future__ import annotations

from femtoclaw.compliance.governed import (
    decided_in_disorder,
    engine_changed,
    protocol_verdicts,
    ruled,
    schema_violations,
    spelled,
)
from femtoclaw.compliance.laboratory import Laboratory
from tests.compliance.mutating import MUTATIONS, measured


def a_verdict_changed(laboratory: Laboratory) -> Laboratory:
    """One stored message is taken where it was rejected."""
    found = laboratory.once(protocol_verdicts)
    name = next(name for name, verdict in sorted(found["stored"].items()) if len(verdict) == 4)
    other = found["now"] | {name: ["Message", "0" * 64]}
    return laboratory.replaced(protocol_verdicts, found | {"now": other})


MUTATIONS |= {
    "four_kinds_of_rules_decide": measured(ruled, **{"empty policy": ("AUTHORIZED", "")}),
    "each_input_counts": measured(ruled, **{"the same from a run": ("AUTHORIZED", "by-hand")}),
    "a_slip_is_refused": measured(spelled, **{"an argument": ""}),
    "order_and_threads_do_not_count": measured(decided_in_disorder, reached=["time.time"]),
    "a_changed_engine_denies_everything": measured(engine_changed, incidents={}),
    "arguments_fit_their_schema": measured(
        schema_violations, shell={"violations": 10, "accepted": ["/bin: ToolCall"], "good": True}
    ),
    "old_messages_keep_their_verdicts": a_verdict_changed,
}
