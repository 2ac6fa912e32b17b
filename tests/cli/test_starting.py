"""A start takes its steps in order, each on record; what is not passed ends it, and nothing is taken before."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from femtoclaw import boot, commands, events, verified_start
from femtoclaw.api.socket import is_served
from femtoclaw.boot_journal import IMPORTED_MAX
from femtoclaw.errors import FemtoClawError, IntegrityError
from femtoclaw.home import Home
from femtoclaw.launcher import sealed
from femtoclaw.launcher.refusal import Refused, record
from femtoclaw.verified_start import STEPS
from femtoclaw.version import VERSION
from tests.cli.node import START, Node, environment
from tests.cli.started import POLICY, SOURCES, copy_of, failures, journal, lived, make_nodes, recorded, stages, steps
from tests.femtoclaw.serving_process import wait_until
from wal import LogError
from wal.checkpoint import parse_checkpoint
from wal.note import text_of
from wal.record import Record


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_nodes(tmp_path_factory.mktemp("starting"))


@pytest.fixture
def home(template: dict[str, Path], tmp_path: Path) -> Home:
    return copy_of(template, "secure", tmp_path)


@pytest.fixture
def developed(template: dict[str, Path], tmp_path: Path) -> Home:
    return copy_of(template, "development", tmp_path)


@pytest.mark.requirement("RUNBOOK-5.1", "DEPLOY-17.1")
def test_a_served_start_is_eight_steps_on_record(home: Home) -> None:
    """In order, each with its digest and result and the time at which it was taken, before the start itself; the memory that the
    log holds stands between keys and observability. The boot journal has the same."""
    lived(home)
    lived(home, served=True)
    taken = [event for _, event in recorded(home, events.StepTaken)]
    assert [event.step for event in taken if event.phase == "start"] == list(STEPS) == stages(home)
    order = [event.step for event in taken]
    assert order.index("keys") + 1 == order.index("memory") == order.index("observability") - 1
    assert [line["step"] for line in journal(home)[-11:] if "step" in line] == list(range(1, 9))
    times = [event.at_ns for event in taken]
    assert times == sorted(times)
    results = {event.step: event.result for event in taken}
    assert {results[step] for step in STEPS[1:5]} == {"verified"}
    assert results["distribution"] == "skipped"  # these tests run from no sealed distribution
    assert all(event.digest for event in taken if event.step != "distribution")
    rows = recorded(home)
    (started,) = [record.index for record, event in rows if getattr(event, "boot_id", "") == taken[0].boot_id
                  and isinstance(event, events.RuntimeStarted)]  # fmt: skip
    last_step = max(record.index for record, event in rows if isinstance(event, events.StepTaken))
    assert last_step < started
    digests = dict(zip(*[iter(commands_of(rows, started))] * 2, strict=True))
    assert {name: digests[name] for name in ("configuration", "policy", "registry")} == {
        event.step: event.digest for event in taken if event.step in ("configuration", "policy", "registry")
    }


def commands_of(rows: list[tuple[Record, Any]], started: int) -> list[str]:
    """Component and digest of what a start verified, flat."""
    found = [event for record, event in rows if record.index > started and isinstance(event, events.IntegrityVerified)]
    return [text for event in found for text in (event.component, event.digest)]


def test_a_start_for_one_command_has_its_steps_in_the_journal_only(home: Home) -> None:
    lived(home)
    assert (recorded(home, events.StepTaken), stages(home)) == ([], list(STEPS))


@pytest.mark.requirement("OPS-9.1")
def test_a_restart_names_the_end_of_the_run_before_it(home: Home) -> None:
    """Its last index and its root, which is that of the checkpoint that the run before signed."""
    lived(home, served=True)
    note = Path(home.log, "checkpoints/latest").read_bytes()
    before = parse_checkpoint(text_of(note))
    lived(home, served=True)
    first, second = (event for event in steps(home, "start") if event.step == "runtime")
    assert first.detail.startswith("restart=false, ")
    assert second.detail.startswith(f"restart=true, program {VERSION}, {before.size} records before it")
    assert second.digest == before.root.hex()


def pin_another(home: Home) -> None:
    Path(home.path, sealed.PIN_FILE).write_text(sealed.Pin("sealed", "0" * 64, "k+00000000+AAAA", 1).text())


def edit_configuration(home: Home) -> None:
    text = Path(home.config_file).read_text()
    Path(home.config_file).write_text(text.replace("[runtime]", "[runtime]\nsteps_max = 3", 1) if "[runtime]" in text
                                      else text + "\n[runtime]\nsteps_max = 3\n")  # fmt: skip


def edit_policy(home: Home) -> None:
    Path(home.path, "policy.cedar").write_text(POLICY.replace("read", "list"))


def name_a_claw_that_is_none(home: Home) -> None:
    Path(home.config_file).write_text(
        Path(home.config_file).read_text() + '\n[capabilities."fs.none"]\nenabled = true\n'
    )


def exchange_key(home: Home) -> None:
    seed = Path(home.key_file)
    seed.write_text("0" * 63 + "1\n")


@pytest.mark.requirement("RUNBOOK-5.2", "DEPLOY-17.1")
@pytest.mark.parametrize(
    ("step", "spoil"),
    [("distribution", pin_another), ("configuration", edit_configuration), ("policy", edit_policy),
     ("registry", name_a_claw_that_is_none), ("keys", exchange_key)],
)  # fmt: skip
def test_a_start_ends_at_the_step_that_is_not_passed(
    home: Home, developed: Home, step: str, spoil: Callable[[Home], None]
) -> None:
    """Nothing of a later step is in the journal, and nothing at all in the log."""
    chosen = developed if step == "registry" else home
    lived(chosen)
    before = [record.index for record, _ in recorded(chosen)]
    spoil(chosen)
    with pytest.raises((FemtoClawError, LogError)):
        boot.start(chosen, SOURCES, served=True)
    assert (journal(chosen)[-1]["event"], journal(chosen)[-1]["stage"]) == ("start_failed", step)
    assert stages(chosen) == list(STEPS[: STEPS.index(step)])
    assert [record.index for record, _ in recorded(chosen)] == before


def test_what_changes_between_the_look_and_the_lock_is_looked_at_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has lived in between, and the file is not what it was when it was compared."""
    lived(home)
    opened = verified_start._open

    def meanwhile(*given: Any) -> Any:
        monkeypatch.undo()
        lived(home)
        edit_policy(home)
        return opened(*given)

    monkeypatch.setattr(verified_start, "_open", meanwhile)
    with pytest.raises(IntegrityError, match="policy"):
        boot.start(home, SOURCES)


