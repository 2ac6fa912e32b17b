"""For each live check something that is not so any more: the check must turn red.

Three kinds: an event that is missing or different in the twin's history; a measurement made where the attack was left out, the
policy permits everything or the guard is switched off; and an answer of the program, or a file, that is another one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from femtoclaw import events
from femtoclaw.compliance.checks_deploy import items
from femtoclaw.compliance.checks_monitoring import vectors
from femtoclaw.compliance.checks_more import areas_of_the_runbook
from femtoclaw.compliance.checks_session import dropped_in, entry_points
from femtoclaw.compliance.checks_start import failed_then_good
from femtoclaw.compliance.checks_suite import (
    declarations,
    domain_tests,
    levels,
    tiers,
    traced,
    verdict_words,
)
from femtoclaw.compliance.clustered import cluster
from femtoclaw.compliance.crashes import crash, restarts
from femtoclaw.compliance.deployment import (
    configuration,
    host,
    module,
    program_files,
    reverted,
    surroundings,
    telemetry,
)
from femtoclaw.compliance.laboratory import Answer, Laboratory
from femtoclaw.compliance.logs import TAMPERINGS, flipped, proofs, tamper_with, tampered, verified
from femtoclaw.compliance.machines import (
    abi,
    error_types,
    event_versions,
    markers,
    settings_refused,
    transitions,
)
from femtoclaw.compliance.measures_more import (
    brains,
    changes,
    growing,
    latencies,
    libraries,
    locked,
    migration,
    parsed_twice,
    rows_under_load,
    shipped,
    standing_words,
    storages,
)
from femtoclaw.compliance.monitored import monitored
from femtoclaw.compliance.operating import Operated, answered, audited, backed_up, rotated, watched
from femtoclaw.compliance.released import released
from femtoclaw.compliance.session import session
from femtoclaw.compliance.simulation import RUNS, determinism, gated, thinking
from femtoclaw.compliance.sources import read_source, sources
from femtoclaw.compliance.starts import starts
from femtoclaw.compliance.stores import metadata, stores
from femtoclaw.compliance.tracing import FAULTS, failing, failures, synced
from femtoclaw.compliance.trails import Told, Trail, live_trail

Mutation = Callable[[Laboratory], Laboratory]
MUTATIONS: dict[str, Mutation] = {}


def mutates(*checks: str) -> Callable[[Mutation], Mutation]:
    """Registers a mutation for these checks."""

    def register(mutation: Mutation) -> Mutation:
        for check in checks:
            assert check not in MUTATIONS, check
            MUTATIONS[check] = mutation
        return mutation

    return register


# --- histories


def twin_trail(change: Callable[[list[Told]], list[Told]]) -> Mutation:
    """The twin's history with other events."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(session)
        return laboratory.replaced(session, found._replace(trail=found.trail.changed(change)))

    return mutation


def own_trail(change: Callable[[list[Told]], list[Told]]) -> Mutation:
    """The installation's history with other events."""
    return lambda laboratory: laboratory.replaced(live_trail, laboratory.once(live_trail).changed(change))


def without(*types: str, nth: int | None = None) -> Callable[[list[Told]], list[Told]]:
    """All events of these types are missing, or only the nth."""

    def change(told: list[Told]) -> list[Told]:
        found = [at for at, each in enumerate(told) if each.type in types]
        assert found, types
        gone = found if nth is None else [found[nth]]
        return [each for at, each in enumerate(told) if at not in gone]

    return change


def altered(kind: str, nth: int = 0, **fields: Any) -> Callable[[list[Told]], list[Told]]:
    """The nth event of this type has other fields."""

    def change(told: list[Told]) -> list[Told]:
        at = [place for place, each in enumerate(told) if each.type == kind][nth]
        told[at] = told[at]._replace(event=told[at].event._replace(**fields))
        return told

    return change


def none_with(named: str, /, **fields: Any) -> Callable[[list[Told]], list[Told]]:
    """No event of this type with these fields."""

    def change(told: list[Told]) -> list[Told]:
        return [
            each for each in told
            if each.type != named or any(getattr(each.event, name) != value for name, value in fields.items())
        ]  # fmt: skip

    return change


