"""``cluster owner``: name who may lead, when there is nobody to record it: an act on each machine by itself."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

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
    operator = _entitled(home, arguments, member.name)
    lowest = _lowest_epoch(home, settings, log)
    epoch = arguments.epoch if arguments.epoch is not None else lowest
    if not lowest <= epoch < 1 << 62:
        raise UsageError("this epoch has been already", where="--epoch", expected=f">= {lowest}", found=epoch)
    write_owner(home, Owner(member.name, epoch))
    journal(home, live().wall_ns(), "cluster_owner", owner=member.name, epoch=epoch, operator=operator)
    output.data({"owner": member.name, "epoch": epoch, "needed": members.majority, "voters": len(members.voters)})
    output.line(f"on this machine {member.name} may lead from now on, in epoch {epoch} or later", "green")
    output.note(f"it leads when {members.majority} of {len(members.voters)} voters let it: on each, run "
                f"`femtoclaw cluster owner {member.name} --epoch {epoch}`")  # fmt: skip
    if is_served(home):
        output.note("the node at work here reads this when it starts: stop `femtoclaw serve`, and start it again")
    return 0


def _entitled(home: Home, arguments: Arguments, resource: str) -> str:
    """The operator who asks: known to the log, with their key, permitted by the control policy that is recorded here. There may be
    nobody to record it, so it is checked here and written into the boot journal."""
    from femtoclaw.cli.recorded_state import recorded_state
    from femtoclaw.control import operator_signer
    from femtoclaw.control_policy import load_control
    from femtoclaw.errors import ControlRefusedError

    node = recorded_state(home).node
    signer = operator_signer(home, node, getattr(arguments, "as", None), arguments.operator_key)
    name = signer.public.name
    known = node.operators.get(name)
    if known is None or not known.active or known.public_key != signer.public.vkey():
        raise ControlRefusedError(
            "no operator of this node has this key", where=name, expected="an operator who is not revoked"
        )
    if not load_control(node.control.text).evaluate(name, known, "leadership.transfer", resource).allowed:
        raise ControlRefusedError(
            "no control policy permits it for your roles", where=name, expected="a role that may leadership.transfer",
            found=", ".join(known.roles),
        )  # fmt: skip
    return name


def _lowest_epoch(home: Home, settings: ClusterSettings, log: RecordedLog) -> int:
    """One more than every epoch that this node has seen."""
    from cluster.replica_store import STATE_FILE, decode_durable
    from femtoclaw.cluster_home import read_owner
    from wal.durable_file import read_file

    durable = decode_durable(read_file(os.path.join(home.log, STATE_FILE)), home.log)
    return max(durable.epoch, log.epoch, read_owner(home, settings).epoch) + 1
