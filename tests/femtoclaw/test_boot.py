"""Start and stop of a node over a real home: what an orderly stop leaves, and what it leaves when it cannot be orderly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from femtoclaw import boot, commands, events
from femtoclaw.boot import Started
from femtoclaw.errors import ConfigurationError, IntegrityError, PolicyError, UnavailableError
from femtoclaw.event_codec import decode
from femtoclaw.home import Home
from femtoclaw.lifecycle import RuntimeState
from femtoclaw.provision import initialize
from femtoclaw.replay import replay
from femtoclaw.restore import load_state
from femtoclaw.snapshot import FILE_NAME as SNAPSHOT_FILE
from femtoclaw.snapshot import decode_snapshot, encode_snapshot
from femtoclaw.sources import live
from femtoclaw.state import FOLD_VERSION, State, state_hash
from wal import LogError, read_log_directory
from wal.directory import stopped_clean
from wal.errors import LogFailedError, LogLockedError
from wal.head import read_slots
from wal.inspection import verify_directory
from wal.record import KIND_EVENT, Head

POLICY = '@id("read") permit (principal, action == Action::"fs.read", resource);\n'
READ = b'{"tool_call":{"tool":"fs.read","args":{"path":"a"}}}'
NOT_A_MESSAGE = b"{"
SOURCES = live()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "home"
    initialize(
        Home(str(path)), enable=["fs.read"], binaries=[], policy=POLICY, operator="tester", sources=SOURCES
    )  # fmt: skip
    return path


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Home:
    """A provisioned node that was never started, free to be broken."""
    return Home(str(shutil.copytree(template, tmp_path / "home")))


@pytest.fixture
def developed(tmp_path: Path) -> Home:
    """A provisioned node in development mode, where an edited file comes into force at the next start."""
    made = Home(str(tmp_path / "developed"))
    initialize(
        made, enable=["fs.read"], binaries=[], policy=POLICY, operator="tester", sources=SOURCES, mode="development"
    )  # fmt: skip
    return made


def start(home: Home) -> Started:
    return boot.start(home, SOURCES)


def submit(started: Started, raw: bytes = NOT_A_MESSAGE) -> str:
    """Gate one message; READ leaves an execution that has started and has no result."""
    execution_id = SOURCES.new_id()
    started.authority.perform(commands.SubmitIntent(execution_id, raw))
    return execution_id


def lived(home: Home, *raws: bytes) -> None:
    """One life in order, with some messages."""
    started = start(home)
    for raw in raws:
        submit(started, raw)
    boot.stop(started, "done")


def file(home: Home, name: str) -> Path:
    return Path(home.log, name)


def log_bytes(home: Home) -> dict[Path, bytes]:
    """Every file of the log but the table of LMDB's readers: reading a log beside others changes that."""
    files = (path for path in Path(home.log).rglob("*") if path.is_file() and path.name != "lock.mdb")
    return {path: path.read_bytes() for path in files}


def snapshot_file(home: Home) -> Path:
    return file(home, SNAPSHOT_FILE)


def recorded(home: Home) -> list[Any]:
    """Every event of the log."""
    reader = read_log_directory(home.log)
    try:
        return [decode(record.payload) for record in reader.scan() if record.kind == KIND_EVENT]
    finally:
        reader.close()


def stops(home: Home) -> list[str]:
    """The reasons of every recorded stop."""
    return [event.reason for event in recorded(home) if isinstance(event, events.RuntimeStopped)]


def folded(home: Home) -> State:
    """The state by replay, which uses no snapshot and must not diverge."""
    reader = read_log_directory(home.log)
    try:
        report = replay(reader.scan())
    finally:
        reader.close()
    assert report.divergences == ()
    return report.state


def loaded(home: Home) -> State:
    """The state as a start would load it."""
    reader = read_log_directory(home.log)
    try:
        return load_state(reader)
    finally:
        reader.close()


def journal(home: Home) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(home.journal).read_text().splitlines()]


