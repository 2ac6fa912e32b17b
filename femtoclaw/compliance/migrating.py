"""Measurement of migrations: a home of the format before is migrated, compared, taken back, and cut at every step."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from typing import Any

from femtoclaw import distribution
from femtoclaw.compliance.checking import CannotMeasureError
from femtoclaw.compliance.corpus import RISKS
from femtoclaw.compliance.earlier import make_earlier
from femtoclaw.compliance.laboratory import COMMAND_S, Answer, Laboratory
from femtoclaw.compliance.simulation import CALLS
from femtoclaw.compliance.trails import read_trail
from femtoclaw.compliance.twin import say, twin

MEMORY = "/dev/shm"
"""Where copies are cut that nobody needs afterwards: each of their appends is made durable, which a disk makes slow."""


def migrated(laboratory: Laboratory) -> dict[str, Any]:
    """Every command of migration on a home of the format before, its refusals, and the history afterwards."""
    fresh = laboratory.once(twin)
    earlier = make_earlier(fresh, laboratory.place("earlier"))
    home = laboratory.copy(earlier.path, "migrated")
    before = {"recorded": _recorded(home), "verdicts": verdicts(home), "records": _size(home)}
    answers = {
        "wrong source": laboratory.run(fresh, "migrate", "run", "--owner", "ada"),
        **_broken(laboratory, earlier.path),
    }
    for name in ("plan", "dry run", "run", "validate", "history"):
        words = {"dry run": ("run", "--dry-run"), "run": ("run", "--owner", "ada")}.get(name, (name,))
        answers[name] = laboratory.run(home, "migrate", *words)
        if name == "dry run":
            before["untouched"] = _size(home) == before["records"]
    after = {
        "recorded": _recorded(home),
        "verdicts": verdicts(home),
        "trail": read_trail("migrated", os.path.join(home, "log")),
    }
    answers["works"] = laboratory.run(home, "intent", say("after the migration").decode())
    answers["again"] = laboratory.run(home, "migrate", "history")
    answers["unsealed"] = _unsealed(laboratory, home)
    answers["rollback dry run"] = laboratory.run(home, "migrate", "rollback", "--dry-run")
    answers["rollback"] = laboratory.run(home, "migrate", "rollback")
    answers["verify after rollback"] = laboratory.run(home, "verify")
    back = read_trail("migrated back", os.path.join(home, "log"))
    return {"answers": answers, "before": before, "after": after, "back": back, "earlier": earlier.path}


def _size(home: str) -> int:
    return read_trail("earlier", os.path.join(home, "log")).size


def _broken(laboratory: Laboratory, earlier: str) -> dict[str, Answer]:
    """A configuration that cannot be carried over: nothing is migrated."""
    home = laboratory.copy(earlier, "broken")
    with open(os.path.join(home, "femtoclaw.toml"), "a") as file:
        file.write("\n[runtime2]\nsteps = 1\n")
    answer = laboratory.run(home, "migrate", "run", "--owner", "ada")
    kept = Answer(int(_size(home) != _size(earlier)), [], "")
    return {"broken configuration": answer, "broken configuration: log as it was": kept}


def _unsealed(laboratory: Laboratory, home: str) -> Answer:
    """A start of a migrated home whose seal says something else."""
    copy = laboratory.copy(home, "unsealed")
    for folder, _, names in os.walk(os.path.join(copy, "migrations")):
        for name in names:
            if name == "seal.note":
                path = os.path.join(folder, name)
                with open(path, "rb") as file:
                    raw = file.read()
                with open(path, "wb") as file:
                    file.write(raw.replace(b"migrated 1", b"migrated 2", 1).replace(b"migrated 5", b"migrated 6", 1))
    answer = laboratory.run(copy, "intent", say("x").decode())
    shutil.rmtree(copy, ignore_errors=True)
    return answer


def _recorded(home: str) -> dict[str, Any]:
    """The configuration in force, as the log has it, with every default of this program."""
    from femtoclaw.config import resolve
    from femtoclaw.restore import load_state
    from wal.reader import read_log_directory

    with contextlib.closing(read_log_directory(os.path.join(home, "log"))) as reader:
        content = load_state(reader).node.configuration.content
    return dict(resolve(json.loads(content), "the recorded configuration", None))


def verdicts(home: str) -> list[tuple[str, str]]:
    """What the policy, configuration and registry in force decide about each message of the corpus: nothing is recorded."""
    from femtoclaw import commands, events
    from femtoclaw.decide import decide
    from femtoclaw.engines import EngineCache
    from femtoclaw.restore import load_state
    from wal.reader import read_log_directory

    with contextlib.closing(read_log_directory(os.path.join(home, "log"))) as reader:
        state = load_state(reader)
    engines, found = EngineCache(), []
    for at, raw in enumerate((*CALLS, *(each for outputs in RISKS.values() for each in outputs))):
        happened = decide(state, commands.SubmitIntent(f"{at:032x}", raw, 1, ""), engines)
        for event in happened:
            if isinstance(event, events.AuthorizationDecided):
                found.append((event.decision, event.reason))
            elif isinstance(event, events.ProtocolRejected):
                found.append(("PROTOCOL", event.code))
    return found


def cuts(laboratory: Laboratory) -> dict[str, Any]:
    """What ``cutting`` finds with a home of the format before, cut at every step. Raises CannotMeasureError."""
    return cut_migrations(laboratory, 0, 0)


def cut_migrations(laboratory: Laboratory, records: int, points: int, seconds: float = COMMAND_S) -> dict[str, Any]:
    """The same with a home of at least ``records`` records, cut at ``points`` steps; 0 is every one."""
    from femtoclaw.launcher.child import command

    with tempfile.TemporaryDirectory(
        prefix="femtoclaw-comply-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None
    ) as place:
        earlier = make_earlier(laboratory.once(twin), os.path.join(place, "earlier"), records)
        code = "from femtoclaw.compliance.cutting import main; main()"
        done = subprocess.run(
            [*command(code, distribution.ROOT), earlier.path, place, str(points)], capture_output=True, check=False,
            timeout=seconds, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    if done.returncode:
        raise CannotMeasureError(f"the migrations could not be cut: {done.stderr.decode(errors='replace')[-300:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
