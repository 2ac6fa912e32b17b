"""Measurement of procedures as commands: all of them listed, previews that leave no trace, and a restart with its downtime."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from femtoclaw.compliance.laboratory import Laboratory, end
from femtoclaw.compliance.twin import say, serving, twin
from femtoclaw.runbook import PROCEDURES

PREVIEWS = (
    "serve --dry-run", "contain --dry-run", "config set runtime.drain_s=30 --dry-run", "key rotate --dry-run",
    "incident open slow_health --dry-run", "recover --dry-run",
)  # fmt: skip
"""Those that need nothing but a home."""

KEPT_S = 40
GIVEN_UP_S = 1


class Practised(NamedTuple):
    """What was listed, by section; commands that nobody would understand; previews by their exit code, with the digest of the home
    before and after; downtime of a restart as it was told and as it was seen from outside, in milliseconds; a restart that nobody
    completes: its exit code, and whether anybody served afterwards."""

    listed: dict[int, dict[str, Any]]
    unknown: list[str]
    previews: dict[str, int]
    before: str
    after: str
    told_ms: int
    seen_ms: int
    aborted: int
    served_then: bool


def practised(laboratory: Laboratory) -> Practised:
    """Preview, restart and list on a twin."""
    from femtoclaw.api.socket import is_served
    from femtoclaw.home import Home

    home = laboratory.copy(laboratory.once(twin), "practised")
    before = _digest(home)
    with ThreadPoolExecutor(3) as threads:
        codes = list(threads.map(lambda line: laboratory.run(home, *line.split()).code, PREVIEWS))
    after = _digest(home)
    told, seen = _restart(laboratory, home)
    with serving(laboratory, home):
        aborted = laboratory.run(home, "service", "restart", "--wait", str(GIVEN_UP_S)).code
        served = is_served(Home(home))
    rows = laboratory.run(home, "runbook", "list").body.get("procedures", [])
    listed = {int(row["section"]): row for row in rows}
    codes_of = dict(zip(PREVIEWS, codes, strict=True))
    return Practised(listed, _unknown(), codes_of, before, after, told, seen, aborted, served)


def _unknown() -> list[str]:
    """Lines of the table that the program's own parser does not take as what they say."""
    from femtoclaw.cli.parser import parse
    from femtoclaw.errors import UsageError
    from femtoclaw.runbook import LOOKS

    wrong = []
    for each in PROCEDURES:
        for line in (*each.commands, *([] if each.preview == LOOKS else [each.preview])):
            try:
                taken = parse(line.split())
            except UsageError:
                wrong.append(line)
                continue
            if line == each.preview and taken.command != "health" and not getattr(taken, "dry_run", False):
                wrong.append(line)
    return wrong


def _restart(laboratory: Laboratory, home: str) -> tuple[int, int]:
    """Restart a served twin that somebody keeps: the downtime that is printed, and from the last request that was accepted before
    to the first one after."""
    from femtoclaw.api.client import connect
    from femtoclaw.home import Home

    later: list[subprocess.Popen[bytes]] = []
    try:
        with serving(laboratory, home) as served:

            def keep() -> None:
                served.process.wait(KEPT_S)
                later.append(laboratory.begin(home, "serve"))

            served.client.intent(say("before"))
            last = time.monotonic()
            keeper = threading.Thread(target=keep)
            keeper.start()
            answer = laboratory.run(home, "service", "restart", "--wait", str(KEPT_S))
            keeper.join(KEPT_S)
            if answer.code:
                return -1, -1
            with connect(Home(home)) as client:
                client.intent(say("after"))
            seen = time.monotonic() - last
        return int(answer.body["downtime_ms"]), round(seen * 1000)
    finally:
        for process in later:
            end(process, signal.SIGTERM)


def _digest(home: str) -> str:
    """Of the log's records, the configuration, the policy and the names of the keys."""
    from blake3 import blake3

    from wal.reader import read_log_directory

    hasher = blake3()
    reader = read_log_directory(os.path.join(home, "log"))
    try:
        hasher.update(reader.size.to_bytes(8, "big") + reader.tree().root(reader.size))
    finally:
        reader.close()
    for name in ("femtoclaw.toml", "policy.cedar"):
        with open(os.path.join(home, name), "rb") as file:
            hasher.update(file.read())
    hasher.update(" ".join(sorted(os.listdir(os.path.join(home, "keys")))).encode())
    return hasher.hexdigest()
