"""Mutations under which the checks of the configuration turn red."""

from __future__ import annotations

from femtoclaw.compliance.configured import archived, forms, identified, memory_keys, referenced, unobserved
from femtoclaw.compliance.laboratory import Laboratory
from tests.compliance.mutating import MUTATIONS, measured


def a_second_member_got_in(laboratory: Laboratory) -> Laboratory:
    """The leader took a member with the key of another."""
    found = laboratory.once(identified)
    return laboratory.replaced(identified, found | {"members": found["members"] | {"the same key": ""}})


def another_digest(laboratory: Laboratory) -> Laboratory:
    """TOML came to another configuration."""
    found = laboratory.once(forms)
    return laboratory.replaced(forms, found | {"digests": found["digests"] | {"TOML": "0" * 64}})


MUTATIONS |= {
    "one_configuration_in_each_form": another_digest,
    "a_node_says_who_it_is": a_second_member_got_in,
    "keys_of_memory_have_their_effect": measured(memory_keys, **{"integrity off": ""}),
    "archival_is_on_record": measured(archived, recorded='{"first":1,"last":4096,"root":"00"}'),
    "telemetry_is_never_off_in_production": measured(unobserved, audit=0),
    "secrets_are_references": measured(referenced, told=True),
}
