"""The guards behind the invariants, as data: what to switch off, and which test must then fail.

They stand in ``tests/guards_*.py`` by area. ``tests/test_guards.py`` switches each off in a copy of the sources and runs the
test there. ``docs/testing.md`` shows the same list, as ``python -m tests.guards`` prints it.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.guard import Guard

AREAS = sorted(path.stem for path in Path(__file__).parent.glob("guards_*.py"))
GUARDS: tuple[Guard, ...] = tuple(guard for area in AREAS for guard in import_module(f"tests.{area}").GUARDS)


def table(guards: tuple[Guard, ...] = GUARDS) -> str:
    """The list in Markdown, by invariant."""
    rows = ["| invariant | guard | where | test |", "|---|---|---|---|"]
    for guard in sorted(guards, key=lambda guard: int(guard.invariant[1:])):
        rows.append(f"| {guard.invariant} | {guard.what} | `{guard.file}` | `{guard.test}` |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(table(), end="")
