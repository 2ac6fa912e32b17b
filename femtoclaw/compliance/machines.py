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


ABI_VERSIONS = {
    "FC-ABI-1.0.0": True, "FC-ABI-1.7.3": True, "FC-ABI-2.0.0": False, "FC-ABI-0.9.0": False, "1.0.0": False, "": False,
    "FC-ABI-1.0": False, "fc-abi-1.0.0": False, "FC-ABI-01.0.0": False,
}  # fmt: skip
"""What a module may say its ABI is, and whether it is compatible."""


def abi(laboratory: Laboratory) -> dict[str, Any]:
    """Which versions are taken, of the table and of all pairs of 1 to 3; and the names that a module exports."""
    from femtoclaw.isolation.abi import SYMBOLS, ABIVersion, ModuleRefusedError, check_version, compatible

    def taken(text: object) -> bool:
        try:
            check_version(text)
        except ModuleRefusedError:
            return False
        return True

    triples = list(itertools.product((1, 2, 3), repeat=3))
    pairs = {one: compatible(ABIVersion(1, 1, 1), ABIVersion(*one)) for one in triples}
    return {
        "table": {text: taken(text) for text in ABI_VERSIONS},
        "none": taken(None),
        "pairs": pairs,
        "symbols": SYMBOLS,
    }


REFUSED_SETTINGS: dict[str, dict[str, Any]] = {
    "an unknown domain": {"nothing": {}}, "an unknown key": {"runtime": {"steps": 1}},
    "a timeout of zero": {"runtime": {"steps_max": 0}}, "a negative limit": {"runtime": {"concurrency_max": -1}},
    "an unknown mode": {"runtime": {"mode": "permissive"}}, "a wrong type": {"observability": {"denial_burst": "many"}},
    "an unknown claw": {"capabilities": {"nobody": {"enabled": True}}}, "memory without bound": {"memory": {"map_bytes": 0}},
}  # fmt: skip
"""Settings that must not be taken, by what is wrong with them."""


def settings_refused(laboratory: Laboratory) -> dict[str, str]:
    """What is said of each; empty where it was taken."""
    from femtoclaw import config
    from femtoclaw.claws import SHIPPED
    from femtoclaw.home import claw_names

    found = {}
    for name, settings in REFUSED_SETTINGS.items():
        try:
            config.resolve(settings, "settings", claw_names(SHIPPED))
            found[name] = ""
        except FemtoClawError as error:
            found[name] = f"{error.what}: {error.where}"
    effective = config.resolve({"capabilities": {"fs.read": {}}}, "settings", claw_names(SHIPPED))
    enabled = config.enabled(config.canonical(effective))
    return found | {"a claw without `enabled` is off": "off" if "fs.read" not in enabled else ""}