def moved(kind: str, before: str) -> Callable[[list[Told]], list[Told]]:
    """The first event of this type of an executed call comes before one of another type."""

    def change(told: list[Told]) -> list[Told]:
        started = next(each for each in told if each.type == "ExecutionStarted").event.execution_id
        own = [each for each in told if getattr(each.event, "execution_id", "") == started]
        late = next(each for each in own if each.type == kind)
        early = next(at for at, each in enumerate(told) if each in own and each.type == before)
        told.remove(late)
        told.insert(early, late)
        return told

    return change


def step_is(name: str, **fields: Any) -> Mutation:
    """The served twin answered one message differently."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(session)
        return laboratory.replaced(
            session, found._replace(steps=found.steps | {name: found.steps[name]._replace(**fields)})
        )

    return mutation


def session_with(**fields: Any) -> Mutation:
    """Something else of the session is another."""
    return lambda laboratory: laboratory.replaced(session, laboratory.once(session)._replace(**fields))


def measured(measure: Callable[[Laboratory], Any], **fields: Any) -> Mutation:
    """A measurement found something else in these fields, or keys."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(measure)
        other = found | fields if isinstance(found, dict) else found._replace(**fields)
        return laboratory.replaced(measure, other)

    return mutation


MUTATIONS |= {
    "an_effect_follows_validation_and_permission": twin_trail(without("ProtocolValidated")),
    "numbering_has_no_gap": twin_trail(without("AuthorizationDecided", nth=3)),
    "a_call_goes_through_every_part_in_order": twin_trail(moved("ExecutionStarted", "ProtocolValidated")),
    "an_execution_has_its_six_fields": twin_trail(altered("ExecutionFinished", status="")),
    "the_audit_trail_has_its_kinds": twin_trail(without("IntegrityVerified")),
    "decisions_are_of_a_closed_set": twin_trail(altered("AuthorizationDecided", decision="PERHAPS")),
    "decisions_name_the_policy_in_force": twin_trail(altered("AuthorizationDecided", nth=4, policy_digest="0" * 64)),
    "every_transition_is_legal": twin_trail(without("ProtocolValidated", nth=1)),
    "an_input_comes_first_and_is_only_data": twin_trail(without("InputReceived", nth=0)),
    "what_a_brain_said_is_kept": twin_trail(without("InferenceReceived")),
    "messages_execute_nothing": twin_trail(altered("ProtocolValidated", form="tool_call")),
    "ids_are_never_used_twice": twin_trail(
        lambda told: [*told, next(each for each in told if each.type == "InputReceived")]
    ),
    "results_have_their_form": twin_trail(altered("ExecutionFinished", result=b"[1]")),
    "each_phase_leaves_an_event": twin_trail(without("ExecutionFinished")),
}


# --- the log


def untampered(laboratory: Laboratory) -> Laboratory:
    """The tamperings were left out: nothing is found in the copies."""
    return laboratory.replaced(
        tampered, tamper_with(laboratory, dict.fromkeys(TAMPERINGS, lambda storage, middle: None))
    )


def never_failing(laboratory: Laboratory) -> Laboratory:
    """The storage did not fail: nobody is told of anything."""
    return laboratory.replaced(failures, {name: failing("append", 0) for name in FAULTS})


def a_proof_for_anything(laboratory: Laboratory) -> Laboratory:
    """A proof also verified for a rewritten history."""
    return laboratory.replaced(proofs, laboratory.once(proofs)._replace(rewritten_refused=False))


def row_is(store: str, nth: int, **fields: Any) -> Mutation:
    """The nth row of a store is another."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(stores)
        rows = list(found[store])
        rows[nth] = rows[nth] | fields
        return laboratory.replaced(stores, found | {store: rows})

    return mutation


def without_points(kind: str) -> Mutation:
    """Telemetry of this kind was never derived."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(stores)
        rows = [row for row in found["telemetry"] if row["event_type"] != kind]
        return laboratory.replaced(stores, found | {"telemetry": rows})

    return mutation


def in_reach(laboratory: Laboratory) -> Laboratory:
    """A claw's attack reached the log."""
    found = laboratory.once(session)
    return laboratory.replaced(session, found._replace(attacks=found.attacks | {"read the log": True}))


def damaged(laboratory: Laboratory) -> Laboratory:
    """Verification of the installation's log has a finding."""
    finding = [{"code": "RECORD_DAMAGED", "where": "index 7"}]
    return laboratory.replaced(verified, laboratory.once(verified) | {"ok": False, "findings": finding})


