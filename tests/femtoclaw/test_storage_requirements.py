"""What storage owes the runtime: invalid records are told by their index, and slow media cost time and nothing else."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import pytest

from femtoclaw import commands
from femtoclaw.audit import check_rules, verify_home
from femtoclaw.authority import Authority
from femtoclaw.event_codec import EventFormatError, decode
from femtoclaw.events import ExecutionStarted, InputReceived
from femtoclaw.gate import Gate
from femtoclaw.home import Home
from femtoclaw.keys import load_signer
from femtoclaw.provision import initialize
from femtoclaw.restore import load_state
from femtoclaw.runtime import Runtime, StepResult
from femtoclaw.sources import live
from tests.faulty_storage import FaultyStorage
from tests.femtoclaw.simulated import CountingIsolation, Simulated
from wal import KIND_EVENT, Log, open_log_directory
from wal.errors import BoundError, LogFailedError
from wal.head import read_slots
from wal.lmdb_storage import LmdbStorage
from wal.opening import open_log
from wal.record import KIND_EPOCH, KIND_FIRST, KIND_RECOVERED
from wal.record import decode as decode_record

POLICY = '@id("read") permit (principal, action == Action::"fs.read", resource);\n'
MAP_BYTES = 1 << 26
SYNC_SECONDS = 0.2
CLIENTS = 4
INTENTS_EACH = 2
SOURCES = live()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "home"
    initialize(Home(str(path)), enable=["fs.read"], binaries=[], policy=POLICY, operator="tester", sources=SOURCES)
    return path


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Home:
    return Home(str(shutil.copytree(template, tmp_path / "home")))


RUNTIME_STOPPED = 8


@pytest.mark.requirement("STORAGE-12.1")
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe no msgpack",
        msgpack.packb((RUNTIME_STOPPED, 1, "boot", "reason")) + b"more",
        msgpack.packb((RUNTIME_STOPPED, 1, "boot")),
        msgpack.packb((RUNTIME_STOPPED, 1, "boot", "reason", "one field more")),
        msgpack.packb((RUNTIME_STOPPED, 1, "boot", 7)),
        msgpack.packb((RUNTIME_STOPPED, 99, "boot", "reason")),
        msgpack.packb((9999, 1, "boot", "reason")),
        msgpack.packb({"kind": "RuntimeStopped"}),
    ],
    ids=[
        "empty", "no msgpack", "trailing bytes", "a field less", "a field more", "wrong type", "new version",
        "unknown code", "a map",
    ],
)  # fmt: skip
def test_a_record_of_a_bad_schema_is_reported_with_its_index(home: Home, payload: bytes) -> None:
    """Placed by hand with the node's own key, so that bytes, chain and signatures are perfect: deep verification
    decodes every record against its schema and names the one that is none."""
    log, _ = open_log_directory(home.log, signer=load_signer(home), clock=SOURCES.wall_ns, map_bytes=MAP_BYTES)
    index = log.append([payload], KIND_EVENT).last
    log.close()
    report = verify_home(home, deep=True)
    assert not report["ok"]
    assert [finding["where"] for finding in report["findings"]] == [f"index {index}"]


@pytest.mark.requirement("STORAGE-12.1")
@pytest.mark.parametrize(
    "command",
    [
        commands.SubmitIntent(7, b"{"),  # type: ignore[arg-type]
        commands.StartRun("run", "execution", "brain", "source", 7, b"go"),  # type: ignore[arg-type]
        commands.StopRuntime(None),  # type: ignore[arg-type]
        commands.RecordError("id", "c", "s", "code", "subsystem", b"detail"),  # type: ignore[arg-type]
    ],
    ids=["id", "agent", "reason", "detail"],
)
def test_a_record_of_a_bad_schema_is_refused_by_the_api(command: Any) -> None:
    """A field of another type than declared is refused before anything is queued; the authority goes on."""
    node = Simulated()
    before = node.log.size
    with pytest.raises(EventFormatError, match="declared type"):
        node.authority.perform(command)
    assert node.log.size == before
    assert node.intent("fs.read", path="a").outcome == "success"


@pytest.mark.requirement("STORAGE-12.1")
@pytest.mark.parametrize("kind", [0, 1, 2, 3, 15, 256])
def test_only_the_log_itself_writes_records_of_its_own_kinds(kind: int) -> None:
    """Kinds below 16 say what the log did: no caller may write one, by any of the three ways to append."""
    node = Simulated()
    before = node.log.size
    for append in (node.log.append, node.log.submit, node.log.enqueue):
        with pytest.raises(BoundError, match="kind"):
            append([b"x"], kind)
    assert node.log.size == before


@pytest.mark.requirement("STORAGE-12.1")
@pytest.mark.parametrize(
    "kind,payload,code",
    [
        (KIND_RECOVERED, b"x", "RECORD_UNREADABLE"),
        (KIND_EPOCH, b"", "RECORD_UNREADABLE"),
        (KIND_FIRST - 1, b"", "KIND_UNKNOWN"),
        (200, b"x", "KIND_UNKNOWN"),
    ],
)
def test_a_record_of_an_unknown_kind_is_a_finding(kind: int, payload: bytes, code: str) -> None:
    """Sound in bytes and chain, but nothing that this format knows: reported with its index."""
    node = Simulated()
    node.log._writer.append([payload], kind)
    findings, _ = check_rules(node.log.scan(), lambda digest: b"")
    assert [(f.code, f.where) for f in findings] == [(code, f"index {node.log.size}")]



class SlowStorage(FaultyStorage):
    """Real storage behind a medium whose every sync takes ``SYNC_SECONDS``: until then nothing of it is on the disk."""

    def _change(self, method: str, act: Callable[[], int | None]) -> int:
        time.sleep(SYNC_SECONDS)
        return super()._change(method, act)

    def promised(self) -> int:
        """How many records the HEAD slot on the disk promises."""
        newest = read_slots(self.read_slots()).newest
        return newest.point.size if newest is not None else 0


class SlowNode(NamedTuple):
    """A node on slow media; ``early`` collects whatever was known before it was durable."""

    home: Home
    storage: SlowStorage
    log: Log
    authority: Authority
    runtime: Runtime
    isolation: CountingIsolation
    early: list[str]


@pytest.fixture
def slow(home: Home) -> Any:
    """Started in order; closed in order by the test, or abandoned."""
    storage = SlowStorage(LmdbStorage(home.log, writable=True, map_bytes=MAP_BYTES))
    log, _ = open_log(storage, signer=load_signer(home), clock=SOURCES.wall_ns)
    early: list[str] = []

    def durable(last: int, what: str) -> None:
        if storage.promised() < last or storage.last_index() < last:
            early.append(f"{what} at index {last}, but {storage.promised()} were durable")

    authority = Authority(log, load_state(log), lambda recorded: durable(recorded.receipt.last, "an answer"))

    def claw(tool: str, args: dict[str, Any]) -> dict[str, Any]:
        promised = [decode(decode_record(raw).payload) for _, raw in storage.scan(2, storage.promised() + 1)]
        asked = [
            e.execution_id for e in promised if isinstance(e, InputReceived) and args["path"].encode() in e.content
        ]
        if not any(isinstance(e, ExecutionStarted) and e.execution_id in asked for e in promised):
            early.append(f"a claw ran for {args['path']}, but its start was not durable")
        return {"echo": args}

    isolation = CountingIsolation(claw)
    gate = Gate(isolation, lambda: authority.state)
    runtime = Runtime(log, authority, gate, SOURCES, concurrency_max=CLIENTS)
    authority.perform(commands.StartRuntime(SOURCES.new_id(), "test", "python", "open"))
    yield SlowNode(home, storage, log, authority, runtime, isolation, early)
    log.close()


@pytest.mark.requirement("STORAGE-19.1")
def test_slow_syncs_make_executions_slow_and_nothing_else(slow: SlowNode) -> None:
    """200 ms a sync under several clients: each execution waits for its syncs, no answer and no effect comes before
    its records are on the disk, indexes have no gap, and bytes, chain, signatures and rules verify afterwards."""
    took: list[float] = []
    results: list[StepResult] = []
    before = slow.log.size

    def client(number: int) -> None:
        for count in range(INTENTS_EACH):
            message = json.dumps({"tool_call": {"tool": "fs.read", "args": {"path": f"{number}-{count}"}}}).encode()
            began = time.monotonic()
            results.append(slow.runtime.intent(message))
            took.append(time.monotonic() - began)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert slow.early == []
    assert [result.outcome for result in results] == ["success"] * CLIENTS * INTENTS_EACH
    assert len(slow.isolation.calls) == CLIENTS * INTENTS_EACH
    # Start and outcome are two commits, each a sync of the store and one of HEAD.
    assert min(took) >= 4 * SYNC_SECONDS
    indexes = [record.index for record in slow.log.scan(before + 1)]
    assert indexes == list(range(before + 1, slow.log.size + 1))
    slow.log.close()
    report = verify_home(slow.home, deep=True)
    assert (report["findings"], report["size"]) == ([], slow.storage.promised())


@pytest.mark.requirement("STORAGE-19.1")
def test_who_will_not_wait_for_slow_syncs_is_told_so(slow: SlowNode) -> None:
    """A bounded wait ends in an error that says the outcome is unknown, not in an early yes; the append itself goes on
    to its place, and so do those behind it."""
    state = slow.authority.state
    first = slow.log.submit([b"first"])
    second = slow.log.submit([b"second"])
    with pytest.raises(LogFailedError, match="not confirmed in time") as caught:
        first.wait(SYNC_SECONDS / 20)
    assert caught.value.exit_code == 5
    receipt = second.wait(60)
    assert slow.storage.promised() >= receipt.last
    assert first.wait(60).last == receipt.first - 1
    assert slow.log.failure is None
    assert slow.authority.state is state
