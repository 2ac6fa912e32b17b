"""A member of a cluster at work: follows, and executes while it leads (``cluster.node`` does the one, ``Session`` the other).

A change of parts goes through one thread, this one: leadership is told, the log is opened with everything that a start verifies,
requests are answered; leadership is over, requests go to whoever leads, the claws are stopped, the log is a replica again. What
was in flight is the next leader's to close, by the crash rules.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import contextlib
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from cluster.driver import LOCAL, WITNESSED, Driver, Leadership
from cluster.errors import ClusterError
from cluster.node import ClusterNode, MemberSettings
from cluster.standing import ReplicaConfig
from cluster.steps import Notice, Role
from cluster.tls import load_identity
from cluster.witness_policy import parse_policy
from femtoclaw import distribution
from femtoclaw.api.executor import Freshness, NotTakenError
from femtoclaw.cli.peer_recovery import last_invitation
from femtoclaw.cli.render import Output
from femtoclaw.cluster_home import ClusterSettings, folder_of, open_coordinator, read_owner, read_settings
from femtoclaw.crash_trace import Trace
from femtoclaw.errors import Category, FemtoClawError, Severity
from femtoclaw.home import Home, check_permissions, journal, read_bounded, resolved_configuration
from femtoclaw.integrity import refuse_root
from femtoclaw.keys import load_signer
from femtoclaw.membership import Invitation, Terms, sign_invitation
from femtoclaw.monitoring.observing import Observing
from femtoclaw.restored_log import refuse_aside
from femtoclaw.serving.archive_thread import ArchiveThread
from femtoclaw.serving.erasing import Erasures
from femtoclaw.serving.following import FollowingExecutor
from femtoclaw.serving.leading import LeadingExecutor
from femtoclaw.serving.notices import CRITICAL, told_as
from femtoclaw.serving.recorded_files import follow_record
from femtoclaw.serving.references import blobs_named
from femtoclaw.serving.session import Session
from femtoclaw.serving.stopping import Stopped
from femtoclaw.serving.supervisor import Supervisor
from femtoclaw.sources import Sources
from wal import LogError
from wal.durable_file import write_file
from wal.genesis import decode_genesis
from wal.lmdb_storage import LmdbStorage
from wal.record import decode

LOOK_S = 0.2
DRAIN_S = 20.0
"""How long executions in flight may take to end before a leadership is handed over."""

STOP_EXTRA_S = 20.0
"""How long a stop may take beside what it waits for executions: its records are to be kept by others too."""

HAND_OVER_S, PAUSE_S = 5.0, 0.02
"""How long the member that is to lead may take to sign for the last record, and how often it is looked at."""

STATUS_S = 2.0

UNABLE_S_MAX = 64.0
"""How long a member that was let in to lead and could not open its log waits at most before it asks again."""

AGAIN_NS = 60_000_000_000

NOTICES_MAX = 256
"""Notices that wait to be recorded; more are only in the journal."""


class MemberNode:
    """One member process. ``run`` returns when it is told to stop."""

    def __init__(self, home: Home, sources: Sources, output: Output) -> None:
        """Raises ConfigurationError, ClusterConfigurationError, and what opening the log as a replica raises."""
        self._home = home
        self._sources = sources
        self._output = output
        self._settings = read_settings(home)
        self._stopping = threading.Event()
        self._waiting: list[Notice] = []
        self._noticing = threading.Lock()
        self._failed = 0
        self._told: dict[tuple[str, str], tuple[int, int]] = {}
        self._session: Session | None = None
        self.stopped: Stopped | None = None
        """What the stop left, where this member led until then."""
        self.supervisor = Supervisor({}, 0)
        """Who is told that the loop comes round."""
        self.executor = FollowingExecutor(
            home, lambda: self.node.driver.store.log, self._leader_of, self._ask, self._serving, self._freshness
        )
        self._remembered = 0
        self._verify_start()
        self._signer = signer = load_signer(home)
        self._erasures = Erasures(home, signer)
        identity = load_identity(folder_of(home))
        effective = resolved_configuration(home, None)
        self.node = ClusterNode(
            home.log, _member_settings(home, self._settings), signer=signer, identity=identity,
            coordinator=open_coordinator(home, self._settings, _log_id(home)), monotonic=time.monotonic_ns,
            wall=sources.wall_ns, listener=self._notice, map_bytes=effective["memory"]["map_bytes"],
            references=blobs_named, above=self.executor.answer,
        )  # fmt: skip
        replicated = self._settings.mode != LOCAL
        self.observing = Observing(
            home, sources, output, effective["observability"], runtime_id=self._settings.name, replicated=replicated
        )  # fmt: skip

    def stop(self) -> None:
        """Ask ``run`` to return. May be called from a signal handler."""
        self._stopping.set()

    def _verify_start(self) -> None:
        """What every start verifies, as far as a node that does not lead needs it: the rest when it does. Raises the error of the
        first that does not hold, which is also a line in the boot journal."""
        try:
            self._verify()
        except FemtoClawError as error:
            told = {"stage": "member", "error": type(error).__name__, "code": error.code, "text": str(error)}
            journal(self._home, self._sources.wall_ns(), "start_failed", **told)
            raise

    def _verify(self) -> None:
        refuse_aside(self._home)
        distribution.require(self._home)
        for stage in distribution.stages():
            journal(self._home, self._sources.wall_ns(), "stage", **stage)
        check_permissions(self._home)
        refuse_root(resolved_configuration(self._home, None))
        journal(self._home, self._sources.wall_ns(), "stage", stage="member", result="verified", verifier="node")

    @property
    def listens(self) -> str:
        """Where members reach this node."""
        return f"{self._settings.listen.rpartition(':')[0]}:{self.node.port}"

    # --- what the API tells ---

    def _leader_of(self) -> str:
        return self.node.driver.leader

    def _serving(self) -> dict[str, Any]:
        driver = self.node.driver
        return {
            "executes": self._session is not None, "role": driver.role.value, "leader": driver.leader,
            "leader_age_ms": driver.silence_ns() // 1_000_000,
            "member": driver.name, "epoch": driver.epoch, "commit": driver.commit, "mode": self._settings.mode,
            "coordinator": self._settings.coordinator, "restored": driver.replica.durable.restored,
            "frozen": driver.replica.durable.frozen, "monitors": self.observing.standing(),
        }  # fmt: skip

    def _freshness(self) -> Freshness:
        driver = self.node.driver
        return Freshness(self._session is not None, driver.silence_ns(), driver.commit)

    def _ask(self, member: str, body: bytes) -> bytes:
        """Ask another member's layer above. Raises NotTakenError when it cannot be reached, or does not lead: asked before
        anything is sent, so that a leader that is gone leaves no request in doubt; else ClusterError."""
        members = self.node.driver.store.membership()
        found = members.get(member) if members is not None else None
        if found is None:
            raise NotTakenError("no such member", found=member)
        with contextlib.closing(self.node.dial(found)) as peer:
            try:
                status = peer.status(STATUS_S)
            except ClusterError as error:
                raise NotTakenError("the leader cannot be reached", where=member, found=error.what) from error
            if status.freshness.role is not Role.LEADER:
                raise NotTakenError("the leader has changed", where=member, found=status.leader)
            return peer.ask(body)

    # --- notices ---

    def _once(self, notice: Notice) -> Notice | None:
        """The notice, with how often it was left out before; None while the same was told less than ``AGAIN_NS`` ago. The same is
        the same code about the same member: a stranger's every attempt must not fill the log."""
        key, now = (notice.code, notice.detail.partition(":")[0]), time.monotonic_ns()
        with self._noticing:
            told_ns, left_out = self._told.get(key, (0, 0))
            if told_ns and now - told_ns < AGAIN_NS:
                self._told[key] = told_ns, left_out + 1
                return None
            if len(self._told) >= NOTICES_MAX:
                self._told.clear()
            self._told[key] = now, 0
        return notice._replace(detail=f"{notice.detail} ({left_out} times more since)") if left_out else notice

    def _notice(self, notice: Notice) -> None:
        """On record: in the journal now, in the log when this node leads. What is said again and again is told once a minute."""
        told = self._once(notice)
        if told is None:
            return
        notice = told
        journal(self._home, self._sources.wall_ns(), "cluster", code=notice.code, text=notice.detail)
        if notice.code in CRITICAL:
            self._output.note(f"{notice.code}: {notice.detail}")
        with self._noticing:
            if told_as(notice) is not None and len(self._waiting) < NOTICES_MAX:
                self._waiting.append(notice)

    def _record_notices(self, session: Session) -> None:
        with self._noticing:
            waiting, self._waiting = self._waiting, []
        from femtoclaw import commands

        for notice in waiting:
            severity = told_as(notice) or Severity.WARNING
            category = Category.SECURITY if severity is Severity.CRITICAL else Category.MEMORY
            session.started.authority.perform(
                commands.RecordError(
                    self._sources.new_id(), category.value, severity.value, notice.code, "cluster", notice.detail[:1000]
                )
            )

    # --- the loop ---

    def run(self, ready: Callable[[], None], closing: Callable[[], None]) -> None:
        """Take part until ``stop``. ``ready`` is called when the node listens, ``closing`` before its log is closed. Raises what
        stopped the replication."""
        self.node.start()
        archive = None
        if self._settings.archive:
            target = self._settings.archive
            archive = ArchiveThread(
                target if "://" in target else self._home.inside(target), self.node.storage,
                lambda: self.node.driver.commit, lambda: self._session is not None, self._notice,
            )  # fmt: skip
            archive.start()
        self._observe_following()
        self.observing.start()
        try:
            ready()
            while not self._stopping.is_set():
                self.supervisor.alive()
                self._remember_members()
                self._erasures.follow(self.node.driver.store.log, self.node.driver.commit)
                leadership = self.node.wait_for_leadership(LOOK_S)
                if leadership is not None:
                    self._lead(leadership)
        finally:
            self.executor.end()
            self.observing.ending()
            closing()
            self.observing.stop()
            if archive is not None:
                archive.stop()
            self.node.stop()

    def _observe_following(self) -> None:
        """Look at the log as a member that does not lead, as far as it is committed."""
        log, driver = self.node.driver.store.log, self.node.driver
        self.observing.follow(log, lambda: min(driver.commit, log.size), self._serving)

    def _remember_members(self) -> None:
        """Keep who the others are beside the log, signed by this node: when the log is gone, ``recover --from-peer`` asks them."""
        store = self.node.driver.store
        members = store.membership()
        if members is None or members.version == self._remembered:
            return
        own = members.get(self._settings.name)
        if own is not None and own.voter:
            genesis = store.log.storage.get(1)
            assert genesis is not None
            log = store.log
            terms = terms_of(self._home, self._settings)
            invitation = Invitation(log.origin, log.log_id, genesis, terms, members, self._settings.name)
            write_file(last_invitation(self._home), sign_invitation(invitation, self._signer))
        self._remembered = members.version

    def _lead(self, leadership: Leadership) -> None:
        self.observing.pause()
        self._output.note(f"leading epoch {leadership.epoch} from index {leadership.begun.index} on")
        try:
            session = self._open(leadership)
        except (FemtoClawError, LogError, ClusterError) as error:
            self._output.note(f"this node was let in to lead and cannot: {error}")
            self.node.close_log(None)
            self._observe_following()
            # Another member may be able to; this one asks again later and later, when somebody may have mended it.
            self._failed += 1
            self._stopping.wait(random.uniform(0.5, 1.0) * min(2**self._failed, UNABLE_S_MAX))
            return
        self._failed = 0
        self._session = session
        log = session.started.log
        self.executor.use(LeadingExecutor(session.executor, log, self.node.driver, self.executor.want_transfer))
        self.observing.lead(session.started, self._serving)
        trace = Trace(self._home, session.boot_id)
        died = False
        try:
            self._serve(session, leadership)
        except BaseException as error:
            died = True
            trace.died(error)
            raise
        finally:
            orderly = self._stopping.is_set() and not leadership.over.is_set()
            if orderly:
                self._stop_leading(session)
            else:
                self._session = None
                self.executor.use(None)
                self.observing.pause()
                session.fence("the leadership is over")
            trace.close(remove=not died)
            self.node.close_log(None)
            if not orderly:
                self._observe_following()

    def _stop_leading(self, session: Session) -> None:
        """Stop in the runbook's order: what is recorded then is for the others to keep, too."""

        def close(stuck: int) -> None:
            self._session = None
            self.executor.use(None)

        def refuse() -> None:
            self.supervisor.stopping("the node was stopped", session.drain_s + STOP_EXTRA_S)
            self.executor.end()

        session.backgrounds.adopt(self.observing)
        self.stopped = session.stop("the node was stopped", refuse, close)

    def _serve(self, session: Session, leadership: Leadership) -> None:
        while not self._stopping.is_set() and not leadership.over.wait(LOOK_S):
            self.supervisor.alive()
            others = self._others()
            useless = why_useless(session, alone=not others)
            if useless:
                self._output.note(f"this node leads and cannot: {useless}; the leadership is given back")
                self.executor.hold(DRAIN_S)
                any(self.node.driver.transfer(each) for each in others)
                return
            try:
                self._record_notices(session)
                target = self.executor.transfer_wanted()
                if target:
                    if not self.executor.hold(DRAIN_S) or not handed_over(self.node.driver, target, self._stopping):
                        self._output.note(f"the leadership stays here: executions go on, or {target} lacks something")
                        self.executor.release()
                    self.executor.transfer_done()
            except (FemtoClawError, LogError, ClusterError) as error:
                self._output.note(f"something could not be recorded: {error}")

    def _others(self) -> list[str]:
        """The voters but this node."""
        members = self.node.driver.store.membership()
        return [each.name for each in members.voters if each.name != self._settings.name] if members is not None else []

    def _open(self, leadership: Leadership) -> Session:
        """Everything that a start verifies, with the files as the log says that they are."""
        follow_record(self._home, self.node.driver.store.log)
        keys = self.node.driver.store.log.keys()
        before = keys[-2].key if len(keys) > 1 else keys[-1].key
        taken_over = before != keys.newest.key
        return Session(
            self._home, self._sources, self._output, opener=self.node.open_log,
            in_doubt=taken_over and self._settings.mode == LOCAL, serving=self._serving, freshness=self._freshness,
        )  # fmt: skip