MUTATIONS |= {
    "everything_derives_again": damaged,
    "every_record_decodes": damaged,
    "tampering_is_found": untampered,
    "every_flipped_bit_is_found": lambda laboratory: laboratory.replaced(flipped, (4000, ["index 3 byte 7"])),
    "the_tree_proves_growth": a_proof_for_anything,
    "the_disk_is_synced": measured(synced, order=False),
    "a_failed_write_stops_everything": never_failing,
    "files_are_their_owners": in_reach,
    "there_are_five_stores": lambda laboratory: laboratory.replaced(stores, laboratory.once(stores) | {"metadata": []}),
    "telemetry_counts_what_happened": without_points("capability_start"),
    "telemetry_tells_what_the_audit_tells": without_points("execution_failed"),
    "storage_tells_of_itself": without_points("storage_recovery"),
    "configurations_have_a_history": row_is("configuration", 0, digest="0" * 64),
    "metadata_is_kept": measured(metadata, switched_off="AUTHORIZED"),
    "metadata_follows_from_the_log": measured(metadata, rebuilt=[]),
}


# --- starts, stops, crashes


def unbroken(laboratory: Laboratory) -> Laboratory:
    """What breaks the copies was left out: each start is that of a whole home."""
    found = laboratory.once(starts)
    return laboratory.replaced(starts, dict.fromkeys(found, found["nothing"]))


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


# --- the program in memory, and its source files


def source_says(name: str, text: str) -> Mutation:
    """A file of the program says something else too."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(sources)
        return laboratory.replaced(sources, found | {name: read_source(name, text)})

    return mutation


MUTATIONS |= {
    "equal_inputs_give_equal_bytes": measured(determinism, digests=["0" * 64] + ["1" * 64] * (RUNS - 1)),
    "the_gate_cannot_be_passed": lambda laboratory: laboratory.replaced(
        gated, laboratory.once(gated)._replace(refusals=laboratory.once(gated).refusals | {"a forged grant": ""})
    ),
    "brains_are_interchangeable": measured(thinking, remembering=[]),
    "memory_is_a_bounded_window": measured(thinking, window=8),
    "results_are_remembered": measured(thinking, shown=[["go"], ["go", "nothing"]]),
    "brains_see_enabled_claws_only": measured(thinking, listed=["fs.list", "fs.read", "fs.write", "shell", "web.get"]),
    "four_parts_make_a_runtime": measured(thinking, scripted=[("REJECTED", "SYNTAX")]),
    "the_core_is_small": source_says("femtoclaw/gate.py", "import requests\n"),
    "brains_reach_no_tools": source_says("femtoclaw/brains/new.py", "from femtoclaw.gate import Gate\n"),
    "data_is_never_code": source_says("femtoclaw/new.py", "eval('1')\n"),
    "chance_comes_from_the_system": source_says("femtoclaw/new.py", "import random\n"),
    "there_is_one_way_to_an_effect": source_says("femtoclaw/new.py", "def go(gate):\n    gate.dispatch(1)\n"),
    "no_error_is_swallowed_bare": source_says("femtoclaw/new.py", "try:\n    pass\nexcept:\n    pass\n"),
}


# --- a twin at work


def a_risk_got_through(laboratory: Laboratory) -> Laboratory:
    """One output of the corpus was authorized."""
    found = laboratory.once(session)
    steps = list(found.corpus["uncontrolled side effects"])
    steps[3] = steps[3]._replace(decision="AUTHORIZED")
    return laboratory.replaced(session, found._replace(corpus=found.corpus | {"uncontrolled side effects": steps}))


def a_shell_interpreted_it(laboratory: Laboratory) -> Laboratory:
    """A program got something else than the literal text."""
    found = laboratory.once(session)
    step = found.injections["shell"]
    said = {"status": "success", "result": step.result["result"] | {"stdout": "uid=0(root)"}}
    return laboratory.replaced(
        session, found._replace(injections=found.injections | {"shell": step._replace(result=said)})
    )


def attack_reaches(name: str, reached: bool = True) -> Mutation:
    """What a claw tried had another outcome."""
    return lambda laboratory: laboratory.replaced(
        session, laboratory.once(session)._replace(attacks=laboratory.once(session).attacks | {name: reached})
    )


MUTATIONS |= {
    "what_is_no_intent_is_rejected": step_is("fenced", code="PERMITTED"),
    "the_attack_corpus_starts_nothing": a_risk_got_through,
    "each_fault_has_its_code": step_is("canonical", code="PERMITTED"),
    "names_match_exactly": step_is("ambiguous case", code="PERMITTED"),
    "programs_are_listed": step_is("another ls", code="PERMITTED"),
    "arguments_are_data": a_shell_interpreted_it,
    "files_outside_are_out_of_reach": step_is("link", result={"status": "success", "result": {"content": "seed"}}),
    "a_hostile_claw_reaches_nothing": attack_reaches("read the node's key"),
    "rights_do_not_grow": attack_reaches("signal the node"),
    "no_entry_lets_a_refused_call_through": measured(entry_points, started=(1, 2)),
    "operators_are_on_record": twin_trail(altered("ControlRequested", operator="")),
    "a_contained_node_denies": step_is("contained", code="PERMITTED"),
    "switches_take_effect_at_once": step_is("switched off", code="PERMITTED"),
    "denials_leave_it_working": step_is("after", outcome="denied"),
    "only_recorded_results_are_answered": twin_trail(without("ExecutionFinished")),
    "the_socket_is_its_owners": measured(dropped_in, socket=0o666),
    "nothing_is_picked_up": measured(dropped_in, call="AUTHORIZED"),
}


# --- procedures


def answer_is(measure: Callable[[Laboratory], Operated], name: str, **fields: Any) -> Mutation:
    """One command of a procedure answered differently."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(measure)
        answers = found.answers | {name: found.answers[name]._replace(**fields)}
        return laboratory.replaced(measure, found._replace(answers=answers))

    return mutation


