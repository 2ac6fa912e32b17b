"""Each guard behind an invariant is switched off in a copy of the sources; its test must then fail."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import SEED
from tests.guard import Guard
from tests.guard_runs import ROOT, Campaign, Ended, file_of, judge
from tests.guards import GUARDS, table

OUTCOMES = "FEMTOCLAW_OUTCOMES"
"""Names the file in which the suite's other run has written how its tests ended."""
ONE_OF = 9
"""The whole suite takes one quick guard of so many, chosen by its seed; this file by itself, and the campaign, take them all."""
QUICK = [guard for guard in GUARDS if not guard.slow]
if OUTCOMES in os.environ:
    QUICK = random.Random(SEED).sample(QUICK, len(QUICK) // ONE_OF)
SLOW = [guard for guard in GUARDS if guard.slow]
FIXED_SEED = 1
"""Of the tests in the copies: whether a guard is missed is no matter of luck. The campaign tries other seeds."""
AGAIN_EVERY = 4
"""Where that is known, one file of so many is also run in an unchanged copy, chosen by the seed."""
MINUTES_ALL = 15
"""For all guards, on a machine that has other work: a test that waits for its turn may wait for most of the others."""

WHICH_SOURCES = """
import os, subprocess, sys
import pytest
from femtoclaw.launcher import child
from tests.cli.node import environment
from wal.interpreter import isolated

CODE = f"import sys, femtoclaw.of_this_copy, wal.of_this_copy; print([p for p in sys.path if p == {CHECKOUT!r}])"

def test_here():
    import femtoclaw.of_this_copy, wal.of_this_copy
    assert CHECKOUT not in sys.path

@pytest.mark.parametrize("command", [
    [sys.executable, "-c", CODE], [sys.executable, "-I", "-c", CODE], isolated(CODE, COPY), child.command(CODE, COPY),
], ids=["plain", "isolated", "interpreter", "child"])
@pytest.mark.parametrize("variables", [dict(os.environ), environment(), {}], ids=["as it is", "of commands", "none"])
def test_in_processes(command, variables, tmp_path):
    done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\\n"
"""


class Begun(NamedTuple):
    """All guards that were asked for, begun behind each other, after their tests in unchanged copies, by file."""

    unchanged: dict[str, Ended]
    ends: dict[Guard, Future[Ended]]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    made = Campaign(tmp_path_factory.mktemp("guards"), FIXED_SEED)
    yield made
    made.close()


@pytest.fixture(scope="module")
def begun(campaign: Campaign, request: pytest.FixtureRequest, seed: int) -> Begun:
    """First every test runs in the copies as they are: what fails there would fail for another reason than the guard that
    is off, and all would seem well. What has just passed in the checkout is run there again only in part."""
    asked = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    guards = [spec.params["guard"] for spec in asked if spec is not None and "guard" in spec.params]
    known = ended_in_checkout()
    files = sorted({file_of(guard) for guard in guards})
    if known:
        files = random.Random(seed).sample(files, -(-len(files) // AGAIN_EVERY))
        print(f"FEMTOCLAW_SEED={seed}: also in unchanged copies: {', '.join(files)}")
    again = campaign.sound([guard for guard in guards if file_of(guard) in files])
    unchanged = {file_of(guard): known for guard in guards if known is not None} | again
    return Begun(unchanged, {guard: campaign.begin(guard) for guard in guards})


def ended_in_checkout() -> Ended | None:
    """How the tests ended in the run before, where there was one (``scripts/test`` without arguments)."""
    file = os.environ.get(OUTCOMES)
    return Ended(0, json.loads(Path(file).read_text()), "see the run before", 0.0) if file else None


def assert_red(guard: Guard, unchanged: dict[str, Ended], ended: Ended) -> None:
    word = judge(guard, unchanged, ended)
    if word == "skipped":
        pytest.skip(f"{guard.test} is skipped on this machine")
    shown = ended if word.startswith("does") else unchanged[file_of(guard)]
    assert word == "red", f"{guard.test} {word}:\n{shown.output[-3000:]}"


@pytest.mark.parametrize("guard", QUICK, ids=lambda guard: f"{guard.invariant}-{guard.what.replace(' ', '-')}")
@pytest.mark.timeout(MINUTES_ALL * 60)
def test_without_its_guard_a_test_fails(begun: Begun, guard: Guard) -> None:
    assert_red(guard, begun.unchanged, begun.ends[guard].result())


@pytest.mark.timeout(MINUTES_ALL * 60)
def test_without_a_slow_guard_a_test_fails(campaign: Campaign, seed: int) -> None:
    """One of them a run, chosen by the seed; ``scripts/guards_campaign.py`` takes them all."""
    guard = random.Random(seed).choice(SLOW)
    print(f"FEMTOCLAW_SEED={seed}: without {guard.what}")
    assert_red(guard, campaign.sound([guard]), campaign.begin(guard).result())


def test_every_process_of_a_copy_sees_the_copy(campaign: Campaign) -> None:
    """Modules that exist in the copy only are found by its tests and by the processes that they start, with and without
    their environment; the checkout is on no path. Else a guard that is off in the copy would seem to be needless."""
    with campaign.copy() as copy:
        file = copy.folder / "tests" / "test_which_sources.py"
        added = [copy.folder / package / "of_this_copy.py" for package in ("femtoclaw", "wal")]
        for path in added:
            path.write_text("")
        file.write_text(f"CHECKOUT, COPY = {str(ROOT)!r}, {str(copy.folder)!r}\n{WHICH_SOURCES}")
        try:
            ended = copy.run("tests/test_which_sources.py")
        finally:
            for path in (file, *added):
                path.unlink()
    assert ended.code == 0, ended.output[-3000:]
    assert Counter(ended.outcomes.values()) == {"passed": 13}


def test_every_guard_is_where_the_list_says() -> None:
    """Told at once, before any copy is made: the text of each guard stands in its file exactly once."""
    stale = [guard.what for guard in GUARDS if (ROOT / guard.file).read_text().count(guard.old) != 1]
    assert stale == [], "bring tests/guards_*.py up to date"


def test_the_list_is_complete_and_documented() -> None:
    """Every invariant of this version has a guard, no guard is listed twice, and docs/testing.md shows this very list."""
    assert {guard.invariant for guard in GUARDS} == {f"I{n}" for n in range(1, 13)}
    assert len({guard.what for guard in GUARDS}) == len(GUARDS)
    assert table() in (ROOT / "docs" / "testing.md").read_text(), "put what `python -m tests.guards` prints there"
