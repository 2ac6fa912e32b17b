"""What a run found, as one object: figures with their goals beside them, facts, what was verified, and the raw samples. Pure."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from femtoclaw.benchmarking.goals import GOALS, MORE_IS_BETTER, Goal, reaches
from femtoclaw.benchmarking.samples import CV_MAX, Sample, summarize

FORMAT = 1

OK, UNSTABLE, MISSED, FAILED, INVALID = "OK", "UNSTABLE", "MISSED", "FAILED", "INVALID"
"""Of a block, the worst that is true: FAILED when something that was verified is not so or a limit is broken, INVALID when
nothing was made durable, MISSED when a target is missed, UNSTABLE when rounds differ too much."""

BAD = (FAILED, INVALID)


class Found(NamedTuple):
    """What one category found: figure to its unit and samples, facts, and what was verified."""

    samples: dict[str, tuple[str, list[Sample]]]
    facts: dict[str, Any]
    verified: dict[str, bool]


def figure(name: str, unit: str, samples: list[Sample]) -> dict[str, Any]:
    """The statistics of one figure beside its goal. The median of all is held against the target, that of the best round
    against the limit: other work on the machine must not read as a defect of the program."""
    summary = summarize(samples)
    goal = GOALS.get(name, Goal(None, None, ""))
    best = (max if unit in MORE_IS_BETTER else min)(summary.rounds, default=0.0)
    return {
        "unit": unit, **summary._asdict(), "rounds": list(summary.rounds), "best": best,
        "stable": summary.cv <= CV_MAX, "target": goal.target, "limit": goal.limit, "requirement": goal.requirement,
        "reaches_target": reaches(summary.p50, goal.target, unit), "within_limit": reaches(best, goal.limit, unit),
    }  # fmt: skip


def block(found: Found) -> dict[str, Any]:
    """One category's part of a result."""
    figures = {name: figure(name, unit, samples) for name, (unit, samples) in found.samples.items()}
    raw = {name: [list(sample) for sample in samples] for name, (_, samples) in found.samples.items()}
    return {
        "status": status_of(figures, found.facts, found.verified), "figures": figures, "facts": found.facts,
        "verified": found.verified, "samples": raw,
    }  # fmt: skip


def status_of(figures: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any], verified: Mapping[str, bool]) -> str:
    """The one word for a category; speed never makes up for what is not so."""
    if not all(verified.values()) or not all(each["within_limit"] for each in figures.values()):
        return FAILED
    if facts.get("syncs", 1) < facts.get("syncs_needed", 1):
        return INVALID
    if not all(each["reaches_target"] for each in figures.values()):
        return MISSED
    return OK if all(each["stable"] for each in figures.values()) else UNSTABLE


def overall(blocks: Mapping[str, Mapping[str, Any]]) -> str:
    """The worst of all categories."""
    found = {each["status"] for each in blocks.values()}
    return next((word for word in (FAILED, INVALID, MISSED, UNSTABLE) if word in found), OK)


def canonical(body: Any) -> bytes:
    """Sorted, without white space: what digests are of."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(body: Any) -> str:
    """BLAKE3 of the canonical form, as hexadecimal digits."""
    from blake3 import blake3

    return blake3(b"femtoclaw bench\x00" + canonical(body)).hexdigest()


def result(
    environment: dict[str, Any], workload: dict[str, Any], configuration: dict[str, Any], blocks: dict[str, dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    """The whole result of a run."""
    return {
        "format": FORMAT, "environment": environment, "workload": workload, "workload_digest": digest(workload),
        "configuration": configuration, "categories": blocks, "status": overall(blocks),
    }  # fmt: skip
