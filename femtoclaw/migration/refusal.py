"""Why a migration is not made."""

from __future__ import annotations

from femtoclaw.errors import FemtoClawError, IntegrityError


class NotApplicableError(FemtoClawError):
    """There is nothing that this migration could be applied to; nothing was changed."""

    code = "MIGRATION_NOT_APPLICABLE"
    exit_code = 1
    default_remedy = "see `femtoclaw migrate plan`; nothing was changed"


class MigrationUnsoundError(IntegrityError):
    """What a migration made is not what it had to be. It was not put in use; the home is as it was."""

    code = "MIGRATION_UNSOUND"
    default_remedy = "the home is as it was; report this with the output of `femtoclaw migrate plan --json`"
