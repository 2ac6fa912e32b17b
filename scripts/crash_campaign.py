#!/usr/bin/env python3
"""Explore crash states of the log until enough were recovered, or repeat a single one.

    scripts/crash_campaign.py --states 1000000 --seed 7
    scripts/crash_campaign.py --workload mixed --seed 7 --state 137:1,0,p512

Exit 0 when no state broke a promise, 1 otherwise. Needs a C compiler (``cc``) and Linux.
"""

from __future__ import annotations

import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from tests.crash.crash_states import CrashState
from tests.crash.exploration import Explorer, Plan, Report

BORDER_EVERY = 8
"""Of a campaign's seeds one in so many also explores a segment border, whose states take ten times as long."""


def campaign(explorer: Explorer, states: int, plan: Plan) -> Report:
    """Seed after seed, each with a new workload, until ``states`` were recovered."""
    total = Report()
    number = 0
    while total.states < states:
        plans = [plan._replace(seed=plan.seed + number)]
        if number % BORDER_EVERY == 0 and plan.workload == "mixed":
            plans.append(plans[0]._replace(workload="border"))
        for each in plans:
            report = explorer.explore(each, limit=states - total.states)
            total = total.joined(report)
            print(f"{each.workload} seed {each.seed}: {report}", flush=True)
        number += 1
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2, help="1 systematic round, the rest random")
    parser.add_argument("--workload", choices=("mixed", "border", "small"), default="mixed")
    parser.add_argument("--defect", default="none", help="break the writer on purpose (workload_process.DEFECTS)")
    parser.add_argument("--head-off", action="store_true", help="break the opener: ignore HEAD")
    parser.add_argument("--state", help="recover this one state and say what happens")
    options = parser.parse_args()
    plan = Plan(options.workload, options.seed, options.defect, options.head_off, options.rounds)
    explorer = Explorer()
    try:
        if options.state:
            answer = explorer.one(plan, CrashState.parse(options.state))
            print(answer)
            return 0 if answer in ("ok", "none") else 1
        total = campaign(explorer, options.states, plan)
        print(f"total: {total}")
        for example in total.examples:
            print(example)
        return 1 if total.failures else 0
    finally:
        explorer.close()


if __name__ == "__main__":
    sys.exit(main())
