"""Copies of the sources in which guards are switched off, and the processes that run tests there."""

from __future__ import annotations

import compileall
import json
import os
import py_compile
import queue
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.guard import Guard

ROOT = Path(__file__).resolve().parent.parent
COPIES = 2
"""As many as the smallest machine that the project is tested on has cores."""
SECONDS_MAX = 120
"""Of the tests of one guard. Those of a whole file in an unchanged copy get this for each of them."""
FOLDERS = ("wal", "cluster", "femtoclaw", "tests", "docs", "scripts")
FILES = ("pyproject.toml", "requirements.lock", "requirements-dev.lock", "README.md")
SITES = ("site-packages", "dist-packages")


class Ended(NamedTuple):
    """pytest's exit code (-1: killed), how each test ended, what was printed, and the seconds it took."""

    code: int
    outcomes: dict[str, str]
    output: str
    seconds: float

    def of(self, test: str) -> set[str]:
        """The outcomes of a test, or of all tests in a file."""
        return {
            end for name, end in self.outcomes.items() if name == test or name.startswith((f"{test}::", f"{test}["))
        }


class Copy:
    """One copy and the process that runs its tests. Its interpreter is its own, and knows the copy and the third-party
    packages only: no process that a test starts, however it starts it, can import the checkout's sources."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder / "sources"
        self._seed = seed
        self._runs = folder / "runs"
        self._runs.mkdir(parents=True)
        self._number = 0
        self._copy_sources()
        python = self._make_interpreter()
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("FEMTOCLAW", "PYTHON", "PYTEST"))
        }
        self.environment = kept | {
            "FEMTOCLAW_SEED": str(seed),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(self.folder),
        }
        self._server = subprocess.Popen(
            [str(python), str(self.folder / "tests" / "guard_server.py")], cwd=self.folder, env=self.environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def _copy_sources(self) -> None:
        ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
        for name in FOLDERS:
            shutil.copytree(ROOT / name, self.folder / name, ignore=ignored)
        for name in FILES:
            shutil.copy(ROOT / name, self.folder)
        # Bound to the contents of their sources, not to time stamps: a file that changes twice a second is never mistaken.
        for name in ("wal", "cluster", "femtoclaw", "tests"):
            compileall.compile_dir(
                self.folder / name, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH
            )

    def _make_interpreter(self) -> Path:
        """A virtual environment in the copy, which has the copy on its path and holds this one's installed packages: they can
        be sealed where they are found, as in any installation."""
        base = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
        place = self.folder / ".venv"
        site = place / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        site.mkdir(parents=True)
        (place / "bin").mkdir()
        (place / "bin" / "python").symlink_to(base)
        (place / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
        for path in reversed([path for path in sys.path if os.path.basename(path) in SITES and os.path.isdir(path)]):
            for entry in os.scandir(path):
                if not entry.name.endswith(".pth") and not entry.name.startswith(("__editable__", "__pycache__")):
                    (site / entry.name).unlink(missing_ok=True)
                    (site / entry.name).symlink_to(entry.path)
        (site / "copy.pth").write_text(f"{self.folder}\n")
        return place / "bin" / "python"

    def run(self, *words: str, seconds: int = SECONDS_MAX) -> Ended:
        """pytest with these arguments, in a fresh process of the copy."""
        self._number += 1
        base, output, answer = (self._runs / f"{self._number}{end}" for end in ("", ".out", ".json"))
        settings = [
            *("-q", "--assert=plain", "-p", "no:cacheprovider", f"--basetemp={base}"),
            *("--hypothesis-profile=unshrunk", f"--hypothesis-seed={self._seed}"),
        ]
        order = {"words": [*settings, *words], "output": str(output), "answer": str(answer), "seconds": seconds}
        assert self._server.stdin is not None and self._server.stdout is not None
        began = time.monotonic()
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        assert self._server.stdout.readline() == "done\n", "the process that runs a copy's tests has ended"
        took = time.monotonic() - began
        found = json.loads(answer.read_text()) if answer.exists() else {"code": -1, "outcomes": {}}
        shutil.rmtree(base, ignore_errors=True)
        return Ended(found["code"], found["outcomes"], output.read_text(errors="replace"), took)

    @contextmanager
    def without(self, guard: Guard) -> Iterator[None]:
        """The guard is off while this lasts."""
        file = self.folder / guard.file
        original = file.read_text()
        assert original.count(guard.old) == 1, f"{guard.file} has changed: bring the list of guards up to date"
        file.write_text(original.replace(guard.old, guard.new))
        try:
            yield
        finally:
            file.write_text(original)

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(SECONDS_MAX)


class Campaign:
    """Guards switched off, one after the other, in as many copies at a time as there are."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._copies: queue.Queue[Copy] = queue.Queue()
        self._pool = ThreadPoolExecutor(COPIES)
        for copy in self._pool.map(lambda number: Copy(folder / str(number), seed), range(COPIES)):
            self._copies.put(copy)

    @contextmanager
    def copy(self) -> Iterator[Copy]:
        """A copy that nobody else uses meanwhile."""
        copy = self._copies.get()
        try:
            yield copy
        finally:
            self._copies.put(copy)

    def sound(self, guards: Sequence[Guard]) -> dict[str, Ended]:
        """The guards' tests in copies as they are, by file: each by itself, as it runs without its guard."""
        tests = list(dict.fromkeys(guard.test for guard in guards))
        files: dict[str, Ended] = {}
        for test, ended in zip(tests, self._pool.map(self._unchanged, tests), strict=True):
            before = files.get(test.partition("::")[0], Ended(0, {}, "", 0.0))
            files[test.partition("::")[0]] = Ended(
                max(before.code, abs(ended.code)), before.outcomes | ended.outcomes,
                before.output + (ended.output if ended.code else ""), before.seconds + ended.seconds,
            )  # fmt: skip
        return files

    def _unchanged(self, test: str) -> Ended:
        with self.copy() as copy:
            return copy.run(test)

    def begin(self, guard: Guard) -> Future[Ended]:
        """The guard's test without the guard, in its turn."""
        return self._pool.submit(self._off, guard)

    def _off(self, guard: Guard) -> Ended:
        with self.copy() as copy, copy.without(guard):
            return copy.run("-x", guard.test)

    def close(self) -> None:
        """What has not begun is not begun any more."""
        self._pool.shutdown(cancel_futures=True)
        while not self._copies.empty():
            self._copies.get().close()


def file_of(guard: Guard) -> str:
    return guard.test.partition("::")[0]


def judge(guard: Guard, unchanged: Mapping[str, Ended], ended: Ended) -> str:
    """``red`` when the guard's test passed in an unchanged copy, and pytest reports a failure (exit 1, no mistake in the
    call) without the guard; ``skipped`` when this machine cannot run it; else what is wrong."""
    before = unchanged[file_of(guard)].of(guard.test)
    if before == {"skipped"}:
        return "skipped"
    if before & {"failed", "error"} or "passed" not in before:
        return "fails in an unchanged copy"
    return "red" if ended.code == 1 else f"does not fail without its guard (exit {ended.code})"
