"""The executor of a member: what it executes while it leads, and asks the leader for while it does not.

A request is sent to another node again only when it certainly was not taken: whoever does not lead says so before anything is
recorded. While nobody leads, requests wait for a bounded time; while the leadership is being handed over they are held, so a
planned change of leaders is no error at the client.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from cluster.errors import PeerRefusedError
from cluster.messages import Reason
from femtoclaw import commands
from femtoclaw.api.executor import Executor, Freshness, NotTakenError, StateAt, never
from femtoclaw.api.forwarding import answer, ask_control, ask_intent, ask_run
from femtoclaw.api.limits import PATIENCE_S
from femtoclaw.api.reading import state_hash_at
from femtoclaw.authority import Recorded
from femtoclaw.home import Home
from femtoclaw.operations import PROCEDURES
from femtoclaw.runtime import Listener, RunResult, StepResult
from wal.reader import LogReader

OPENING_S = 15.0
"""How long an operator's request waits while nobody leads, and on a member that leads and does not execute yet, or hands over."""

PAUSE_S = 0.1

ANYWHERE = frozenset(
    {*PROCEDURES, "alert.acknowledge", "incident.open", "incident.step", "node.contain", "node.release"}
)
"""What operators may ask for at any member: it changes what is recorded and no file of a home, so the leader can do it for them."""

Answer = TypeVar("Answer")


