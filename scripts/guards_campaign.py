#!/usr/bin/env python3
"""Switch guards off one by one in copies of the sources: all of them, the slow ones too, or those of an invariant or text.

    .venv/bin/python scripts/guards_campaign.py
    .venv/bin/python scripts/guards_campaign.py I7
    .venv/bin/python scripts/guards_campaign.py "a grant"

Exit 0 when each guard's test passed with it and failed without it, 1 otherwise. A minute for forty guards on two cores.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from tests.guard import Guard
from tests.guard_runs import Campaign, judge
from tests.guards import GUARDS


def told(campaign: Campaign, guards: list[Guard]) -> int:
    """Print each guard as it ends; how many are not as they should be."""
    unchanged = campaign.sound(guards)
    for file, ended in unchanged.items():
        if ended.code != 0:
            print(f"{file} fails in an unchanged copy:\n{ended.output[-3000:]}", flush=True)
    wrong = 0
    for guard, future in [(guard, campaign.begin(guard)) for guard in guards]:
        ended = future.result()
        word = judge(guard, unchanged, ended)
        wrong += word not in ("red", "skipped")
        where = " before the test itself" if "failed" not in ended.outcomes.values() else ""
        print(f"{word}{where}: {ended.seconds:.1f} s {guard.invariant} {guard.what} [{guard.test}]", flush=True)
    print(f"{len(guards)} guards, {wrong} wrong")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "words", nargs="*", help="an invariant, or a part of a guard's text, file or test; default: all"
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    guards = [guard for guard in GUARDS if chosen(guard, options.words)]
    with tempfile.TemporaryDirectory(prefix="guards-") as folder:
        campaign = Campaign(Path(folder), options.seed)
        try:
            return 1 if told(campaign, guards) else 0
        finally:
            campaign.close()


def chosen(guard: Guard, words: list[str]) -> bool:
    return not words or any(
        word == guard.invariant or any(word in text for text in (guard.what, guard.file, guard.test)) for word in words
    )


if __name__ == "__main__":
    sys.exit(main())
