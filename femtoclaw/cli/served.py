"""A node that another process serves, for the length of one command: what the command asks for goes over its socket, what it
looks at is read from the log beside it.

Files of the home are this command's own, as on a node at rest: it stages them, has the change recorded, and puts them in place.
One command at a time does so (a lock on the home's folder), and only where the node executes itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

from femtoclaw import commands
from femtoclaw.api.client import Client, connect
from femtoclaw.api.limits import FOLLOW_SECONDS, PATIENCE_S
from femtoclaw.api.local import STOP_FIRST
from femtoclaw.api.own_files import alone
from femtoclaw.authority import Recorded
from femtoclaw.cli.render import Output
from femtoclaw.cluster_home import is_member
from femtoclaw.config import resolve
from femtoclaw.engines import EngineCache
from femtoclaw.errors import UnavailableError
from femtoclaw.home import Home, require
from femtoclaw.key_file import KeySigner
from femtoclaw.keys import load_signer
from femtoclaw.restore import load_state
from femtoclaw.runtime import Listener, RunResult, StepResult
from femtoclaw.sealing import Sealer
from femtoclaw.sources import Sources, live
from femtoclaw.state import State
from femtoclaw.subject_keys import StoredKeys
from wal import Record
from wal.reader import read_log_directory

_POLL_SECONDS = 0.05
TELL_SECONDS = 3.0
"""How long a request may be silent before it is said that nobody leads."""


class ServedNode:
    """What commands use of a node, as ``femtoclaw.cli.execute.LocalNode`` has it."""

    served = True

    def __init__(
        self, started: ServedStarted, client: Client, settings: dict[str, Any], listener: Listener | None, output: Output
    ) -> None:  # fmt: skip
        self._output = output
        self.started = started
        self.settings = settings
        self._client = client
        self._listener = listener

    def intent(self, raw: bytes, subject: str) -> StepResult:
        """Gate one message."""
        with patience(self.started.home, self._client, self._output):
            return self._client.intent(raw, subject)

    def run(self, text: str, brain: str | None, subject: str) -> RunResult:
        """One run; the node opens the brain, so a script's path is made whole."""
        with patience(self.started.home, self._client, self._output):
            return self._client.run(text, _whole(brain), subject, self._listener)

    def control(self, command: commands.Control, brain: str | None) -> tuple[Recorded, RunResult | None]:
        """An operator's request, and what it sets going."""
        return self.started.authority.control(command, _whole(brain))


def _whole(spec: str | None) -> str:
    """The brain as the other process can find it."""
    name, colon, argument = (spec or "").partition(":")
    return f"{name}:{os.path.abspath(argument)}" if name == "script" and colon and argument else spec or ""


class ServedStarted:
    """What commands use of ``boot.Started``."""

    def __init__(self, home: Home, client: Client) -> None:
        self.home = home
        self.sources: Sources = live()
        self.subjects = ServedSubjects()
        self.log = ServedLog(home)
        self.authority = ServedAuthority(self, client)
        self._signer: KeySigner | None = None

    @property
    def signer(self) -> KeySigner:
        """The node's key, opened when it is needed. Raises as ``load_signer``."""
        if self._signer is None:
            self._signer = load_signer(self.home)
        return self._signer


class ServedSubjects:
    """Keys of subjects are the serving process's to make and to destroy."""

    def make(self, subject: str) -> None:
        """Nothing: whoever gets the request makes it."""

    def destroy(self, subject: str) -> None:
        """Nothing: whoever recorded the erasure has destroyed it."""


