"""Measurement of what a build says of itself: by three commands, before any report and after a failing one is on record."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.twin import twin

COMMANDS = {"status": ("status",), "health": ("health",), "--version": ("--version",)}


def banners(laboratory: Laboratory) -> dict[str, dict[str, str]]:
    """State of the record to what each command says; the report itself is a procedure on record, as `comply` leaves it."""
    home = laboratory.copy(laboratory.once(twin), "banners")
    found = {"no report": _said(laboratory, home)}
    _record(home, "NON_COMPLIANT")
    found["a failing report"] = _said(laboratory, home)
    return found


def _said(laboratory: Laboratory, home: str) -> dict[str, str]:
    with ThreadPoolExecutor(len(COMMANDS)) as threads:
        bodies = list(threads.map(lambda words: laboratory.run(home, *words).body, COMMANDS.values()))
    told = {}
    for name, body in zip(COMMANDS, bodies, strict=True):
        word = body.get("compliance", "")
        told[name] = str(word["compliance"] if isinstance(word, dict) else word)
    return told


def _record(home: str, overall: str) -> None:
    from femtoclaw.cli.execute import open_node
    from femtoclaw.compliance.report import build
    from femtoclaw.compliance.session import Quiet
    from femtoclaw.compliance.standing import keep
    from femtoclaw.control import operator_signer
    from femtoclaw.home import Home
    from femtoclaw.procedures import procedure

    place = Home(home)
    with open_node(home, Quiet()) as node:
        signer = operator_signer(place, node.started.authority.state.node)
        with procedure(node.started, signer, "compliance.check", "all", "0" * 64) as told:
            told.content = {"build": build()["digest"], "overall": overall, "level": 0, "report": "0" * 64}
    keep(place, {"scope": ["all"]}, told.ended)
