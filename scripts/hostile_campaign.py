"""A longer campaign of hostile messages than the tests run: for as many rounds, or seconds, as it is given.

    scripts/hostile_campaign.py [--rounds N] [--seconds S] [--seed N] [--policy NAME]

Each round is 60 batches of 24 messages against each policy, with a seed of its own, which is printed; a round can be
repeated with it. Exit 0 when nothing escaped, 1 with the batch that did.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.security.campaign import POLICIES, campaign, told

BATCHES = 60


def main() -> int:
    """Run the rounds, print the counts of each."""
    parser = argparse.ArgumentParser(description="hostile messages against the shipped policies")
    parser.add_argument("--rounds", type=int, default=10, help="at most so many (default 10)")
    parser.add_argument("--seconds", type=float, default=600.0, help="begin no round after so many (default 600)")
    parser.add_argument("--seed", type=int, default=0, help="of the first round (default: a random one)")
    parser.add_argument("--policy", choices=POLICIES, action="append", help="one of the shipped ones (default: all)")
    given = parser.parse_args()
    seed = given.seed or random.SystemRandom().randrange(1, 2**32)
    begun, total = time.monotonic(), Counter[str]()
    for number in range(given.rounds):
        if time.monotonic() - begun > given.seconds:
            break
        for policy in given.policy or POLICIES:
            counts: Counter[str] = Counter()
            try:
                campaign(policy, BATCHES, seed + number, counts)
            except AssertionError as error:
                print(f"{policy}, seed {seed + number}: {type(error).__name__}: {error}", file=sys.stderr)
                print(f"{policy}: {told(counts, seed + number)}", flush=True)
                return 1
            total.update(counts)
            print(f"{policy}: {told(counts, seed + number)}", flush=True)
    print(f"in all: {told(total, seed)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
