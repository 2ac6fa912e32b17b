"""What telemetry tells of a node, and a node with everything that observes it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from femtoclaw import events
from femtoclaw.boot import Started
from femtoclaw.cli.render import Output
from femtoclaw.config import EMBEDDED
from femtoclaw.monitoring.observing import Observing
from femtoclaw.telemetry.figures import Figures
from femtoclaw.telemetry.following import Following
from femtoclaw.telemetry.spans import Span
from tests.femtoclaw.api_node import ApiNode
from tests.femtoclaw.simulated import Simulated


class Kept:
    """A sink that keeps what it is offered."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    def offer(self, item: Any, wait_s: float = 0.0) -> None:
        self.items.append(item)


def nobody(name: str, error: Exception) -> None:
    raise AssertionError((name, error))


def told(node: Simulated) -> tuple[Figures, list[dict[str, Any]], list[Span]]:
    """All that the log of a node gives."""
    lines, spans = Kept(), Kept()
    following = Following(nobody, lines=lines, spans=spans, lines_from=1)  # type: ignore[arg-type]
    following._new_from = 1
    following.use(node.log, lambda: node.log.size)
    while following.step():
        pass
    return following.figures, lines.items, spans.items


def values(figures: Figures) -> dict[str, Any]:
    """Every figure, as plain values."""
    plain = {name: value for name, value in vars(figures).items() if not name.startswith("_")}
    plain["latency"] = {claw: (each.counts, each.sum_ns) for claw, each in figures.latency.items()}
    plain["whole"] = (figures.whole.counts, figures.whole.sum_ns)
    return plain


def scraped(raw: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Samples by name and labels, as a Prometheus server reads them."""
    return {
        (each.name, tuple(sorted(each.labels.items()))): each.value
        for family in text_string_to_metric_families(raw.decode())
        for each in family.samples
    }


@contextmanager
def observed(node: ApiNode, **settings: Any) -> Iterator[Observing]:
    """A node in memory with everything that observes one."""
    effective = EMBEDDED["observability"] | settings
    observing = Observing(node.home, node.sources, Output(as_json=True), effective, runtime_id="node", incidents=False)
    started = Started(node.home, node.sources, node.log, node.authority, None, (), (), (), None, None)  # type: ignore[arg-type]
    observing.lead(started)
    observing.following.step() if observing.following is not None else None
    observing.start()
    try:
        yield observing
    finally:
        observing.stop(0.1)


def timed(node: ApiNode) -> float:
    """Seconds that one permitted call takes."""
    begun = time.perf_counter()
    assert node.intent("fs.read", path="a.txt").outcome == "success"
    return time.perf_counter() - begun


def alerts(node: ApiNode) -> list[events.AlertRaised]:
    """Those of the health monitor: a node in memory has no files, which others find."""
    told = [event for each in node.recorded for event in each.events if isinstance(event, events.AlertRaised)]
    return [alert for alert in told if alert.rule.startswith("health.")]
