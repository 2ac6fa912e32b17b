"""``migrate``: bringing a home of an earlier format to the present one."""

from __future__ import annotations

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output
from femtoclaw.errors import UsageError


def migrate(arguments: Arguments, output: Output) -> int:
    """One of plan, run, validate, rollback, history."""
    raise UsageError("not built yet", where=f"migrate {arguments.what}")
