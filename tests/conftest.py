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

for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        # Started in the background of a script: programs under test would inherit that Ctrl-C, or a stop, means nothing.
        signal.signal(_number, _handler)

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
_HANDLERS = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


def _as_at_the_start() -> None:
    os.umask(_UMASK)
    for number, handler in _HANDLERS.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def process_of_its_own() -> Iterator[None]:
    """What code in the test's process, or in the fixture of another test, does to the umask and to the signals of the
    programs that are started later is over: one that ignores SIGTERM hands that on."""
    _as_at_the_start()
    yield
    _as_at_the_start()