def assert_next_start_works(home: Home) -> Started:
    """It starts, takes a message, stops in order; bytes verify and replay agrees with the state that was shown."""
    started = start(home)
    submit(started)
    state = started.authority.state
    assert (state.node.process, dict(state.live.executions)) == (RuntimeState.IDLE, {})
    boot.stop(started, "next")
    assert stops(home)[-1] == "next"
    assert stopped_clean(home.log)
    assert state_hash(folded(home)) == state_hash(loaded(home)) == state_hash(started.authority.state)
    assert verify_directory(home.log)["findings"] == []
    return started


def test_an_orderly_stop_leaves_a_clean_head_a_snapshot_and_its_reason(home: Home) -> None:
    """The stop is the last event, behind the hash of the state that the snapshot holds; the checkpoint is as long as the
    log, and the lock is free."""
    started = start(home)
    submit(started)
    assert not read_slots(started.log.storage.read_slots()).clean
    with pytest.raises(LogLockedError):
        start(home)
    boot.stop(started, "operator said so")
    assert stopped_clean(home.log)
    last = recorded(home)[-1]
    assert isinstance(last, events.RuntimeStopped)
    assert last.reason == "operator said so"
    reader = read_log_directory(home.log)
    size, head = reader.size, reader.head_at(reader.size - 2)
    reader.close()
    found = decode_snapshot(snapshot_file(home).read_bytes())
    assert found is not None
    assert (found.head, found.state_hash) == (head, state_hash(found.state))
    assert found.state.node.process is RuntimeState.IDLE
    assert recorded(home)[-2] == events.StateHashed(FOLD_VERSION, found.state_hash)
    assert file(home, "checkpoints/latest").read_text().splitlines()[1] == str(size)
    with pytest.raises(UnavailableError):
        started.authority.perform(commands.StopRuntime("again"))
    told = [line["event"] for line in journal(home) if line["event"] != "stage"]
    assert told == ["started", "start_failed", "stopped"]
    assert journal(home)[-2]["error"] == "LogLockedError"
    assert (journal(home)[-1]["size"], journal(home)[-1]["log"]) == (size, reader.log_id.hex())
    assert_next_start_works(home)


def test_a_contained_authority_stops_without_a_word_of_its_own(home: Home) -> None:
    """Its state is in doubt: neither a stop nor a snapshot is written, but the log is closed in order; the next start
    folds the log and closes what was in flight."""
    lived(home, NOT_A_MESSAGE)
    before = snapshot_file(home).read_bytes()
    started = start(home)
    execution_id = submit(started, READ)
    started.authority.contain("a defect was found")
    boot.stop(started, "never recorded")
    assert stops(home) == ["done"]
    assert isinstance(recorded(home)[-1], events.ExecutionStarted)
    assert snapshot_file(home).read_bytes() == before
    assert stopped_clean(home.log)
    assert execution_id in folded(home).live.executions
    again = assert_next_start_works(home)
    assert again.unknown == (execution_id,)


def test_a_stop_that_finds_the_log_full_closes_it_and_says_so(developed: Home) -> None:
    """The stop event has no room in a real map: nothing is raised, the journal tells, what was done is kept, and with
    room the next start goes on."""
    home = developed
    config = Path(home.config_file)
    text = config.read_text()
    config.write_text(text + "\n[memory]\nmap_bytes = 1048576\n")
    lived(home, NOT_A_MESSAGE)
    before = snapshot_file(home).read_bytes()
    started = start(home)
    submit(started, bytes(300_000))
    size = started.log.size
    boot.stop(started, "x" * 900_000)
    line = journal(home)[-1]
    assert (line["event"], "the LMDB map is full" in line["text"]) == ("stop_not_recorded", True)
    assert started.log.size == size
    assert stops(home) == ["done"]
    assert snapshot_file(home).read_bytes() == before
    assert stopped_clean(home.log)
    config.write_text(text)
    assert_next_start_works(home)