class ServedLog:
    """The log as others may read it beside its writer."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self.compared_size = 0
        """What the last ``scan`` covered."""

    def scan(self) -> Iterator[Record]:
        """Every record so far."""
        reader = read_log_directory(self._home.log)
        try:
            self.compared_size = reader.size
            yield from reader.scan(1, self.compared_size + 1)
        finally:
            reader.close()


class ServedAuthority:
    """The recorded state, and requests over the socket."""

    def __init__(self, started: ServedStarted, client: Client) -> None:
        self._started = started
        self._client = client
        self._state: State | None = None
        # Asks for the passphrase of the node's key only where a sealed text is to be shown.
        self.engines = EngineCache(sealer=Sealer(_LateKeys(started)))

    @property
    def state(self) -> State:
        """The state as the log has it: at first, and again after each answer."""
        if self._state is None:
            self._state = self._read(0)
        return self._state

    def perform(self, command: commands.Command) -> Recorded:
        """Have an operator's request decided. Raises UnavailableError for any other command: it is the serving process's."""
        if not isinstance(command, commands.Control):
            raise refused(type(command).__name__)
        compared = self._started.log.compared_size if command.action == "policy.set" else 0
        return self._asked(command, "", compared)[0]

    def control(self, command: commands.Control, brain: str) -> tuple[Recorded, RunResult | None]:
        """An operator's request, and what it sets going."""
        return self._asked(command, brain, 0)

    def _asked(self, command: commands.Control, brain: str, compared: int) -> tuple[Recorded, RunResult | None]:
        before = self.state
        happened, receipt, result = self._client.control(command, brain, compared)
        self._state = self._read(receipt.last)
        return Recorded(happened, receipt, self._state, before), result

    def _read(self, least: int) -> State:
        """The state at the head of the log, once it has ``least`` records: a node that follows may have them a moment later
        than the one that acknowledged. Raises UnavailableError when it does not get them."""
        until = time.monotonic() + FOLLOW_SECONDS
        reader = read_log_directory(self._started.home.log)
        try:
            while reader.size < least:
                if time.monotonic() > until:
                    raise UnavailableError(
                        "it is recorded, but this node has not got the record", where=f"index {least}",
                        expected=f"within {FOLLOW_SECONDS:g} s", found=f"{reader.size} records",
                        remedy="do not repeat it: see `femtoclaw log` when the node has caught up",
                    )  # fmt: skip
                time.sleep(_POLL_SECONDS)
            return load_state(reader)
        finally:
            reader.close()


class _LateKeys:
    """``SubjectKeys`` that opens the node's key when one is asked for."""

    def __init__(self, started: ServedStarted) -> None:
        self._started = started

    def key(self, subject: str) -> bytes | None:
        return StoredKeys(self._started.home, self._started.signer).key(subject)


def refused(what: str) -> UnavailableError:
    """The error for what only a node at rest can do."""
    return UnavailableError(
        "this cannot be done to a node that is being served", where=what, expected="a node at rest", remedy=STOP_FIRST
    )


@contextlib.contextmanager
def patience(home: Home, client: Client, output: Output) -> Iterator[None]:
    """While this is entered, say once that the request waits because nobody leads. Only in a cluster does it wait for that."""
    if not is_member(home):
        yield
        return
    over = threading.Event()

    def look() -> None:
        # A request that waits no more may take hours: it is no business of this one.
        for _ in range(int(PATIENCE_S / TELL_SECONDS)):
            if over.wait(TELL_SECONDS):
                return
            with contextlib.suppress(Exception):  # the request itself tells what goes wrong
                leads = client.status()["serving"]["leader"]
                if not leads and not over.is_set():
                    output.note(
                        f"nobody leads: waiting for up to {PATIENCE_S:g} s in all (see `femtoclaw cluster status`)"
                    )
                    return

    looking = threading.Thread(target=look, name="patience", daemon=True)
    looking.start()
    try:
        yield
    finally:
        over.set()


@contextlib.contextmanager
def open_served(home: Home, listener: Listener | None, *, files: bool, output: Output) -> Iterator[ServedNode]:
    """A node that somebody serves; ``output`` hears when nobody leads. With ``files`` the command puts files of the home in place
    beside its change: then it must be the node that executes, and no other command may be at it. Raises UnavailableError."""
    require(home)
    with connect(home) as client, contextlib.ExitStack() as stack:
        if files:
            serving = client.status()["serving"]
            if not serving["executes"]:
                raise UnavailableError(
                    "this node follows, and the change needs files of the node that leads", where=home.path,
                    expected="the leader's machine", found=f"the leader is {serving['leader'] or 'not known'}",
                    remedy="run it there",
                )  # fmt: skip
            stack.enter_context(alone(home))
        started = ServedStarted(home, client)
        recorded = json.loads(started.authority.state.node.configuration.content)
        yield ServedNode(started, client, resolve(recorded, "the recorded configuration", None), listener, output)
