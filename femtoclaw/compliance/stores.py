"""Measurements of the five stores of a twin after its session, and of what follows from the log."""

from __future__ import annotations

import os
import shutil
from typing import Any

from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.session import session
from femtoclaw.compliance.twin import call

STORE_NAMES = ("execution", "audit", "telemetry", "configuration", "metadata")


def stores(laboratory: Laboratory) -> dict[str, list[dict[str, Any]]]:
    """Store to its rows, as the command line prints them."""
    home = laboratory.once(session).home
    return {
        name: laboratory.run(home, "log", "--store", name, "--limit", "0").objects for name in STORE_NAMES
    }  # fmt: skip


def metadata(laboratory: Laboratory) -> dict[str, Any]:
    """Of a copy: metadata before and after a restart and without the index, and a start without the log."""
    home = laboratory.copy(laboratory.once(session).home, "metadata")
    before = laboratory.run(home, "log", "--store", "metadata", "--limit", "0").objects
    shutil.rmtree(os.path.join(home, "index"), ignore_errors=True)
    rebuilt = laboratory.run(home, "log", "--store", "metadata", "--limit", "0").objects
    status = laboratory.run(home, "status").body
    off = laboratory.run(home, "intent", call("system.info").decode()).body
    after = laboratory.run(home, "status").body
    shutil.rmtree(os.path.join(home, "log"))
    without = laboratory.run(home, "intent", call("fs.list", path=".").decode())
    known = {row["key"]: row["value"] for row in before}
    return {
        "before": before, "rebuilt": rebuilt, "runtime_id": status.get("runtime_id", ""),
        "runtime_id_after": after.get("runtime_id", ""), "runtime_version": known.get("runtime_version", ""),
        "modules": {name: value for name, value in known.items() if name.startswith("module_version.")},
        "switched_off": off.get("decision", ""), "without_log": without.code,
    }  # fmt: skip
