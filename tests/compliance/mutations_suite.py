"""Mutations under which the checks of what watches itself, of tables and of the suite turn red."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from femtoclaw.compliance.checks_monitoring import vectors
from femtoclaw.compliance.checks_suite import (
    declarations,
    domain_tests,
    levels,
    tiers,
    traced,
    verdict_words,
)
from femtoclaw.compliance.clustered import cluster
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.machines import (
    error_types,
    event_versions,
    markers,
    transitions,
)
from femtoclaw.compliance.measures_more import (
    brains,
    changes,
    latencies,
    libraries,
    locked,
    parsed_twice,
    rows_under_load,
    standing_words,
    storages,
)
from femtoclaw.compliance.monitored import monitored
from femtoclaw.compliance.operating import backed_up
from femtoclaw.compliance.trails import Told
from tests.compliance.mutating import (
    MUTATIONS,
    PREPARED,
    Mutation,
    a_risk_got_through,
    altered,
    answer_is,
    in_reach,
    measured,
    never_failing,
    none_with,
    replaced_by,
    row_is,
    source_says,
    twin_trail,
    unbroken,
    without,
)


def monitored_trail(change: Callable[[list[Told]], list[Told]]) -> Mutation:
    """The history of the twin that watches itself has other events."""
    return lambda laboratory: laboratory.replaced(
        monitored, laboratory.once(monitored)._replace(trail=laboratory.once(monitored).trail.changed(change))
    )


def no_monitor_ran(laboratory: Laboratory) -> Laboratory:
    """`status` names no monitor."""
    found = laboratory.once(monitored)
    return laboratory.replaced(monitored, found._replace(status={"serving": {}}))


CLUSTER: dict[str, Any] = {
    "ok": True, "made": {"proved": "made"}, "asked": {"proved": "asked at c, executed on a alone", "executions": ["1", "2"]},
    "killed": {"proved": "b leads"}, "compared": {"proved": "each of 11 is in it", "acknowledged": 11},
    "rejoined": {"proved": "a came back; its records are cut, kept and signed in log/evidence/"},
    "verified": {"proved": "derived again without a difference", "root": "a" * 64, "size": 152}, "stopped": {},
    "exported": {"epochs": [{"epoch": 2, "first": 29, "leader": "a"}, {"epoch": 3, "first": 115, "leader": "b"}]},
}  # fmt: skip
"""What a cluster proves, in the form in which `demo --cluster` says it; its own tests run one (tests/cli/test_cluster_demo.py)."""


def clustered(**fields: Any) -> Mutation:
    """A cluster that proved something else."""
    return replaced_by(cluster, CLUSTER | fields)


PREPARED |= {
    "a_cluster_loses_nothing": clustered(), "one_node_appends": clustered(), "followers_execute_nothing": clustered(),
}  # fmt: skip


MUTATIONS |= {
    "tampering_at_work_is_detected": monitored_trail(none_with("IncidentOpened", kind="configuration_tampering")),
    "each_incident_has_its_alert": monitored_trail(altered("IncidentOpened", incident_id="0" * 32)),
    "alerts_are_acknowledged_on_record": monitored_trail(without("AlertAcknowledged")),
    "three_monitors_report": no_monitor_ran,
    "deviations_are_found": monitored_trail(none_with("AlertRaised", source="compliance")),
    "configurations_change_by_request": twin_trail(without("ConfigurationAdopted")),
    "algorithms_pass_their_vectors": replaced_by(vectors, {"ok": False, "vectors": []}),
    "nine_assets_are_guarded": unbroken,
    "the_machine_is_the_published_one": replaced_by(transitions, [("IDLE", "ERROR")]),
    "markers_follow_each_other": replaced_by(markers, [("IDLE", "COMPLETE")]),
    "transitions_are_told_in_full": row_is("audit", -1, type="StateTransition", execution_id="x", outcome="ERROR>IDLE"),
    "errors_have_one_category": lambda laboratory: laboratory.replaced(
        error_types, laboratory.once(error_types) | {"NewError": ("UNKNOWN", "ERROR", 70)}
    ),
    "errors_are_objects": twin_trail(altered("ExecutionFailed", code="")),
    "old_events_are_read": measured(event_versions, missing=[21]),
    "ten_guarantees_hold": in_reach,
    "nine_specifications_are_met": a_risk_got_through,
    "authority_is_the_runtimes": source_says("femtoclaw/new.py", "def go(gate):\n    gate.dispatch(1)\n"),
    "storage_is_compliant": never_failing,
    "the_register_is_whole": lambda laboratory: laboratory.replaced(
        domain_tests, laboratory.once(domain_tests) | {"core": 0}
    ),
    "every_seed_is_traced": measured(traced, open=["DEPLOY-2.1"]),
    "one_failure_is_enough": lambda laboratory: laboratory.replaced(
        verdict_words, laboratory.once(verdict_words) | {"one failed": "COMPLIANT"}
    ),
    "deviations_are_published": lambda laboratory: laboratory.replaced(declarations, ([{"id": "OPS-2.1"}], {})),
    "a_cluster_loses_nothing": clustered(ok=False),
    "one_node_appends": clustered(exported={"epochs": [{"epoch": 3}, {"epoch": 3}]}),
    "followers_execute_nothing": clustered(asked={"proved": "executed on c", "executions": ["1"]}),
    "the_reference_tier_is_refused": lambda laboratory: laboratory.replaced(
        tiers, laboratory.once(tiers) | {"reference": []}
    ),
    "levels_follow_from_evidence": lambda laboratory: laboratory.replaced(
        levels, laboratory.once(levels) | {"nothing": 4}
    ),
    "three_kinds_of_brains": lambda laboratory: laboratory.replaced(
        brains, laboratory.once(brains) | {"http too long": ""}
    ),
    "parsing_is_a_function": measured(parsed_twice, second="0" * 64),
    "libraries_are_pinned": measured(libraries, foreign=["requests"]),
    "one_writer_at_a_time": measured(locked, second=""),
    "records_cannot_be_changed": measured(locked, changing=["update"]),
    "two_backends_keep_the_contract": lambda laboratory: laboratory.replaced(
        storages, laboratory.once(storages) | {"memory": laboratory.once(storages)["memory"] | {"append-only": False}}
    ),
    "readers_see_whole_states": measured(rows_under_load, torn=[7]),
    "slow_storage_is_only_slow": measured(rows_under_load, slow_ms=1.0),
    "verdicts_are_fast": lambda laboratory: laboratory.replaced(
        latencies, laboratory.once(latencies) | {"authorize": (3000.0, 9000.0)}
    ),
    "a_start_is_below_a_second": lambda laboratory: laboratory.replaced(
        latencies, laboratory.once(latencies) | {"start of the process": (2e6, 2e6)}
    ),
    "the_banner_follows_the_record": lambda laboratory: laboratory.replaced(
        standing_words, laboratory.once(standing_words) | {"another build": "COMPLIANT"}
    ),
    "changes_need_their_role": lambda laboratory: laboratory.replaced(
        changes, laboratory.once(changes) | {"codes": {"configuration by a wrong role": 0}}
    ),
    "restores_say_what_is_lost": answer_is(backed_up, "resume", code=2),
}
