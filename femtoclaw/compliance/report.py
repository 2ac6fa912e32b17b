"""The report: verdicts, figures and evidence as one JSON object, and its digest.

Two runs on the same build and state give the same bytes outside of the fields that ``volatile`` names (CERT-3.1).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from femtoclaw.auditing.levels import NAMES
from femtoclaw.compliance.checking import FAILED, SHOWN, Verdict
from femtoclaw.compliance.grading import Grade, canonical, figures, overall
from femtoclaw.compliance.register import FILE, Requirement
from femtoclaw.version import VERSION

if TYPE_CHECKING:
    from femtoclaw.compliance.checklist import Found

FORMAT = "femtoclaw compliance report v1"
VOLATILE = ("run", "evidence")
"""Fields that differ between two runs: when, on which log, and the indexes and digests that are cited."""

_FOLDER = os.path.dirname(os.path.abspath(__file__))


def read_table(name: str) -> dict[str, Any]:
    """A TOML file of this package."""
    import tomllib

    with open(os.path.join(_FOLDER, name), "rb") as file:
        return tomllib.load(file)


def reasons() -> dict[str, str]:
    """Requirement id to why it does not apply."""
    return {name: str(entry["because"]) for name, entry in read_table("not_applicable.toml").items()}


def deviations() -> list[dict[str, str]]:
    """Every declared deviation and interpretation (SUITE-14.1)."""
    return list(read_table("deviations.toml")["deviation"])


def build() -> dict[str, str]:
    """What identifies this build: ``digest`` changes with every byte of its code, policies and register."""
    from blake3 import blake3

    from femtoclaw import distribution
    from femtoclaw.provision import distribution_digest

    with open(FILE, "rb") as file:
        register = blake3(file.read()).hexdigest()
    code = distribution_digest(os.path.join(distribution.ROOT, "femtoclaw"))
    found = distribution.integrity()
    digest = blake3(f"femtoclaw build v1\x00{code}\x00{register}".encode()).hexdigest()
    return {
        "version": VERSION, "python": sys.version.split()[0], "digest": digest, "code": code, "register": register,
        "distribution": found.result, "manifest": found.digest,
    }  # fmt: skip


def environment() -> dict[str, Any]:
    """Where it ran, read from the system (CERT-14.1)."""
    import platform

    return {
        "system": platform.system(), "release": platform.release(), "machine": platform.machine(),
        "processors": os.cpu_count() or 0, "python": platform.python_version(),
        "libraries": _libraries(),
    }  # fmt: skip


def _libraries() -> dict[str, str]:
    from importlib import metadata

    names = ("lmdb", "msgpack", "blake3", "pynacl", "cedarpy", "jsonschema-rs", "immutables", "tenacity", "tomlkit")
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "in the distribution"
    return found


def make_report(
    verdicts: Iterable[Verdict], register: Mapping[str, Requirement], grade: Grade, installation: dict[str, Any],
    run: dict[str, Any], scope: list[str], items: Iterable[Found] = (),
) -> dict[str, Any]:  # fmt: skip
    """The whole report but for its digest."""
    all_of_them = list(verdicts)
    rows = []
    for verdict in all_of_them:
        each = register[verdict.requirement]
        rows.append(
            {"id": each.id, "level": each.level, "seed": each.seed, "result": verdict.result, "check": verdict.check}
        )
    listed = list(items)
    evidence = {verdict.requirement: verdict.text for verdict in all_of_them} | {
        each.id: each.evidence for each in listed
    }
    seeds = [verdict for verdict in all_of_them if register[verdict.requirement].seed]
    return {
        "format": FORMAT, "volatile": list(VOLATILE), "build": build(), "environment": environment(),
        "installation": installation, "scope": scope, "overall": overall(all_of_them, register),
        "seed": overall(seeds, register), "level": {"number": grade.level, "name": NAMES[grade.level]},
        "level_steps": [{"level": at, "asks": asks, "met": met} for at, asks, met in grade.steps],
        "documents": figures(all_of_them, register, "document"), "domains": figures(all_of_them, register, "domain"),
        "deviations": len(deviations()), "verdicts": rows,
        "checklist": [
            {"id": each.id, "kind": each.kind, "item": each.says, "result": SHOWN if each.evidence else FAILED} for each in listed
        ],
        "evidence": evidence, "run": run,
    }  # fmt: skip


def digests(report: dict[str, Any]) -> tuple[str, str]:
    """Of the whole report, and of what two runs have in common: BLAKE3 of canonical JSON, 64 hex digits each."""
    from blake3 import blake3

    stable = {name: value for name, value in report.items() if name not in VOLATILE}
    return blake3(canonical(report)).hexdigest(), blake3(canonical(stable)).hexdigest()
