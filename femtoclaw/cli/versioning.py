"""``--version --json``: which build this is, and what the newest report on record says of it (SUITE-9.2).

``--version`` alone is answered before anything is imported, and says the number only.
"""

from __future__ import annotations

import os
from typing import Any

from femtoclaw.cli.render import Output
from femtoclaw.compliance.standing import UNVERIFIED, standing
from femtoclaw.errors import FemtoClawError
from femtoclaw.home import Home, locate
from wal.errors import LogError


def asked(words: list[str]) -> bool:
    """Whether ``--version`` is among the words before any command."""
    rest = iter(words)
    for word in rest:
        if word == "--version" or not word.startswith("-") or word == "--":
            return word == "--version"
        if word == "--home":
            next(rest, None)
    return False


def version(words: list[str], output: Output) -> int:
    """0. ``words`` are the command line, of which ``--home DIR`` counts; without a home, or with a log that cannot be read, no
    report vouches for the build."""
    from femtoclaw.compliance.report import build

    own = build()
    told = {name: own[name] for name in ("version", "python", "digest", "distribution")}
    output.data(told | standing_at(locate(_home(words))))
    return 0


def standing_at(home: Home) -> dict[str, Any]:
    """What ``compliance.standing`` says of the build, by the log of this home."""
    from wal.reader import read_log_directory

    if not os.path.isdir(home.log):
        return {"compliance": UNVERIFIED, "why": "no node is here to have a report on record"}
    try:
        reader = read_log_directory(home.log)
    except (FemtoClawError, LogError):
        return {"compliance": UNVERIFIED, "why": "the log cannot be read"}
    try:
        return standing(home, reader)
    finally:
        reader.close()


def _home(words: list[str]) -> str | None:
    for place, word in enumerate(words):
        if word == "--home":
            return words[place + 1] if place + 1 < len(words) else None
        if word.startswith("--home="):
            return word.partition("=")[2]
    return None
