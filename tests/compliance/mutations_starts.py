"""Mutations under which the checks of starts, stops and crashes turn red."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from femtoclaw.compliance.checks_start import failed_then_good
from femtoclaw.compliance.crashes import crash, restarts
from femtoclaw.compliance.session import session
from femtoclaw.compliance.trails import Told
from tests.compliance.mutating import (
    MUTATIONS,
    Mutation,
    measured,
    twin_trail,
    unbroken,
    without,
)


def killed_later(**fields: Any) -> Mutation:
    """Something else was there after the kill."""
    return measured(crash, **fields)


def crash_trail(change: Callable[[list[Told]], list[Told]]) -> Mutation:
    """The killed twin's history with other events."""
    return lambda laboratory: laboratory.replaced(
        crash, laboratory.once(crash)._replace(trail=laboratory.once(crash).trail.changed(change))
    )


MUTATIONS |= {
    "broken_artifacts_stop_a_start": unbroken,
    "bad_configurations_start_nothing": unbroken,
    "bad_policies_start_nothing": unbroken,
    "memory_is_provisioned_first": unbroken,
    "wide_permissions_are_refused": unbroken,
    "swapped_keys_are_found": unbroken,
    "six_artifacts_are_provisioned": unbroken,
    "a_start_takes_the_steps_in_order": twin_trail(without("StepTaken", nth=2)),
    "failed_starts_come_on_record": measured(failed_then_good, failed=[]),
    "nothing_is_taken_before_the_start_is_over": twin_trail(without("RuntimeStarted")),
    "a_stop_leaves_nothing": lambda laboratory: laboratory.replaced(
        session, laboratory.once(session)._replace(stop=laboratory.once(session).stop | {"socket": True})
    ),
    "restarts_keep_everything": measured(restarts, proven=False),
    "restarts_change_no_behaviour": measured(restarts, restarted=[("AUTHORIZED", "PERMITTED")]),
    "deployment_tells_of_itself": twin_trail(without("IntegrityVerified")),
    "nothing_acknowledged_is_lost": crash_trail(without("ExecutionCompleted", nth=2)),
    "a_cut_execution_is_closed_and_not_repeated": killed_later(effects=2),
    "recovery_takes_its_steps": crash_trail(without("StepTaken", nth=12)),
    "recovery_keeps_history": killed_later(genesis=("a", "b")),
    "it_comes_back": killed_later(seconds=12.0),
    "errors_end_in_idle": crash_trail(without("ExecutionFailed")),
}
