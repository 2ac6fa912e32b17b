"""Start and stop of a node's process: open the log, fold the state, adopt changed files, close what a crash cut.

The order is the runbook's: permissions and configuration are checked before the log is opened for writing; every step
after that is an event in the log, every failure before it a line in the boot journal.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from femtoclaw import approvals, commands, config, distribution
from femtoclaw.adoption import may_be_enabled
from femtoclaw.authority import Authority, Recorded
from femtoclaw.claws import SHIPPED
from femtoclaw.crash_rules import interrupted
from femtoclaw.errors import Category, ConfigurationError, FemtoClawError, PolicyError, Severity, UnavailableError
from femtoclaw.home import (
    Home,
    check_permissions,
    effective_configuration,
    journal,
    last_failure,
    policy_text,
    require,
)
from femtoclaw.integrity import DISTRIBUTION, check_recorded, refuse_root, settle_staged, takes_files
from femtoclaw.key_file import KeySigner
from femtoclaw.keys import load_signer, parse_public_key, select_signer, settle
from femtoclaw.lifecycle import IN_DOUBT, RuntimeState
from femtoclaw.policy import engine_version
from femtoclaw.restore import load_state
from femtoclaw.restored_log import refuse_restored
from femtoclaw.sealing import NoSubjectKeyError, Sealer
from femtoclaw.snapshot import FILE_NAME as SNAPSHOT_FILE
from femtoclaw.snapshot import encode_snapshot
from femtoclaw.sources import Sources
from femtoclaw.state import Node
from femtoclaw.subject_keys import StoredKeys, destroy_erased
from femtoclaw.version import VERSION
from wal import Examination, Log, LogError, open_log_directory
from wal.errors import LogFullError, WrongKeyError
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


Opener = Callable[[KeySigner, Callable[[], int]], tuple[Log, Examination]]
"""Opens the log for writing with a key and a clock: what a member of a cluster does when it has been let in to lead."""


def start(
    home: Home, sources: Sources, *, adopting: frozenset[str] = frozenset(), room: int = 0, opener: Opener | None = None,
    in_doubt: bool = False,
) -> Started:  # fmt: skip
    """Open a node for work. ``adopting`` names the files that an operator is about to have adopted (``CONFIGURATION``,
    ``POLICY``): they may differ from what is recorded. ``room`` is the least size of the log's map in bytes: who is about
    to raise it needs it for the record of that. ``opener`` opens the log where a member leads it; ``in_doubt``: its last
    leader may have acted on records that nobody else has (CR-5). Raises the errors of each step; each is also a line in the
    boot journal."""
    require(home)
    boot_id = sources.new_id()
    try:
        opened = _verify_and_open(home, sources, boot_id, adopting, room, opener)
    except (FemtoClawError, LogError) as error:
        journal(home, sources.wall_ns(), "start_failed", boot_id=boot_id, error=type(error).__name__, text=str(error))
        raise
    log, authority, examination = opened.log, opened.authority, opened.examination
    try:
        version, python = VERSION, sys.version.split()[0]
        verdict = IN_DOUBT if in_doubt else _verdict(log, examination)
        authority.perform(commands.StartRuntime(boot_id, version, python, verdict, opened.checks))
        _tell_storage(home, sources, authority, examination)
        unknown, cut = _close_interrupted(authority)
        _expire_approvals(authority, sources)
        adopted = _adopt(home, authority, opened.effective, opened.policy)
    except FemtoClawError as error:
        # The operator's files are wrong, the log is not: leave it closed in order, with the reason in it.
        journal(home, sources.wall_ns(), "start_failed", boot_id=boot_id, error=type(error).__name__, text=str(error))
        told = commands.RecordError(
            sources.new_id(), error.category.value, error.severity.value, error.code, "boot", error.what
        )
        with contextlib.suppress(FemtoClawError, LogError):
            authority.perform(told)
        stop(
            Started(home, sources, log, authority, examination, (), (), (), opened.signer, opened.subjects),
            f"start failed: {error.code}",
        )
        raise
    except BaseException:
        log.abandon()
        raise
    journal(home, sources.wall_ns(), "started", boot_id=boot_id, size=log.size, case=examination.case.label)
    return Started(
        home, sources, log, authority, examination, tuple(unknown), tuple(cut), tuple(adopted), opened.signer,
        opened.subjects,
    )  # fmt: skip


class _Opened(NamedTuple):
    """A node whose files have passed every check, with its log open and nothing recorded yet."""

    log: Log
    examination: Examination
    authority: Authority
    signer: KeySigner
    subjects: StoredKeys
    effective: dict[str, Any]
    policy: str
    checks: tuple[str, ...]


def _verify_and_open(
    home: Home, sources: Sources, boot_id: str, adopting: frozenset[str], room: int, opener: Opener | None
) -> _Opened:  # fmt: skip
    """Every check in the runbook's order, each a line in the boot journal when it is passed. Raises the error of the
    first that is not: no later one is made then."""

    def passed(name: str) -> None:
        journal(home, sources.wall_ns(), "stage", boot_id=boot_id, stage=name, result="verified", verifier="node")

    accepting = DISTRIBUTION in adopting
    runs_from = distribution.integrity() if accepting else distribution.require(home)
    for stage in distribution.stages():
        journal(home, sources.wall_ns(), "stage", boot_id=boot_id, **stage)
    check_permissions(home)
    effective = effective_configuration(home, None)
    refuse_root(effective)
    passed("configuration")
    policy = policy_text(home, effective)
    passed("policy")
    if opener is None:
        log, examination, signer = _open(home, sources, max(room, effective["memory"]["map_bytes"]))
    else:
        signer = load_signer(home)
        log, examination = opener(signer, sources.wall_ns)
    try:
        if not accepting:
            distribution.require(home, log.key)
        passed("keys and log")
        subjects = StoredKeys(home, signer)
        authority = _authority(log, Sealer(subjects))
        destroy_erased(home, signer, authority.state.node.erased)
        if settle_staged(home, authority.state.node, effective):
            effective = effective_configuration(home, None)
            policy = policy_text(home, effective)
        checks = (*runs_from.check(), *check_recorded(home, authority.state.node, effective, policy, adopting))
        passed("registry and record")
    except BaseException:
        log.abandon()
        raise
    return _Opened(log, examination, authority, signer, subjects, effective, policy, checks)


def _open(home: Home, sources: Sources, map_bytes: int) -> tuple[Log, Examination, KeySigner]:
    """Open the log with the key that is in force, and bring the key files to what it says: a crash may have come between
    the record of a rotation and them."""
    refuse_restored(home)
    signer = load_signer(home)
    try:
        log, examination = open_log_directory(home.log, signer=signer, clock=sources.wall_ns, map_bytes=map_bytes)
    except WrongKeyError as error:
        # Whoever has the key that the log names opens it: a rotation leaves it in a file of its own until it is settled.
        try:
            signer = select_signer(home, parse_public_key(str(error.expected), home.log))
        except ConfigurationError:
            raise error from None
        log, examination = open_log_directory(home.log, signer=signer, clock=sources.wall_ns, map_bytes=map_bytes)
    try:
        settle(home, signer.public, [signer])
    except BaseException:
        log.abandon()
        raise
    return log, examination, signer


def _verdict(log: Log, examination: Examination) -> str:
    """What opening decided, or that the log was rebuilt right before and something about its end is in doubt."""
    index = log.size
    while index and (record := log.read(index)).kind == KIND_RECOVERED:
        act = decode_recovered(record.payload, f"index {index}")
        if isinstance(act, Rebuilt) and act.doubt:
            return IN_DOUBT
        index -= 1
    return examination.case.verdict.value


def _tell_storage(home: Home, sources: Sources, authority: Authority, examination: Examination) -> None:
    """Record what was found on opening, and what stopped the log before: then it could not be recorded (STORAGE-21.1)."""
    verdict = examination.case.verdict.value
    for severity, code, told in (
        (Severity.WARNING, verdict, "; ".join(examination.findings)),
        (Severity.ERROR, "STORAGE_FAILED", last_failure(home)),
    ):
        if told:
            category = Category.MEMORY.value
            error = commands.RecordError(sources.new_id(), category, severity.value, code, "storage", told[:TOLD_MAX])
            authority.perform(error)


def _authority(log: Log, sealer: Sealer) -> Authority:
    try:
        authority = Authority(log, load_state(log), sealer=sealer)
        authority.observer = _Snapshots(log, authority)
        return authority
    except BaseException:
        log.abandon()
        raise


def stop(started: Started, reason: str) -> None:
    """Record the stop, write a snapshot, and close the log in any case, in order as far as it still can be.

    After the authority has refused, its state may hold what was never recorded: then neither a stop nor a snapshot is
    written, and the next start folds the log. Raises what closing the log raises.
    """
    log, authority = started.log, started.authority
    try:
        if log.failure is None and authority.refusal is None:
            _record_stop(log, authority, reason)
        elif log.failure is not None:
            journal(started.home, started.sources.wall_ns(), "storage_failed", text=str(log.failure))
    except LogFullError as error:
        # What was done is recorded; only the stop is not. The next start meets the full log and says what to do.
        journal(started.home, started.sources.wall_ns(), "stop_not_recorded", text=str(error))
    finally:
        log.close()


def _record_stop(log: Log, authority: Authority, reason: str) -> None:
    stopped: Recorded | None = None
    if authority.state.node.process is RuntimeState.IDLE:
        stopped = authority.perform(commands.StopRuntime(reason))
    authority.contain("stopped")
    if stopped is not None:
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
        return f"uid {os.getuid()}"
