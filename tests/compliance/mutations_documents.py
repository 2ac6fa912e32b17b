"""Mutations of the checks of documents and of the four methods."""

from __future__ import annotations

from femtoclaw.compliance.documents import documented
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.repeated import repeated
from tests.compliance.mutating import MUTATIONS, measured


def an_undocumented_key(laboratory: Laboratory) -> Laboratory:
    """The program has a key that no document tells of."""
    found = laboratory.once(documented)
    return laboratory.replaced(documented, found._replace(keys=found.keys | {"runtime.secretly"}))


MUTATIONS |= {
    "documents_say_what_is": an_undocumented_key,
    "four_methods_can_be_run_again": measured(repeated, digests=["0" * 64] * 4),
}
