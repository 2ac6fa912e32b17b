"""Migrates copies of a home and ends each process at another step, as a power cut would; prints what is left, one JSON line each.

python cut_migrations.py HOME FOLDER POINTS
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from hashlib import sha256
from pathlib import Path

from femtoclaw.cli.migrating import _begin
from femtoclaw.errors import FemtoClawError
from femtoclaw.home import Home
from femtoclaw.key_file import KeySigner
from femtoclaw.migration.plan import plan_of
from femtoclaw.migration.running import migrate, validate
from wal.errors import LogError
from wal.reader import read_log_directory

KILLED = 77


def run(home: Home, at: int) -> int:
    """Migrate in a process of its own that ends at its step number ``at``; how it ended."""
    pid = os.fork()
    if pid == 0:
        left = [at]

        def step(name: str) -> None:
            left[0] -= 1
            if left[0] == 0:
                os._exit(KILLED)

        def authorize(log: str, key: KeySigner) -> None:
            _begin(home, log, key)

        try:
            migrate(home, "owner", authorize, step)
        except (FemtoClawError, LogError) as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def count_steps(home: Home) -> int:
    """How many steps a whole migration takes."""
    names: list[str] = []
    migrate(home, "owner", lambda log, key: None, names.append)
    return len(names)


def left_in(home: Home) -> dict[str, object]:
    """What is in use: the log, its bytes, its root, and whether it is whole."""
    with contextlib.closing(read_log_directory(home.log)) as reader:
        origin, size = reader.origin, reader.size
        root = reader.tree().root(size).hex()
    digest = sha256()
    for name in ("HEAD", "data/data.mdb", "checkpoints/latest", "snapshots/state"):
        path = Path(home.log) / name
        digest.update(path.read_bytes() if path.exists() else b"-")
    return {"origin": origin, "size": size, "root": root, "bytes": digest.hexdigest()}


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
        ended = run(home, at)
        left = left_in(home)
        old = left["origin"] == before["origin"]
        row = {"at": at, "of": steps, "ended": ended, "old": old, "untouched": left["bytes"] == before["bytes"]}
        if old:
            plan_of(home)
        if old and (at % 5 == 0 or at > steps - 6):
            row["again"] = run(home, 0)
        if not old or row.get("again") == 0:
            row["root"] = validate(home).migrated_root
        print(json.dumps(row | {"expected": expected}), flush=True)
        shutil.rmtree(home.path)


if __name__ == "__main__":
    main()
