"""Why the process before ended: the start after it says so, and goes the steps of a recovery."""

from __future__ import annotations

import faulthandler
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from femtoclaw import boot, events
from femtoclaw.crash_trace import FILE_NAME, WORD_FILE, Trace
from femtoclaw.errors import FemtoClawError, UnavailableError
from femtoclaw.home import Home
from tests.cli.node import environment
from tests.cli.started import SOURCES, copy_of, journal, lived, make_nodes, recorded, steps
from tests.femtoclaw.serving_process import serving
from wal import LogError


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_nodes(tmp_path_factory.mktemp("starting"))


@pytest.fixture
def home(template: dict[str, Path], tmp_path: Path) -> Home:
    return copy_of(template, "secure", tmp_path)


def cause(home: Home) -> events.StepTaken:
    """What the next start says of it; and then come the steps of a recovery, before the start."""
    lived(home)
    taken = steps(home, "recover")
    assert [event.step for event in taken] == [
        "cause",
        "distribution",
        "configuration",
        "audit_log",
        "state",
        "restart",
    ]
    assert (taken[2].result, taken[3].result) == ("verified", "verified")
    rows = recorded(home, events.StepTaken, events.RuntimeStarted)
    assert isinstance(rows[-1][1], events.RuntimeStarted)
    lived(home)
    assert len(steps(home, "recover")) == len(taken)
    return taken[0]


@pytest.mark.requirement("RUNBOOK-13.1", "RUNBOOK-12.1")
@pytest.mark.parametrize(
    ("number", "word", "expected"),
    [
        (signal.SIGKILL, "", "unclean end without trace"),
        (signal.SIGKILL, "signal killed KILL", "signal: the service manager says: signal killed KILL"),
        (signal.SIGKILL, "oom-kill killed KILL", "out of memory: the service manager says: oom-kill killed KILL"),
        (signal.SIGSEGV, "", "signal: Fatal Python error: Segmentation fault"),
    ],
)
def test_the_start_after_a_crash_says_why(home: Home, number: int, word: str, expected: str) -> None:
    with serving(Path(home.path)) as process:
        process.send_signal(number)
        process.wait(30)
    if word:
        Path(home.path, WORD_FILE).write_text(word + "\n")
    assert cause(home).detail == expected


DYING = """
import sys; sys.argv[0] = "femtoclaw"
from femtoclaw.serving import supervisor
def alive(self): raise ZeroDivisionError("a secret")
supervisor.Supervisor.alive = alive
from femtoclaw.__main__ import main; main()
"""


@pytest.mark.requirement("RUNBOOK-13.1")
def test_a_process_that_dies_of_an_exception_leaves_the_digest_of_its_traceback(home: Home) -> None:
    """And nothing of its text; the log is closed in order all the same."""
    done = subprocess.run(
        [sys.executable, "-c", DYING, "--json", "--home", home.path, "serve"], capture_output=True, text=True,
        env=environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 70
    trace = Path(home.path, FILE_NAME).read_text()
    assert "a secret" not in trace
    told = cause(home)
    assert told.detail.startswith("exception: ZeroDivisionError at ")
    assert told.digest == json.loads(trace.splitlines()[1])["digest"]


def test_a_host_that_went_down_is_told_from_a_process_that_did(home: Home) -> None:
    with serving(Path(home.path)) as process:
        process.kill()
        process.wait()
    trace = Path(home.path, FILE_NAME)
    first = json.loads(trace.read_text())
    trace.write_text(json.dumps(first | {"host_boot": "another"}) + "\n")
    assert cause(home).detail == "the host was restarted"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"boot_id": 5}', "x" * 300_000, '{"boot_id": "%s", "where": 5}\n{"exception": []}']
)
def test_a_trace_that_is_none_is_no_trace(home: Home, text: str) -> None:
    started = boot.start(home, SOURCES)
    boot_id = started.authority.state.node.boot_id
    started.log.abandon()
    Path(home.path, FILE_NAME).write_text(text.replace("%s", boot_id))
    assert cause(home).detail.startswith(("unclean end without trace", "exception: []"))


@pytest.mark.requirement("RUNBOOK-12.1")
def test_recovery_of_a_damaged_log_goes_no_step_further(home: Home) -> None:
    """Nothing is written where the log does not verify: not one step, not one byte."""
    lived(home)
    boot.start(home, SOURCES).log.abandon()
    data = Path(home.log, "data", "data.mdb")
    raw = bytearray(data.read_bytes())
    place = raw.index(b"ConfigurationAdopted"[:4]) if b"ConfigurationAdopted"[:4] in raw else raw.index(b"fs.read")
    raw[place] ^= 1
    data.write_bytes(raw)
    with pytest.raises((FemtoClawError, LogError)):
        boot.start(home, SOURCES)
    assert data.read_bytes() == bytes(raw)
    assert journal(home)[-1]["stage"] == "audit_log"


@pytest.mark.parametrize(
    ("found", "named"),
    [
        ("LogFullError: no room is left", "UnavailableError (LogFullError)"),
        (None, "UnavailableError"),
        ("a secret, Error: x", "UnavailableError"),
    ],
)
def test_what_the_authority_had_stopped_for_is_named_and_nothing_of_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str | None, named: str
) -> None:
    for name in ("enable", "disable"):
        monkeypatch.setattr(faulthandler, name, lambda *given, **named: None)  # this process has one of its own
    home = Home(str(tmp_path))
    trace = Trace(home, "boot")
    trace.died(UnavailableError("the node takes nothing any more", found=found))
    trace.close()
    told = (tmp_path / FILE_NAME).read_text()
    assert f'"exception": "{named}"' in told and "room" not in told and "secret" not in told
