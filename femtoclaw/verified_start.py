"""What a start verifies before anything is executed, step by step in the runbook's order, and the log that it then opens.

After a clean stop everything is compared before the log is opened for writing. After an unclean one recovery comes first: what
the files are compared with is only known when the end of the log is.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Callable
from typing import Any, NamedTuple

from femtoclaw import config, distribution, events
from femtoclaw.authority import Authority
from femtoclaw.errors import ConfigurationError, FemtoClawError, IntegrityError
from femtoclaw.home import Home, check_permissions, effective_configuration, journal, policy_text
from femtoclaw.integrity import (
    DISTRIBUTION,
    VERIFIED,
    Check,
    check_configuration,
    check_policy,
    check_recorded,
    check_registry,
    refuse_root,
    require_registered,
    require_signed_files,
    sandbox,
    settle_staged,
    staged,
)
from femtoclaw.key_file import KeySigner
from femtoclaw.keys import load_signer, parse_public_key, select_signer, settle
from femtoclaw.migration.starting import check_migrated
from femtoclaw.noted_end import note_of, refuse_older
from femtoclaw.preflight import privilege
from femtoclaw.restore import fold_records, load_state
from femtoclaw.restored_log import RESUMING, refuse_aside, refuse_restored
from femtoclaw.sealing import Sealer
from femtoclaw.sources import Sources
from femtoclaw.state import Node, State
from femtoclaw.subject_keys import StoredKeys, destroy_erased
from wal import Examination, Log, LogError, open_log_directory, read_log_directory
from wal.errors import WrongKeyError
from wal.head import read_slots
from wal.key_history import KeyHistory
from wal.record import Head

STEPS = ("distribution", "configuration", "policy", "registry", "keys", "observability", "audit_log", "runtime")
"""A start, in order (RUNBOOK-5.1). Before the first the host has verified the launcher; between keys and observability stands
the memory that the log holds (DEPLOY-17.1)."""

START, MEMORY = "start", "memory"

Opener = Callable[[KeySigner, Callable[[], int]], tuple[Log, Examination]]
"""Opens the log for writing with a key and a clock: what a member of a cluster does when it has been let in to lead."""


class Steps:
    """The steps of one start, each a line in the boot journal when it is passed. ``at`` is the one that is under way."""

    def __init__(self, home: Home, sources: Sources, boot_id: str) -> None:
        self._home = home
        self._sources = sources
        self.boot_id = boot_id
        self.at = STEPS[0]
        self.taken: list[events.StepTaken] = []

    def told(self, **line: str) -> None:
        """What somebody else has verified, for the journal."""
        journal(self._home, self._sources.wall_ns(), "stage", boot_id=self.boot_id, **line)

    def passed(self, step: str, digest: str, detail: str = "", result: str = "verified", **more: object) -> None:
        """``step`` is done; ``digest`` is of what it was about. ``more`` stands in the journal only."""
        now = self._sources.wall_ns()
        number = {"step": STEPS.index(step) + 1} if step in STEPS else {}
        line = {
            "verifier": "node",
            "result": result,
            "digest": digest,
            "detail": detail,
            **number,
            **more,
            "stage": step,
        }
        journal(self._home, now, "stage", boot_id=self.boot_id, **line)
        phase = START if step in STEPS else "initialize"
        told = "skipped" if result == "unverified" else result
        self.taken.append(events.StepTaken(self.boot_id, phase, step, told, digest, detail, now))
        if step in STEPS[:-1]:
            self.at = STEPS[STEPS.index(step) + 1]


class Opened(NamedTuple):
    """A node whose files have passed every check, with its log open and nothing recorded yet."""

    log: Log
    examination: Examination
    authority: Authority
    signer: KeySigner
    subjects: StoredKeys
    effective: dict[str, Any]
    policy: str
    checks: tuple[str, ...]


class _View(NamedTuple):
    """What a log that was closed in order says, before it is opened for writing."""

    head: Head
    state: State
    keys: KeyHistory


class _Files(NamedTuple):
    """The files of the home as they are read, and what was found of them."""

    effective: dict[str, Any]
    policy: str
    signer: KeySigner
    checks: tuple[str, ...]


def verify_and_open(
    home: Home, sources: Sources, steps: Steps, adopting: frozenset[str], room: int, opener: Opener | None
) -> Opened:  # fmt: skip
    """Every check in the runbook's order. Raises the error of the first that is not passed: no later one is made then."""
    refuse_aside(home)
    runs_from = _verify_distribution(home, steps, adopting)
    effective = _read_configuration(home)
    if opener is None and RESUMING not in adopting:
        refuse_restored(home)
    map_bytes = max(room, effective["memory"]["map_bytes"])
    view = _view(home) if opener is None and not staged(home, effective) else None
    if view is not None:
        files = _verify_files(home, steps, effective, view, None, adopting)
        log, examination, signer = _open(home, sources, files.signer, map_bytes)
    else:
        log, examination, signer = _open_first(home, sources, steps, effective, map_bytes, opener)
    try:
        subjects = StoredKeys(home, signer)
        state = _state(log, view)
        destroy_erased(home, signer, state.node.erased)
        if view is None:
            if settle_staged(home, state.node, effective):
                effective = _read_configuration(home)
            steps.at = "configuration"
            files = _verify_files(home, steps, effective, _View(log.head, state, log.keys()), signer, adopting)
        elif log.head != view.head:
            files = _verify_again(home, files, state.node, log.keys(), adopting)
        if opener is None and RESUMING not in adopting:
            refuse_older(home, log)
        check_migrated(home, log)
        noted = note_of(log, log.size, log.head.link)
        told = f"{examination.case.verdict.value}, {log.size} records"
        steps.passed("audit_log", log.head.link.hex(), told, "done", **noted)
        authority = Authority(log, state, sealer=Sealer(subjects))
    except BaseException:
        log.abandon()
        raise
    return Opened(
        log, examination, authority, signer, subjects, files.effective, files.policy,
        (*runs_from.check(), *files.checks),
    )  # fmt: skip