def test_a_full_log_met_before_the_stop_is_not_asked_again(developed: Home) -> None:
    """A command found the log full and the authority refused: the stop does not write a state that was never recorded."""
    home = developed
    config = Path(home.config_file)
    text = config.read_text()
    config.write_text(text + "\n[memory]\nmap_bytes = 1048576\n")
    started = start(home)
    with pytest.raises(LogError, match="full"):
        submit(started, bytes(1_000_000))
    boot.stop(started, "never recorded")
    assert (stops(home), snapshot_file(home).exists(), stopped_clean(home.log)) == ([], False, True)
    config.write_text(text)
    assert_next_start_works(home)


def lose_the_lock(home: Home) -> None:
    file(home, "data/lock.mdb").unlink()


def lose_the_head(home: Home) -> None:
    shutil.copy(file(home, "HEAD"), file(home, "HEAD.copy"))
    file(home, "HEAD.copy").rename(file(home, "HEAD"))
    lose_the_lock(home)


@pytest.mark.parametrize("fault", [lose_the_lock, lose_the_head])
def test_a_failed_log_is_closed_quietly_and_the_next_start_recovers(home: Home, fault: Callable[[Home], None]) -> None:
    """Files replaced under the node stop its log: the stop raises nothing more, writes nothing more, frees the lock."""
    lived(home)
    before = snapshot_file(home).read_bytes()
    started = start(home)
    execution_id = submit(started, READ)
    kept = started.log.size
    fault(home)
    with pytest.raises(LogFailedError):
        submit(started)
    boot.stop(started, "never recorded")
    assert not stopped_clean(home.log)
    assert stops(home) == ["done"]
    assert snapshot_file(home).read_bytes() == before
    assert len(recorded(home)) == kept - 1  # all but the genesis record, which is no event
    again = assert_next_start_works(home)
    (told,) = [event for event in recorded(home) if isinstance(event, events.ErrorRecorded)]
    assert (told.subsystem, told.code, told.severity) == ("storage", "STORAGE_FAILED", "ERROR")
    assert again.unknown == (execution_id,)
    assert again.examination.evidence.reaches


def test_a_log_that_failed_unnoticed_by_the_authority_is_closed_as_quietly(home: Home) -> None:
    """A blob could not be written: no command has failed yet, and the stop asks for none."""
    started = start(home)
    lose_the_lock(home)
    with pytest.raises(LogFailedError):
        started.log.put_blob(b"a result")
    assert started.authority.refusal is None
    boot.stop(started, "never recorded")
    assert (stops(home), snapshot_file(home).exists(), stopped_clean(home.log)) == ([], False, False)
    assert_next_start_works(home)


def test_a_snapshot_that_cannot_be_written_still_frees_the_log(home: Home) -> None:
    """Something stands where the snapshots go: the stop is recorded, the error is typed and told, nothing stays locked."""
    started = start(home)
    file(home, "snapshots").write_text("in the way")
    with pytest.raises(LogError):
        boot.stop(started, "recorded")
    assert stops(home) == ["recorded"]
    file(home, "snapshots").unlink()
    assert_next_start_works(home)


def test_a_wrong_policy_file_leaves_the_log_closed_in_order_with_the_reason_in_it(developed: Home) -> None:
    """In development mode the file is read: the mistake in it is a typed error, a line in the journal and the reason of
    a recorded stop; the policy in force stays, and the next start is an ordinary one."""
    policy = Path(developed.path, "policy.cedar")
    text = policy.read_text()
    policy.write_text("permit (principal, action, resource")
    with pytest.raises(PolicyError) as caught:
        start(developed)
    assert stops(developed) == [f"start failed: {caught.value.code}"]
    assert stopped_clean(developed.log)
    line = journal(developed)[-2]  # behind it the orderly stop
    assert (line["event"], line["error"]) == ("start_failed", "PolicyError")
    assert line["text"] == str(caught.value)
    assert folded(developed) == loaded(developed)
    assert folded(developed).node.policy.text == text
    policy.write_text(text)
    assert assert_next_start_works(developed).adopted == ()


