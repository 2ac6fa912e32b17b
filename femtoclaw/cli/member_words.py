"""What the words of ``cluster`` have in common: a member's settings from options, new files, the members that the log names."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output
from femtoclaw.errors import ConfigurationError, UnavailableError, UsageError
from femtoclaw.home import Home

if TYPE_CHECKING:
    from femtoclaw.cluster_home import ClusterSettings
    from wal.membership import Member, Membership

FILE_BYTES_MAX = 256 * 1024
"""Of a request or an invitation."""

START_S = 10.0
"""How long a command waits for a `serve` that was just started."""

_TOLD_S = 1.0
_LOOK_S = 0.1


def member_settings(arguments: Arguments, **more: Any) -> tuple[ClusterSettings, str]:
    """A member's settings and the address at which others reach it, from ``--name``, ``--listen`` and ``--address``.

    Raises UsageError, ConfigurationError."""
    from femtoclaw.cluster_home import check_settings

    where = f"cluster {arguments.what}"
    if arguments.name is None or arguments.listen is None:
        raise UsageError(
            "a member has a name and listens somewhere", where=where, expected="--name NAME --listen HOST:PORT"
        )
    settings = check_settings({"name": arguments.name, "listen": arguments.listen, **more}, where)
    address = arguments.address or settings.listen
    host, _, port = address.rpartition(":")
    if host in ("0.0.0.0", "[::]", "*") or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(
            "others cannot reach this member there", where=where, expected="--address HOST:PORT that they can connect to",
            found=address,
        )  # fmt: skip
    return settings, address


def new_file(arguments: Arguments, act: str) -> str:
    """The file of ``--out``, which is not there yet. Raises UsageError."""
    if not arguments.out:
        raise UsageError("where should it be written?", where=f"cluster {act}", expected="--out FILE")
    if os.path.lexists(arguments.out):
        raise UsageError(
            "there is a file already", where=arguments.out, expected="a new file", remedy="choose another name"
        )
    return str(arguments.out)


class RecordedLog:
    """What a log says of itself: origin, id, the frame of its first record, the newest epoch."""

    def __init__(self, origin: str, log_id: bytes, genesis: bytes, epoch: int) -> None:
        self.origin = origin
        self.log_id = log_id
        self.genesis = genesis
        self.epoch = epoch


def read_members(home: Home) -> tuple[Membership, RecordedLog]:
    """The newest membership in the home's log, and what the log says of itself. Raises ConfigurationError without members."""
    from wal.reader import read_log_directory

    reader = read_log_directory(home.log)
    try:
        newest, genesis = reader.keys().newest, reader.storage.get(1)
        if newest.members is None or genesis is None:
            raise ConfigurationError(
                "this log has no members", where=home.log, expected="a node of a cluster", found="a node by itself",
                remedy="make it one: `femtoclaw cluster init`",
            )  # fmt: skip
        return newest.members, RecordedLog(reader.origin, reader.log_id, genesis, newest.epoch)
    finally:
        reader.close()


def named_member(members: Membership, name: str) -> Member:
    from femtoclaw.membership import MembershipRefusedError

    member = members.get(name)
    if member is None:
        names = ", ".join(each.name for each in members.members)
        raise MembershipRefusedError("UNKNOWN", "there is no member of this name", where=name[:80], expected=names)
    return member


def refuse_single(home: Home) -> None:
    """Raise ConfigurationError for a node by itself."""
    from femtoclaw.cluster_home import is_member

    if not is_member(home):
        raise ConfigurationError(
            "this node takes part in no cluster", where=home.path, expected="a member",
            remedy="make it the first one: `femtoclaw cluster init`",
        )  # fmt: skip


def starts_to_serve(home: Home, output: Output) -> bool:
    """Whether somebody serves this member, or begins to within ``START_S``: `serve &` and the next command belong together."""
    from femtoclaw.api.socket import is_served

    begun, told = time.monotonic(), False
    while not is_served(home):
        waited = time.monotonic() - begun
        if waited >= START_S:
            return False
        if waited >= _TOLD_S and not told:
            told = True
            output.note(f"nobody serves {home.path} yet: waiting for up to {START_S:g} s")
        time.sleep(_LOOK_S)
    return True


def require_served(home: Home, output: Output) -> None:
    """Raise ConfigurationError for a node by itself, UnavailableError for a member that nobody serves."""
    refuse_single(home)
    if not starts_to_serve(home, output):
        raise UnavailableError(
            "this member is not at work", where=home.path, expected="the member that leads, being served",
            remedy="start it with `femtoclaw serve`, or run this on the leader's machine",
        )  # fmt: skip
