#!/usr/bin/env python3
"""Simulate whole clusters, seed after seed; or repeat one seed and print every step.

    scripts/sim --seeds 2000
    scripts/sim --seeds 1 --seed 17 --nodes 3 --trace
    scripts/sim --seeds 400 --without epoch-check      (a guard is off: this must fail)

Exit 0 when nothing was violated, 1 otherwise; each failing seed prints the command that repeats it.
"""

from __future__ import annotations

import argparse
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from tests.cluster.simulation.campaign import Job, Report, complain, run_seed, run_seeds
from tests.cluster.simulation.mutations import MUTATIONS
from tests.cluster.simulation.scenario import PROFILES

TOLD_MAX = 20
"""Failing seeds that are printed; the rest are counted."""
BYTES = re.compile(r"""b'(?:[^'\\]|\\.)*'|b"(?:[^"\\]|\\.)*\"""")


def say(line: str) -> None:
    """Print one step, the byte strings cut short."""
    print(BYTES.sub(lambda found: found.group()[:10] + "...", line))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2000, help="how many seeds")
    parser.add_argument("--seed", type=int, default=1, help="the first of them")
    parser.add_argument("--steps", type=int, default=500, help="inputs to replicas before everything heals")
    parser.add_argument("--nodes", type=int, default=0, choices=(0, 3, 5), help="voters; 0: three or five, by the seed")
    parser.add_argument("--profile", default="", choices=("", *dict.fromkeys(PROFILES)), help="what goes wrong")
    parser.add_argument(
        "--without", default="", choices=("", *(each.name for each in MUTATIONS)), help="a guard to switch off"
    )
    parser.add_argument("--real-signatures", action="store_true", help="Ed25519 instead of keyed hashes")
    parser.add_argument("--trace", action="store_true", help="print every step (one process)")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    options = parser.parse_args()
    jobs = [
        Job(seed, options.nodes, options.steps, options.profile, options.without, options.real_signatures)
        for seed in range(options.seed, options.seed + options.seeds)
    ]
    report = Report()
    results = (run_seed(job, say) for job in jobs) if options.trace else run_seeds(jobs, options.jobs)
    for result in results:
        report.add(result)
        if result.kind and len(report.failed) <= TOLD_MAX:
            complain(result)
    print(report)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