@pytest.mark.parametrize("text", ["permit (principal, action, resource", POLICY + "\n", POLICY.replace("read", "list")])
def test_a_policy_file_that_is_not_the_recorded_one_starts_nothing(home: Home, text: str) -> None:
    """In secure mode no edit is read, right or wrong: a typed error, a line in the journal, and not one record."""
    lived(home)
    before = recorded(home)
    Path(home.path, "policy.cedar").write_text(text)
    with pytest.raises(IntegrityError) as caught:
        start(home)
    assert caught.value.exit_code == 3
    line = journal(home)[-1]
    assert (line["event"], line["error"], line["text"]) == ("start_failed", "IntegrityError", str(caught.value))
    assert recorded(home) == before
    assert stopped_clean(home.log)
    Path(home.path, "policy.cedar").write_text(POLICY)
    assert assert_next_start_works(home).adopted == ()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda home: Path(home.path, "policy.cedar").write_bytes(b"\xff\xfe"),
        lambda home: Path(home.path, "policy.cedar").unlink(),
        lambda home: Path(home.path, "policy.cedar").chmod(0o666),
        lambda home: Path(home.config_file).write_text("not toml"),
        lambda home: Path(home.key_file).chmod(0o644),
    ],
    ids=["policy no UTF-8", "policy missing", "policy writable", "configuration", "key readable"],
)
def test_what_is_wrong_before_the_log_is_opened_leaves_it_untouched(
    home: Home, spoil: Callable[[Home], object]
) -> None:
    """Not one byte of the log changes, LMDB's table of readers aside; the journal has the reason."""
    lived(home)
    before = log_bytes(home)
    spoil(home)
    with pytest.raises(ConfigurationError) as caught:
        start(home)
    assert caught.value.where.startswith(home.path)
    assert log_bytes(home) == before
    assert (journal(home)[-1]["event"], journal(home)[-1]["error"]) == ("start_failed", "ConfigurationError")


def test_a_changed_policy_is_adopted_with_its_operator(developed: Home) -> None:
    """In development mode what was edited between two lives is an event of the second; unchanged files are none."""
    lived(developed)
    Path(developed.path, "policy.cedar").write_text(POLICY + '@id("no") forbid (principal, action, resource);\n')
    started = start(developed)
    assert started.adopted == ("policy version 2",)
    boot.stop(started, "done")
    adopted = [event for event in recorded(developed) if isinstance(event, events.PolicyAdopted)]
    assert [(event.operator, '"no"' in event.text) for event in adopted] == [
        ("tester", False),
        (boot.operator_name(), True),
    ]
    assert assert_next_start_works(developed).adopted == ()


def foreign(home: Home) -> State:
    """A state this log never had: its policy would permit everything."""
    state = loaded(home)
    policy = state.node.policy._replace(text="permit (principal, action, resource);")
    return state._replace(node=state.node._replace(policy=policy))


def test_a_good_snapshot_saves_the_fold(home: Home) -> None:
    """With it only the records behind it are read: that is what the refusals below are told apart by."""
    lived(home, NOT_A_MESSAGE)
    reader = read_log_directory(home.log)
    read: list[tuple[int, int]] = []
    scan = reader.scan
    reader.scan = lambda first=1, stop=None: read.append((first, stop)) or scan(first, stop)  # type: ignore
    state = load_state(reader)
    assert read == [(reader.size - 1, reader.size + 1)]
    snapshot_file(home).unlink()
    assert load_state(reader) == state
    assert read[1:] == [(1, reader.size + 1)]
    reader.close()


