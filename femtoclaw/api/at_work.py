"""What a node needs while many calls are at work at once: listeners by run, secrets that change, changes that must be alone."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from femtoclaw.api.executor import NotTakenError
from femtoclaw.api.limits import EXCLUSIVE_SECONDS
from femtoclaw.authority import Recorded
from femtoclaw.brains import Brain, Context, Thought
from femtoclaw.errors import BrainError
from femtoclaw.isolation import Outcome
from femtoclaw.manifest import Manifest
from femtoclaw.runtime import Listener
from femtoclaw.state import Node
from femtoclaw.vault import Vault


class InterruptedRunError(BrainError):
    """The node stops, and the run took longer than it waits."""

    code = "INTERRUPTED"
    default_remedy = "what was executed is recorded (see `femtoclaw log`); run it again when the node is served again"


class AbandonedBrain:
    """A brain that stops thinking when nobody waits for the answer any more, or when the node cannot wait for it."""

    def __init__(self, brain: Brain, abandoned: Callable[[], bool], stopping: Callable[[], bool]) -> None:
        self.name = brain.name
        self._brain = brain
        self._abandoned = abandoned
        self._stopping = stopping

    def think(self, context: Context) -> Thought:
        """As the brain's own. Raises BrainError when the run is abandoned, InterruptedRunError when the node stops."""
        if self._stopping():
            raise InterruptedRunError("the node stops and waits no longer", where="the served node")
        if self._abandoned():
            raise BrainError("whoever asked has gone away", where="the served node", remedy="run it again")
        return self._brain.think(context)


class Listeners:
    """Passes what is recorded to the listener of the run whose thread it is recorded on."""

    def __init__(self) -> None:
        self._local = threading.local()

    def __call__(self, recorded: Recorded) -> None:
        """What a listener raises is dropped, and it with it: who watches must not decide, and not disturb other runs."""
        listener = getattr(self._local, "listener", None)
        if listener is not None:
            try:
                listener(recorded)
            except Exception:
                self._local.listener = None

    @contextlib.contextmanager
    def of_this_thread(self, listener: Listener) -> Iterator[None]:
        """Inside, ``listener`` hears what this thread records."""
        self._local.listener = listener
        try:
            yield
        finally:
            self._local.listener = None


class CurrentVault:
    """``Vault`` whose secrets can be read anew."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def replace(self, vault: Vault) -> None:
        """Take the secrets from here on from another one."""
        self._vault = vault

    def granted(self, node: Node, manifest: Manifest) -> dict[str, str]:
        """As ``Vault.granted``."""
        return self._vault.granted(node, manifest)

    def redact(self, raw: bytes) -> bytes:
        """As ``Vault.redact``."""
        return self._vault.redact(raw)

    def redact_message(self, raw: bytes) -> bytes:
        """As ``Vault.redact_message``."""
        return self._vault.redact_message(raw)

    def redact_outcome(self, outcome: Outcome) -> Outcome:
        """As ``Vault.redact_outcome``."""
        return self._vault.redact_outcome(outcome)


class Traffic:
    """Calls side by side, or one change alone. A change that waits goes before calls that come later."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._calls = 0
        self._waiting = 0
        self._alone = False
        self._closed = False

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Inside, no change is alone. Raises NotTakenError once it is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._closed or (not self._alone and not self._waiting))
            self._refuse_when_closed()
            self._calls += 1
        try:
            yield
        finally:
            with self._condition:
                self._calls -= 1
                self._condition.notify_all()

    def close(self) -> None:
        """Let in nothing more."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def require_open(self) -> None:
        """Raise NotTakenError once it is closed."""
        with self._condition:
            self._refuse_when_closed()

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise NotTakenError("the node is stopping", where="the served node", expected="a node at work")

    def calls(self) -> int:
        """How many are inside."""
        with self._condition:
            return self._calls

    def drained(self, seconds: float) -> int:
        """Wait until none is inside, at most so long; how many still are."""
        with self._condition:
            self._condition.wait_for(lambda: not self._calls, seconds)
            return self._calls

    @contextlib.contextmanager
    def exclusive(self, seconds: float = EXCLUSIVE_SECONDS) -> Iterator[None]:
        """Inside, nothing else is. Raises NotTakenError when others take longer than ``seconds``."""
        with self._condition:
            self._waiting += 1
            try:
                if not self._condition.wait_for(lambda: not self._alone and not self._calls, seconds):
                    raise NotTakenError(
                        "calls are under way", where="the served node", expected=f"none within {seconds:g} s",
                        found=self._calls, remedy="wait until they have ended, then run it again",
                    )  # fmt: skip
                self._alone = True
            finally:
                self._waiting -= 1
                self._condition.notify_all()
        try:
            yield
        finally:
            with self._condition:
                self._alone = False
                self._condition.notify_all()
