"""The peer benchmarks without any peer: what cannot be had or fails is a row with its reason, and no process stays behind."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "scripts" / "benchmarks"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that imports a module of the benchmarks."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def contestant(module: Any, figures: list[float | str]) -> Any:
    """What a start gives: a figure a round, or a failure where a text stands."""
    given = iter(figures)

    def measure(**request: int) -> float:
        figure = next(given)
        if isinstance(figure, str):
            raise module("peers_processes").AbsentError(figure)
        return figure

    @contextmanager
    def start() -> Iterator[Any]:
        yield module("peers_servers").Running("made of nothing", measure, ())

    return start


def rows_of(module: Any, entries: list[Any], **settings: Any) -> list[dict[str, Any]]:
    peers, report = module("peers"), module("measure").Report()
    settings = {"rounds": 3, "seconds": 0.1, "deadline": time.monotonic() + 60} | settings
    peers.print_rows(report, "P2", module("peers_rounds").contest(entries, **settings), 0.0)
    rows: list[dict[str, Any]] = report.rows
    return rows


def test_an_absent_and_a_failing_peer_are_rows_with_their_reasons(module: Any) -> None:
    peers, entry = module("peers"), module("peers_rounds").Entry
    ours, good, failing, absent = rows_of(
        module,
        [
            entry("ours", contestant(module, [1, 100, 300, 200]), (peers.ONE,), ours=True),
            entry("good", contestant(module, [1, 50, 60, 40]), (peers.ONE,)),
            entry("failing", contestant(module, [1, 50, "it broke"]), (peers.ONE,)),
            entry("absent", lambda: peers.absent("nobody packages it"), (peers.ONE,)),
        ],
    )
    assert ours["value"] == "200/s", "the median without the warm-up"
    assert good["value"] == "50/s"
    assert good["beside"] == "ours 200/s = 4.00x"
    assert good["verdict"].startswith("3 rounds 40/s to 60/s; made of nothing")
    assert (failing["value"], failing["beside"]) == ("not measured", "failed in round 2: it broke")
    assert (absent["value"], absent["beside"]) == ("not measured", "nobody packages it")


def test_no_round_begins_after_the_deadline(module: Any) -> None:
    peers, entry = module("peers"), module("peers_rounds").Entry
    (late,) = rows_of(module, [entry("late", contestant(module, []), (peers.ONE,))], deadline=time.monotonic() - 1)
    assert (late["value"], late["beside"]) == ("not measured", "the time for all peers was used up")


def test_a_missing_program_names_its_package(module: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(module("peers_processes").AbsentError, match="Debian: some-package"):
        module("peers_servers").program("no-such-program", "some-package")


def test_an_environment_that_cannot_be_made_is_a_reason(
    module: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEMTOCLAW_PEERS", str(tmp_path / "file"))
    prepared = module("peers_preparation").prepare()
    assert "could not be made" in str(prepared.python)
    assert "could not be made" in str(prepared.restate)


def test_a_worker_that_cannot_start_says_why_and_is_gone(module: Any, tmp_path: Path) -> None:
    processes = module("peers_processes")
    with processes.Worker(sys.executable, "no_such_module:nothing", tmp_path) as worker:
        with pytest.raises(processes.AbsentError, match="ModuleNotFoundError"):
            worker.answer(20)
        pid = worker.pid
    assert not Path(f"/proc/{pid}").exists()


SLEEPER = """
import os, sys, time
sys.path.insert(0, {benchmarks!r})
from pathlib import Path
from peers_processes import Server, end_on_signals
end_on_signals()
with Server([sys.executable, "-c", "import time; time.sleep(60)"], Path({folder!r})) as server:
    print(server.pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_server_ends_with_whoever_started_it(number: signal.Signals, tmp_path: Path) -> None:
    text = SLEEPER.format(benchmarks=str(BENCHMARKS), folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        server = int(parent.stdout.readline())
        os.kill(server, 0)
        parent.send_signal(number)
        code = parent.wait(20)
    if number is not signal.SIGKILL:
        assert code == 128 + number, "the stack was unwound"
    deadline = time.monotonic() + 10
    while running(server) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not running(server)


def running(pid: int) -> bool:
    """Whether a process is there and not a zombie that waits for init."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_sync_is_a_flush_or_a_write_to_a_file_opened_for_it(module: Any) -> None:
    is_sync, synced = module("peers_syncs").is_sync, {("5", "/data.mdb")}
    lines = {
        "12 fdatasync(4</data.mdb>) = 0": True,
        "12 fsync(4</data.mdb> <unfinished ...>": True,
        "12 <... fsync resumed>) = 0": False,
        '12 pwrite64(5</data.mdb>, ""..., 80, 0) = 80': True,
        '12 pwrite64(4</data.mdb>, ""..., 80, 0) = 80': False,
        "12 msync(0x7f0000000000, 4096, MS_SYNC) = 0": True,
        "12 msync(0x7f0000000000, 4096, MS_ASYNC) = 0": False,
    }
    assert {line: is_sync(line, synced) for line in lines} == lines
