"""Which brain thinks: the one that is named, or the configured one; its secrets come from this process's environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from femtoclaw.brains import Brain, open_brain
from femtoclaw.brains.script import ScriptBrain
from femtoclaw.state import Run


def environment_secret(name: str) -> str | None:
    """A secret for a brain: from the environment of this process, by its upper-case name; never recorded.

    Without one line break at its end, which a file that it was read from puts there; the brain refuses any other.
    """
    value = os.environ.get(f"FEMTOCLAW_{name.upper()}")
    return value[:-1].removesuffix("\r") if value is not None and value.endswith("\n") else value


def chosen_brain(runtime: Mapping[str, Any], spec: str | None) -> Brain:
    """The brain that ``spec`` names, or the configured one; ``runtime`` is that part of the configuration in force. Raises
    ConfigurationError."""
    return open_brain(spec or runtime["brain"], runtime["brains"], environment_secret)


def brain_to_go_on_with(runtime: Mapping[str, Any], run: Run, spec: str | None) -> Brain | None:
    """The brain of a run that was held: the one named, or the configured one where it is of the recorded kind; None where
    the run has to end. A script goes on behind the lines that were used."""
    if not spec and runtime["brain"].partition(":")[0] != run.brain.partition(":")[0]:
        return None
    brain = chosen_brain(runtime, spec)
    if isinstance(brain, ScriptBrain):
        brain.skip(run.step)
    return brain
