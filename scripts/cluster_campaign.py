#!/usr/bin/env python3
"""Soak a cluster of three real members and etcd on this machine under faults by chance: kills, freezes, stalls, network cuts.

    scripts/cluster_campaign.py --minutes 30 --seed 7

Prints what each minute's check counted, and exits 0 when nothing acknowledged was lost, nothing ran twice, and all logs are one
history. As root the members are in network namespaces of their own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from tests.cluster.cluster_life import live
from tests.cluster.soak import Soak


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--etcd", type=int, default=1, choices=(1, 3), help="members of etcd")
    parser.add_argument("--folder", default="", help="where the homes are kept (default: a temporary one)")
    given = parser.parse_args()
    folder = Path(given.folder or tempfile.mkdtemp(prefix="cluster-"))
    folder.mkdir(parents=True, exist_ok=True)
    lives = live(folder, etcd_members=given.etcd)
    life = next(lives)
    soak = Soak(life, given.seed)
    try:
        found = soak.run(60 * given.minutes, lambda line: print(line, flush=True))
    except AssertionError as error:
        print(f"FAILED with seed {given.seed}, homes in {folder}: {error}")
        return 1
    finally:
        lives.close()  # type: ignore[attr-defined]
    times = soak.recovered_s
    print(f"faults {dict(soak.faults)}; recovered in median {statistics.median(times):.1f} s, worst {max(times):.1f} s")
    print(f"seed {given.seed}: {found}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
