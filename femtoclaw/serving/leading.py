"""The executor of a member that leads: the local one, and what an operator's change of the membership sets going.

The request is recorded first, then the log's own record of who takes part: a crash between the two leaves an order that was not
carried out, which can be given again. Whatever the members as they are do not allow is refused before anything is recorded.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from cluster.driver import Driver
from femtoclaw import commands, events
from femtoclaw.api.executor import Executor, StateAt, never
from femtoclaw.authority import Recorded
from femtoclaw.membership import ACTIONS, PROMOTE, REMOVE, TRANSFER, MembershipRefusedError, member_of, membership_after
from femtoclaw.runtime import Listener, RunResult, StepResult
from wal import Log
from wal.membership import Membership

BEHIND_MAX = 1024
"""Records that a learner may lack when it is made a voter: it gets them within moments."""

CATCHING_UP_S = 12.0
"""How long a promotion waits for a learner that has just been started, or is about to have everything."""

_LOOK_S = 0.1


class LeadingExecutor:
    """``Executor`` of the member that leads. Thread-safe."""

    def __init__(self, local: Executor, log: Log, driver: Driver, want_transfer: Callable[[str], None]) -> None:
        """``want_transfer`` is told who is to lead."""
        self._local = local
        self._log = log
        self._driver = driver
        self._want_transfer = want_transfer
        self._changing = threading.Lock()

    def intent(self, raw: bytes, subject: str) -> StepResult:
        """As ``Executor.intent``."""
        return self._local.intent(raw, subject)

    def run(
        self, text: str, brain_spec: str, subject: str, listener: Listener, abandoned: Callable[[], bool] = never
    ) -> RunResult:
        """As ``Executor.run``."""
        return self._local.run(text, brain_spec, subject, listener, abandoned)

    def control(
        self, command: commands.Control, brain_spec: str, compared_size: int = 0
    ) -> tuple[Recorded, RunResult | None]:
        """As ``Executor.control``; a change of the membership is carried out when it was permitted."""
        if command.action in ACTIONS:
            return self._change(command), None
        return self._local.control(command, brain_spec, compared_size)

    def perform(self, command: commands.Control) -> Recorded:
        """As ``Executor.perform``."""
        return self._change(command) if command.action in ACTIONS else self._local.perform(command)

    def status(self) -> dict[str, Any]:
        """As ``Executor.status``."""
        return self._local.status()

    def state_at(self, index: int) -> StateAt:
        """As ``Executor.state_at``."""
        return self._local.state_at(index)

    def _change(self, command: commands.Control) -> Recorded:
        """One change of the members at a time, and only behind the one before it: both majorities must have that."""
        with self._changing:
            members = self._after(command)
            recorded = self._local.perform(command)
            decided = next(event for event in recorded.events if isinstance(event, events.ControlDecided))
            if decided.decision == "AUTHORIZED":
                if command.action == TRANSFER:
                    self._want_transfer(command.resource)
                else:
                    self._log.change_members(members)
            return recorded

    def _after(self, command: commands.Control) -> Membership:
        """What the change makes of the membership. Raises MembershipRefusedError, ConfigurationError."""
        current, name = self._log.keys().newest.members, command.resource
        try:
            entry = json.loads(command.content)
        except ValueError:
            entry = {}
        members = membership_after(current, command.action, member_of(entry, "the request's content"))
        # Also behind the begin of this epoch: what the leader of before has changed may be on its way to a majority still.
        before = max(self._driver.store.membership_before()[0], self._driver.begun)
        if command.action != TRANSFER and self._driver.commit < before:
            raise MembershipRefusedError(
                "ANOTHER_CHANGE", "the change before this one is not stored by a majority yet", where=name,
                remedy="wait until it is, then order it again: two at once have no majority in common",
            )  # fmt: skip
        if command.action in (PROMOTE, TRANSFER):
            self._wait_for(name, CATCHING_UP_S if command.action == PROMOTE else 0.0)
        if command.action == REMOVE and name == self._driver.name:
            raise MembershipRefusedError(
                "LEADS", "the member that leads cannot go", where=name, expected="another one leads",
                remedy="hand the leadership over first: `femtoclaw cluster transfer NAME`",
            )  # fmt: skip
        return members

    def _wait_for(self, name: str, seconds: float) -> None:
        """Until this member has everything, but for what it gets within moments. Raises MembershipRefusedError."""
        until = time.monotonic() + seconds
        while True:
            with self._driver.locked() as replica:
                leads = replica.leading is not None
                behind = replica.leading.behind(name) if replica.leading is not None else None
            if behind is not None and behind <= BEHIND_MAX:
                return
            if not leads or time.monotonic() >= until:
                break
            time.sleep(_LOOK_S)
        raise MembershipRefusedError(
            "NOT_CAUGHT_UP", "this member has not everything yet", where=name, expected=f"<= {BEHIND_MAX} records behind",
            found="not connected" if behind is None else f"{behind} records behind",
            remedy="see that it is served; when `femtoclaw cluster status` shows that it has caught up, order it again",
        )  # fmt: skip
