"""``comply``: every requirement looked at on this installation, with evidence, a report, and its digest on record."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, printable
from femtoclaw.home import Home, locate, require

if TYPE_CHECKING:
    from femtoclaw.compliance.checking import Verdict

_COLOURS = {"shown": "green", "failed": "red", "not shown": "yellow", "not applicable": "dim"}


def comply(arguments: Arguments, output: Output) -> int:
    """0 when the scope is compliant, 1 when it is not."""
    if arguments.what == "coverage":
        from femtoclaw.cli.coverage import coverage

        return coverage(output)
    if arguments.what in ("methods", "again"):
        from femtoclaw.cli import comply_methods

        repeat = arguments.what == "again"
        return comply_methods.again(arguments, output) if repeat else comply_methods.methods(arguments, output)
    return _run(arguments, output)


def _run(arguments: Arguments, output: Output) -> int:
    from femtoclaw.compliance.laboratory import Laboratory
    from femtoclaw.compliance.measuring import items_of, measure, report_on, scope_of
    from femtoclaw.compliance.report import digests

    home = locate(getattr(arguments, "home", None))
    require(home)
    words = arguments.domain or []
    scope = scope_of(words)
    begun = time.monotonic()
    with Laboratory(home) as laboratory:
        done = 0

        def told(verdict: Verdict) -> None:
            nonlocal done
            done += 1
            output.progress(f"{done}/{len(scope)} {verdict.requirement}")

        verdicts = measure(home, scope, laboratory, told)
        items = items_of(scope, laboratory)
    output.progress("")
    report = report_on(home, scope, words, verdicts, begun, items)
    digest, stable = digests(report)
    _write(arguments, report, digest)
    recorded = 0 if arguments.dry_run else _record(arguments, output, home, report, digest)
    told_of = {"digest": digest, "stable_digest": stable, "recorded": recorded}
    output.data(_short(report) | told_of if not arguments.level else _levels(report) | told_of)
    _tell(report, verdicts, output, levels_only=arguments.level)
    output.line()
    output.fields([("report", digest), ("on record at", recorded or "nowhere: --dry-run")])
    return 0 if report["overall"] == "COMPLIANT" else 1


def _write(arguments: Arguments, report: dict[str, Any], digest: str) -> None:
    """The files that were asked for, each whole or not there."""
    from femtoclaw.compliance.grading import canonical
    from femtoclaw.compliance.page import page
    from femtoclaw.compliance.register import requirements
    from femtoclaw.compliance.report import deviations
    from wal.durable_file import write_file

    if arguments.out:
        write_file(os.path.abspath(arguments.out), canonical(report) + b"\n")
    if arguments.html:
        text = page(report, digest, requirements(), deviations())
        write_file(os.path.abspath(arguments.html), text.encode())


def _record(arguments: Arguments, output: Output, home: Home, report: dict[str, Any], digest: str) -> int:
    """Have the digest recorded as a procedure that an operator carried out; the index of its end."""
    from femtoclaw.cli.asking import signer_of
    from femtoclaw.cli.execute import open_node
    from femtoclaw.compliance.standing import keep
    from femtoclaw.procedures import procedure

    scope = ",".join(report["scope"])[:200]
    with open_node(getattr(arguments, "home", None), output) as node:
        signer = signer_of(node, arguments)
        with procedure(node.started, signer, "compliance.check", scope, digest) as told:
            told.content = {
                "build": report["build"]["digest"], "overall": report["overall"], "seed": report["seed"],
                "level": report["level"]["number"], "scope": report["scope"], "report": digest,
                "documents": report["documents"], "size": report["run"]["size"],
            }  # fmt: skip
            told.detail = f"{report['overall']}, level {report['level']['number']}"
            told.result = "done" if report["overall"] != "NON_COMPLIANT" else "failed"
    keep(home, report, told.ended)
    return told.ended


def _short(report: dict[str, Any]) -> dict[str, Any]:
    """The report without the table of domains: one object for machines."""
    return {name: report[name] for name in report if name != "volatile"}


def _levels(report: dict[str, Any]) -> dict[str, Any]:
    return {name: report[name] for name in ("overall", "seed", "level", "level_steps")}


def _tell(report: dict[str, Any], verdicts: list[Verdict], output: Output, *, levels_only: bool) -> None:
    from femtoclaw.compliance.register import requirements

    if not levels_only:
        for result in ("not shown", "failed"):
            for verdict in verdicts:
                if verdict.result == result:
                    text = f"{result:<9}  {verdict.requirement:<13} {printable(verdict.text, 200)}"
                    output.line(text, _COLOURS[result])
        output.line()
        output.line(f"{'':<12}{'shown':>8}{'failed':>8}{'open':>8}{'n/a':>8}", "bold")
        for name, counts in report["documents"].items():
            numbers = "".join(f"{counts[kind] or '':>8}" for kind in ("shown", "failed", "not shown", "not applicable"))
            output.line(f"{name:<12}{numbers}", "red" if counts["failed"] else "")
        output.line()
    for step in report["level_steps"]:
        output.line(
            f"level {step['level']}  {'yes' if step['met'] else 'no ':<3}  {step['asks']}", "" if step["met"] else "dim"
        )
    colour = (
        "green" if report["overall"] == "COMPLIANT" else "red" if report["overall"] == "NON_COMPLIANT" else "yellow"
    )
    everything = len(requirements())
    if len(verdicts) < everything:
        output.line(f"{report['overall']} in the {len(verdicts)} of {everything} requirements that were looked at", colour)
        return
    output.line(
        f"{report['overall']}: the five seeds {report['seed']}, level {report['level']['number']} ({report['level']['name']}), "
        f"{report['deviations']} declared deviations", colour,
    )  # fmt: skip
