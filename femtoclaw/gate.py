"""THE ONE GATE between a decision and an effect (I5): the only caller of the isolation's ``run``.

A grant is minted only for a durable *execution started* and is good for one dispatch of that very call. The gate
computes the call's digest again from the arguments it is about to pass on: a grant for one call never serves another.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol

from femtoclaw import events
from femtoclaw.authorization import Decision
from femtoclaw.errors import SecurityError
from femtoclaw.isolation import Outcome
from femtoclaw.manifest import Manifest
from femtoclaw.protocol import call_digest
from wal import Receipt


class Isolation(Protocol):
    """Runs a claw in a place of its own (``femtoclaw.isolation``)."""

    def run(
        self, manifest: Manifest, args: dict[str, Any], settings: dict[str, Any], *, idempotency_key: str = ""
    ) -> Outcome:
        """Execute and return what happened; never raises for what a claw does."""

    def layers(self) -> dict[str, str]:
        """The isolation layers in force, by name."""

    def close(self) -> None:
        """Stop every process of the isolation."""


class Grant:
    """The right to dispatch one call once. Made by ``Gate.grant`` only; its identity is the right."""

    __slots__ = ("call_digest", "execution_id", "index")

    def __init__(self, execution_id: str, call_digest: str, index: int) -> None:
        self.execution_id = execution_id
        self.call_digest = call_digest
        self.index = index


class Gate:
    """Holds the isolation; nothing else in the program has a reference to it."""

    def __init__(self, isolation: Isolation) -> None:
        self._isolation = isolation
        self._open: set[Grant] = set()
        self._lock = threading.Lock()

    def grant(self, decided: events.AuthorizationDecided, started: events.ExecutionStarted, receipt: Receipt) -> Grant:
        """Mint a grant from a recorded decision and its durable start.

        Raises SecurityError when the decision is not AUTHORIZED, or is about another execution or call.
        """
        if decided.decision != Decision.AUTHORIZED.value:
            raise SecurityError("a denied call asked for a grant", where=decided.execution_id, found=decided.decision)
        same = (decided.execution_id, decided.claw, decided.call_digest, decided.manifest_digest)
        if same != (started.execution_id, started.claw, started.call_digest, started.manifest_digest):
            raise SecurityError("decision and start are about different calls", where=started.execution_id)
        if receipt.last < receipt.first or receipt.first < 1:
            raise SecurityError("the start is not durable", where=started.execution_id, found=receipt)
        grant = Grant(started.execution_id, started.call_digest, receipt.last)
        with self._lock:
            self._open.add(grant)
        return grant

    def dispatch(self, grant: Grant, manifest: Manifest, args: dict[str, Any], settings: dict[str, Any]) -> Outcome:
        """Spend the grant and run the call.

        Raises SecurityError when the grant was forged or spent before, or when this is not the call it was given for.
        """
        with self._lock:
            if grant not in self._open:
                raise SecurityError("grant is forged or already spent", where=grant.execution_id)
            self._open.discard(grant)
        digest = call_digest(manifest.name, args, manifest.digest())
        if digest != grant.call_digest:
            raise SecurityError(
                "the call is not the one that was authorized", where=grant.execution_id, expected=grant.call_digest,
                found=digest,
            )  # fmt: skip
        return self._isolation.run(manifest, args, settings, idempotency_key=grant.execution_id)

    def layers(self) -> dict[str, str]:
        """The isolation layers in force."""
        return self._isolation.layers()

    def close(self) -> None:
        """Stop the isolation. Open grants die with it."""
        with self._lock:
            self._open.clear()
        self._isolation.close()
