"""Mutations under which the checks of the log and the stores turn red."""

from __future__ import annotations

from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.logs import TAMPERINGS, flipped, proofs, tamper_with, tampered, verified
from femtoclaw.compliance.stores import metadata, stores
from femtoclaw.compliance.tracing import synced
from tests.compliance.mutating import (
    MUTATIONS,
    Mutation,
    in_reach,
    measured,
    never_failing,
    row_is,
)


def untampered(laboratory: Laboratory) -> Laboratory:
    """The tamperings were left out: nothing is found in the copies."""
    return laboratory.replaced(
        tampered, tamper_with(laboratory, dict.fromkeys(TAMPERINGS, lambda storage, middle: None))
    )


def a_proof_for_anything(laboratory: Laboratory) -> Laboratory:
    """A proof also verified for a rewritten history."""
    return laboratory.replaced(proofs, laboratory.once(proofs)._replace(rewritten_refused=False))


def without_points(kind: str) -> Mutation:
    """Telemetry of this kind was never derived."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(stores)
        rows = [row for row in found["telemetry"] if row["event_type"] != kind]
        return laboratory.replaced(stores, found | {"telemetry": rows})

    return mutation


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
