"""Mutations under which the checks of a module's versions turn red."""

from __future__ import annotations

from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.module_versions import versions
from tests.compliance.mutating import MUTATIONS


def granted_silently(laboratory: Laboratory) -> Laboratory:
    """The version that wants more ran without anybody's word."""
    found = laboratory.once(versions)
    answers = found["answers"] | {"called ungranted": found["answers"]["called"]}
    return laboratory.replaced(versions, found | {"answers": answers})


MUTATIONS |= {"wider_versions_are_granted_anew": granted_silently}
