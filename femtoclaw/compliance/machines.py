"""Measurements of the published tables: the state machine over all pairs, markers, errors, event versions, ABI versions."""

from __future__ import annotations

import itertools
from typing import Any

from femtoclaw import errors
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.errors import FemtoClawError, StateMachineError
from femtoclaw.lifecycle import Marker, RuntimeState, step, step_marker


def transitions(laboratory: Laboratory) -> list[tuple[str, str]]:
    """Every pair of states that the machine lets pass, of all 121."""
    return [(a.value, b.value) for a, b in itertools.product(RuntimeState, RuntimeState) if _passes(step, a, b)]


def markers(laboratory: Laboratory) -> list[tuple[str, str]]:
    """Every pair of phase markers that passes, of all 100."""
    return [(a.value, b.value) for a, b in itertools.product(Marker, Marker) if _passes(step_marker, a, b)]


def _passes(machine: Any, before: Any, after: Any) -> bool:
    try:
        machine(before, after)
    except StateMachineError:
        return False
    return True


def error_types(laboratory: Laboratory) -> dict[str, tuple[str, str, int]]:
    """Each error of the runtime that is loaded: category, severity, exit code."""
    found: dict[str, tuple[str, str, int]] = {}
    pending: list[type[FemtoClawError]] = [errors.FemtoClawError]
    while pending:
        kind = pending.pop()
        found[kind.__name__] = (kind.category.value, kind.severity.value, kind.exit_code)
        pending += [each for each in kind.__subclasses__() if each.__module__.startswith("femtoclaw")]
    return found


def event_versions(laboratory: Laboratory) -> dict[str, Any]:
    """Event types with their newest versions; and old versions' bytes, decoded by this program."""
    import msgpack

    from femtoclaw.event_codec import CODES, UPCASTERS, VERSIONS, EventFormatError, decode, encode
    from femtoclaw.events import InputReceived

    sample = InputReceived("e", "r", 0, "user", b"x", "user", 7, "")
    old = msgpack.packb((21, 1, "e", "r", 0, "user", b"x"), use_bin_type=True)
    newer = msgpack.packb((21, VERSIONS[21] + 1, *sample), use_bin_type=True)
    try:
        decode(newer)
        refused = ""
    except EventFormatError as error:
        refused = type(error).__name__
    decoded = decode(old)
    return {
        "types": len(CODES), "versions": dict(VERSIONS), "upcasters": sorted(UPCASTERS), "old": tuple(decoded),
        "same": decode(encode(sample)) == sample, "newer": refused,
        "missing": [code for code, version in VERSIONS.items() for at in range(1, version) if (code, at) not in UPCASTERS],
    }  # fmt: skip