def fact_is(measure: Callable[[Laboratory], Operated], **facts: Any) -> Mutation:
    """Something that was compared beside the commands is another."""
    return lambda laboratory: laboratory.replaced(
        measure, laboratory.once(measure)._replace(facts=laboratory.once(measure).facts | facts)
    )


def history_of(measure: Callable[[Laboratory], Operated], change: Callable[[list[Told]], list[Told]]) -> Mutation:
    """The history after a procedure has other events."""
    return lambda laboratory: laboratory.replaced(
        measure, laboratory.once(measure)._replace(trail=laboratory.once(measure).trail.changed(change))
    )


def a_goal_is_missed(told: list[Told]) -> list[Told]:
    """The check after a procedure found one of the seven goals not met."""
    at = next(place for place, each in enumerate(told) if each.type == "ProcedureEnded")
    goals = tuple("false" if name == "true" else name for name in told[at].event.goals)
    return [*told[:at], told[at]._replace(event=told[at].event._replace(goals=goals)), *told[at + 1 :]]


MUTATIONS |= {
    "a_backup_holds_all_parts": answer_is(backed_up, "restored verify", objects=[{"state_hash": "0" * 64}]),
    "a_backup_is_sealed_and_audited": answer_is(backed_up, "tampered verify", code=0),
    "a_restore_takes_its_steps": answer_is(backed_up, "restored verify", code=3),
    "disaster_recovery_keeps_history": fact_is(backed_up, genesis=("a", "b")),
    "keys_are_kept_and_rotated": fact_is(rotated, shown=True),
    "key_operations_are_on_record": history_of(rotated, without("OperatorRevoked")),
    "roles_have_their_duties": answer_is(rotated, "refused", code=0),
    "incidents_are_answered_in_steps": history_of(answered, without("IncidentStepped", nth=2)),
    "responses_harm_no_history": history_of(answered, altered("IncidentStepped", operator="")),
    "evidence_survives": answer_is(answered, "evidence", objects=[{"digest": "0" * 64}]),
    "incidents_have_severity": history_of(answered, altered("IncidentOpened", severity=4)),
    "health_looks_for_real": lambda laboratory: answer_is(
        watched, "policy changed", objects=laboratory.once(watched).answers["once"].objects, code=0
    )(laboratory),
    "health_is_deterministic": fact_is(watched, started=(0, 1)),
    "questions_are_answered": history_of(audited, without("AuthorizationDecided", nth=0)),
    "an_execution_is_traced_back": answer_is(audited, "trace", objects=[{}]),
    "exports_are_whole": fact_is(audited, lines=10),
    "procedures_end_with_their_goals": history_of(audited, a_goal_is_missed),
}


