"""A process of its own that migrates copies of a home of the format before, and ends each at another step as a power cut would.

It forks, and puts faults into the migration's own functions: nothing of that may happen in the process that measures. It prints
one JSON object. ``cutting HOME FOLDER POINTS``: the home, a folder for copies, at how many steps (0: at every one).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from hashlib import sha256
from typing import Any
from unittest import mock

from femtoclaw.cli.migrating import _begin
from femtoclaw.errors import FemtoClawError
from femtoclaw.home import Home
from femtoclaw.key_file import KeySigner
from femtoclaw.keys import folder
from femtoclaw.migration import building
from femtoclaw.migration.plan import plan_of
from femtoclaw.migration.running import migrate, validate
from wal.errors import LogError
from wal.reader import read_log_directory
from wal.record import KIND_EVENT

KILLED = 77
OWNER = "owner"
AGAIN = 6
"""Every sixth one that was cut is migrated once more."""


def main() -> None:
    """Measure, and print what was found."""
    original, place, points = Home(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    counted = copy_of(original, place, "counted")
    names: list[str] = []
    made = migrate(counted, OWNER, _unasked, names.append)
    expected = validate(counted).migrated_root
    second = copy_of(original, place, "second", keys=counted)
    again = migrate(second, OWNER, _unasked, lambda name: None)
    before = left_in(original)
    rows = [_cut(original, counted, place, at, before) for at in chosen(len(names), points)]
    print(json.dumps({
        "steps": names if len(names) < 200 else names[-20:], "count": len(names), "records": made.plan.size, "rows": rows,
        "expected": expected, "outdated": made.plan.outdated,
        "twice": [[each.size, each.root] for each in (made.built, again.built)], "faults": faults(original, place, before),
    }))  # fmt: skip


def chosen(steps: int, points: int) -> list[int]:
    """Which steps are cut: evenly spread, and every one of the last six, where it comes into force."""
    if not points or points >= steps:
        return list(range(1, steps + 1))
    return sorted(
        {1 + at * (steps - 1) // max(points - 1, 1) for at in range(points)} | set(range(steps - 5, steps + 1))
    )


def copy_of(original: Home, place: str, name: str, keys: Home | None = None) -> Home:
    """A copy to work on; with the operators' keys of another, so that the same operator is the first."""
    path = os.path.join(place, name)
    shutil.copytree(original.path, path, symlinks=True)
    if keys is not None:
        shutil.copytree(
            os.path.join(folder(keys), "operators"), os.path.join(path, "keys", "operators"), dirs_exist_ok=True
        )
    return Home(path)


def _unasked(log: str, key: KeySigner) -> None:
    """The owner's request is measured by the command."""


def left_in(home: Home) -> dict[str, Any]:
    """The log in use: its name, size and root, and a digest over the bytes of its files."""
    with contextlib.closing(read_log_directory(home.log)) as reader:
        origin, size = reader.origin, reader.size
        root = reader.tree().root(size).hex()
    digest = sha256()
    for name in ("HEAD", "data/data.mdb", "checkpoints/latest", "snapshots/state"):
        path = os.path.join(home.log, name)
        if not os.path.exists(path):
            digest.update(b"-")
            continue
        with open(path, "rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return {"origin": origin, "size": size, "root": root, "bytes": digest.hexdigest()}


def _cut(original: Home, counted: Home, place: str, at: int, before: dict[str, Any]) -> dict[str, Any]:
    """Cut at one step: what is in use then, and what the same migration makes afterwards."""
    home = copy_of(original, place, f"cut{at}", keys=counted)
    ended = migrate_until(home, at)
    left = left_in(home)
    old = left["origin"] == before["origin"]
    row = {"at": at, "ended": ended, "old": old, "untouched": left["bytes"] == before["bytes"]}
    if old and at % AGAIN == 0:
        row["again"] = migrate_until(home, 0) == 0
    if not old or row.get("again"):
        row["root"] = validate(home).migrated_root
    shutil.rmtree(home.path)
    return row


def migrate_until(home: Home, at: int) -> int:
    """Migrate in a process of its own that ends at its step number ``at``, at none for 0; how it ended."""
    pid = os.fork()
    if pid == 0:
        left = [at]

        def step(name: str) -> None:
            left[0] -= 1
            if left[0] == 0:
                os._exit(KILLED)

        try:
            migrate(home, OWNER, lambda log, key: void(_begin(home, log, key)), step)
        except (FemtoClawError, LogError) as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def void(value: object) -> None:
    """What the step gave is of no use."""


def faults(original: Home, place: str, before: dict[str, Any]) -> dict[str, str]:
    """Steps that do something wrong: the error that finds each; ``kept`` behind it where the old log is untouched in use."""
    right, all_of_them = building.renewed, building.appends

    def another(record: Any) -> bytes:
        return (
            right(record).replace(b"a line of history", b"another history..")
            if record.kind == KIND_EVENT
            else right(record)
        )

    def fewer(records: Any) -> Iterator[Any]:
        return iter(list(all_of_them(records))[:-1])

    found = {}
    for name, what, wrong in (("a wrong count", "appends", fewer), ("another event", "renewed", another)):
        home = copy_of(original, place, f"fault-{what}")
        with mock.patch.object(building, what, wrong):
            try:
                migrate(home, OWNER, _unasked, lambda name: None)
                found[name] = ""
            except (FemtoClawError, LogError) as error:
                kept = left_in(home)["bytes"] == before["bytes"]
                found[name] = f"{type(error).__name__}{': kept' if kept else ''}"
        plan_of(home)
    return found
