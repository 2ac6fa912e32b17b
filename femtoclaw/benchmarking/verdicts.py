"""Categories ``authorization`` and ``protocol``: verdicts of the engines in force, each compared with what it must be."""

from __future__ import annotations

import time
from typing import Any

from femtoclaw.authorization import CallContext, Decision, Verdict
from femtoclaw.benchmarking.goals import NS, PER_S
from femtoclaw.benchmarking.measuring import Bench, at_once, timed
from femtoclaw.benchmarking.node import BenchNode, opened
from femtoclaw.benchmarking.results import Found
from femtoclaw.benchmarking.samples import Sample, line_through
from femtoclaw.benchmarking.workload import Message, Question, messages, questions
from femtoclaw.engines import Engines
from femtoclaw.protocol import Rejected

THREADS = 4
LINE_POINTS = 5
LINE_REPEATS = 5


def _decide(engines: Engines, question: Question, planted_s: float) -> Verdict:
    if planted_s:
        time.sleep(planted_s)
    context = CallContext("operator", "operator", "", 0, engines.environment)
    return engines.authorize(question.tool, question.args, context)


def authorization(bench: Bench) -> Found:
    """Latency of a decision, alone and from several threads; decisions compared with the reference, and with each other."""
    asked = questions(bench.seed, bench.sizes.decisions)
    alone: list[Sample] = []
    rate: list[Sample] = []
    together: list[Sample] = []
    found: list[list[tuple[Any, ...]]] = []
    with opened(bench.home) as node:
        engines = node.engines()
        for number, warm in bench.rounds():
            told = []
            for question in asked:
                begun = time.perf_counter_ns()
                verdict = _decide(engines, question, bench.planted_s)
                alone.append(Sample(number, warm, time.perf_counter_ns() - begun))
                told.append(tuple(verdict))
            found.append(told)
            begun = time.perf_counter_ns()
            several = at_once([lambda: [tuple(_decide(engines, each, bench.planted_s)) for each in asked]] * THREADS)
            taken = time.perf_counter_ns() - begun
            found += several
            rate.append(Sample(number, warm, THREADS * len(asked) * 1e9 / taken))
            together.append(Sample(number, warm, taken / len(asked)))
    wrong = _wrong(asked, found[0])
    samples = {
        "authorization.decision": (NS, alone), "authorization.rate": (PER_S, rate), "authorization.under_load": (NS, together)
    }  # fmt: skip
    facts = {"decisions": len(found) * len(asked), "threads": THREADS, "wrong": wrong[:8]}
    same = all(each == found[0] for each in found)
    return Found(samples, facts, {"decisions_are_the_reference": not wrong, "decisions_are_deterministic": same})


def _wrong(asked: list[Question], told: list[tuple[Any, ...]]) -> list[str]:
    """The calls that were decided otherwise than the reference says."""
    return [
        f"{question.tool} {question.args}: {verdict[1]}"
        for question, verdict in zip(asked, told, strict=True)
        if (verdict[0] is Decision.AUTHORIZED) != question.permitted
    ]


def protocol(bench: Bench) -> Found:
    """Latency of a validation over valid and invalid messages, verdicts compared, and the cost against the number of messages."""
    given = messages(bench.seed, bench.sizes.messages)
    alone: list[Sample] = []
    rate: list[Sample] = []
    wrong: list[str] = []
    with opened(bench.home) as node:
        engines = node.engines()
        for number, warm in bench.rounds():
            begun = time.perf_counter_ns()
            for message in given:
                alone.append(Sample(number, warm, timed(lambda raw=message.raw: engines.validate(raw))))  # type: ignore[misc]
            rate.append(Sample(number, warm, len(given) * 1e9 / (time.perf_counter_ns() - begun)))
            wrong += _unlike(engines, given)
        line = line_through(_costs(node, given))
    samples = {"protocol.validation": (NS, alone), "protocol.rate": (PER_S, rate)}
    facts = {
        "messages": len(given), "valid": sum(each.valid for each in given), "wrong": wrong[:8],
        "cost_of_a_message_ns": line.slope, "share_of_a_line": line.fit,
    }  # fmt: skip
    return Found(samples, facts, {"verdicts_are_the_reference": not wrong})


def _unlike(engines: Engines, given: list[Message]) -> list[str]:
    return [
        repr(message.raw[:80])
        for message in given
        if isinstance(engines.validate(message.raw), Rejected) is message.valid
    ]


def _costs(node: BenchNode, given: list[Message]) -> list[tuple[float, float]]:
    """Number of messages and processor time that they took, the least of some repetitions."""
    engines, points = node.engines(), []
    for part in range(1, LINE_POINTS + 1):
        some = given * part
        taken = []
        for _ in range(LINE_REPEATS):
            begun = time.thread_time_ns()
            for message in some:
                engines.validate(message.raw)
            taken.append(time.thread_time_ns() - begun)
        points.append((float(len(some)), float(min(taken))))
    return points