def terms_of(home: Home, settings: ClusterSettings) -> Terms:
    """How this member's cluster is coordinated."""
    owner = read_owner(home, settings)
    return Terms(
        settings.mode, settings.coordinator, owner.name, owner.epoch, settings.etcd, settings.etcd_prefix,
        settings.etcd_lease_s, settings.acknowledge_s, settings.patience_ms,
    )  # fmt: skip


def handed_over(driver: Driver, target: str, stopping: threading.Event) -> bool:
    """Whether the leadership could be handed over: nothing is appended now, but the last records may still be on their way."""
    until = time.monotonic() + HAND_OVER_S
    while not driver.transfer(target):
        if time.monotonic() > until or stopping.wait(PAUSE_S):
            return False
    return True


def why_useless(session: Session, *, alone: bool) -> str:
    """Why nothing more can be executed in this session, so that it is to end; empty while it can. Opening the log anew makes no
    room: a member that votes ``alone`` goes on without it."""
    log, refusal = session.started.log, session.started.authority.refusal
    if refusal is not None or log.failure is not None:
        return refusal or str(log.failure)
    return "" if alone or log.storage.room() > 0 else "there is no room for new work"


def _log_id(home: Home) -> bytes:
    """The identity of the home's log, read without its lock."""
    storage = LmdbStorage(home.log, writable=False)
    try:
        raw = storage.get(1)
        first = decode(raw if raw is not None else b"", "index 1")
        decode_genesis(first)
        return first.link
    finally:
        storage.close()


def _member_settings(home: Home, settings: ClusterSettings) -> MemberSettings:
    """Times of the protocol from the settings: a part of the patience is chance, or all would campaign at once. Raises
    ClusterConfigurationError for a witness policy that cannot be used."""
    policy = None
    if settings.mode == WITNESSED:
        path = home.inside(settings.witnesses)
        policy = parse_policy(read_bounded(path), path)
    patience = settings.patience_ms * 1_000_000
    config = ReplicaConfig(
        mode="in_sync_all" if settings.mode == "in_sync_all" else "quorum",
        patience_ns=patience + random.randrange(patience // 2),
        contact_ns=max(4 * patience, 2_500_000_000),
        heartbeat_ns=min(200_000_000, patience // 5),
    )
    return MemberSettings(settings.name, settings.listen, settings.mode, config, settings.acknowledge_s, policy)
