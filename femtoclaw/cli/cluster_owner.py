"""``cluster owner``: name who may lead, when there is nobody to record it: an act on each machine by itself."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from femtoclaw.cli.entitled import entitled
from femtoclaw.cli.member_words import RecordedLog, named_member, read_members, refuse_single
from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output
from femtoclaw.errors import UsageError
from femtoclaw.home import Home, require

if TYPE_CHECKING:
    from femtoclaw.cluster_home import ClusterSettings


def owner(home: Home, arguments: Arguments, output: Output) -> int:
    """Name who may lead from now on, on this machine: 0 done. Raises ControlRefusedError for whom the control policy does not
    let hand the leadership over."""
    from femtoclaw.api.socket import is_served
    from femtoclaw.cluster_home import STATIC, Owner, read_settings, write_owner
    from femtoclaw.home import journal
    from femtoclaw.sources import live

    require(home)
    refuse_single(home)
    settings = read_settings(home)
    if settings.coordinator != STATIC:
        raise UsageError(
            "etcd says who leads in this cluster", where="cluster owner", expected="a static coordinator",
            remedy="hand the leadership over with `femtoclaw cluster transfer NAME`; without a leader, repair etcd",
        )  # fmt: skip
    members, log = read_members(home)
    member = named_member(members, arguments.target)
    if not member.voter:
        raise UsageError(
            "only a voter can lead", where=member.name, expected=", ".join(each.name for each in members.voters)
        )
    operator = entitled(home, arguments, "leadership.transfer", member.name)
    lowest = _lowest_epoch(home, settings, log)
    epoch = arguments.epoch if arguments.epoch is not None else lowest
    if not lowest <= epoch < 1 << 62:
        raise UsageError("this epoch has been already", where="--epoch", expected=f">= {lowest}", found=epoch)
    write_owner(home, Owner(member.name, epoch))
    journal(home, live().wall_ns(), "cluster_owner", owner=member.name, epoch=epoch, operator=operator)
    output.data({"owner": member.name, "epoch": epoch, "needed": members.majority, "voters": len(members.voters)})
    output.line(f"on this machine {member.name} may lead from now on, in epoch {epoch} or later", "green")
    output.note(f"it leads when {members.majority} of {len(members.voters)} voters let it: on each, run "
                f"`femtoclaw --home DIR cluster owner {member.name} --epoch {epoch} --operator-key FILE`, with an operator's key"
                )  # fmt: skip
    if is_served(home):
        output.note("the node at work here reads this when it starts: stop what serves it, and start it again: "
                    f"`femtoclaw --home {home.path} serve`")  # fmt: skip
    return 0


def _lowest_epoch(home: Home, settings: ClusterSettings, log: RecordedLog) -> int:
    """One more than every epoch that this node has seen."""
    from cluster.replica_store import STATE_FILE, decode_durable
    from femtoclaw.cluster_home import read_owner
    from wal.durable_file import read_file

    durable = decode_durable(read_file(os.path.join(home.log, STATE_FILE)), home.log)
    return max(durable.epoch, log.epoch, read_owner(home, settings).epoch) + 1
