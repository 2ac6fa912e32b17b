"""Imported by a fork server: Landlock is found to work when it is tried, and fails in every execution."""

from __future__ import annotations

from femtoclaw.isolation import confine


def _fail(sandbox: confine.Sandbox) -> None:
    raise OSError(28, "no space for a ruleset")


confine.STEPS = tuple(
    step._replace(late=_fail) if step.layer == "landlock_filesystem" else step for step in confine.STEPS
)
