"""A whole run: the home is made, each category measured in turn, everything put into one result; nothing is left behind."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from femtoclaw.benchmarking.measuring import Bench
from femtoclaw.benchmarking.node import configuration_beside, effective_of, make_home
from femtoclaw.benchmarking.results import block, result
from femtoclaw.benchmarking.surroundings import environment
from femtoclaw.benchmarking.workload import Sizes, described
from femtoclaw.errors import ConfigurationError
from femtoclaw.home import Home

MEASURES = {
    "start": "starting:starting", "execution": "steps:execution", "invocation": "steps:invocation",
    "authorization": "verdicts:authorization", "protocol": "verdicts:protocol", "throughput": "loads:throughput",
    "concurrency": "crowds:concurrency", "storage": "disks:storage", "telemetry": "sinks:telemetry",
}  # fmt: skip
"""Category to the module of this package, and the function in it, that measures it; loaded when it is asked for."""


def run(
    categories: tuple[str, ...], sizes: Sizes, seed: int, operators: Home | None, *, planted_s: float = 0.0,
    told: Callable[[str, dict[str, Any]], None] = lambda name, block: None,
) -> dict[str, Any]:  # fmt: skip
    """Measure these categories on a home in a temporary folder. ``operators`` is only read, for its settings. ``told`` hears
    each block. Raises ConfigurationError for a folder that cannot be had, and what a node raises."""
    blocks: dict[str, dict[str, Any]] = {}
    with _folder() as folder:
        surroundings = environment(folder)
        home = make_home(folder, operators, max(*sizes.levels, *sizes.barriers, sizes.tokens, sizes.faulty))
        configuration = configuration_beside(effective_of(home), effective_of(operators))
        bench = Bench(folder, home, sizes, seed, planted_s)
        for name in categories:
            module, _, measure = MEASURES[name].partition(":")
            begun = time.monotonic()
            found = getattr(import_module(f"femtoclaw.benchmarking.{module}"), measure)(bench)
            blocks[name] = block(found) | {"seconds": round(time.monotonic() - begun, 3)}
            told(name, blocks[name])
    return result(surroundings, described(seed, sizes, categories), configuration, blocks)


def _folder() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="femtoclaw-bench-", ignore_cleanup_errors=True)
    except OSError as error:
        raise ConfigurationError("the bench has no place to work", where="TMPDIR", found=error.strerror) from error
