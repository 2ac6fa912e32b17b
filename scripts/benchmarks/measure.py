"""Interleaved rounds and medians: these machines are noisy, so a figure only counts beside its limit in the same run."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable


def p50(samples: list[float]) -> float:
    """Median."""
    return statistics.median(samples)


def timed(function: Callable[[], object], count: int) -> list[float]:
    """Seconds of each of ``count`` calls."""
    samples = []
    for _ in range(count):
        begun = time.perf_counter()
        function()
        samples.append(time.perf_counter() - begun)
    return samples


def interleaved(functions: dict[str, Callable[[], object]], *, rounds: int, count: int) -> dict[str, list[float]]:
    """Samples of several functions, measured in turn so that drift hits all of them; the first round is a warm-up."""
    samples: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            measured = timed(function, count)
            if number:
                samples[name].extend(measured)
    return samples


def process_ms(arguments: list[str], *, runs: int = 15, env: dict[str, str] | None = None) -> float:
    """Median wall time of a whole process in milliseconds."""
    samples = []
    for number in range(runs + 1):
        begun = time.perf_counter()
        subprocess.run(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, env=env)
        if number:
            samples.append(time.perf_counter() - begun)
    return p50(samples) * 1e3


def resident_mb() -> tuple[float, float]:
    """(anonymous, file-backed) resident memory of this process in MB: LMDB's mapped pages are the latter."""
    sizes = {}
    with open("/proc/self/status") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in ("RssAnon", "RssFile"):
                sizes[name] = int(rest.split()[0]) * 1024 / 1e6
    return sizes["RssAnon"], sizes["RssFile"]


def environment() -> list[str]:
    """What the figures were measured on."""
    import blake3
    import cedarpy
    import lmdb

    del cedarpy
    from importlib.metadata import version

    model = "unknown"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return [
        f"python {platform.python_version()}, kernel {platform.release()}, {os.cpu_count()} cores, {model}",
        f"lmdb {lmdb.__version__} (LMDB {'.'.join(map(str, lmdb.version()))}), blake3 {blake3.__version__}, "
        f"msgpack {version('msgpack')}, cedarpy {version('cedarpy')}, load {os.getloadavg()[0]:.2f}",
    ]


class Report:
    """Lines of id, figure, limit and ratio."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []

    def row(self, identity: str, what: str, value: str, beside: str, verdict: str) -> None:
        """Print and keep one line."""
        self.rows.append({"id": identity, "what": what, "value": value, "beside": beside, "verdict": verdict})
        print(f"{identity:<4} {what:<58} {value:>20}   {beside:<46} {verdict}", flush=True)


def met(condition: bool) -> str:
    """Whether the goal was reached in this run; never a reason to fail."""
    return "reached" if condition else "short of the goal"


def main_guard() -> None:
    """Benchmarks of a debug or assertion-free interpreter say nothing."""
    if sys.flags.optimize:
        sys.exit("run benchmarks without -O: assertions are part of the program")
