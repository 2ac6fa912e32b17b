"""The seven trust boundaries, each with the function that checks what crosses it, and a tainted marker sent across each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType, SimpleNamespace
from typing import Any

from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.errors import FemtoClawError
from wal.errors import LogError

BOUNDARIES: Mapping[str, str] = MappingProxyType({
    "external input": "femtoclaw.api.codec:read_intent",
    "inference": "femtoclaw.protocol:validate",
    "runtime": "femtoclaw.gate:Gate.grant",
    "capability": "femtoclaw.isolation.answer:judge",
    "extension": "femtoclaw.modules.verification:verify",
    "memory and storage": "wal.chain:verify_run",
    "operating system": "femtoclaw.facts:facts",
})  # fmt: skip
"""Boundary to the one function that whatever crosses it passes first (SECURITY-3.1)."""

SHOWN = "femtoclaw.cli.render:printable"
"""What text of others passes before a terminal shows it."""

MARKER = "\x1b[31mtainted\u202e\x00../../etc"
"""Control characters, a change of direction, a zero byte, and a way out."""


def checker(boundary: str) -> Callable[..., Any]:
    """The function that checks a boundary. Raises what importing it raises."""
    module, _, path = ({"terminal": SHOWN} | dict(BOUNDARIES))[boundary].partition(":")
    found: Any = import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    assert callable(found)
    checked: Callable[..., Any] = found
    return checked


def crossed(laboratory: Laboratory) -> dict[str, str]:
    """What became of the marker at each boundary: the name of the refusal; empty where it came through as it was."""
    from femtoclaw.compliance.simulation import Simulated
    from femtoclaw.facts import ArgumentInvalid
    from femtoclaw.isolation.answer import Report
    from femtoclaw.modules.refusal import Refusal
    from femtoclaw.protocol import Rejected

    node = Simulated()
    engines = node.authority.engines.engines(node.authority.state.node)
    message = json.dumps({"tool_call": {"tool": "fs.read", "args": {"path": "a"}, MARKER: 1}}).encode()
    said = checker("inference")(message, engines.schemas)
    read = checker("operating system")(engines.manifests["fs.read"], {"path": MARKER}, {})
    ended = Report("", 0, 100, 100, 1, 2, "")
    answered = checker("capability")(ended, ('{"result":{"a":"' + MARKER + '"}}').encode(), 1000)
    package = _package(laboratory)
    vouched = checker("extension")(package._replace(files=package.files | {MARKER: b"x"}), [])
    return {
        "external input": _error(lambda: checker("external input")(SimpleNamespace(message=b"{}", subject=MARKER))),
        "inference": said.code if isinstance(said, Rejected) and MARKER not in repr(said) else "",
        "runtime": _error(lambda: checker("runtime")(node.gate, node.recorded[-1])),
        "capability": answered.status if answered.result is None else "",
        "extension": vouched.code if isinstance(vouched, Refusal) else "",
        "memory and storage": _error(lambda: _stored(laboratory)),
        "operating system": read.code if isinstance(read, ArgumentInvalid) else "",
        "terminal": "escaped" if checker("terminal")(MARKER).isprintable() else "",
    }  # fmt: skip


def _error(work: Callable[[], object]) -> str:
    try:
        work()
    except (FemtoClawError, LogError) as error:
        return type(error).__name__
    return ""


def _package(laboratory: Laboratory) -> Any:
    from femtoclaw.compliance.sample_modules import claw, declared
    from femtoclaw.modules.package import Package

    files = {"m.py": claw("return {}")}
    return Package(declared("python:m.py:claw", files), files, b"")


def _stored(laboratory: Laboratory) -> None:
    """A frame of a log into which the marker was written."""
    from femtoclaw.compliance.logs import copied
    from wal.record import Head, decode

    records = laboratory.once(copied).storage.records
    first = max(2, len(records) // 2)
    frame = bytearray(records[first])
    raw = MARKER.encode()
    frame[len(frame) // 2 : len(frame) // 2 + len(raw)] = raw
    checker("memory and storage")(Head(first - 1, decode(records[first - 1]).link), [(first, bytes(frame))])


def named(laboratory: Laboratory) -> dict[str, bool]:
    """Whether each boundary's function is one that the program has, where it is said to be."""
    return {name: checker(name).__module__ == place.partition(":")[0] for name, place in BOUNDARIES.items()}
