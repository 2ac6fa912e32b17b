"""Measurement of one scripted run: an upgrade, starts, stops, an incident, as exported telemetry and the audit store tell them."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.migrating import migrated
from femtoclaw.compliance.twin import say


class Upgraded(NamedTuple):
    """Exit codes of the run's commands; the lines of the telemetry in order; indexes of the events in the log, of the records
    that are no events but the log's own, and of the rows of the audit store."""

    codes: dict[str, int]
    lines: list[dict[str, Any]]
    events: list[int]
    own: list[int]
    audit: list[int]


def upgraded(laboratory: Laboratory) -> Upgraded:
    """Migrate a home of the format before, work with it, and open an incident."""
    home = laboratory.copy(laboratory.once(migrated)["earlier"], "upgraded")
    words = {
        "upgrade": ("migrate", "run", "--owner", "ada"), "start and stop": ("intent", say("upgraded").decode()),
        "incident": ("incident", "open", "slow_health"),
    }  # fmt: skip
    codes = {name: laboratory.run(home, *each).code for name, each in words.items()}
    rows = laboratory.run(home, "log", "--store", "audit", "--limit", "0").objects
    lines, indexes, own = _exported(home)
    return Upgraded(codes, lines, indexes, own, [int(row["log_index"]) for row in rows])


def _exported(home: str) -> tuple[list[dict[str, Any]], list[int], list[int]]:
    """What a served node's file of lines would get of this log, the indexes of its events, and of the other records."""
    from femtoclaw.event_codec import decode
    from femtoclaw.telemetry.figures import Figures
    from femtoclaw.telemetry.lines import line
    from wal.reader import read_log_directory
    from wal.record import KIND_EVENT

    figures = Figures()
    lines: list[dict[str, Any]] = []
    indexes: list[int] = []
    own: list[int] = []
    reader = read_log_directory(os.path.join(home, "log"))
    try:
        for record in reader.scan(1, reader.size + 1):
            if record.kind != KIND_EVENT:
                own.append(record.index)
                continue
            event = decode(record.payload)
            figures.take(event, record.time_ns)
            lines.append(line(record, event, figures))
            indexes.append(record.index)
    finally:
        reader.close()
    return lines, indexes, own
