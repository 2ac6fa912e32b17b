"""What each mode of acknowledgement waits for, shown with real members: and what becomes of what it waited for in vain."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.coordinator import Register, decode_register
from cluster.static_coordinator import decode_kept
from cluster.witness_client import WitnessAddress
from cluster.witness_policy import PolicyLog, PolicyWitness, WitnessPolicy, judge_note, threshold_policy
from cluster.witnessing import WITNESSED_FILE
from femtoclaw.api.client import connect
from femtoclaw.authority import Recorded
from femtoclaw.cluster_home import Owner, folder_of, read_settings, settings_path, settings_text, write_owner
from femtoclaw.event_codec import decode as decode_event
from femtoclaw.events import ExecutionStarted
from femtoclaw.keys import load_signer
from femtoclaw.restore import load_state
from tests.cli.node import call
from tests.cluster.etcd_process import free_ports
from tests.cluster.history_checks import effects, history_of
from tests.cluster.links_between import Loopback, until
from tests.cluster.members import WRITTEN, ClusterProcesses, MemberProcess, frozen
from tests.cluster.witness_process import WitnessDirectory
from wal.checkpoint import parse_checkpoint, sign_checkpoint
from wal.lmdb_storage import LmdbStorage
from wal.merkle import Frontier, leaf_hash
from wal.note import text_of
from wal.proposal import proposal
from wal.reader import LogReader
from wal.record import FLAG_BATCH_END, KIND_EVENT, frame_of
from wal.replica_opening import create_replica_directory

pytestmark = pytest.mark.timeout(240)

ACKNOWLEDGE_S = 2
AGAIN_S = 60.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterProcesses]:
    """``a`` owns the log and leads, whatever mode it is started in; ``b`` and ``c`` follow through all of it."""
    network = Loopback()
    made = ClusterProcesses(tmp_path_factory.mktemp("modes"), network, acknowledge_s=ACKNOWLEDGE_S)
    try:
        made.start()
        yield made
    finally:
        for member in made.members.values():
            print(f"{member.name}: {member.exit_code} {member.last_words()}")
        made.close()
        network.close()


def lead(cluster: ClusterProcesses, mode: str, name: str = "a", **more: str) -> MemberProcess:
    """This member, executing in that mode: its settings are changed and it is started again."""
    member = cluster[name]
    settings = read_settings(member.home)._replace(mode=mode, **more)  # type: ignore[arg-type]
    if not member.running or read_settings(member.home) != settings:
        if member.running:
            assert member.stop() == 0, member.last_words()
        Path(settings_path(member.home)).write_text(settings_text(settings))
        cluster.start(name)
    until(lambda: bool(member.status().get("executes")), f"{name} executes", AGAIN_S, cluster.describe)
    assert member.status()["mode"] == mode
    return member


def write(line: str) -> bytes:
    return json.dumps(call("fs.write", path=WRITTEN, content=line + "\n", mode="append")).encode()


def receipts(member: MemberProcess, line: str) -> set[str]:
    """The modes in all receipts of one run that writes this line."""
    script = member.node.path.parent / f"{line}.jsonl"
    script.write_bytes(write(line) + b'\n{"message":{"content":"done"}}\n')
    found: list[Recorded] = []
    with connect(member.home) as client:
        client.run("go", f"script:{script}", "", found.append)
    assert found
    return {each.receipt.mode for each in found}


@contextlib.contextmanager
def all_frozen(*members: MemberProcess) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for member in members:
            stack.enter_context(frozen(member))
        yield


def tried(member: MemberProcess, line: str) -> int:
    """The exit code of one execution from the command line."""
    return member.node.call("intent", "-", stdin=write(line), expect=None).code


def works_again(member: MemberProcess, line: str) -> None:
    """Until an execution is taken and acknowledged; whoever leads anew may need a while."""

    def done() -> bool:
        return bool(member.status().get("executes"))

    until(done, f"{member.name} executes again", AGAIN_S)
    assert tried(member, line) == 0, member.last_words()


def test_quorum(cluster: ClusterProcesses) -> None:
    """One follower is enough. With none the outcome is unknown, the claw has not run, and the epoch is given up."""
    leader = lead(cluster, "quorum")
    assert receipts(leader, "quorum") == {"quorum"}
    with frozen(cluster["c"]):
        assert tried(leader, "one follower") == 0
    epoch = int(leader.status()["epoch"])
    with all_frozen(cluster["b"], cluster["c"]):
        assert tried(leader, "no follower") == 5
        assert effects(cluster)["no follower"] == 0
    works_again(leader, "followers again")
    assert int(leader.status()["epoch"]) > epoch
    seen = effects(cluster)
    assert (seen["quorum"], seen["one follower"], seen["no follower"], seen["followers again"]) == (1, 1, 0, 1)
    assert not [name for name, count in history_of(leader).started.items() if count != 1]


def in_sync(member: MemberProcess) -> tuple[str, ...]:
    """The published set."""
    kept = decode_kept((Path(folder_of(member.home)) / "register").read_bytes())
    register: Register = decode_register(kept.raw, kept.version)
    return register.in_sync


def test_in_sync_all(cluster: ClusterProcesses) -> None:
    """Nothing is acknowledged that a member of the published set has not: one that is slow is waited for until it has left the
    set, and is in it again when it has everything."""
    leader = lead(cluster, "in_sync_all")
    assert receipts(leader, "in-sync") == {"in_sync_all"}
    until(lambda: in_sync(leader) == ("a", "b", "c"), "all are in the set")
    slow = cluster["c"]
    with connect(leader.home) as client, frozen(slow):
        assert client.intent(write("a slow one")).outcome == "success"
        assert in_sync(leader) == ("a", "b")
        assert len(history_of(slow).records) < int(client.status()["size"])
        assert client.intent(write("without it")).outcome == "success"
    until(lambda: in_sync(leader) == ("a", "b", "c"), "it is in the set again")
    seen = effects(cluster)
    assert (seen["in-sync"], seen["a slow one"], seen["without it"]) == (1, 1, 1)


class Watched:
    """A witness of the cluster's log on a port that stays, and the policy that asks for it."""

    def __init__(self, cluster: ClusterProcesses, folder: Path) -> None:
        self.directory = WitnessDirectory(folder)
        config = folder / "witness.toml"
        self._port = free_ports(1)[0]
        config.write_text(config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{self._port}"))
        storage = LmdbStorage(cluster["a"].home.log, writable=False)
        reader = LogReader(storage)
        self.directory.call("add-log", reader.origin, reader.keys().newest.key.vkey())
        self.key = reader.keys().newest.key
        storage.close()
        self.directory.start()
        witness: WitnessAddress = self.directory.address
        self.policy: WitnessPolicy = threshold_policy(
            [PolicyWitness("w", witness.key, witness.url)], 1, [PolicyLog(self.key)]
        )


def witnessed_size(member: MemberProcess, policy: WitnessPolicy) -> int:
    """Of the checkpoint that the member keeps as witnessed: it must satisfy the policy."""
    raw = (Path(member.home.log) / WITNESSED_FILE).read_bytes()
    assert judge_note(raw, policy).satisfied
    return parse_checkpoint(text_of(raw)).size


def test_witnessed(cluster: ClusterProcesses, tmp_path: Path) -> None:
    """What is acknowledged lies under a checkpoint that the witness has cosigned. While it is away nothing is, and no claw runs;
    the epoch is given up, and when the witness is back there is work again."""
    watched = Watched(cluster, tmp_path / "witness")
    policy = Path(cluster["a"].home.path) / "witnesses.policy"
    policy.write_bytes(watched.policy.encode())
    try:
        leader = lead(cluster, "witnessed", witnesses="witnesses.policy")
        assert receipts(leader, "witnessed") == {"witnessed"}
        ended = [record.index for record in history_of(leader).records if record.kind == KIND_EVENT][-1]
        assert witnessed_size(leader, watched.policy) >= ended
        epoch = int(leader.status()["epoch"])
        watched.directory.end(signal.SIGTERM)
        assert tried(leader, "no witness") == 5
        assert effects(cluster)["no witness"] == 0
        until(lambda: not leader.status().get("executes"), "it gives the epoch up", AGAIN_S)
        watched.directory.start()
        works_again(leader, "a witness again")
        assert int(leader.status()["epoch"]) > epoch
        assert effects(cluster)["a witness again"] == 1
        assert effects(cluster)["no witness"] == 0
    finally:
        watched.directory.end()


def started_last(member: MemberProcess) -> tuple[str, int]:
    """The newest execution that a member's log has as started, and the end of the append before that."""
    records = history_of(member).records
    for place in range(len(records) - 1, 0, -1):
        record = records[place]
        if record.kind != KIND_EVENT:
            continue
        event = decode_event(record.payload)
        if isinstance(event, ExecutionStarted):
            while not records[place - 1].flags & FLAG_BATCH_END:
                place -= 1
            return event.execution_id, place
    raise AssertionError("nothing was started")


def lose(member: MemberProcess, leader: MemberProcess, size: int) -> None:
    """A follower's log as it was when it had so many of the leader's records, signed by the leader as it signs."""
    records = history_of(leader).records[:size]
    frontier = Frontier()
    frontier.extend([leaf_hash(record.link) for record in records])
    storage = LmdbStorage(leader.home.log, writable=False)
    try:
        origin = LogReader(storage).origin
    finally:
        storage.close()
    claim = proposal(origin, records[-1].epoch, size, frontier.root())
    frames = [(record.index, frame_of(record)) for record in records]
    shutil.rmtree(member.home.log)
    create_replica_directory(member.home.log, frames, sign_checkpoint(claim, [load_signer(leader.home)]))


@pytest.mark.invariant("I7")
def test_local(cluster: ClusterProcesses) -> None:
    """The leader answers by itself, with nobody else there. Who takes over may lack what it did: all that was in flight as far as
    its own log goes is of unknown outcome then, also what had not started there, and no claw is started again."""
    leader = lead(cluster, "local")
    cluster.caught_up()
    with all_frozen(cluster["b"], cluster["c"]):
        assert receipts(leader, "by-itself") == {"local"}
        leader.kill()
    execution, before = started_last(leader)
    for name in ("b", "c"):
        cluster[name].kill()
        lose(cluster[name], leader, before)
        write_owner(cluster[name].home, Owner("b", 1 + history_of(leader).records[-1].epoch))
    cluster.start("c")
    heir = lead(cluster, "local", "b")
    history = history_of(heir)
    assert (history.started[execution], history.unknown[execution]) == (0, 1)
    storage = LmdbStorage(heir.home.log, writable=False)
    try:
        assert load_state(LogReader(storage)).node.tail_in_doubt
    finally:
        storage.close()
    assert effects(cluster)["by-itself"] == 1
    assert tried(heir, "the heir") == 0