@pytest.mark.requirement("RUNBOOK-5.2")
def test_a_refused_start_is_never_served(home: Home) -> None:
    lived(home)
    edit_policy(home)
    done = subprocess.run(
        [sys.executable, "-c", START, "--json", "--home", home.path, "serve"], capture_output=True, text=True,
        env=environment(), check=False,
    )  # fmt: skip
    assert (done.returncode, "serving" in done.stdout, is_served(home)) == (3, False, False)
    assert not Path(home.path, "serve.sock").exists()


@pytest.mark.requirement("RUNBOOK-5.3")
def test_the_next_good_start_tells_of_the_failed_ones_once(home: Home) -> None:
    """With their time, code and reason, the launcher's refusals too; also when a crash comes right behind the telling."""
    lived(home)
    edit_policy(home)
    with pytest.raises(FemtoClawError) as caught:
        boot.start(home, SOURCES)
    failed = journal(home)[-1]
    record(Refused("HASH_MISMATCH", "a file was changed", "femtoclaw/gate.py", "a", "b"), home.path, "key")
    refused = journal(home)[-1]
    Path(home.path, "policy.cedar").write_text(POLICY)
    started = boot.start(home, SOURCES)
    boot_id = started.authority.state.node.boot_id
    started.log.abandon()
    kept = Path(home.journal).read_text().splitlines(keepends=True)
    Path(home.journal).write_text("".join(line for line in kept if f'"{boot_id}"' not in line or "started" not in line))
    lived(home)
    lived(home)
    first, second = failures(home)
    assert (first.boot_id, first.code, first.at_ns) == (failed["boot_id"], caught.value.code, failed["time_ns"])
    assert caught.value.what in first.detail
    assert first.detail.startswith("policy: ")
    assert (second.code, second.at_ns) == ("HASH_MISMATCH", refused["time_ns"])
    assert "femtoclaw/gate.py" in second.detail


