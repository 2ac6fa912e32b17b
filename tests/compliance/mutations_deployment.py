"""Mutations under which the checks of the deployment turn red."""

from __future__ import annotations

from femtoclaw.compliance.checks_deploy import items
from femtoclaw.compliance.deployment import (
    configuration,
    host,
    program_files,
    reverted,
    surroundings,
    telemetry,
)
from femtoclaw.compliance.laboratory import Laboratory
from tests.compliance.mutating import (
    CONFINED,
    MUTATIONS,
    Mutation,
    measured,
    module_answer,
    twin_trail,
    without,
)


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


MUTATIONS |= {
    "the_host_can_carry_a_node": measured(host, bad=["memory"]),
    "changed_program_files_are_refused": launcher_takes("changed"),
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
