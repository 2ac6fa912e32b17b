"""Migrates copies of a home and ends each process at another step, as a power cut would; prints what is left, one JSON line each.

python cut_migrations.py HOME FOLDER POINTS
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from femtoclaw.compliance.cutting import left_in, migrate_until
from femtoclaw.home import Home
from femtoclaw.migration.plan import plan_of
from femtoclaw.migration.running import migrate, validate


def count_steps(home: Home) -> int:
    """How many steps a whole migration takes."""
    names: list[str] = []
    migrate(home, "owner", lambda log, key: None, names.append)
    return len(names)


def main() -> None:
    original, folder, points = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    shutil.copytree(original, folder / "counted")
    before = left_in(Home(original))
    owner = folder / "counted" / "keys" / "operators"
    steps = count_steps(Home(str(folder / "counted")))
    chosen = sorted(
        {1 + number * (steps - 1) // (points - 1) for number in range(points)} | set(range(steps - 6, steps + 1))
    )
    expected = validate(Home(str(folder / "counted"))).migrated_root
    for at in chosen:
        home = Home(str(folder / f"cut{at}"))
        shutil.copytree(original, home.path)
        shutil.copytree(owner, Path(home.path) / "keys" / "operators")
        ended = migrate_until(home, at)
        left = left_in(home)
        old = left["origin"] == before["origin"]
        row = {"at": at, "of": steps, "ended": ended, "old": old, "untouched": left["bytes"] == before["bytes"]}
        if old:
            plan_of(home)
        if old and (at % 5 == 0 or at > steps - 6):
            row["again"] = migrate_until(home, 0)
        if not old or row.get("again") == 0:
            row["root"] = validate(home).migrated_root
        print(json.dumps(row | {"expected": expected}), flush=True)
        shutil.rmtree(home.path)


if __name__ == "__main__":
    main()
