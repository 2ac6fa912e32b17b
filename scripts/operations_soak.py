#!/usr/bin/env python3
"""A node under load with a follower attached, its metrics scraped and a backup running all the time: memory, errors, latency.

    scripts/operations_soak.py --minutes 10

Prints a line a minute and the figures at the end. Exit 0 when memory stayed within 5 % of what it was after the warm-up, nothing
failed, every scrape and every backup succeeded, and the newest backup verifies; else 1.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from tests.cluster.client_load import Load
from tests.cluster.links_between import Loopback
from tests.cluster.members import ClusterProcesses, MemberProcess

LISTEN = 'observability.listen="127.0.0.1:0"'
SCRAPE_S = 2.0
BACKUP_S = 15.0
WARM_UP_S = 150.0
"""Caches fill (the newest frames, 4 MiB), threads start, the first snapshot and the first backup are made."""
DRIFT_MAX = 0.05


class Beside:
    """Something that is done again and again beside the load; what went wrong is kept."""

    def __init__(self, act: object, every_s: float) -> None:
        assert callable(act)
        self._act, self._every_s = act, every_s
        self.done = 0
        self.wrong: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            try:
                self._act()
                self.done += 1
            except Exception as error:
                self.wrong.append(f"{type(error).__name__}: {error}"[:500])

    def __enter__(self) -> Beside:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(120)


def resident_bytes(pid: int) -> int:
    """What this process holds of memory that is no file's. Pages of the log that it maps are the page cache's: they grow with the
    log, nobody else maps them, and the kernel takes them back when it needs the memory."""
    told = Path(f"/proc/{pid}/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in told.splitlines() if line.startswith("RssAnon:"))


def scrape(address: str) -> None:
    """The page of metrics, with the counters that must be there."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=20) as answer:
        page = answer.read().decode()
    assert "execution" in page, page[:300]


def soak(folder: Path, minutes: float, clients: int) -> int:
    """Run it; the exit code."""
    cluster = ClusterProcesses(folder, Loopback(), names=("a", "b"), configured=(LISTEN,))
    cluster.start()
    owner = cluster[cluster.wait_leader()]
    key, place = folder / "recovery.key", folder / "backups"
    owner.node.call("backup", "keygen", "--out", str(key))

    def back_up() -> None:
        owner.node.call("backup", "create", "--to", str(place))

    address = owner.node.call("health").body["telemetry"]["listens"]
    load = Load(cluster, clients)
    load.targets = (owner.name,)
    samples: dict[str, list[int]] = {name: [] for name in cluster.names}
    began = time.monotonic()
    with load, Beside(lambda: scrape(address), SCRAPE_S) as scrapes, Beside(back_up, BACKUP_S) as backups:
        while (now := time.monotonic() - began) < 60 * minutes:
            time.sleep(min(10.0, 60 * minutes - now + 0.01))
            if time.monotonic() - began > WARM_UP_S:
                for name in cluster.names:
                    samples[name].append(resident_bytes(cluster[name].pid))
            if int(now) // 60 != int(time.monotonic() - began) // 60:
                print(f"{int(now) // 60 + 1} min: {len(load.told)} executions, {scrapes.done} scrapes, {backups.done} backups, "
                      + ", ".join(f"{name} {each[-1] >> 20} MiB" for name, each in samples.items() if each),
                      flush=True)  # fmt: skip
        load.pause()
    cluster.caught_up()
    verified = owner.node.call("backup", "verify", "--from", str(place), "--key", str(key), expect=None)
    codes = [member.stop() for member in cluster.members.values()]
    return report(load, samples, scrapes, backups, verified.code, codes, owner)


def report(
    load: Load, samples: dict[str, list[int]], scrapes: Beside, backups: Beside, verified: int, codes: list[int],
    owner: MemberProcess,
) -> int:  # fmt: skip
    """The figures; 0 when all is as it should be."""
    times = sorted(each.ended_s - each.began_s for each in load.told)
    failed = [each for each in load.told if not each.acknowledged]
    drifts = {}
    for name, each in samples.items():
        half = len(each) // 2
        drifts[name] = statistics.median(each[half:]) / statistics.median(each[:half]) - 1
    print(f"executions {len(times)}, failed {len(failed)}, p50 {1000 * statistics.median(times):.1f} ms, "
          f"p99 {1000 * times[int(len(times) * 0.99)]:.1f} ms, max {1000 * times[-1]:.1f} ms")  # fmt: skip
    for name, each in samples.items():
        part = "leads" if name == owner.name else "follows"
        print(f"{name} ({part}): memory {min(each) >> 20} to {max(each) >> 20} MiB, "
              f"second half {100 * drifts[name]:+.1f} %")  # fmt: skip
    print(f"scrapes {scrapes.done}, wrong {len(scrapes.wrong)}; backups {backups.done}, wrong {len(backups.wrong)}; "
          f"the newest backup verifies: exit {verified}; stops {codes}")  # fmt: skip
    for line in [*scrapes.wrong[:3], *backups.wrong[:3], *[str(each) for each in failed[:3]]]:
        print(f"  {line}")
    flat = all(abs(each) <= DRIFT_MAX for each in drifts.values())
    good = (
        flat and not failed and not scrapes.wrong and not backups.wrong and verified == 0 and codes == [0] * len(codes)
    )
    print("flat, and nothing failed" if good else "NOT as it should be")
    return 0 if good else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--folder", default="", help="where the homes are kept (default: a temporary one)")
    given = parser.parse_args()
    folder = Path(given.folder or tempfile.mkdtemp(prefix="operations-"))
    folder.mkdir(parents=True, exist_ok=True)
    return soak(folder, given.minutes, given.clients)


if __name__ == "__main__":
    sys.exit(main())
