"""Whether a release fits the node that it is to run: interpreter, stored formats, modules, claws. Pure.

Each kind that does not fit is refused by its name, before anything is backed up or unpacked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from femtoclaw.isolation.abi import compatible, parse_version
from femtoclaw.migration.formats import format_of
from femtoclaw.modules.declared import runtime_fits
from femtoclaw.recorded import recorded_manifest
from femtoclaw.releases.building import Versions
from femtoclaw.releases.refusal import IncompatibleReleaseError
from femtoclaw.releases.statement import Release
from femtoclaw.state import Node


def check_fit(release: Release, node: Node, interpreter: str, log_format: int, used: Mapping[int, int]) -> None:
    """Raise IncompatibleReleaseError for the first kind that does not fit.

    ``interpreter`` is what would run it, ``log_format`` that of the node's log, ``used`` each event type's code that the log
    holds with the newest version of it.
    """
    _check_runtime(release, interpreter)
    _check_storage(release, node, log_format, used)
    _check_modules(release, node)
    _check_claws(release, node)


def _check_runtime(release: Release, interpreter: str) -> None:
    if release.python != interpreter:
        raise IncompatibleReleaseError(
            "runtime",
            "it was made for another interpreter",
            where="the release",
            expected=interpreter,
            found=release.python,
        )


def _check_storage(release: Release, node: Node, log_format: int, used: Mapping[int, int]) -> None:
    for what, (oldest, newest), found in (
        ("the log", release.log, log_format),
        ("the home", release.home, format_of(node)),
    ):
        if not oldest <= found <= newest:
            raise IncompatibleReleaseError(
                "storage", f"it does not read {what}", where=what, expected=f"format {oldest} to {newest}", found=found
            )
    for code, version in sorted(used.items()):
        if release.events.get(code, 0) < version:
            known = release.events.get(code, 0)
            raise IncompatibleReleaseError(
                "storage", "the log holds records that it does not read", where=f"events of type {code}",
                expected=f"up to version {known}" if known else "none of this type", found=f"version {version}",
            )  # fmt: skip


def _check_modules(release: Release, node: Node) -> None:
    runtime = parse_version(release.abi)
    for name, claw in sorted(node.registry.items()):
        if not claw.publisher:
            continue
        manifest = recorded_manifest(name, claw.manifest)
        if manifest.abi and not compatible(runtime, parse_version(manifest.abi)):
            raise IncompatibleReleaseError(
                "module", "an installed module was built for another interface", where=name, expected=release.abi,
                found=manifest.abi,
            )  # fmt: skip
        if not runtime_fits(manifest.requires_runtime, release.program):
            raise IncompatibleReleaseError(
                "module", "an installed module does not run under this version", where=name,
                expected=manifest.requires_runtime, found=release.program,
            )  # fmt: skip


def _check_claws(release: Release, node: Node) -> None:
    for name, claw in sorted(node.registry.items()):
        if claw.publisher and name in release.claws:
            raise IncompatibleReleaseError(
                "capability", "it brings a claw with the name of an installed module", where=name,
                expected="another name", found=f"a module of {claw.publisher}",
            )  # fmt: skip
        if claw.enabled and not claw.publisher and name not in release.claws:
            raise IncompatibleReleaseError(
                "capability", "a claw that is enabled is not part of it", where=name, expected="the claw, or that it is disabled",
                found=", ".join(sorted(release.claws)) or "no claw",
            )  # fmt: skip


RULES = {
    "patch": "nothing but repairs: deployed as it is",
    "minor": "what is there stays compatible: deployed as it is",
    "major": "may break what is there: only with --major",
    "storage": "formats differ: the new program reads what is stored, and an older one is refused what it does not read",
    "capability": "claws come with the program: those with another manifest are named, and the same policy decides about them",
    "extension": "installed modules run only under the same major version of the interface",
    "configuration": "keys or defaults differ: what is recorded is validated at the start, and an invalid result stops it",
}
"""Kinds of an upgrade, each with its rule (UPGRADE-3.1)."""


def kinds_of(release: Release, program: str, own: Versions) -> tuple[str, ...]:
    """What an upgrade from the running program changes: one kind of the version, and every other that applies."""
    before, after = (tuple(int(part) for part in text.split(".")) for text in (program, release.program))
    found = ["major" if before[0] != after[0] else "minor" if before[1] != after[1] else "patch"]
    for kind, same in (
        ("storage", (release.log, release.home, release.events) == (own.log, own.home, own.events)),
        ("capability", release.claws == own.claws),
        ("extension", release.abi == own.abi),
        ("configuration", release.configuration == own.configuration),
    ):
        found += [] if same else [kind]
    return tuple(found)


def require_asked(kinds: tuple[str, ...], major: bool) -> None:
    """Raise IncompatibleReleaseError for a major upgrade that was not asked for as one."""
    if "major" in kinds and not major:
        raise IncompatibleReleaseError(
            "runtime", "it is a major upgrade", where="the release", expected="--major", found=", ".join(kinds)
        )


def changed_claws(release: Release, node: Node) -> list[str]:
    """Claws of the program whose manifest is another one in the release: the next start registers what the release brings, and
    the configuration and the policy in force decide about them as before. Whoever deploys should look at them."""
    return sorted(
        name
        for name, claw in node.registry.items()
        if not claw.publisher and release.claws.get(name, claw.digest) != claw.digest
    )


def installed_of(content: bytes) -> dict[str, str]:
    """What a recorded deployment or rollback put in use: name, digest, key and so on; empty for none."""
    body = json.loads(content or b"{}")
    found = body.get("installed")
    return {key: str(value) for key, value in found.items()} if isinstance(found, dict) else {}
