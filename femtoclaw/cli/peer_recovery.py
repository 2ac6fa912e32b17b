"""``recover --from-peer``: a member whose log is damaged or gone fetches it anew from the others, and begins as a learner."""

from __future__ import annotations

import os

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output
from femtoclaw.cluster_home import folder_of, is_member, read_settings
from femtoclaw.errors import ConfigurationError, UnavailableError, UsageError
from femtoclaw.home import Home, read_bounded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cluster.steps import Durable

LAST_INVITATION = "last.invitation"
"""What a member writes about its cluster while it takes part: who the others are, signed by itself."""


def last_invitation(home: Home) -> str:
    """Where that is."""
    return os.path.join(folder_of(home), LAST_INVITATION)


def recover_from_peer(home: Home, arguments: Arguments, output: Output) -> int:
    """0 when the log is here again. What was here is kept beside it; what this node had promised is kept as far as it reads.

    Raises UsageError where this is no member, ConfigurationError without anything that says who the others are, and as
    ``newcomer.come_in``: then the damaged log is in its place again.
    """
    from cluster.replica_store import STATE_FILE, encode_durable
    from femtoclaw.membership import open_invitation
    from femtoclaw.newcomer import check_invited, come_in
    from femtoclaw.sources import live
    from wal.durable_file import sync_folder, write_file

    if not is_member(home):
        raise UsageError(
            "this home takes part in no cluster", where=home.path, expected="a member's home",
            remedy="use --from-archive, or restore a backup",
        )  # fmt: skip
    path = arguments.from_peer or last_invitation(home)
    if not os.path.lexists(path):
        raise ConfigurationError(
            "nothing here says who the other members are", where=path, expected="an invitation",
            found="nothing", remedy="name one: `femtoclaw recover --from-peer INVITATION`",
        )  # fmt: skip
    settings = read_settings(home)
    invitation, issuer = open_invitation(read_bounded(path), path)
    newcomer = check_invited(home, invitation, settings.name)
    known = _promised(home)
    kept = _set_aside(home, live().wall_ns())
    try:
        size, _ = come_in(newcomer, invitation, issuer, settings, lambda index: output.progress(f"{index} records"))
    except BaseException:
        _put_back(home, kept)
        raise
    # Whatever it had promised: until everything is here again that anybody knows it to have, it votes for nobody.
    state = known._replace(restored=True, commit=0, frozen="", vouched=0)
    write_file(os.path.join(home.log, STATE_FILE), encode_durable(state))
    sync_folder(home.path)
    output.data({"recovered": "from-peer", "size": size, "kept": kept, "restored": True})
    output.line(f"{size} records were fetched and verified", "green")
    if kept:
        output.note(f"what was here is kept in {kept}")
    output.note("start it with `femtoclaw serve`: it is a learner until it has everything again")
    return 0


def _promised(home: Home) -> Durable:
    """What this node remembers of its promises, or nothing."""
    from cluster.errors import ClusterError
    from cluster.replica_store import STATE_FILE, decode_durable
    from cluster.steps import Durable
    from wal.durable_file import read_file
    from wal.errors import LogError

    try:
        return decode_durable(read_file(os.path.join(home.log, STATE_FILE)), home.log)
    except (ClusterError, LogError, OSError):
        return Durable()


def _set_aside(home: Home, now_ns: int) -> str:
    """Move the damaged log away; its place, or empty where there was none. Raises UnavailableError, LogLockedError."""
    from wal.durable_file import sync_folder
    from wal.writer_lock import lock_for_writing

    if not os.path.lexists(home.log):
        return ""
    if os.path.lexists(os.path.join(home.log, "LOCK")):
        os.close(lock_for_writing(home.log))
    kept = f"{home.log}.damaged-{now_ns}"
    try:
        os.rename(home.log, kept)
        sync_folder(home.path)
    except OSError as error:
        raise UnavailableError("the damaged log cannot be moved", where=home.log, found=error.strerror) from error
    return kept


def _put_back(home: Home, kept: str) -> None:
    import shutil

    if kept:
        shutil.rmtree(home.log, ignore_errors=True)
        os.rename(kept, home.log)