class FollowingExecutor:
    """``Executor`` of a member. Thread-safe."""

    def __init__(
        self, home: Home, reader: Callable[[], LogReader], leader: Callable[[], str], ask: Callable[[str, bytes], bytes],
        serving: Callable[[], dict[str, Any]], freshness: Callable[[], Freshness],
    ) -> None:  # fmt: skip
        """``reader`` is the log as it is open now, ``leader`` names who leads (or is empty), ``ask`` carries a question there,
        ``serving`` and ``freshness`` describe this node."""
        self._home = home
        self._reader = reader
        self._leader = leader
        self._ask = ask
        self._serving = serving
        self._freshness = freshness
        self._changed = threading.Condition()
        self._local: Executor | None = None
        self._held = False
        self._working = 0
        self._transfer = ""
        self._ended = False

    # --- changing parts ---

    def use(self, local: Executor | None, drain_s: float = 0.0) -> None:
        """Execute here from now on, or (None) nowhere; ``drain_s``: wait so long for what is in flight."""
        with self._changed:
            self._held = False
            self._local = local
            self._transfer = ""
            self._changed.notify_all()
            if local is None and drain_s:
                self._changed.wait_for(lambda: not self._working, drain_s)

    def hold(self, drain_s: float) -> bool:
        """Take nothing new, and let what is in flight end. False when it does not within ``drain_s``."""
        with self._changed:
            self._held = True
            return self._changed.wait_for(lambda: not self._working, drain_s)

    def release(self) -> None:
        """Take requests again."""
        with self._changed:
            self._held = False
            self._changed.notify_all()

    def end(self) -> None:
        """The node is stopping: what waits for somebody who leads was not taken."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def want_transfer(self, target: str) -> None:
        """An operator wants another member to lead."""
        with self._changed:
            self._transfer = target

    def transfer_wanted(self) -> str:
        """The member that is to lead, or empty."""
        return self._transfer

    def transfer_done(self) -> None:
        """It was tried."""
        with self._changed:
            self._transfer = ""

    @contextlib.contextmanager
    def _here(self, until_s: float) -> Iterator[Executor | None]:
        """The executor of this node, counted as working; None when this node does not execute."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._ended, max(0.0, until_s - time.monotonic()))
            local = None if self._held else self._local
            self._working += local is not None
        try:
            yield local
        finally:
            with self._changed:
                self._working -= local is not None
                self._changed.notify_all()

    def _somewhere(self, here: Callable[[Executor], Answer], there: Callable[[str], Answer]) -> Answer:
        """Have it done by whoever leads. Raises NotTakenError when nobody does in time."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                with self._here(until) as local:
                    if local is not None:
                        return here(local)
                leader = self._leader()
                if leader and leader != self._serving()["member"]:
                    return there(leader)
            except NotTakenError:
                pass
            if self._ended or time.monotonic() >= until:
                raise NotTakenError(
                    "no member leads", where="the cluster", expected="a leader", found=self._leader() or "none",
                    remedy="see `femtoclaw cluster status`; run it again when somebody leads",
                )  # fmt: skip
            with self._changed:
                self._changed.wait(PAUSE_S)

    # --- Executor ---

    def intent(self, raw: bytes, subject: str) -> StepResult:
        """As ``Executor.intent``."""
        return self._somewhere(
            lambda local: local.intent(raw, subject),
            lambda leader: ask_intent(self._asker(leader), raw, subject),
        )

    def run(
        self, text: str, brain_spec: str, subject: str, listener: Listener, abandoned: Callable[[], bool] = never
    ) -> RunResult:
        """As ``Executor.run``; what another node records on the way is heard at its end."""
        return self._somewhere(
            lambda local: local.run(text, brain_spec, subject, listener, abandoned),
            lambda leader: ask_run(self._asker(leader), text, brain_spec, subject, listener),
        )

    def control(
        self, command: commands.Control, brain_spec: str, compared_size: int = 0
    ) -> tuple[Recorded, RunResult | None]:
        """As ``Executor.control``: what is in ``ANYWHERE`` by whoever leads; everything else on the machine of the leader only:
        files of its home go with it."""
        if command.action in ANYWHERE:
            return self._somewhere(
                lambda local: local.control(command, brain_spec, compared_size),
                lambda leader: ask_control(self._asker(leader), command, brain_spec, compared_size),
            )
        return self._only_here().control(command, brain_spec, compared_size)

    def perform(self, command: commands.Control) -> Recorded:
        """As ``Executor.perform``, on the machine of the leader only."""
        return self._only_here().perform(command)

    def _only_here(self) -> Executor:
        """This node's executor. One that has just been started is to be let in to lead, and then opens its log: both are waited
        for. Raises NotTakenError when another member leads, and when the time is over."""
        until = time.monotonic() + OPENING_S
        with self._changed:
            while self._local is None or self._held:
                leader = self._leader()
                if leader not in ("", self._serving()["member"]) or time.monotonic() >= until or self._ended:
                    raise NotTakenError(
                        "this member does not lead", where="the served node", expected="the leader",
                        found=f"{leader} leads" if leader else f"nobody leads, for {OPENING_S:g} s",
                        remedy="run it on the leader's machine; `femtoclaw cluster status` says which",
                    )  # fmt: skip
                self._changed.wait(PAUSE_S)
            return self._local

    def status(self) -> dict[str, Any]:
        """As ``Executor.status``."""
        from femtoclaw.cli.node import describe_log

        return describe_log(self._home, self._reader()) | {"serving": self._serving()}

    def state_at(self, index: int) -> StateAt:
        """As ``Executor.state_at``, of what is committed."""
        freshness = self._freshness()
        found, size = state_hash_at(self._reader(), index or freshness.commit)
        return StateAt(found, size, freshness)

    # --- members ---

    def answer(self, peer: str, body: bytes) -> bytes:
        """What another member asks on behalf of a client. Raises PeerRefusedError when nothing is executed here."""
        with self._here(time.monotonic() + PATIENCE_S) as local:
            if local is None:
                raise PeerRefusedError("this member does not lead", Reason.NOT_LEADING, where=peer)
            return answer(local, body)

    def _asker(self, leader: str) -> Callable[[bytes], bytes]:
        def ask(body: bytes) -> bytes:
            try:
                return self._ask(leader, body)
            except PeerRefusedError as error:
                if error.reason in (Reason.NOT_LEADING, Reason.BUSY, Reason.UNKNOWN_MEMBER):
                    raise NotTakenError("the leader has changed", where=leader) from error
                raise

        return ask
