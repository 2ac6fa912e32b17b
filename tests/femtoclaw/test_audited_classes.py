"""One day in the life of a sealed node: each of the nine classes of what must be audited is in its log, by name (AUDIT-4.1)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from tests.femtoclaw.installed import READ, ROOT, Installed

CLASSES: dict[str, tuple[Callable[[dict[str, Any]], bool], ...]] = {
    "start and stop": (lambda row: row["type"] == "RuntimeStarted", lambda row: row["type"] == "RuntimeStopped"),
    "configuration load and change": (
        lambda row: row["type"] == "IntegrityVerified" and row["component"] == "configuration",
        lambda row: row["type"] == "ConfigurationAdopted" and row["version"] == 2,
    ),
    "execution": (lambda row: row["type"] == "ExecutionStarted", lambda row: row["type"] == "ExecutionFinished"),
    "decisions": (
        lambda row: row["type"] == "AuthorizationDecided" and row["decision"] == "AUTHORIZED",
        lambda row: row["type"] == "AuthorizationDecided" and row["decision"].startswith("DENIED"),
    ),
    "binary verification": (
        lambda row: (row["type"], row.get("component"), row.get("result")) == ("IntegrityVerified", "distribution", "verified"),
    ),
    "extension loading": (lambda row: row["type"] == "ModuleInstalled",),
    "upgrades": (
        lambda row: (row["type"], row.get("component"), row.get("result")) == ("IntegrityVerified", "distribution", "accepted"),
    ),
    "security violations": (lambda row: row["type"] == "ModuleRejected",),
    "authentication and operator actions": (lambda row: row["type"] == "ControlRequested" and len(row["signature"]) > 0,),
}  # fmt: skip
NINE = {
    "start and stop", "configuration load and change", "execution", "decisions", "binary verification", "extension loading",
    "upgrades", "security violations", "authentication and operator actions",
}  # fmt: skip


def done(place: Installed, *words: str, code: int = 0) -> Any:
    ended = place.call("--json", *words)
    assert ended.code == code, ended
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.requirement("AUDIT-4.1")
def test_a_day_leaves_all_nine_classes(place: Installed) -> None:
    """Work, a denial, a changed setting, a module refused and then installed, on a distribution that an operator accepted; each
    class is found by a verified query."""
    module, key = place.root.parent / "module", str(place.root.parent / "publisher.key")
    module.mkdir()
    shutil.copy(ROOT / "docs" / "examples" / "modules" / "python" / "checksum.py", module)
    done(place, "intent", READ)
    done(place, "intent", '{"tool_call":{"tool":"fs.list","args":{"path":"."}}}', code=1)
    done(place, "config", "set", "runtime.steps_max=9")
    public = done(place, "operator", "keygen", "acme", "--out", key)["public_key"]
    done(place, "claw", "pack", str(module), "--key", key, "--entry", "python:checksum.py:checksum")
    done(place, "claw", "install", str(module), code=3)
    done(place, "publisher", "trust", "acme", "--public-key", public)
    done(place, "claw", "install", str(module))
    answer = done(place, "audit", "query")
    rows = answer["events"]
    assert answer["verified"]["last"] == rows[-1]["index"] == len(rows)
    assert set(CLASSES) == NINE
    missing = [name for name, looks in CLASSES.items() for look in looks if not any(look(row) for row in rows)]
    assert missing == []