def test_a_start_that_failed_on_record_is_not_told_again(developed: Home) -> None:
    policy = Path(developed.path, "policy.cedar")
    policy.write_text("permit (principal")
    with pytest.raises(FemtoClawError):
        boot.start(developed, SOURCES)
    policy.write_text(POLICY)
    lived(developed)
    assert failures(developed) == []


def test_a_journal_that_anyone_wrote_is_read_within_bounds(home: Home) -> None:
    """Lines that are none, values of other types, thousands of failures: the newest are told, and how many more there are."""
    lived(home)
    strange: list[Any] = [
        {"event": "start_failed"}, {"event": "start_failed", "time_ns": -1}, {"event": "start_failed", "time_ns": 1 << 63},
        {"event": "start_failed", "time_ns": True}, {"event": ["start_failed"], "time_ns": 1}, [], 7, None,
        {"event": "start_failed", "time_ns": 5, "code": {}, "text": "\x1b[2J" + "x" * 5000, "boot_id": 3},
    ]  # fmt: skip
    with Path(home.journal).open("a") as file:
        file.write("{\n" + "[" * 50_000 + "\n")
        for number in range(IMPORTED_MAX + 5):
            file.write(json.dumps({"event": "start_failed", "time_ns": number, "code": "X", "text": "y"}) + "\n")
        file.writelines(json.dumps(line) + "\n" for line in strange)
    lived(home)
    told = failures(home)
    assert len(told) == IMPORTED_MAX + 1
    assert told[-1].code == "MORE" and told[-1].detail.startswith("6 more")
    assert told[-2].at_ns == 5 and len(told[-2].detail) <= 1000 and told[-2].detail.isprintable()


WAITING = """
import os, sys, time; sys.argv[0] = "femtoclaw"
from femtoclaw import verified_start
read = verified_start.policy_text
def slow(*given):
    while not os.path.exists({go!r}): time.sleep(0.01)
    return read(*given)
verified_start.policy_text = slow
from femtoclaw.__main__ import main; main()
"""


@pytest.mark.requirement("DEPLOY-17.2")
def test_no_input_is_taken_before_the_start_is_complete(home: Home, tmp_path: Path) -> None:
    """A start that waits at its policy has no socket; what asks meanwhile finds nobody, and no input is in the log before the
    start is."""
    go = tmp_path / "go"
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING.format(go=str(go)), "--json", "--home", home.path, "serve"],
        stdout=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    try:
        wait_until(
            lambda: os.path.exists(home.journal) and "configuration" in Path(home.journal).read_text(), "the start"
        )
        assert not is_served(Home(home.path))
        go.touch()
        assert process.stdout is not None and "serving" in process.stdout.readline()
        Node(Path(home.path)).intent({"message": {"content": "hello"}})
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stdout is not None
        process.stdout.close()
    kinds = [type(event) for _, event in recorded(home, events.RuntimeStarted, events.InputReceived)]
    assert kinds == [events.RuntimeStarted, events.InputReceived]


@pytest.mark.requirement("DEPLOY-19.1")
def test_ten_restarts_keep_what_was_there(home: Home) -> None:
    """Five in order and five by a kill: memory, configuration and the history are what they were, up to what a start adds."""
    lived(home)
    before = recorded(home)
    node = recorded_node(home)
    for number in range(10):
        if number % 2:
            lived(home)
        else:
            program = ("import os, signal, sys; from femtoclaw import boot; from femtoclaw.home import Home; "
                       "from femtoclaw.sources import live; boot.start(Home(sys.argv[1]), live()); "
                       "os.kill(os.getpid(), signal.SIGKILL)")  # fmt: skip
            done = subprocess.run([sys.executable, "-c", program, home.path], env=environment(), check=False)
            assert done.returncode == -signal.SIGKILL
    assert recorded(home)[: len(before)] == before
    after = recorded_node(home)
    assert (after.configuration, after.policy, after.registry) == (node.configuration, node.policy, node.registry)
    lifecycle = (events.RuntimeStarted, events.RuntimeStopped, events.StateHashed, events.IntegrityVerified, events.StepTaken,
                 events.ErrorRecorded)  # fmt: skip
    assert all(isinstance(event, lifecycle) for _, event in recorded(home)[len(before) :])