def _verify_distribution(home: Home, steps: Steps, adopting: frozenset[str]) -> distribution.Integrity:
    runs_from = distribution.integrity() if DISTRIBUTION in adopting else distribution.require(home)
    launcher, verified = distribution.stages()
    steps.told(**launcher)
    more = {name: text for name, text in verified.items() if name not in ("stage", "result", "digest")}
    steps.passed("distribution", runs_from.digest, "", runs_from.result, **more)
    return runs_from


def _read_configuration(home: Home) -> dict[str, Any]:
    check_permissions(home)
    effective = effective_configuration(home, None)
    refuse_root(effective)
    return effective


def _view(home: Home) -> _View | None:
    """What the log holds, read beside whoever may write it; None after an unclean stop, and where it cannot be told: then
    opening it finds out, and says so."""
    try:
        reader = read_log_directory(home.log)
    except LogError:
        return None
    try:
        if not read_slots(reader.storage.read_slots()).clean:
            return None
        keys, head = reader.keys(), reader.head
        if keys.newest.members is not None:
            return None  # who may write such a log is not a question of its key
        return _View(head, load_state(reader, head.index), keys)
    except (LogError, FemtoClawError):
        return None
    finally:
        reader.close()


def _verify_files(
    home: Home, steps: Steps, effective: dict[str, Any], view: _View, signer: KeySigner | None, adopting: frozenset[str]
) -> _Files:
    """The files against what is recorded: configuration, policy, registry and keys; then the memory that the log holds, and
    what of it is told to whom. ``signer`` is who has opened the log already."""
    node = view.state.node
    try:
        configuration = check_configuration(home, node, effective, adopting)
    except IntegrityError:
        require_registered(home, node, effective)  # a claw that is none is a mistake in the file before it is a difference
        raise
    steps.passed("configuration", configuration[2], _found(node.configuration.version, configuration))
    text = policy_text(home, effective)
    policy = check_policy(home, node, effective, text, adopting)
    steps.passed("policy", policy[2], _found(node.policy.version, policy))
    require_registered(home, node, effective)
    registry = check_registry(node)
    steps.passed("registry", registry[2], f"{len(node.registry)} claws")
    signer = signer if signer is not None else _signer_in_force(home, view.keys)
    _require_trusted(home, node, view.keys, adopting)
    steps.passed("keys", signer.public.key_id.hex(), signer.public.name)
    steps.passed(MEMORY, view.head.link.hex(), f"{view.head.index} records", "done")
    told = config.digest(config.canonical({"observability": effective["observability"]}))
    steps.passed("observability", told, "", "done")
    kernel = ("privileges", privilege(), "", "kernel", "sandbox", sandbox(), "", "kernel")
    return _Files(effective, text, signer, (*configuration, *policy, *registry, *kernel))


def _verify_again(home: Home, files: _Files, node: Node, keys: KeyHistory, adopting: frozenset[str]) -> _Files:
    """Another process has written to the log since the files were compared with it."""
    effective = _read_configuration(home)
    text = policy_text(home, effective)
    _require_trusted(home, node, keys, adopting)
    return _Files(effective, text, files.signer, check_recorded(home, node, effective, text, adopting))


def _found(version: int, check: Check) -> str:
    """Which version is in force, and what the files are to it unless they are the same."""
    return f"version {version}" if check[1] == VERIFIED else f"version {version}, {check[1]}"


def _signer_in_force(home: Home, keys: KeyHistory) -> KeySigner:
    """The signer of the key that the log says is in force. Raises as ``load_signer``, or what opening the log with another
    key raises."""
    signer = load_signer(home)
    if signer.public == keys.newest.key:
        return signer
    try:
        return select_signer(home, keys.newest.key)
    except ConfigurationError:
        raise keys.wrong_key(signer.public.vkey(), home.log) from None


def _require_trusted(home: Home, node: Node, keys: KeyHistory, adopting: frozenset[str]) -> None:
    require_signed_files(home, node, adopting)
    if DISTRIBUTION not in adopting:
        distribution.require(home, keys.newest.key)


def _open_first(
    home: Home, sources: Sources, steps: Steps, effective: dict[str, Any], map_bytes: int, opener: Opener | None
) -> tuple[Log, Examination, KeySigner]:
    """Open the log before the files are compared with it; what of them is wrong in itself is found before."""
    steps.at = "policy"
    policy_text(home, effective)
    steps.at = "keys"
    signer = load_signer(home)
    steps.at = "audit_log"
    if opener is not None:
        return (*opener(signer, sources.wall_ns), signer)
    return _open(home, sources, signer, map_bytes)


def _open(home: Home, sources: Sources, signer: KeySigner, map_bytes: int) -> tuple[Log, Examination, KeySigner]:
    """Open the log with the key that is in force, and bring the key files to what it says: a crash may have come between
    the record of a rotation and them."""
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


def _state(log: Log, view: _View | None) -> State:
    """The state at the head of the log, from what was read of it before where that is still a part of it."""
    if view is None or log.head.index < view.head.index or log.head_at(view.head.index) != view.head:
        return load_state(log)
    if log.head == view.head:
        return view.state
    return fold_records(view.state, log.scan(view.head.index + 1))