# --- the deployment


def module_answer(name: str, **fields: Any) -> Mutation:
    """One command about the module answered differently."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(module)
        answers = found["answers"] | {name: found["answers"][name]._replace(**fields)}
        return laboratory.replaced(module, found | {"answers": answers})

    return mutation


def launcher_takes(name: str) -> Mutation:
    """The launcher took what it should refuse."""
    return lambda laboratory: laboratory.replaced(
        program_files,
        laboratory.once(program_files) | {"refusals": laboratory.once(program_files)["refusals"] | {name: ""}},
    )


def nothing_was_reverted(laboratory: Laboratory) -> Laboratory:
    """The machine was not set back: its log fulfils the checkpoint."""
    found = laboratory.once(reverted)
    return laboratory.replaced(
        reverted, found | {"reverted": found["reverted"]._replace(code=0, objects=[{"findings": []}])}
    )


CONFINED = {
    "container": "/.dockerenv", "uid": 10001, "no_new_privileges": "1", "capabilities": 0, "read_only_root": True,
    "home_volume": True,
}  # fmt: skip

PREPARED: dict[str, Mutation] = {
    "containers_are_confined": lambda laboratory: laboratory.replaced(surroundings, CONFINED),
    "containers_keep_their_home": lambda laboratory: laboratory.replaced(surroundings, CONFINED),
    "the_deployment_is_compliant": lambda laboratory: laboratory.replaced(
        items, laboratory.once(items) | {"distribution": True}
    ),
}
"""Checks that are green on a sealed distribution, or in a container of ours, alone: what stands for those in a checkout."""

MUTATIONS |= {
    "the_host_can_carry_a_node": measured(host, bad=["memory"]),
    "changed_program_files_are_refused": launcher_takes("changed"),
    "another_program_does_not_run": unbroken,
    "configurations_are_verified": measured(configuration, edited=0),
    "configurations_are_deterministic": measured(configuration, digests=["a", "b", "a", "a"]),
    "origins_are_shown": measured(configuration, domains=["runtime"]),
    "changed_modules_are_refused": module_answer("changed", code=0),
    "modules_come_in_by_the_door": module_answer("untrusted", code=0),
    "telemetry_cannot_be_altered_unseen": measured(telemetry, deep=0),
    "rights_are_the_least": twin_trail(without("IntegrityVerified")),
    "containers_are_confined": lambda laboratory: laboratory.replaced(
        surroundings, CONFINED | {"capabilities": 1 << 21}
    ),
    "containers_keep_their_home": lambda laboratory: laboratory.replaced(
        surroundings, CONFINED | {"home_volume": False}
    ),
    "a_reverted_machine_is_found_out": nothing_was_reverted,
    "a_stop_keeps_history": twin_trail(without("RuntimeStopped")),
    "a_stop_takes_its_steps": twin_trail(without("StepTaken", nth=-1)),
    "the_deployment_is_compliant": lambda laboratory: laboratory.replaced(
        items, laboratory.once(items) | {"memory": False}
    ),
}


# --- what watches itself, tables, the suite, and the rest


def monitored_trail(change: Callable[[list[Told]], list[Told]]) -> Mutation:
    """The history of the twin that watches itself has other events."""
    return lambda laboratory: laboratory.replaced(
        monitored, laboratory.once(monitored)._replace(trail=laboratory.once(monitored).trail.changed(change))
    )


def no_monitor_ran(laboratory: Laboratory) -> Laboratory:
    """`status` names no monitor."""
    found = laboratory.once(monitored)
    return laboratory.replaced(monitored, found._replace(status={"serving": {}}))


def replaced_by(measure: Callable[[Laboratory], Any], found: Any) -> Mutation:
    """The measurement found this instead."""
    return lambda laboratory: laboratory.replaced(measure, found)


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
    "procedures_are_commands": lambda laboratory: laboratory.replaced(
        areas_of_the_runbook, laboratory.once(areas_of_the_runbook) | {"upgrades": ("no-such-command",)}
    ),
    "changes_need_their_role": lambda laboratory: laboratory.replaced(
        changes, laboratory.once(changes) | {"codes": {"configuration by a wrong role": 0}}
    ),
    "restores_say_what_is_lost": answer_is(backed_up, "resume", code=2),
}


# --- releases, and the last ones


def _deployment() -> dict[str, Any]:
    """What the commands of releases answer, in their form: tests/cli/test_release_commands.py runs them."""
    good, refused = (
        Answer(0, [{"kept": {"digest": "d"}}], ""),
        Answer(3, [{"error": {"type": "ReleaseRefusedError"}}], ""),
    )
    history = Answer(0, [{"history": [{"procedure": "release.deploy"}, {"procedure": "release.rollback"}]}], "")
    steps = ["signature", "fit", "kept", "unpacked", "trusted", "switched", "restarted", "checked"]
    happened = [
        events.ProcedureBegun("release.deploy", "p", "r", "d", "root"),
        events.ProcedureEnded("release.deploy", "p", "done", "", json.dumps({"steps": steps}).encode(), (), "root"),
        events.ResponseRecorded("e", "in between"),
    ]
    told = [Told(at, at, "", True, event, repr(event).encode()) for at, event in enumerate(happened, 1)]
    names = ("deploy", "upgrade", "between", "rollback", "afterwards", "verify", "whole")
    answers = (
        dict.fromkeys(names, good)
        | dict.fromkeys(("another key", "changed", "unsigned"), refused)
        | {"history": history}
    )
    return {"answers": answers, "before": (9, "a" * 64), "prefix": True, "trail": Trail("twin", told, len(told))}


def deployed(**answers: int) -> Mutation:
    """Releases, with other exit codes of some commands; names with ``_`` for blanks."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = _deployment()
        changed = {name.replace("_", " "): code for name, code in answers.items()}
        found["answers"] |= {name: found["answers"][name]._replace(code=code) for name, code in changed.items()}
        return laboratory.replaced(released, found)

    return mutation