def recorded_node(home: Home) -> Any:
    started = boot.start(home, SOURCES)
    try:
        return started.authority.state.node
    finally:
        boot.stop(started, "looked")


def session_of_messages(home: Home, restart_every: int) -> list[tuple[events.Event, ...]]:
    """What a hundred messages come to, with ids and times that are the same each time."""
    messages = [
        b'{"message":{"content":"hello"}}', b"{", b'{"tool_call":{"tool":"fs.list","args":{"path":"."}}}',
        b'{"tool_call":{"tool":"fs.none","args":{}}}', b'{"tool_call":{"tool":"fs.read","args":{}}}',
    ]  # fmt: skip
    found = []
    started = boot.start(home, SOURCES)
    for number in range(100):
        if number and restart_every and number % restart_every == 0:
            boot.stop(started, "again")
            started = boot.start(home, SOURCES)
        command = commands.SubmitIntent(f"{number:032x}", messages[number % len(messages)], 1_000 + number)
        found.append(started.authority.perform(command).events)
    boot.stop(started, "done")
    return found


@pytest.mark.requirement("DEPLOY-19.2")
def test_a_session_with_restarts_goes_as_one_without(template: dict[str, Path], tmp_path: Path) -> None:
    homes = [Home(str(shutil.copytree(template["secure"], tmp_path / name))) for name in ("straight", "restarted")]
    assert session_of_messages(homes[0], 0) == session_of_messages(homes[1], 10)


def moves(home: Home) -> list[str]:
    """The process's transitions as the audit store derives them."""
    found = Node(Path(home.path)).call("log", "--store", "audit", "--limit", "0").objects
    return [row["outcome"] for row in found if row["type"] == "StateTransition" and not row["execution_id"]]


@pytest.mark.requirement("STATE-4.1", "STATE-5.1", "STATE-13.1")
def test_the_process_goes_the_ways_of_the_state_machine(home: Home) -> None:
    """One transition to IDLE, behind the steps of the start; a failed start is none, it goes to ERROR; a stop ends with SHUTDOWN
    and TERMINATED; and a node at rest that finds its files changed refuses its next start, without an error of its own."""
    lived(home, served=True)
    begun, ended = ["INITIALIZING>IDLE"], ["IDLE>SHUTDOWN", "SHUTDOWN>TERMINATED"]
    assert moves(home) == begun + ended
    rows = recorded(home, events.StepTaken, events.RuntimeStarted)
    steps_of_start = [event for _, event in rows if isinstance(event, events.StepTaken) and event.phase != "stop"]
    assert isinstance(rows[len(steps_of_start)][1], events.RuntimeStarted)
    for spoil in (edit_configuration, edit_policy, exchange_key, pin_another):
        copy = Home(str(shutil.copytree(home.path, Path(home.path).with_name(spoil.__name__))))
        spoil(copy)
        with pytest.raises((FemtoClawError, LogError)):
            boot.start(copy, SOURCES)
        assert moves(copy) == begun + ended
    edit_policy(home)
    with pytest.raises(FemtoClawError):
        boot.start(home, SOURCES)
    Path(home.path, "policy.cedar").write_text(POLICY)
    lived(home)
    failed = ["INITIALIZING>ERROR", "ERROR>SHUTDOWN", "SHUTDOWN>TERMINATED"]
    assert moves(home) == [*begun, *ended, *failed, *begun, *ended]
    assert recorded(home, events.ExecutionStarted, events.InputReceived) == []
