"""Category ``concurrency``: many executions inside their claws at the same moment, kept apart, and next to ones that misbehave."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from femtoclaw.benchmarking.goals import COUNT, NS
from femtoclaw.benchmarking.measuring import Bench, at_once, timed
from femtoclaw.benchmarking.node import BenchNode, opened
from femtoclaw.benchmarking.results import Found
from femtoclaw.benchmarking.samples import Sample, median, quantile
from femtoclaw.benchmarking.workload import MARK, Chance, call
from femtoclaw.event_codec import decode
from wal.inspection import verify_directory
from wal.record import KIND_EVENT

BARRIER_S = 60.0
LOOK_S = 0.02
TOKEN_RUNS = 3
BESIDE = 8
"""Calls of a claw that does nothing, before and beside those that spin."""

READ = call("fs.read", path="notes.txt")


def concurrency(bench: Bench) -> Found:
    """How many were inside their claws at once, by the log; what each of many with its own token left; and who slowed whom."""
    peaks: list[Sample] = []
    crowds: list[dict[str, Any]] = []
    with opened(bench.home) as node:
        node.intent(READ)
        before = _digests(node)
        for wanted in bench.sizes.barriers:
            crowds.append(_barrier(node, wanted))
            peaks.append(Sample(len(peaks), False, crowds[-1]["peak"] if _were_inside(crowds[-1]) else 0))
        apart = _tokens(bench, node)
        faulty = _faulty(bench, node)
        spinning = _spinning(bench, node)
        unchanged = _digests(node) == before
        sound = bool(verify_directory(node.home.log)["ok"])
    beside = [Sample(0, False, float(ns)) for ns in spinning.pop("beside_ns")]
    verified = {
        "as_many_as_the_limit_were_inside_at_once": any(map(_were_inside, crowds)),
        "all_traces_are_complete": all(each["whole"] == each["begun"] for each in crowds),
        "no_token_is_anywhere_else": apart["elsewhere"] == 0 and apart["found"] == apart["executions"],
        "runs_give_equal_results": apart["equal"], "the_others_are_as_alone": faulty["others_are_equal"],
        "registry_and_policy_are_unchanged": unchanged, "the_log_verifies": sound,
    }  # fmt: skip
    facts = {"crowds": crowds, "tokens": apart, "faulty": faulty, "spinning": spinning}
    top = [Sample(0, False, max(each.value for each in peaks))]
    return Found({"concurrency.peak": (COUNT, top), "concurrency.beside_spinning": (NS, beside)}, facts, verified)


def _were_inside(crowd: dict[str, Any]) -> bool:
    """Whether all that came were in their claws at one moment, and ended well. A crowd too large for a machine is a missed
    target: what was begun must have its whole trace all the same."""
    return bool(crowd["inside"] == crowd["peak"] == crowd["wanted"] == crowd["done"] == crowd["whole"])


def _digests(node: BenchNode) -> tuple[Any, ...]:
    state = node.started.authority.state.node
    return (
        state.policy.digest,
        state.configuration.digest,
        sorted((each.name, each.digest) for each in state.registry.values()),
    )


def _events(node: BenchNode, after: int) -> list[Any]:
    return [decode(record.payload) for record in node.started.log.scan(after + 1) if record.kind == KIND_EVENT]


def _barrier(node: BenchNode, wanted: int) -> dict[str, Any]:
    """So many calls that each wait inside their claw for a pipe that nobody writes to, let go when all are in."""
    path = os.path.join(node.home.path, "workspace", f"barrier-{wanted}")
    os.mkfifo(path, 0o666)
    os.chmod(path, 0o666)
    after, found = node.started.log.size, []
    raw = call("shell", bin="/bin/cat", argv=[os.path.basename(path)])
    crowd = threading.Thread(target=lambda: found.extend(at_once([lambda: node.intent(raw)] * wanted)))
    begun = time.monotonic()
    crowd.start()
    inside = 0
    while crowd.is_alive() and time.monotonic() - begun < BARRIER_S:
        inside = max(inside, _inside(os.path.basename(path)))
        if inside >= wanted:
            break
        time.sleep(LOOK_S)
    waited = time.monotonic() - begun
    while crowd.is_alive():  # whoever opens the pipe only now is let go as well
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            pass
        crowd.join(0.01)
    under_way = peak = 0
    traces: dict[str, set[str]] = {}
    for event in _events(node, after):
        kind = type(event).__name__
        under_way += (kind == "ExecutionStarted") - (kind == "ExecutionFinished")
        peak = max(peak, under_way)
        if getattr(event, "execution_id", ""):
            traces.setdefault(event.execution_id, set()).add(kind)
    needed = {"InputReceived", "AuthorizationDecided", "ExecutionStarted", "ExecutionFinished"}
    ends = {"ExecutionCompleted", "ExecutionFailed"}
    outcomes = [getattr(step, "outcome", "") or type(step).__name__ for step in found]
    return {
        "wanted": wanted, "inside": inside, "peak": peak, "seconds": round(waited, 3), "begun": len(traces),
        "whole": sum(needed <= kinds and bool(kinds & ends) for kinds in traces.values()),
        "done": outcomes.count("success"), "outcomes": {name: outcomes.count(name) for name in sorted(set(outcomes))},
    }  # fmt: skip


def _inside(name: str) -> int:
    """How many programs of claws there are that were started on this name: each waits for the pipe, or is about to."""
    found = 0
    for each in os.listdir("/proc"):
        if each.isdigit():
            try:
                with open(f"/proc/{each}/cmdline", "rb") as file:
                    found += file.read() == b"/bin/cat\0" + name.encode() + b"\0"
            except OSError:
                continue  # it has ended
    return found


def _tokens(bench: Bench, node: BenchNode) -> dict[str, Any]:
    """Calls that each say a token of their own, all at once after random pauses, several times over."""
    chance, count = Chance(bench.seed + 2), bench.sizes.tokens
    tokens = [f"token-{at}-{chance.below(1 << 30):x}-end" for at in range(count)]
    after, runs = node.started.log.size, []
    for _ in range(TOKEN_RUNS):
        pauses = [chance.below(50) / 1000 for _ in tokens]

        def work(token: str, pause: float) -> Any:
            time.sleep(pause)
            return node.intent(call("shell", bin="/bin/echo", argv=["-n", token]))

        runs.append(at_once([_bound(work, token, pause) for token, pause in zip(tokens, pauses, strict=True)]))
    of = {step.execution_id: tokens[at] for run in runs for at, step in enumerate(run) if hasattr(step, "execution_id")}
    elsewhere, own = 0, set()
    for event in _events(node, after):
        execution = getattr(event, "execution_id", "")
        text = repr(event)
        for token in _tokens_in(text):
            if of.get(execution) == token:
                own.add(execution)
            else:
                elsewhere += 1
    told = [[_said(step) for step in run] for run in runs]
    return {
        "executions": count * TOKEN_RUNS, "found": len(own), "elsewhere": elsewhere, "runs": TOKEN_RUNS,
        "equal": all(each == tokens for each in told),
    }  # fmt: skip


def _bound(work: Callable[[str, float], Any], token: str, pause: float) -> Callable[[], Any]:
    return lambda: work(token, pause)


def _tokens_in(text: str) -> set[str]:
    import re

    return set(re.findall(r"token-\d+-[0-9a-f]+-end", text))


def _said(step: Any) -> str:
    result = getattr(step, "result", None)
    return str(result.get("result", {}).get("stdout")) if isinstance(result, dict) else type(step).__name__


FAULTS = ("kill -9 $$", "sleep 0.4", "exit 3", "set -- changed; kill -SEGV $$")
"""What every second call does: it crashes, hangs as long as the others last, fails, or changes its arguments and crashes."""


def _faulty(bench: Bench, node: BenchNode) -> dict[str, Any]:
    """So many calls at once, of which every second one misbehaves; the others are compared with the same one after the other."""
    count = bench.sizes.faulty
    good = [call("shell", bin="/bin/echo", argv=["-n", f"value {at}"]) for at in range(count // 2)]
    bad = [
        call("shell", bin="/bin/sh", argv=["-c", f": {MARK}; {FAULTS[at % len(FAULTS)]}"]) for at in range(count // 2)
    ]
    mixed = [raw for pair in zip(good, bad, strict=True) for raw in pair]
    together = at_once([_intent(node, raw) for raw in mixed])
    alone = [node.intent(raw) for raw in good]
    others = [_outcome(step) for step in together[::2]]
    ends = [
        step.result["result"]["status"] if isinstance(getattr(step, "result", None), dict) else None
        for step in together[1::2]
    ]
    return {
        "at_once": count, "others_are_equal": others == [_outcome(step) for step in alone], "ends_of_the_faulty": ends,
    }  # fmt: skip


def _intent(node: BenchNode, raw: bytes) -> Callable[[], Any]:
    return lambda: node.intent(raw)


def _outcome(step: Any) -> Any:
    return (step.decision, step.outcome, step.result) if hasattr(step, "decision") else type(step).__name__


def _spinning(bench: Bench, node: BenchNode) -> dict[str, Any]:
    """Calls of a claw that does nothing, alone and beside claws that spin, until a file tells these to end."""
    name = "spin-no-more"
    raw = call("shell", bin="/bin/sh", argv=["-c", f": {MARK}; until test -e {name}; do :; done"])
    alone = [timed(lambda: node.intent(READ)) for _ in range(BESIDE)]
    spinners = threading.Thread(target=lambda: at_once([lambda: node.intent(raw)] * bench.sizes.spinning))
    spinners.start()
    until = time.monotonic() + BARRIER_S
    while len(node.started.authority.state.live.executions) < bench.sizes.spinning and time.monotonic() < until:
        time.sleep(0.01)
    beside = [timed(lambda: node.intent(READ)) for _ in range(BESIDE)]
    with open(os.path.join(node.home.path, "workspace", name), "w", encoding="ascii"):
        pass
    spinners.join()
    return {
        "spinning": bench.sizes.spinning, "alone_p50_ns": median(alone), "beside_p50_ns": median(beside),
        "alone_p99_ns": quantile(sorted(alone), 0.99), "beside_p99_ns": quantile(sorted(beside), 0.99), "beside_ns": beside,
    }  # fmt: skip