def never_deployed(laboratory: Laboratory) -> Laboratory:
    """A deployment that skipped the signature."""
    found = _deployment()
    trail = found["trail"].changed(altered("ProcedureEnded", content=b'{"steps":["switched","checked"]}'))
    return laboratory.replaced(released, found | {"trail": trail})


RELEASES = (
    "a_release_is_deployed_in_order", "foreign_releases_are_refused", "upgrades_keep_history", "rollbacks_keep_history",
    "downtime_is_told", "one_path_through_it_all",
)  # fmt: skip
PREPARED |= dict.fromkeys(RELEASES, deployed())
MUTATIONS |= {
    "a_release_is_deployed_in_order": never_deployed,
    "foreign_releases_are_refused": deployed(changed=0),
    "upgrades_keep_history": lambda laboratory: laboratory.replaced(released, _deployment() | {"prefix": False}),
    "rollbacks_keep_history": deployed(afterwards=3),
    "downtime_is_told": deployed(between=4),
    "one_path_through_it_all": deployed(rollback=1),
    "memory_is_bounded": lambda laboratory: laboratory.replaced(
        session,
        laboratory.once(session)._replace(process=laboratory.once(session).process | {"RSS after": "9999999 kB"}),
    ),
    "it_needs_no_network": lambda laboratory: laboratory.replaced(
        session, laboratory.once(session)._replace(process=laboratory.once(session).process | {"TCP": "4711"})
    ),
    "appends_do_not_slow_down": lambda laboratory: laboratory.replaced(
        growing, laboratory.once(growing) | {"append at 10000": 1e6}
    ),
    "the_program_is_small": lambda laboratory: laboratory.replaced(
        growing, laboratory.once(growing) | {"program bytes": 1e9}
    ),
    "shipped_records_are_checked": measured(shipped, gap=""),
    "there_is_nothing_to_migrate": replaced_by(migration, "exit 0: a home of format 1"),
    "others_can_build_on_it": module_answer("untrusted", code=0),
}

MUTATIONS |= {
    "abi_versions_decide": lambda laboratory: laboratory.replaced(
        abi, laboratory.once(abi) | {"table": laboratory.once(abi)["table"] | {"FC-ABI-2.0.0": True}}
    ),
    "settings_have_bounds": lambda laboratory: laboratory.replaced(
        settings_refused, laboratory.once(settings_refused) | {"a timeout of zero": ""}
    ),
}

MUTATIONS |= {"records_stand_in_the_order_of_execution": twin_trail(without("ExecutionStarted", nth=0))}
