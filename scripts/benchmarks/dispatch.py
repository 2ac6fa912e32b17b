"""Benchmark P4: one dispatch through the sandbox, and one in process, beside what a bare fork of such a process takes.

Usage: PYTHON scripts/benchmarks/dispatch.py [--quick]. Nothing here fails on a figure.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from measure import Report, environment, main_guard, met, p50

from femtoclaw import commands
from femtoclaw.claws import SHIPPED
from femtoclaw.claws.fs_read import execute
from femtoclaw.isolation import Isolation

SANDBOXED_MS_MAX = 3.0
IN_PROCESS_US_MAX = 50.0
PAUSE_SECONDS = 0.02
"""Between paced calls: an agent thinks far longer before it asks again."""
SMALL = b"x" * 100
READ = b'{"tool_call":{"tool":"fs.read","args":{"path":"small"}}}'


def fork_and_wait() -> None:
    """The least that a process for each call costs: fork this interpreter, let it end, see that."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def samples(work: Callable[[], object], count: int, *, pause: float) -> list[float]:
    """Seconds of each call, the first ones left out."""
    found = []
    for _ in range(count + 5):
        begun = time.perf_counter()
        work()
        found.append(time.perf_counter() - begun)
        time.sleep(pause)
    return found[5:]


def dispatches(report: Report, quick: bool) -> None:
    """``fs.read`` of a small file: paced as an agent calls, without a pause, and in process."""
    count = 50 if quick else 400
    fs_read = next(claw for claw in SHIPPED if claw.name == "fs.read")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        workspace = os.path.join(folder, "workspace")
        os.mkdir(workspace, 0o755)
        with open(os.path.join(workspace, "small"), "wb") as file:
            file.write(SMALL)
        isolation = Isolation(workspace)

        def sandboxed() -> None:
            assert isolation.run(fs_read, {"path": "small"}, {}).status == "success"

        try:
            layers = isolation.layers()
            off = [name for name, text in layers.items() if not text.startswith("in force")]
            bare = p50(samples(fork_and_wait, count, pause=PAUSE_SECONDS)) * 1e3
            for label, pause in (("a call now and then", PAUSE_SECONDS), ("one after the other", 0.0)):
                took = p50(samples(sandboxed, count, pause=pause)) * 1e3
                beside = f"bare fork and wait {bare:.2f} ms, limit {SANDBOXED_MS_MAX:.0f} ms"
                verdict = met(took <= SANDBOXED_MS_MAX) + (f", without {', '.join(off)}" if off else "")
                report.row("P4", f"sandboxed dispatch, {label}, p50", f"{took:.2f} ms", beside, verdict)
        finally:
            isolation.close()
        inside = p50(samples(lambda: execute({"path": "small"}, workspace, {}), count, pause=0.0)) * 1e6
        report.row("P4", "the same claw in process, p50", f"{inside:.1f} us", "the claw alone", "")
        gate = p50(gate_alone(count)) * 1e6
        beside = f"without the claw; limit {IN_PROCESS_US_MAX:.0f} us"
        report.row("P4", "grant and dispatch in process, p50", f"{gate:.1f} us", beside, met(gate <= IN_PROCESS_US_MAX))


def gate_alone(count: int) -> list[float]:
    """Seconds that the gate takes for one call: its grant for a recorded start, and the dispatch to a claw that does
    nothing, in this process."""
    from tests.femtoclaw.simulated import Simulated

    node = Simulated()
    found = []
    manifest = next(claw for claw in SHIPPED if claw.name == "fs.read")
    for _ in range(count + 5):
        recorded = node.authority.perform(commands.SubmitIntent(node.sources.new_id(), READ, 1))
        begun = time.perf_counter()
        node.gate.dispatch(node.gate.grant(recorded), manifest, {"path": "small"}, {})
        found.append(time.perf_counter() - begun)
    return found[5:]


def main() -> int:
    """Print the rows."""
    main_guard()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer calls")
    arguments = parser.parse_args()
    print("\n".join(environment()))
    dispatches(Report(), arguments.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
