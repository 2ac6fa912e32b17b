"""``bench``: what this machine does with the real parts, on a home made for it; and two results compared."""

from __future__ import annotations

import os
from typing import Any

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, printable
from femtoclaw.errors import UsageError
from femtoclaw.home import Home, locate

ALL, COMPARE = "all", "compare"
RESULT_BYTES_MAX = 1 << 30
SECONDS_MAX = 86_400.0

_COLOURS = {"OK": "green", "FAILED": "red", "INVALID": "red", "MISSED": "yellow", "UNSTABLE": "yellow"}


def bench(arguments: Arguments, output: Output) -> int:
    """0 when everything that was verified is so and no limit is broken; 1 otherwise, and when a comparison finds a regression."""
    if arguments.what == COMPARE:
        return _compare(arguments.files, output)
    if arguments.files:
        raise UsageError("only `bench compare` takes files", where="bench", found=arguments.files[0])
    return _run(arguments, output)


def _run(arguments: Arguments, output: Output) -> int:
    from femtoclaw.benchmarking.goals import CATEGORIES
    from femtoclaw.benchmarking.results import BAD, canonical
    from femtoclaw.benchmarking.running import run
    from femtoclaw.benchmarking.workload import FULL, QUICK

    if arguments.what not in (*CATEGORIES, ALL):
        raise UsageError(
            "no such category", where="bench", expected=", ".join((*CATEGORIES, ALL, COMPARE)), found=arguments.what
        )
    sizes = QUICK if arguments.quick else FULL
    if arguments.seconds is not None:
        if not 0 < arguments.seconds <= SECONDS_MAX:
            raise UsageError(
                "out of bounds", where="--seconds", expected=f"0 to {SECONDS_MAX:g}", found=arguments.seconds
            )
        sizes = sizes._replace(load_s=arguments.seconds)
    home = locate(getattr(arguments, "home", None))
    wanted = CATEGORIES if arguments.what == ALL else (arguments.what,)

    def told(name: str, block: dict[str, Any]) -> None:
        output.progress("")
        _tell(name, block, output)

    result = run(wanted, sizes, arguments.seed, home if _is_home(home) else None, told=told)
    if arguments.out:
        from wal.durable_file import write_file

        write_file(os.path.abspath(arguments.out), canonical(result) + b"\n")
    output.data(_without_samples(result))
    _tell_end(result, output)
    return 1 if result["status"] in BAD else 0


def _is_home(home: Home) -> bool:
    return os.path.exists(home.config_file)


def _without_samples(result: dict[str, Any]) -> dict[str, Any]:
    """The result without raw samples: these are for a file."""
    blocks = {
        name: {key: part for key, part in block.items() if key != "samples"}
        for name, block in result["categories"].items()
    }
    return result | {"categories": blocks}


def _tell(name: str, block: dict[str, Any], output: Output) -> None:
    output.line()
    output.line(f"{name}: {block['status']}", _COLOURS[block["status"]])
    output.line(f"  {'':<27}{'avg':>10}{'min':>10}{'p50':>10}{'p99':>10}{'max':>10}{'cv':>6}  target / limit", "dim")
    for figure, found in block["figures"].items():
        unit = found["unit"]
        values = "".join(f"{_shown(found[each], unit):>10}" for each in ("avg", "min", "p50", "p99", "max"))
        output.line(
            f"  {figure:<27}{values}{found['cv']:>6.2f}  {_beside(found)}", "" if found["within_limit"] else "red"
        )
    for what, holds in block["verified"].items():
        output.line(f"  {'verified' if holds else 'NOT SO':<9} {what.replace('_', ' ')}", "dim" if holds else "red")
    _tell_facts(name, block["facts"], output)


def _beside(found: dict[str, Any]) -> str:
    """Target and limit of a figure, and whether it misses them."""
    unit, words = found["unit"], []
    if found["target"] is not None:
        words.append(f"{_shown(found['target'], unit)} {'reached' if found['reaches_target'] else 'MISSED'}")
    if found["limit"] is not None:
        words.append(f"{_shown(found['limit'], unit)} {'kept' if found['within_limit'] else 'BROKEN'}")
    if not found["stable"]:
        words.append("UNSTABLE")
    return " / ".join(words)


def _tell_facts(name: str, facts: dict[str, Any], output: Output) -> None:
    if name == "throughput":
        for level in facts["levels"]:
            output.line(
                f"  {level['at_once']:>5} at once: {level['rate']:,.0f}/s for {level['seconds']:g} s, {level['syncs']} commits"
            )
        for row in facts["scaling"]["rows"]:
            rate = f"{row['rate']:,.0f}/s" if row["rate"] is not None else f"not measured: {row['why']}"
            output.line(f"  {row['nodes']} node(s) on {row['cores']} core(s), nothing executed: {rate}")
    if name == "storage":
        told = facts["recovery"]
        output.line(
            f"  recovery of {told['records']:,} records: {_shown(told['recovery_ns'], 'ns')}, for 100,000 at that rate "
            f"{_shown(told['recovery_ns_for_100000'], 'ns')}; {facts['syncs']} syncs for {facts['commits']} commits"
        )


def _tell_end(result: dict[str, Any], output: Output) -> None:
    output.line()
    output.fields(
        [
            *result["environment"].items(),
            ("workload", f"seed {result['workload']['seed']}, {result['workload_digest']}"),
        ]
    )
    output.line(f"{result['status']}", _COLOURS[result["status"]])


def _shown(value: float, unit: str) -> str:
    if unit != "ns":
        return f"{value:,.0f}" + ("/s" if unit == "1/s" else "")
    for factor, name in ((1e9, "s"), (1e6, "ms"), (1e3, "us")):
        if value >= factor:
            return f"{value / factor:.3g} {name}"
    return f"{value:.0f} ns"


def _compare(files: list[str], output: Output) -> int:
    from femtoclaw.benchmarking.comparison import compare

    if len(files) != 2:
        raise UsageError(
            "two results are compared", where="bench compare", expected="BASELINE RESULT", found=len(files)
        )
    compared = compare(*(_read(path) for path in files))
    slower = [each._asdict() for each in compared.regressions]
    ok = not slower and not compared.broken
    output.data(
        {"ok": ok, "regressed": sorted({each.category for each in compared.regressions}), "regressions": slower,
         "broken": list(compared.broken), "warnings": list(compared.warnings)}
    )  # fmt: skip
    for text in compared.warnings:
        output.note(printable(text))
    for each in compared.regressions:
        output.line(
            f"{each.category} regressed: {each.figure} {_shown(each.before, each.unit)}, now {_shown(each.after, each.unit)}",
            "red",
        )
    for text in compared.broken:
        output.line(text, "red")
    if ok:
        output.line("no category regressed", "green")
    return 0 if ok else 1


def _read(path: str) -> Any:
    from femtoclaw.cli.json_file import read_json

    return read_json(path, RESULT_BYTES_MAX, "bench")
