"""Manifests: canonical bytes round-trip, and only what the gate can judge may be registered."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from femtoclaw.claws import FS_READ, SHELL, SHIPPED
from femtoclaw.engines import registrable
from femtoclaw.errors import ConfigurationError
from femtoclaw.manifest import Manifest, manifest_from_canonical


def with_arguments(targets: dict[str, str], **properties: Any) -> Manifest:
    closed = {"type": "object", "properties": properties, "additionalProperties": False}
    return FS_READ._replace(arguments=closed, targets=targets)


TEXT, NUMBER = {"type": "string"}, {"type": "integer"}


def test_shipped_manifests_are_registrable_and_round_trip() -> None:
    """The shipped claws, and claws with an argument of every shape, come back equal from their bytes."""
    odd = with_arguments(
        {"path": "path", "to": "address", "pid": "process_id"},
        path=TEXT, to=TEXT, pid=NUMBER, run=TEXT, args=NUMBER, any=True, some={"type": ["string", "null"]},
        things={"type": "array", "items": True}, __entity=TEXT,
    )  # fmt: skip
    for manifest in (*SHIPPED, odd):
        assert registrable(manifest.canonical()) == manifest == manifest_from_canonical(manifest.canonical())


@pytest.mark.parametrize(
    "manifest, wrong",
    [
        (FS_READ._replace(name=""), "name is not usable"),
        (FS_READ._replace(name="a b"), "name is not usable"),
        (FS_READ._replace(name="a\n"), "name is not usable"),
        (FS_READ._replace(name="é"), "name is not usable"),
        (FS_READ._replace(name="x" * 65), "name is not usable"),
        (FS_READ._replace(version=1), "texts are not strings"),
        (FS_READ._replace(idempotent=1), "`idempotent`"),
        (FS_READ._replace(limits=FS_READ.limits._replace(processes=0)), "limit processes"),
        (FS_READ._replace(limits=FS_READ.limits._replace(cpu_seconds=True)), "limit cpu_seconds"),
        (FS_READ._replace(limits=FS_READ.limits._replace(wall_seconds=float("inf"))), "limit wall_seconds"),
        (FS_READ._replace(arguments=True), "closed object"),
        (FS_READ._replace(arguments={"type": "object"}), "closed object"),
        (FS_READ._replace(arguments=FS_READ.arguments | {"additionalProperties": {}}), "closed object"),
        (FS_READ._replace(arguments=FS_READ.arguments | {"$ref": "https://example.org/a"}), "schema cannot be used"),
        (FS_READ._replace(targets={"path": "file"}), "no known kind"),
        (FS_READ._replace(targets={"pth": "path"}), "no argument of its type"),
        (FS_READ._replace(targets={"offset": "path"}), "no argument of its type"),
        (with_arguments({"a": "path", "b": "path"}, a=TEXT, b=TEXT), "two targets are of one kind"),
        (with_arguments({"a": "path"}, a=True), "no argument of its type"),
    ],
)  # fmt: skip
def test_what_the_gate_could_not_judge_is_not_registrable(manifest: Manifest, wrong: str) -> None:
    """Unusable names, types, limits, open arguments, targets that policy would not see: each refused in its words."""
    with pytest.raises(ConfigurationError, match=wrong) as refused:
        registrable(manifest.canonical())
    assert refused.value.exit_code == 2
    assert str(refused.value).isprintable()


def test_bytes_that_are_no_manifest_are_refused(seed: int) -> None:
    """Cut, flipped, respelt and foreign bytes: a manifest or a ConfigurationError, never another exception."""
    chance = random.Random(seed)
    raw = SHELL.canonical()
    respelt = json.dumps(json.loads(raw)).encode()
    foreign = [b"", b"{}", b"null", b"[" * 100_000, b"\xff", b'{"limits":{}}', b'{"limits":3}', respelt]
    for bad in foreign:
        with pytest.raises(ConfigurationError):
            registrable(bad)
    for _ in range(500):
        changed = bytearray(raw[: chance.choice((len(raw), chance.randrange(len(raw))))])
        for _ in range(chance.randint(0 if len(changed) < len(raw) else 1, 3)):
            if changed:
                changed[chance.randrange(len(changed))] = chance.randrange(256)
        try:
            assert registrable(bytes(changed)).canonical() == bytes(changed)
        except ConfigurationError as error:
            assert error.exit_code == 2
