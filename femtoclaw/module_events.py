"""Event types of modules and their publishers. In the union of ``femtoclaw.events``. Pure."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from typing import NamedTuple


class PublisherTrusted(NamedTuple):
    """Modules signed with this key may be installed."""

    name: str
    public_key: str
    operator: str


class PublisherDistrusted(NamedTuple):
    """No module signed with this publisher's key is loaded any more."""

    name: str
    reason: str
    operator: str


class ModuleInstalled(NamedTuple):
    """Where a claw's code comes from: who signed its manifest. It stands behind the claw's registration."""

    name: str
    manifest_digest: str
    publisher: str
    signature: bytes
    operator: str


class ModuleRejected(NamedTuple):
    """A module was refused, at installation or at load; ``code`` is stable, ``detail`` holds nothing of its code."""

    name: str
    code: str
    detail: str
    digest: str


class ModuleCalled(NamedTuple):
    """How far the life of a called module went: ``stages`` of ``femtoclaw.isolation.stages``, as its process told them, in
    their order; none where it told nothing. It stands behind what the call came to."""

    execution_id: str
    claw: str
    version: str
    manifest_digest: str
    stages: tuple[str, ...]
