"""The life of a module in its process: eight stages, each only behind the right one (SDK-3.1, EXT-16.1). Pure.

A loader enters each stage before it does what the stage is named for, so what is out of order is refused and does not
happen. Which stages were entered goes with the answer into the log (*ModuleCalled*). It is the word of the module's own
process: native code could forge it, as it could forge the answer.
"""

from __future__ import annotations

from femtoclaw.claws.errors import ClawError

STAGES = (
    "load", "abi_validation", "initialization", "registration", "request", "response", "completion", "shutdown",
)  # fmt: skip
"""In the order of a life in which nothing goes wrong."""

NEXT: dict[str, tuple[str, ...]] = {
    "": ("load",),
    "load": ("abi_validation",),
    "abi_validation": ("initialization",),
    "initialization": ("registration",),
    "registration": ("request", "shutdown"),
    "request": ("response", "shutdown"),
    "response": ("completion", "shutdown"),
    "completion": ("shutdown",),
    "shutdown": ("initialization",),
}
"""What may follow each; empty is before the first. A module that is tried out gets no request, and one that fails no
response. Behind a shutdown there is only another initialization."""


class StageError(ClawError):
    """A stage of a module's life that cannot follow the one before."""


class Life:
    """The stages of one loaded module, as far as they were entered; those of the newest initialization."""

    __slots__ = ("reached",)

    def __init__(self) -> None:
        self.reached: list[str] = []

    def enter(self, stage: str) -> None:
        """Raises StageError when ``stage`` cannot follow."""
        last = self.reached[-1] if self.reached else ""
        if stage not in NEXT[last]:
            raise StageError(f"the module's {stage} cannot follow its {last or 'birth'}")
        if last == "shutdown":
            del self.reached[STAGES.index("initialization") :]
        self.reached.append(stage)


class Lives:
    """The life of the process's one module, for who reports it."""

    newest: Life | None = None


def begin() -> Life:
    """The life of a module whose code is about to be loaded."""
    life = Lives.newest = Life()
    life.enter("load")
    return life


def reached() -> list[str]:
    """The stages that this process's module has entered; none without one."""
    return list(Lives.newest.reached) if Lives.newest is not None else []
