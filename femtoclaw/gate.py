"""THE ONE GATE between a decision and an effect (I5): the only caller of the isolation's ``run``.

A grant is minted only from what the authority recorded: a durable *execution started* right behind its own decision,
of an execution that is in flight and has been granted nothing yet. It is good for one dispatch of that very call: the
gate computes the call's digest again from the arguments it is about to pass on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from femtoclaw import events
from femtoclaw.authority import Recorded
from femtoclaw.authorization import Decision
from femtoclaw.errors import SecurityError
from femtoclaw.isolation import Outcome
from femtoclaw.manifest import Manifest
from femtoclaw.protocol import call_digest
from femtoclaw.state import State

NO_SECRETS: Mapping[str, str] = MappingProxyType({})

GRANTED_MAX = 4096
"""Executions remembered as granted before those that have ended are forgotten: an ended one cannot be granted again."""


class Isolation(Protocol):
    """Runs a claw in a place of its own (``femtoclaw.isolation``)."""

    def run(
        self,
        manifest: Manifest,
        args: dict[str, Any],
        settings: dict[str, Any],
        *,
        idempotency_key: str = "",
        secrets: Mapping[str, str] = NO_SECRETS,
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

    def __init__(self, isolation: Isolation, state: Callable[[], State]) -> None:
        """``state`` is the authority's newest, asked at every grant."""
        self._isolation = isolation
        self._state = state
        self._open: set[Grant] = set()
        self._granted: set[str] = set()
        self._lock = threading.Lock()

    def grant(self, recorded: Recorded) -> Grant:
        """Mint the one grant of a recorded start, which must be the end of its batch.

        Raises SecurityError when the batch is not durable, ends otherwise, when decision and start do not belong
        together, or when its execution is not in flight or has its grant already.
        """
        started = _authorized_start(recorded)
        live = self._state().live
        execution = live.executions.get(started.execution_id)
        if started.execution_id in live.approvals:
            raise SecurityError("the call is held for operators", where=started.execution_id)
        if execution is None or not execution.started or execution.call_digest != started.call_digest:
            raise SecurityError("the start is not one in flight", where=started.execution_id)
        grant = Grant(started.execution_id, started.call_digest, recorded.receipt.last)
        with self._lock:
            if started.execution_id in self._granted:
                raise SecurityError("a start is good for one grant", where=started.execution_id)
            if len(self._granted) >= GRANTED_MAX:
                self._granted.intersection_update(self._state().live.executions)
            self._granted.add(started.execution_id)
            self._open.add(grant)
        return grant

    def dispatch(
        self,
        grant: Grant,
        manifest: Manifest,
        args: dict[str, Any],
        settings: dict[str, Any],
        secrets: Mapping[str, str] = NO_SECRETS,
        salt: bytes = b"",
    ) -> Outcome:
        """Spend the grant and run the call, with the secrets that its claw was granted. ``salt`` is that of the call's
        digest, for a subject's.

        Raises SecurityError when the grant was forged or spent before, or when this is not the call it was given for.
        """
        with self._lock:
            if grant not in self._open:
                raise SecurityError("grant is forged or already spent", where=grant.execution_id)
            self._open.discard(grant)
        digest = call_digest(manifest.name, args, manifest.digest(), salt)
        if digest != grant.call_digest:
            raise SecurityError(
                "the call is not the one that was authorized", where=grant.execution_id, expected=grant.call_digest,
                found=digest,
            )  # fmt: skip
        return self._isolation.run(manifest, args, settings, idempotency_key=grant.execution_id, secrets=secrets)

    def layers(self) -> dict[str, str]:
        """The isolation layers in force."""
        return self._isolation.layers()

    def interrupt(self) -> None:
        """Stop the isolation and with it every claw. A grant that is open finds it closed, and nothing is executed."""
        self._isolation.close()

    def close(self) -> None:
        """Stop the isolation. Open grants die with it."""
        with self._lock:
            self._open.clear()
        self._isolation.close()


def _authorized_start(recorded: Recorded) -> events.ExecutionStarted:
    """The start at the end of a durable batch, right behind its own permission. Raises SecurityError."""
    happened, receipt = recorded.events, recorded.receipt
    if len(happened) < 2 or receipt.first < 1 or receipt.last - receipt.first + 1 != len(happened):
        raise SecurityError("the start is not durable", found=receipt)
    decided, started = happened[-2:]
    if not isinstance(decided, events.AuthorizationDecided) or not isinstance(started, events.ExecutionStarted):
        raise SecurityError("no execution was started here", found=type(started).__name__)
    if decided.decision != Decision.AUTHORIZED.value:
        raise SecurityError("a denied call asked for a grant", where=decided.execution_id, found=decided.decision)
    same = (decided.execution_id, decided.claw, decided.call_digest, decided.manifest_digest)
    if same != (started.execution_id, started.claw, started.call_digest, started.manifest_digest):
        raise SecurityError("decision and start are about different calls", where=started.execution_id)
    return started
