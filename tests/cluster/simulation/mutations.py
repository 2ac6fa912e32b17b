"""Guards that can be switched off, one line each, to see that the campaign notices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

from tests.cluster.simulation.scenario import Scenario


class Patch(NamedTuple):
    """Replace an attribute of a class or module by what ``made`` makes of it."""

    owner: Any
    name: str
    made: Callable[[Any], Any]


class Mutation(NamedTuple):
    """One guard off. ``profiles``: where its absence shows; ``change``: what the scenario needs for it."""

    name: str
    what: str
    patches: tuple[Patch, ...]
    profiles: tuple[str, ...]
    change: dict[str, Any]
    expect: tuple[str, ...]
    """Kinds of violation that show it (any of them)."""

    def scenario(self, drawn: Scenario) -> Scenario:
        return drawn._replace(**self.change)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """While entered, the guard is off in this process."""
        kept = [(patch, getattr(patch.owner, patch.name)) for patch in self.patches]
        try:
            for patch, old in kept:
                setattr(patch.owner, patch.name, patch.made(old))
            yield
        finally:
            for patch, old in reversed(kept):
                setattr(patch.owner, patch.name, old)

    @staticmethod
    def none() -> Any:
        """Every guard on."""
        return nullcontext()


MUTATIONS: tuple[Mutation, ...] = ()
BY_NAME = {each.name: each for each in MUTATIONS}
