"""Building a home's next log beside the present one. What comes out follows from the old log, the node's key and the first
operator's public key, bit for bit: times are those of the old log, and nothing is drawn by chance.

A build that was cut goes on where it was: what is there is compared append by append with what belongs there.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from femtoclaw import commands, config
from femtoclaw.authority import Authority
from femtoclaw.claws import SHIPPED
from femtoclaw.control_policy import ROLES
from femtoclaw.event_codec import decode, encode
from femtoclaw.migration.plan import Plan
from femtoclaw.migration.refusal import MigrationUnsoundError
from femtoclaw.policy import engine_version
from femtoclaw.restore import load_state
from wal import Log, create_log_directory, open_log_directory
from wal.errors import LogError
from wal.note import PublicKey, Signer
from wal.reader import LogReader
from wal.record import FLAG_BATCH_END, KIND_EVENT, KIND_RECOVERED, Record
from wal.recovery import Verdict

Step = Callable[[str], None]
"""Told before each thing that is written; what it raises stops there."""

BLOBS = "blobs"


class Built(NamedTuple):
    """A successor: its size, its Merkle root in hex, and how many of its records are the old log's."""

    size: int
    root: str
    copied: int


class _Time:
    """The clock of a build: whatever the record that is copied says."""

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns


def build(
    plan: Plan, old: LogReader, blobs: str, path: str, signer: Signer, owner: PublicKey, configuration: bytes, map_bytes: int,
    step: Step,
) -> Built:  # fmt: skip
    """Make, or finish, the log at ``path``. ``blobs`` is the folder of the old log's blobs, ``configuration`` the canonical one
    that the home's files give under this program. Raises LogError, ConfigurationError, PolicyError."""
    clock = _Time(plan.began_ns)
    log = _resumed(plan, path, signer, clock, map_bytes)
    if log is not None and not _copy(plan, old, log, clock, step):
        log.abandon()
        log = None
    if log is None:
        step("create")
        _remove(path)
        create_log_directory(path, plan.genesis(signer), signer=signer, clock=clock, map_bytes=map_bytes)
        log, _ = open_log_directory(path, signer=signer, clock=clock, map_bytes=map_bytes, threaded=False)
    try:
        if not _copy(plan, old, log, clock, step):
            raise MigrationUnsoundError(
                "the old log was not copied whole", where=path, expected=f"{plan.size} records", found=log.size
            )
        if os.path.isdir(blobs):
            step("blobs")
            shutil.copytree(blobs, os.path.join(path, BLOBS), dirs_exist_ok=True)
        clock.now_ns = plan.ended_ns
        if log.size == plan.size:
            _add(plan, log, owner, configuration, step)
        size = log.size
    except BaseException:
        log.abandon()
        raise
    log.close()
    return Built(size, _root(path, size), plan.size)


def _resumed(plan: Plan, path: str, signer: Signer, clock: _Time, map_bytes: int) -> Log | None:
    """What an earlier attempt made, when it can be gone on with: no more than copies of the old log's appends."""
    if not os.path.isdir(path):
        return None
    try:
        log, examination = open_log_directory(path, signer=signer, clock=clock, map_bytes=map_bytes, threaded=False)
    except LogError:
        return None
    if examination.case.verdict is Verdict.OPEN and log.origin == plan.new_origin and log.size <= plan.size:
        return log
    log.abandon()
    return None


def _copy(plan: Plan, old: LogReader, log: Log, clock: _Time, step: Step) -> bool:
    """Append what is missing of the old log. False when what is there already is something else."""
    there = log.size
    for batch in appends(old.scan(2, plan.size + 1)):
        payloads = [renewed(record) for record in batch]
        if batch[-1].index <= there:
            found = [log.read(record.index) for record in batch]
            if [record.payload for record in found] != payloads or found[0].time_ns != batch[0].time_ns:
                return False
            continue
        step(f"append {batch[0].index}")
        clock.now_ns = batch[0].time_ns
        if batch[0].kind == KIND_RECOVERED:
            log.append_recovered(payloads)
        else:
            log.append(payloads)
    return log.size == plan.size


def appends(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Records append by append; one that is not marked as the end of an append ends where its kind does."""
    pending: list[Record] = []
    for record in records:
        if pending and pending[-1].kind != record.kind:
            yield pending
            pending = []
        pending.append(record)
        if record.flags & FLAG_BATCH_END:
            yield pending
            pending = []
    if pending:
        yield pending


def renewed(record: Record) -> bytes:
    """The payload in the successor: an event in its newest version, anything else as it is. Raises EventFormatError."""
    return encode(decode(record.payload)) if record.kind == KIND_EVENT else record.payload


def _add(plan: Plan, log: Log, owner: PublicKey, configuration: bytes, step: Step) -> None:
    """What the newer format has and the older had not. Until there is a control policy, nobody has to be asked."""
    authority = Authority(log, load_state(log))
    name = owner.name
    for claw in SHIPPED:
        known = authority.state.node.registry.get(claw.name)
        if known is None or known.digest != claw.digest():
            step(f"claw {claw.name}")
            authority.perform(commands.RegisterClaw(claw.canonical()))
    step("configuration")
    authority.perform(commands.AdoptConfiguration(configuration, name))
    step("policy")
    authority.perform(commands.AdoptPolicy(authority.state.node.policy.text, engine_version(), name))
    step("control")
    operators = (name, owner.vkey(), ",".join(sorted(ROLES)))
    authority.perform(commands.FoundControl(operators, plan.control, engine_version(), name))
    assert config.digest(configuration) == authority.state.node.configuration.digest


def _root(path: str, size: int) -> str:
    from wal.reader import read_log_directory

    reader = read_log_directory(path)
    try:
        return reader.tree().root(size).hex()
    finally:
        reader.close()


def _remove(path: str) -> None:
    """Remove what an earlier attempt left: it was never in use."""
    if os.path.lexists(path):
        shutil.rmtree(path)
