"""What the newest full report said of this build: what ``status`` and ``health`` show (SUITE-9.2).

The file in the home only says where to look; what counts is the record in the log that it points to, and that the build is
this one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from femtoclaw.errors import FemtoClawError
from femtoclaw.event_codec import decode
from femtoclaw.events import ProcedureEnded
from femtoclaw.home import Home
from wal.errors import LogError

if TYPE_CHECKING:
    from wal.reader import LogReader

UNVERIFIED = "UNVERIFIED"
FILE_NAME = "compliance.json"
_SEARCHED = 4
"""Records behind the request among which the end of the procedure stands."""


def keep(home: Home, report: dict[str, Any], index: int) -> None:
    """Remember where the record of a report on everything stands; of a part of it nothing is remembered."""
    import json

    from wal.durable_file import write_file

    if report["scope"] == ["all"]:
        write_file(os.path.join(home.path, FILE_NAME), json.dumps({"index": index}).encode() + b"\n")


def standing(home: Home, reader: LogReader) -> dict[str, Any]:
    """``compliance`` is UNVERIFIED until a report on this very build is on record, and what that report said then."""
    told = _recorded(home, reader)
    if told is None:
        return {"compliance": UNVERIFIED, "why": "no report on record"}
    from femtoclaw.compliance.report import build

    if told.get("build") != build()["digest"]:
        return {"compliance": UNVERIFIED, "why": "the report on record is of another build"}
    return {
        "compliance": told.get("overall", UNVERIFIED),
        "level": told.get("level", 0),
        "report": told.get("report", ""),
    }


def _recorded(home: Home, reader: LogReader) -> dict[str, Any] | None:
    try:
        with open(os.path.join(home.path, FILE_NAME), "rb") as file:
            raw = file.read(256)
        import json  # most homes have no report: `status` stays light

        first = json.loads(raw)["index"]
        for index in range(first, min(first + _SEARCHED, reader.size) + 1):
            event = decode(reader.read(index).payload)
            if isinstance(event, ProcedureEnded) and event.procedure == "compliance.check":
                body: dict[str, Any] = json.loads(event.content)
                return body
    except (OSError, ValueError, KeyError, TypeError, FemtoClawError, LogError):
        return None
    return None
