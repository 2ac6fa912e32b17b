"""Markers are checked against the register, skips can be forbidden, and every run prints its seed."""

from __future__ import annotations

import json
import os
import random
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.guard_server import Outcomes

ROOT = Path(__file__).resolve().parent.parent
ID = re.compile(r'^id = "([^"]+)"$', re.MULTILINE)
INVARIANTS = {f"I{number}" for number in range(1, 13)}
SEED = int(os.environ.get("FEMTOCLAW_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background of a script: programs under test would inherit that Ctrl-C means nothing.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# As `cluster.transport.load_grpc` has it, whichever test imports gRPC first: its fork handlers stop children in new namespaces.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", deadline=None, max_examples=2000, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("FEMTOCLAW_HYPOTHESIS", "default"))


def requirement_ids() -> set[str]:
    """Every id of the register, by its lines: parsing it takes longer than most of the tests that are run alone."""
    return set(ID.findall((ROOT / "femtoclaw" / "compliance" / "register.toml").read_text()))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--requirements-report", metavar="FILE", help="write which tests show which requirement ids")
    parser.addoption("--outcomes", metavar="FILE", help="write how each test ended")


def pytest_configure(config: pytest.Config) -> None:
    file = config.getoption("--outcomes")
    if file and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_OutcomesFile(file))


class _OutcomesFile(Outcomes):
    """Writes how each test ended when the run is over."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self._file = file

    def pytest_sessionfinish(self) -> None:
        Path(self._file).write_text(json.dumps(self.of))


def pytest_report_header() -> str:
    return f"seed: FEMTOCLAW_SEED={SEED}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    known = {"requirement": requirement_ids(), "invariant": INVARIANTS}
    shown: dict[str, list[str]] = {}
    wrong: list[str] = []
    for item in items:
        for marker in item.iter_markers():
            if marker.name not in known:
                continue
            wrong.extend(f"{item.nodeid}: {name}" for name in marker.args if name not in known[marker.name])
            for name in marker.args:
                shown.setdefault(name, []).append(item.nodeid)
    if wrong:
        raise pytest.UsageError("unknown requirement or invariant ids:\n" + "\n".join(wrong))
    report = config.getoption("--requirements-report")
    if report:
        Path(report).write_text(json.dumps(shown, indent=1, sort_keys=True))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item):  # type: ignore[no-untyped-def]
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("FEMTOCLAW_REQUIRE_ALL") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, but FEMTOCLAW_REQUIRE_ALL is set: {report.longrepr}"


@pytest.fixture(scope="session")
def seed() -> int:
    """The run's seed: give FEMTOCLAW_SEED to repeat it."""
    return SEED


_UMASK = os.umask(0o022)
os.umask(_UMASK)


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """What a command in the test's own process does to the umask ends with the test."""
    yield
    os.umask(_UMASK)
