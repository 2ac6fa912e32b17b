"""What a member's own machine can say of it to who reads its log: what part it plays now, and how far the log is committed."""

from __future__ import annotations

import os

from femtoclaw.cluster_home import is_member
from femtoclaw.errors import UnavailableError
from femtoclaw.home import Home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from cluster.steps import Durable
    from femtoclaw.cli.render import Output
    from wal.reader import LogReader

ANSWER_S = 5.0
"""How long the process that serves the home may take to answer."""


def standing(home: Home) -> dict[str, Any] | None:
    """What the process that serves this node says of it. Of a member that nobody serves, or that does not answer, what the disk
    says; None for a node by itself then. Raises ConfigurationError for a ``cluster.toml`` that cannot be used."""
    told = _served(home)
    if not is_member(home):
        return {"served": True} | told if told is not None else None
    from femtoclaw.cluster_home import read_settings

    if told is not None:
        return {"served": True} | told
    settings, known = read_settings(home), _promised(home)
    return {
        "served": False, "executes": False, "role": "not served", "member": settings.name, "leader": known.leader,
        "leader_age_ms": None, "epoch": known.epoch, "commit": known.commit, "mode": settings.mode,
        "coordinator": settings.coordinator, "restored": known.restored, "frozen": known.frozen,
    }  # fmt: skip


def tell_uncommitted(home: Home, reader: LogReader, indexes: Iterable[int], output: Output) -> None:
    """On stderr, when some of these records of a member are above what is known to be committed: another leader may never have
    had them."""
    if not is_member(home):
        return
    newest, known = max(indexes, default=0), _promised(home).commit
    if newest > known:
        known = max(known, int((_served(home) or {}).get("commit", 0)))
    if newest > known and not _alone(home, reader):
        output.note(
            f"records above {known} are not known to be committed on this machine: they may yet be replaced by another leader's"
        )


def _served(home: Home) -> dict[str, Any] | None:
    """What the serving process says, or None."""
    from femtoclaw.api.socket import is_served

    if not is_served(home):
        return None
    from femtoclaw.api.client import connect

    try:
        with connect(home, ANSWER_S) as client:
            serving: dict[str, Any] = client.status(ANSWER_S)["serving"]
            return serving
    except UnavailableError:
        return None


def _alone(home: Home, reader: LogReader) -> bool:
    """Whether this member is the only voter: then what it has is what a majority has."""
    from femtoclaw.cluster_home import read_settings

    members = reader.keys().newest.members
    return members is not None and [each.name for each in members.voters] == [read_settings(home).name]


def _promised(home: Home) -> Durable:
    """What this node remembers on its disk; nothing where that cannot be read: then nothing is known to be committed."""
    from cluster.errors import ClusterError
    from cluster.replica_store import STATE_FILE, decode_durable
    from cluster.steps import Durable
    from wal.durable_file import read_file
    from wal.errors import LogError

    try:
        return decode_durable(read_file(os.path.join(home.log, STATE_FILE)), home.log)
    except (ClusterError, LogError, OSError):
        return Durable()
