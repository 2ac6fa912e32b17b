"""Whether a release does the node's work: asked of the release itself, in processes of its own, through its own command."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
import os
import subprocess
from typing import Any, NamedTuple

from femtoclaw import events
from femtoclaw.event_codec import EventFormatError, decode
from femtoclaw.home import Home
from wal.record import KIND_EVENT

CALL_SECONDS = 120.0
SMOKE = {"message": {"content": "release check"}}
"""A message that every policy lets through and that runs no claw: it takes the whole way to the record."""


class Checked(NamedTuple):
    """One check of a release at work; ``detail`` is empty for one that it passed."""

    name: str
    detail: str


def check_work(starter: str, home: Home, digest: str, health_before: int) -> list[Checked]:
    """Have the release that ``starter`` runs say who it is, tell its health, and answer a message on record.

    ``digest`` is of the manifest that has to be the running one; ``health_before`` the exit code of `health` before: a release
    does not answer for what was wrong already.
    """
    code, body = call(starter, home, "distribution", "show")
    found = body.get("digest", "") if code == 0 and body.get("result") == "verified" else f"exit code {code}"
    checks = [Checked("distribution", "" if found == digest else f"runs {found}")]
    code, _ = call(starter, home, "health")
    checks.append(Checked("health", "" if code in (0, health_before) else f"exit code {code}, {health_before} before"))
    code, body = call(starter, home, "intent", json.dumps(SMOKE))
    authorized = code == 0 and body.get("decision") == "AUTHORIZED"
    checks.append(Checked("smoke execution", "" if authorized else f"exit code {code}"))
    recorded = started_from(home) if authorized else digest
    checks.append(
        Checked("record", "" if recorded == digest else f"the newest start was from {recorded or 'nothing verified'}")
    )
    return checks


def call(starter: str, home: Home, *words: str) -> tuple[int, dict[str, Any]]:
    """Run a command of the release; its exit code and its answer, empty for none."""
    command = [starter, "--json", "--home", home.path, *words]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LD_", "PYTHON"))}
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=CALL_SECONDS, check=False, env=kept
        )
        body = json.loads(done.stdout or b"{}")
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return 70, {}
    return done.returncode, body if isinstance(body, dict) else {}


def started_from(home: Home) -> str:
    """Digest of the distribution that the newest recorded start ran from; empty for one that nothing had verified."""
    from wal.reader import read_log_directory

    reader = read_log_directory(home.log)
    try:
        for index in range(reader.size, 0, -1):
            record = reader.read(index)
            if record.kind != KIND_EVENT:
                continue
            try:
                event = decode(record.payload)
            except EventFormatError:
                continue
            if isinstance(event, events.IntegrityVerified) and event.component == "distribution":
                return event.digest
    finally:
        reader.close()
    return ""


def own_health(home: Home) -> int:
    """The exit code of `health` by the program that runs this."""
    import sys

    from femtoclaw.distribution import ROOT
    from femtoclaw.launcher.start import stub, verified

    code = stub("start", "main", ROOT) if verified is not None else (
        f"import sys; sys.path.insert(0, {ROOT!r}); from femtoclaw.__main__ import main; main()"
    )  # fmt: skip
    mode = ["-I", "-S"] if verified is not None else ["-I"]
    command = [sys.executable, *mode, "-c", code, "--json", "--home", home.path, "health"]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=CALL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 70
    return done.returncode
