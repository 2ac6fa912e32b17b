"""Mutations of the check of the documents."""

from __future__ import annotations

from femtoclaw.compliance.documents import documented
from femtoclaw.compliance.laboratory import Laboratory
from tests.compliance.mutating import MUTATIONS


def an_undocumented_key(laboratory: Laboratory) -> Laboratory:
    """The program has a key that no document tells of."""
    found = laboratory.once(documented)
    return laboratory.replaced(documented, found._replace(keys=found.keys | {"runtime.secretly"}))


MUTATIONS |= {"documents_say_what_is": an_undocumented_key}
