"""Guards of how a restored node goes on: no second history of one log, and nothing that protected it is dropped in silence."""

from __future__ import annotations

from tests.guard import Guard

RESUME = "tests/cli/test_backup_resume.py"

GUARDS = (
    Guard(
        "I2",
        "a home that was moved aside does not start",
        "femtoclaw/verified_start.py",
        "    refuse_aside(home)\n",
        "",
        RESUME + "::test_a_home_that_was_moved_aside_does_not_go_on",
    ),
)
