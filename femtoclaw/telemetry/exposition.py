"""The figures as Prometheus reads them, by the names that docs/telemetry.md lists. Loads prometheus_client.

A registry of its own: nothing that a library registers by itself is shown, and nothing of one node in the figures of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from femtoclaw.monitoring.looked import Looked
from femtoclaw.telemetry.figures import Figures, Histogram
from femtoclaw.telemetry.sink import SinkStanding
from femtoclaw.telemetry.timings import AUTHORIZATION, COMMIT, VALIDATION, Timings, resources
from femtoclaw.version import VERSION

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
RESULTS = {"ok": 0, "warning": 1, "bad": 2}


class Shown(NamedTuple):
    """What metrics are made of."""

    figures: Figures
    timings: Timings
    sinks: Callable[[], Iterable[SinkStanding]]
    behind: Callable[[], int]
    looked: Callable[[], Looked | None]


class Exposition:
    """The text of all metrics, made when it is asked for."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """All metrics in the text format, version 0.0.4."""
        raw: bytes = generate_latest(self._registry)
        return raw

    def describe(self) -> Iterable[Any]:
        """Nothing: so that registering asks for no figures yet."""
        return ()

    def collect(self) -> Iterator[Any]:
        """Every metric. Called by the library."""
        yield from self._of_the_log()
        yield from self._of_the_process()
        yield from self._of_telemetry()

    def _of_the_log(self) -> Iterator[Any]:
        figures = self._shown.figures
        yield CounterMetricFamily("femtoclaw_execution_count", "Executions, by the log.", figures.executions)
        yield _counter(
            "femtoclaw_invocation_count", "Calls that were started.", ["capability"], _one(figures.invocations)
        )
        yield _counter("femtoclaw_authorization_failures", "Denied calls.", ["decision"], _one(figures.denials))
        yield _counter("femtoclaw_execution_outcomes", "Ended executions.", ["outcome"], _one(figures.outcomes))
        yield _counter("femtoclaw_events", "Recorded events.", ["event_type"], _one(figures.events))
        yield _counter("femtoclaw_errors", "Recorded errors.", ["category", "severity"], dict(figures.errors))
        alerts = {(str(severity),): count for severity, count in figures.alerts.items()}
        yield _counter("femtoclaw_alerts", "Alerts that were raised.", ["severity"], alerts)
        yield CounterMetricFamily("femtoclaw_memory_writes", "Atomic appends to the log.", figures.appends)
        yield CounterMetricFamily("femtoclaw_memory_write_bytes", "Payload bytes in the log.", figures.bytes)
        yield GaugeMetricFamily("femtoclaw_concurrency", "Executions under way, held ones too.", figures.in_flight)
        yield GaugeMetricFamily(
            "femtoclaw_last_backup_timestamp_seconds",
            "End of the last backup on record, 0 for none.",
            figures.backed_up_ns / 1e9,
        )
        latency = HistogramMetricFamily(
            "femtoclaw_execution_latency_seconds", "Time in a claw, by the log.", labels=["capability"]
        )
        for claw, histogram in sorted(dict(figures.latency).items()):
            latency.add_metric([claw], _buckets(histogram), histogram.sum_ns / 1e9)
        yield latency
        whole = figures.whole
        yield HistogramMetricFamily(
            "femtoclaw_execution_seconds",
            "From the record of an input to that of its end.",
            _buckets(whole),
            whole.sum_ns / 1e9,
        )

    def _of_the_process(self) -> Iterator[Any]:
        timings = self._shown.timings
        for kind, name, text in (
            (VALIDATION, "femtoclaw_validation_latency_seconds", "Time to validate a message, since the start."),
            (AUTHORIZATION, "femtoclaw_authorization_latency_seconds", "Time to decide a call, since the start."),
            (COMMIT, "femtoclaw_memory_write_latency_seconds", "Time of an append to the disk, since the start."),
        ):
            histogram = timings.histograms[kind]
            yield HistogramMetricFamily(name, text, _buckets(histogram), histogram.sum_ns / 1e9)
        sample = timings.newest
        if sample is not None:
            rate = GaugeMetricFamily("femtoclaw_throughput", "Per second, in the last interval.", labels=["of"])
            for name, value in sorted(sample.throughput.items()):
                rate.add_metric([name.removesuffix("_per_s")], value)
            yield rate
        used = resources()
        yield GaugeMetricFamily("femtoclaw_resident_bytes", "Memory of this process.", used["resident_bytes"])
        yield CounterMetricFamily("femtoclaw_cpu_seconds", "Processor time of this process.", used["cpu_s"])
        yield GaugeMetricFamily("femtoclaw_open_files", "Open descriptors of this process.", used["open_files"])
        info = GaugeMetricFamily("femtoclaw_build_info", "The program.", labels=["version"])
        info.add_metric([VERSION], 1)
        yield info

    def _of_telemetry(self) -> Iterator[Any]:
        shown = self._shown
        yield GaugeMetricFamily("femtoclaw_telemetry_behind_records", "Records not counted yet.", shown.behind())
        sinks = list(shown.sinks())
        dropped = {(each.name,): each.dropped for each in sinks}
        yield _counter("femtoclaw_telemetry_dropped", "Items that a sink lost.", ["sink"], dropped)
        written = {(each.name,): each.written for each in sinks}
        yield _counter("femtoclaw_telemetry_written", "Items that a sink took.", ["sink"], written)
        looked = shown.looked()
        if looked is not None:
            health = GaugeMetricFamily("femtoclaw_health", "0 ok, 1 warning, 2 bad.", labels=["check"])
            for check in looked.checks:
                health.add_metric([check.name], RESULTS[check.result])
            yield health


def _one(counted: dict[str, int]) -> dict[tuple[str, ...], int]:
    return {(label,): count for label, count in dict(counted).items()}


def _counter(name: str, text: str, labels: list[str], values: Mapping[Any, int]) -> Any:
    family = CounterMetricFamily(name, text, labels=labels)
    for key in sorted(values):
        family.add_metric(list(key), values[key])
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    return [("+Inf" if bound == float("inf") else repr(bound), count) for bound, count in histogram.cumulated()]
