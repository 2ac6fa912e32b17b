"""Nodes that were never started, and what their starts leave behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from femtoclaw import boot, events
from femtoclaw.event_codec import decode
from femtoclaw.home import Home
from femtoclaw.provision import initialize
from femtoclaw.replay import replay
from femtoclaw.sources import live
from wal import read_log_directory
from wal.record import KIND_EVENT, Record

POLICY = '@id("read") permit (principal, action == Action::"fs.read", resource);\n'


SOURCES = live()


def make_nodes(folder: Path) -> dict[str, Path]:
    """A node in each mode that was never started."""
    made = {mode: folder / mode for mode in ("secure", "development")}
    for mode, path in made.items():
        initialize(
            Home(str(path)), enable=["fs.read"], binaries=[], policy=POLICY, operator="tester", sources=SOURCES, mode=mode
        )  # fmt: skip
    return made


def copy_of(template: dict[str, Path], mode: str, tmp_path: Path) -> Home:
    return Home(str(shutil.copytree(template[mode], tmp_path / mode)))


def lived(home: Home, *, served: bool = False) -> None:
    boot.stop(boot.start(home, SOURCES, served=served), "done")


def recorded(home: Home, *kinds: type) -> list[tuple[Record, Any]]:
    """Events of these types with their records; replay of all of them must not diverge."""
    reader = read_log_directory(home.log)
    try:
        records = list(reader.scan())
    finally:
        reader.close()
    assert replay(iter(records)).divergences == ()
    found = [(record, decode(record.payload)) for record in records if record.kind == KIND_EVENT]
    return [(record, event) for record, event in found if not kinds or isinstance(event, kinds)]


def steps(home: Home, phase: str) -> list[events.StepTaken]:
    return [event for _, event in recorded(home, events.StepTaken) if event.phase == phase]


def failures(home: Home) -> list[events.StartFailed]:
    return [event for _, event in recorded(home, events.StartFailed)]


def journal(home: Home) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(home.journal).read_text().splitlines()]


def stages(home: Home) -> list[str]:
    """The numbered stages of the last start in the journal."""
    lines = journal(home)
    boot_id = lines[-1]["boot_id"]
    return [line["stage"] for line in lines if line.get("boot_id") == boot_id and "step" in line]
