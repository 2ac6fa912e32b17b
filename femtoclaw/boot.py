"""Start and stop of a node's process: open the log, fold the state, adopt changed files, close what a crash cut.

The order is the runbook's: permissions and configuration are checked before the log is opened for writing; every step
after that is an event in the log, every failure before it a line in the boot journal.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import contextlib
import os
import sys
from typing import Any, NamedTuple

from cluster.errors import ClusterError
from femtoclaw import approvals, commands, config
from femtoclaw.adoption import may_be_enabled
from femtoclaw.authority import Authority, Recorded
from femtoclaw.boot_journal import since_last_start
from femtoclaw.claws import SHIPPED
from femtoclaw.crash_rules import interrupted
from femtoclaw.errors import Category, FemtoClawError, PolicyError, Severity, UnavailableError
from femtoclaw.home import Home, journal, require
from femtoclaw.integrity import takes_files
from femtoclaw.key_file import KeySigner
from femtoclaw.lifecycle import IN_DOUBT, RuntimeState
from femtoclaw.noted_end import note_of
from femtoclaw.policy import engine_version
from femtoclaw.sealing import NoSubjectKeyError
from femtoclaw.snapshot import FILE_NAME as SNAPSHOT_FILE
from femtoclaw.snapshot import encode_snapshot
from femtoclaw.sources import Sources
from femtoclaw.start_record import record_begin, record_failures
from femtoclaw.state import Node, state_hash
from femtoclaw.subject_keys import StoredKeys
from femtoclaw.verified_start import Opener, Steps, verify_and_open
from femtoclaw.version import VERSION
from wal import Examination, Log, LogError
from wal.errors import LogFullError
from wal.record import KIND_RECOVERED
from wal.recovered import Rebuilt, decode_recovered

SNAPSHOT_RECORDS = 65_536
"""A snapshot is written at every orderly stop and after this many records."""


TOLD_MAX = 1000
"""Characters of a storage error that are recorded."""


class Started(NamedTuple):
    """An open node: its authority, what recovery found, and which executions a crash had cut."""

    home: Home
    sources: Sources
    log: Log
    authority: Authority
    examination: Examination
    unknown: tuple[str, ...]
    interrupted: tuple[str, ...]
    adopted: tuple[str, ...]
    signer: KeySigner
    subjects: StoredKeys


def start(
    home: Home, sources: Sources, *, adopting: frozenset[str] = frozenset(), room: int = 0, opener: Opener | None = None,
    in_doubt: bool = False, served: bool = False,
) -> Started:  # fmt: skip
    """Open a node for work. ``adopting`` names the files that an operator is about to have adopted (``CONFIGURATION``,
    ``POLICY``): they may differ from what is recorded. ``room`` is the least size of the log's map in bytes: who is about
    to raise it needs it for the record of that. ``opener`` opens the log where a member leads it; ``in_doubt``: its last
    leader may have acted on records that nobody else has (CR-5). ``served``: the steps of the start are recorded too, and not
    only what they found: a node that opens for one command has them in the boot journal. Raises the errors of each step; each
    is also a line in the boot journal, which the next good start records."""
    require(home)
    steps = Steps(home, sources, sources.new_id())
    try:
        opened = verify_and_open(home, sources, steps, adopting, room, opener)
    except (FemtoClawError, LogError, ClusterError) as error:
        _tell_failure(home, sources, steps, error)
        raise
    log, authority, examination = opened.log, opened.authority, opened.examination
    started = Started(home, sources, log, authority, examination, (), (), (), opened.signer, opened.subjects)
    try:
        authority.observer = _Snapshots(log, authority)
        since = since_last_start(home)
        verdict = IN_DOUBT if in_doubt else _verdict(log, examination)
        record_failures(started, since)
        record_begin(started, steps, since, opened.checks, served=served)
        authority.perform(commands.StartRuntime(steps.boot_id, VERSION, sys.version.split()[0], verdict, opened.checks))
        authority.clock = sources.wall_ns
        _tell_storage(sources, authority, examination, since.storage)
        unknown, cut = _close_interrupted(authority)
        _expire_approvals(authority, sources)
        adopted = _adopt(home, authority, opened.effective, opened.policy)
    except FemtoClawError as error:
        # The operator's files are wrong, the log is not: leave it closed in order, with the reason in it.
        _tell_failure(home, sources, steps, error, recorded=True)
        told = commands.RecordError(
            sources.new_id(), error.category.value, error.severity.value, error.code, "boot", error.what
        )
        with contextlib.suppress(FemtoClawError, LogError):
            authority.perform(told)
        stop(started, f"start failed: {error.code}")
        raise
    except BaseException:
        log.abandon()
        raise
    journal(home, sources.wall_ns(), "started", boot_id=steps.boot_id, size=log.size, case=examination.case.label)
    return started._replace(unknown=tuple(unknown), interrupted=tuple(cut), adopted=tuple(adopted))


def _tell_failure(
    home: Home, sources: Sources, steps: Steps, error: FemtoClawError | LogError | ClusterError, *, recorded: bool = False
) -> None:  # fmt: skip
    """A line in the boot journal. ``recorded``: the log has it too, and the next start need not tell it."""
    journal(
        home, sources.wall_ns(), "start_failed", boot_id=steps.boot_id, stage=steps.at, error=type(error).__name__,
        code=getattr(error, "code", type(error).__name__), text=str(error), **({"recorded": True} if recorded else {}),
    )  # fmt: skip


def _verdict(log: Log, examination: Examination) -> str:
    """What opening decided, or that the log was rebuilt right before and something about its end is in doubt."""
    index = log.size
    while index and (record := log.read(index)).kind == KIND_RECOVERED:
        act = decode_recovered(record.payload, f"index {index}")
        if isinstance(act, Rebuilt) and act.doubt:
            return IN_DOUBT
        index -= 1
    return examination.case.verdict.value


def _tell_storage(sources: Sources, authority: Authority, examination: Examination, stopped_by: str) -> None:
    """Record what was found on opening, and what stopped the log before: then it could not be recorded (STORAGE-21.1)."""
    verdict = examination.case.verdict.value
    for severity, code, told in (
        (Severity.WARNING, verdict, "; ".join(examination.findings)),
        (Severity.ERROR, "STORAGE_FAILED", stopped_by),
    ):
        if told:
            category = Category.MEMORY.value
            error = commands.RecordError(sources.new_id(), category, severity.value, code, "storage", told[:TOLD_MAX])
            authority.perform(error)


def stop(started: Started, reason: str, *, snapshot: bool = True) -> None:
    """Record the stop, write a snapshot, and close the log in any case, in order as far as it still can be. Without
    ``snapshot`` whoever stops has just written one (``write_state``).

    After the authority has refused, its state may hold what was never recorded: then neither a stop nor a snapshot is
    written, and the next start folds the log. Raises what closing the log raises.
    """
    log, authority = started.log, started.authority
    noted: dict[str, object] = {}
    try:
        if log.failure is None and authority.refusal is None:
            _record_stop(log, authority, reason, snapshot)
            noted = note_of(log, log.size, log.head.link) | {"boot_id": authority.state.node.boot_id}
        elif log.failure is not None:
            journal(started.home, started.sources.wall_ns(), "storage_failed", text=str(log.failure))
    except LogFullError as error:
        # What was done is recorded; only the stop is not. The next start meets the full log and says what to do.
        journal(started.home, started.sources.wall_ns(), "stop_not_recorded", text=str(error))
    finally:
        log.close()
    # Behind the close, which can fail: only what is promised may be noted.
    if noted:
        journal(started.home, started.sources.wall_ns(), "stopped", **noted)


def write_state(started: Started) -> str:
    """Have the state hashed into the log and a snapshot of it written; the hash. Raises as ``Authority.perform``, LogError."""
    hashed = started.authority.perform(commands.HashState())
    _write_snapshot(started.log, hashed)
    return state_hash(hashed.before)


def _record_stop(log: Log, authority: Authority, reason: str, snapshot: bool) -> None:
    stopped: Recorded | None = None
    if authority.state.node.process is RuntimeState.IDLE:
        stopped = authority.perform(commands.StopRuntime(reason))
    authority.contain("stopped")
    if stopped is not None and snapshot:
        _write_snapshot(log, stopped)


def _write_snapshot(log: Log, hashed: Recorded) -> None:
    """Store the state before a batch that begins with its hash."""
    log.put_file(SNAPSHOT_FILE, encode_snapshot(hashed.before, log.head_at(hashed.receipt.first - 1)))


class _Snapshots:
    """Has the state hashed into the log and a snapshot written after every ``SNAPSHOT_RECORDS`` records."""

    def __init__(self, log: Log, authority: Authority) -> None:
        self._log = log
        self._authority = authority
        self._next = log.size + SNAPSHOT_RECORDS

    def __call__(self, recorded: Recorded) -> None:
        if recorded.receipt.last < self._next:
            return
        self._next = recorded.receipt.last + SNAPSHOT_RECORDS
        # Should it fail, the log has stopped, and the next command tells: the one that was recorded here stands.
        with contextlib.suppress(LogError, UnavailableError):
            _write_snapshot(self._log, self._authority.perform(commands.HashState()))


def _close_interrupted(authority: Authority) -> tuple[list[str], list[str]]:
    """Apply the crash rules to what the last process left in flight."""
    executions, runs = interrupted(authority.state)
    unknown: list[str] = []
    cut: list[str] = []
    for execution_id in executions:
        recorded = authority.perform(commands.ResolveInterrupted(execution_id))
        (unknown if len(recorded.events) > 1 else cut).append(execution_id)
    for run_id in runs:
        authority.perform(commands.EndRun(run_id))
    return unknown, cut


def _expire_approvals(authority: Authority, sources: Sources) -> None:
    """Close the held calls whose time is up, or that changes of the node have made void. Their runs end: who approves
    goes on with a run, a start does not."""
    now = sources.wall_ns()
    state = authority.state
    for execution_id, approval in sorted(state.live.approvals.items()):
        if approvals.live(approval, now) and approvals.in_force(state, approval):
            continue
        try:
            authority.perform(commands.ExpireApproval(execution_id, now, ""))
        except NoSubjectKeyError as error:
            # It stays held, where nobody can approve it any more: a start must not depend on one subject's key.
            told = f"{execution_id} cannot be closed: {error.what}"
            authority.perform(
                commands.RecordError(
                    sources.new_id(), error.category.value, error.severity.value, error.code, "approvals", told
                )
            )


def _adopt(home: Home, authority: Authority, effective: dict[str, Any], policy: str) -> list[str]:
    """Put in force what may come in force without an operator: the claws of this version of the program, with the
    configuration and the policy that are recorded; in development mode, and on a node without a control plane, those
    in the files."""
    operator = operator_name()
    adopted: list[str] = []
    node = authority.state.node
    for claw in SHIPPED:
        known = node.registry.get(claw.name)
        if known is None or known.digest != claw.digest():
            authority.perform(commands.RegisterClaw(claw.canonical()))
            adopted.append(f"claw {claw.name}")
    free = takes_files(node)
    content = config.canonical(effective) if free else node.configuration.content
    if config.digest(content) != node.configuration.digest or _switched_otherwise(authority.state.node, content):
        authority.perform(commands.AdoptConfiguration(content, operator))
        adopted.append(f"configuration version {authority.state.node.configuration.version}")
    text = policy if free else node.policy.text
    if text != node.policy.text or (adopted and adopted[0].startswith("claw")):
        try:
            authority.perform(commands.AdoptPolicy(text, engine_version(), operator))
        except PolicyError as error:
            error.where = ", ".join(filter(None, (home.inside(effective["policy"]["file"]), error.where)))
            raise
        adopted.append(f"policy version {authority.state.node.policy.version}")
    return adopted


def _switched_otherwise(node: Node, content: bytes) -> bool:
    """Whether a claw is on or off against what the configuration says; one whose publisher is not trusted is off."""
    wanted = config.enabled(content)
    return any(claw.enabled != (name in wanted and may_be_enabled(node, name)) for name, claw in node.registry.items())


def operator_name() -> str:
    """Who is at the command line: the login name, for the record."""
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (KeyError, ImportError):
        return f"uid-{os.getuid()}"  # a name without blanks: `init` makes a key of it
