"""The seven goals of every procedure (RUNBOOK-2.1), each by a look at the real thing when it is asked; nothing is remembered.

``look_at_goals(started)`` takes an open node, at rest (``boot.Started``) or served by another process (``cli.served``), and
answers ``{goal: ""}`` for a goal that is met, else what was found instead. It changes nothing and does not raise for what it
finds. It takes some milliseconds; the first look of a process at the program's files some more.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from femtoclaw.errors import FemtoClawError
from femtoclaw.operations import GOALS
from femtoclaw.state import Node
from wal.errors import LogError

if TYPE_CHECKING:
    from femtoclaw.authority import Recorded
    from femtoclaw.commands import Control
    from femtoclaw.engines import EngineCache
    from femtoclaw.home import Home
    from femtoclaw.sources import Sources
    from femtoclaw.state import State
    from wal.reader import LogReader

RECORDS_LOOKED_AT = 256
"""Records at the end of the log whose chain one look follows."""

FREE_BYTES_MIN = 256 * 1024 * 1024
"""Beside as much as the log takes: a log is rebuilt beside the old one."""

UNKNOWN_CLAW = "goals.look"
"""A claw that nobody can register: its name is this module's."""


class Deciding(Protocol):
    """What ``Authority`` and ``ServedAuthority`` have in common."""

    engines: EngineCache

    @property
    def state(self) -> State:
        """The recorded state."""

    def perform(self, command: Control) -> Recorded:
        """Have a request decided and recorded."""


class OpenNode(Protocol):
    """What ``boot.Started`` and ``cli.served.ServedStarted`` have in common."""

    @property
    def home(self) -> Home:
        """Where it is."""

    @property
    def sources(self) -> Sources:
        """Its clocks and ids."""

    @property
    def authority(self) -> Any:
        """``Deciding``."""

    @property
    def log(self) -> Any:
        """``wal.log.Log``, or something else where another process has the log open."""


def look_at_goals(started: OpenNode) -> dict[str, str]:
    """Goal to what keeps it from being met: empty for nothing. In the order of ``operations.GOALS``."""
    node = started.authority.state.node
    looks: dict[str, Callable[[], str]] = {
        "availability": lambda: _availability(started, node),
        "execution_authority": lambda: _execution_authority(started, node),
        "configuration_integrity": lambda: _configuration(started.home, node),
        "distribution_integrity": lambda: _distribution(started.home),
        "audit_integrity": lambda: _audit(started),
        "security_posture": lambda: _posture(started.home, node),
        "recoverability": lambda: _recoverability(started),
    }
    return {goal: _tried(looks[goal]) for goal in GOALS}


def _tried(look: Callable[[], str]) -> str:
    """What a look finds; an error that it meets is its finding."""
    try:
        return look()
    except (FemtoClawError, LogError, OSError) as error:
        return str(error)


def _availability(started: OpenNode, node: Node) -> str:
    """The log takes records, and the node takes work."""
    if node.contained:
        return f"the node is contained: {node.contained}"
    failure = getattr(started.log, "failure", None)
    return f"the log has stopped: {failure}" if failure is not None else ""


def _execution_authority(started: OpenNode, node: Node) -> str:
    """The authority decides, the policy engine is the one that was loaded, and a claw that nobody registered is denied."""
    from femtoclaw.authorization import CallContext, Decision

    refusal = getattr(started.authority, "refusal", None)
    if refusal is not None:
        return f"the authority refuses: {refusal}"
    engines = started.authority.engines.engines(node)
    policy = engines.policy()
    if policy is None or not policy.intact():
        return "the policy engine is not the one that was loaded"
    verdict = engines.authorize(UNKNOWN_CLAW, {}, CallContext("goals", "goals", "", 1, engines.environment))
    denied = verdict.decision is Decision.DENIED_CAPABILITY_NOT_FOUND
    return "" if denied else f"an unknown claw was answered {verdict.decision.value}"


def _configuration(home: Home, node: Node) -> str:
    """Configuration, policy and key files are the recorded ones."""
    from femtoclaw.home import effective_configuration, policy_text
    from femtoclaw.integrity import DIFFERS, check_recorded
    from femtoclaw.keys import check_index

    effective = effective_configuration(home, None)
    checks = check_recorded(home, node, effective, policy_text(home, effective), frozenset())
    check_index(home)
    return f"{checks[checks.index(DIFFERS) - 1]} differs from the record" if DIFFERS in checks else ""


def _distribution(home: Home) -> str:
    """No file of the program changed since it was verified, and the home trusts it."""
    from femtoclaw.distribution_watch import distribution_changed

    changed = distribution_changed(home)
    return f"changed: {', '.join(changed[:5])}" if changed else ""


def _audit(started: OpenNode) -> str:
    """The newest records follow from each other up to HEAD, and the newest checkpoint is this history's."""
    with reading(started) as reader:
        head, link = reader.head, b""
        for record in reader.scan(max(1, head.index - RECORDS_LOOKED_AT + 1), head.index + 1):
            link = record.link
        if link != head.link:
            return f"the last record is not the one that HEAD names: {head.index}"
        note = reader.checkpoint_note()
        if note is None:
            return "no checkpoint is signed"
        checkpoint = reader.keys().open_checkpoint(note, reader.origin).checkpoint
        same = checkpoint.size <= head.index and reader.tree().root(checkpoint.size) == checkpoint.root
        return "" if same else f"the signed checkpoint of {checkpoint.size} records is of another history"


def _posture(home: Home, node: Node) -> str:
    """Secure mode, the kernel's layers of the sandbox, and files that only their owner can change."""
    from femtoclaw.config import SECURE
    from femtoclaw.home import check_permissions
    from femtoclaw.integrity import mode_of, sandbox

    check_permissions(home)
    mode, layers = mode_of(node), sandbox()
    if mode != SECURE:
        return f"mode {mode}"
    return layers if layers.startswith("MISSING") else ""


def _recoverability(started: OpenNode) -> str:
    """HEAD is whole, the log is no restored one that waits for somebody's word, and there is room to rebuild it."""
    from femtoclaw.restored_log import has_mark
    from wal.head import read_slots

    with reading(started) as reader:
        damaged = read_slots(reader.storage.read_slots()).damaged
    if damaged:
        return f"{damaged} of 2 HEAD slots is damaged"
    if has_mark(started.home):
        return "the log was restored from an archive"
    data = os.stat(os.path.join(started.home.log, "data", "data.mdb"))
    disk = os.statvfs(started.home.log)
    free, wanted = disk.f_bavail * disk.f_frsize, FREE_BYTES_MIN + data.st_blocks * 512
    return "" if free >= wanted else f"{free} bytes free, {wanted} to rebuild the log beside itself"


@contextlib.contextmanager
def reading(started: OpenNode) -> Iterator[LogReader]:
    """The log of an open node for reading: its own where this process has it open, else beside its writer."""
    from wal.reader import LogReader, read_log_directory

    if isinstance(started.log, LogReader):
        yield started.log
        return
    reader = read_log_directory(started.home.log)
    try:
        yield reader
    finally:
        reader.close()
