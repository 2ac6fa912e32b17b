"""Measurements of speed and correctness under load: one quick run of ``femtoclaw bench`` with this installation's settings, its raw
result, and results compared."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from femtoclaw.benchmarking.measuring import Bench
from femtoclaw.benchmarking.results import BAD
from femtoclaw.cli.cluster_demo_machines import command, environment
from femtoclaw.compliance.checking import CannotMeasureError
from femtoclaw.compliance.laboratory import Laboratory

ALONE = "protocol"
"""The category that is also asked for alone: the quickest."""

BENCH_S = 600.0
"""How long a quick run may take, on a machine with a lot of other work."""

IDENTICAL = 10
PLANTED_S = 0.005
PLANTED = 20
"""Decisions of the runs that are compared."""


def benched(laboratory: Laboratory) -> dict[str, Any]:
    """What ``bench all --quick --out`` wrote: the whole result with raw samples."""
    out = laboratory.place("bench.json")
    done = subprocess.run(
        command("--home", laboratory.home.path, "bench", "all", "--quick", "--out", out), capture_output=True, check=False,
        timeout=BENCH_S, env=environment(), cwd=laboratory.folder, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with open(out, "rb") as file:
            found: dict[str, Any] = json.load(file)
    except (OSError, ValueError):
        raise CannotMeasureError(
            f"`femtoclaw bench` gave no result: {done.stderr.decode(errors='replace')[-300:]}"
        ) from None
    return found | {"exit": done.returncode, "bad": found["status"] in BAD, "path": out}


def alone(laboratory: Laboratory) -> dict[str, Any]:
    """One category asked for by itself, and one that does not exist."""
    answer = laboratory.run(laboratory.home.path, "bench", ALONE, "--quick")
    unknown = laboratory.run(laboratory.home.path, "bench", "weather", "--quick")
    return {"code": answer.code, "categories": sorted(answer.body.get("categories", {})), "unknown": unknown.code}


def compared(laboratory: Laboratory) -> dict[str, Any]:
    """Runs of the category ``authorization``: one, ten more of the same build, and one whose every decision sleeps 5 ms first."""
    import os

    from femtoclaw.benchmarking.comparison import compare
    from femtoclaw.benchmarking.node import make_home
    from femtoclaw.benchmarking.results import INVALID, block, result
    from femtoclaw.benchmarking.verdicts import authorization
    from femtoclaw.benchmarking.workload import QUICK, described

    folder = laboratory.place("compared")
    os.mkdir(folder, 0o700)
    sizes = QUICK._replace(decisions=PLANTED, rounds=3)
    bench = Bench(folder, make_home(folder, laboratory.home, 10), sizes, 1)
    workload = described(1, sizes, ("authorization",))
    results: list[dict[str, Any]] = []
    for at in range(IDENTICAL + 2):
        delay_s = PLANTED_S if at == IDENTICAL + 1 else 0.0
        blocks = {"authorization": block(authorization(bench._replace(planted_s=delay_s)))}
        results.append(result({"processor": "this one"}, workload, {}, blocks))
    first, planted = results[0], results[-1]
    compared_same = [compare(first, each) for each in results[1:-1]]
    unsynced = result(
        {"processor": "this one"}, workload, {}, {"authorization": blocks["authorization"] | {"status": INVALID}}
    )
    files = {}
    for name, each in (
        ("first", first), ("planted", planted), ("elsewhere", first | {"environment": {"processor": "another"}}),
        ("unsynced", unsynced),
    ):  # fmt: skip
        files[name] = os.path.join(folder, f"{name}.json")
        with open(files[name], "w", encoding="utf-8") as file:
            json.dump(each, file)
    return {
        "identical": [not each.regressions and not each.broken for each in compared_same],
        **{name: _compare(laboratory, files["first"], path) for name, path in files.items() if name != "first"},
    }  # fmt: skip


def _compare(laboratory: Laboratory, baseline: str, result: str) -> dict[str, Any]:
    answer = laboratory.run(laboratory.home.path, "bench", "compare", baseline, result)
    return {"code": answer.code, "error": answer.error} | {
        name: answer.body.get(name, []) for name in ("regressed", "warnings")
    }