@pytest.mark.parametrize(
    "move",
    [
        lambda head: Head(head.index, bytes(32)),
        lambda head: Head(head.index - 1, head.link),
        lambda head: Head(head.index + 1, head.link),
        lambda head: Head(0, head.link),
        lambda head: Head(2**63, head.link),
    ],
    ids=["another link", "an earlier index", "beyond the log", "index 0", "a huge index"],
)
def test_a_snapshot_of_another_history_is_not_trusted(home: Home, move: Callable[[Head], Head]) -> None:
    """Whole and well hashed, but not of a record of this log: folded anew, and the state it holds is nowhere."""
    lived(home, NOT_A_MESSAGE)
    reader = read_log_directory(home.log)
    head = reader.head_at(reader.size)
    reader.close()
    raw = encode_snapshot(foreign(home), move(head))
    assert decode_snapshot(raw) is not None
    snapshot_file(home).write_bytes(raw)
    assert loaded(home) == folded(home)
    assert assert_next_start_works(home).authority.state.node.policy.text == POLICY


def test_a_snapshot_that_the_log_does_not_vouch_for_is_not_trusted(home: Home) -> None:
    """The right index and link, well hashed, but with a policy that nobody adopted: the log says another hash."""
    lived(home, NOT_A_MESSAGE)
    found = decode_snapshot(snapshot_file(home).read_bytes())
    assert found is not None
    everything = found.state.node.policy._replace(text='@id("all") permit (principal, action, resource);')
    forged = found.state._replace(node=found.state.node._replace(policy=everything))
    snapshot_file(home).write_bytes(encode_snapshot(forged, found.head))
    assert loaded(home) == folded(home)
    assert assert_next_start_works(home).authority.state.node.policy.text == POLICY


def test_a_snapshot_of_another_node_is_not_trusted(home: Home, template: Path, tmp_path: Path) -> None:
    """Copied from a home with the same beginning and another life: the link is another one."""
    other = Home(str(shutil.copytree(template, tmp_path / "other")))
    lived(home, NOT_A_MESSAGE)
    lived(other, b'{"message":{"content":"hello"}}')
    shutil.copy(snapshot_file(other), snapshot_file(home))
    assert loaded(home) == folded(home) != loaded(other)
    assert_next_start_works(home)


def test_an_old_snapshot_is_the_beginning_of_the_fold(home: Home) -> None:
    """Put back from an earlier life, it is this log's own: what came after is folded upon it."""
    lived(home, NOT_A_MESSAGE)
    old = snapshot_file(home).read_bytes()
    lived(home, NOT_A_MESSAGE, READ)
    snapshot_file(home).write_bytes(old)
    assert loaded(home) == folded(home)
    assert_next_start_works(home)


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: raw[:40],
        lambda raw: raw[:-1],
        lambda raw: raw + b"\x00",
        lambda raw: b"FCSNAP02" + raw[8:],
        lambda raw: raw[: len(raw) // 2] + bytes([raw[len(raw) // 2] ^ 1]) + raw[len(raw) // 2 + 1 :],
        lambda raw: raw[:-1] + bytes([raw[-1] ^ 0x80]),
        lambda raw: bytes(len(raw)),
    ],
    ids=["empty", "header only", "cut", "longer", "version", "state bit", "hash bit", "zeros"],
)
def test_a_damaged_snapshot_is_ignored(home: Home, damage: Callable[[bytes], bytes]) -> None:
    """It is a cache: damage costs the fold and nothing else, and the next stop writes a good one."""
    lived(home, NOT_A_MESSAGE)
    raw = snapshot_file(home).read_bytes()
    snapshot_file(home).write_bytes(damage(raw))
    assert loaded(home) == folded(home)
    assert_next_start_works(home)
    assert decode_snapshot(snapshot_file(home).read_bytes()) is not None


def test_a_missing_snapshot_costs_only_the_fold(home: Home) -> None:
    """Deleted between two lives: nothing is missing."""
    lived(home, NOT_A_MESSAGE)
    snapshot_file(home).unlink()
    assert_next_start_works(home)
    assert snapshot_file(home).exists()
