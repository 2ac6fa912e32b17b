"""``cluster``: make a node the first member, let others in and out, hand the leadership over, say how the members stand.

Every change of who takes part is an operator's request, recorded at whoever leads; the log's own record of it follows. The one
act that is not is ``owner``: it is for when nobody leads, on each machine by itself.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from femtoclaw.cli.member_words import (
    FILE_BYTES_MAX,
    member_settings,
    named_member,
    new_file,
    read_members,
    require_served,
)
from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, program
from femtoclaw.errors import ConfigurationError, UsageError
from femtoclaw.home import Home, locate, read_bounded, require

if TYPE_CHECKING:
    from femtoclaw.cluster_home import ClusterSettings
    from wal.membership import Member

HANDED_OVER_S = 40.0
"""How long a transfer is waited for: executions in flight may take half of it to end."""

_POLL_S = 0.2
_TAKES: dict[str, tuple[str, frozenset[str]]] = {
    "init": ("", frozenset({"name", "listen", "address", "coordinator", "etcd", "mode", "witnesses"})),
    "request": ("", frozenset({"name", "listen", "address", "out"})),
    "join": ("REQUEST", frozenset({"out"})),
    "accept": ("INVITATION", frozenset({"key", "witnesses"})),
    "promote": ("NAME", frozenset()),
    "leave": ("NAME", frozenset()),
    "transfer": ("NAME", frozenset()),
    "owner": ("NAME", frozenset({"epoch"})),
    "rejoin": ("", frozenset()),
    "status": ("", frozenset()),
}
_OPTIONS = ("name", "listen", "address", "coordinator", "etcd", "mode", "witnesses", "out", "key", "epoch")


def cluster(arguments: Arguments, output: Output) -> int:
    """One of the commands below, by its word."""
    from femtoclaw.cli import cluster_owner, cluster_rejoin, cluster_status, newcoming

    acts = {
        "init": _init, "request": newcoming.request, "join": _join, "accept": newcoming.accept, "promote": _promote,
        "leave": _leave, "transfer": _transfer, "owner": cluster_owner.owner, "rejoin": cluster_rejoin.rejoin,
        "status": cluster_status.status,
    }  # fmt: skip
    _check_words(arguments)
    return acts[arguments.what](locate(getattr(arguments, "home", None)), arguments, output)


def _check_words(arguments: Arguments) -> None:
    """Raise UsageError for what this act does not take, and for what it lacks."""
    target, options = _TAKES[arguments.what]
    where = f"cluster {arguments.what}"
    if bool(target) != (arguments.target is not None):
        raise UsageError("it takes other arguments", where=where, expected=target or "no name and no file")
    for name in _OPTIONS:
        given = getattr(arguments, name)
        if given not in (None, []) and name not in options:
            raise UsageError(
                f"--{name} is not for this", where=where, expected=", ".join(sorted(options)) or "no such option"
            )


# --- the first member ------------------------------------------------------------------------------------------------


def _init(home: Home, arguments: Arguments, output: Output) -> int:
    """Make the node of an existing home a cluster of one voter: 0 done, 1 refused."""
    from femtoclaw.cli.asking import ask, tell
    from femtoclaw.cli.execute import at_rest, open_node
    from femtoclaw.cluster_home import settings_path, settings_text
    from femtoclaw.integrity import discard, put_in_place, stage
    from femtoclaw.membership import ADD, entry_of, membership_after
    from wal.membership import Member

    require(home)
    settings, address = _first_settings(arguments)
    path = settings_path(home)
    if _finish_cut(home, path):
        output.line("the node was a member already; its settings are in place now", "green")
        return 0
    identity = _identity(home, settings.name)
    with open_node(getattr(arguments, "home", None), output) as opened:
        node = at_rest(opened, "cluster init")
        member = Member(settings.name, node.started.signer.public, address, identity.certificate, True)
        first = membership_after(None, ADD, member)
        # Before the log says that it has members: from then on it opens for whoever leads only, by these settings.
        stage(path, settings_text(settings).encode())
        asked = ask(node, arguments, ADD, member.name, entry_of(member))
        if not asked.permitted:
            discard(path)
            return tell(asked, output, ADD, member.name)
        node.started.log.change_members(first)
        put_in_place(path)
        tell(asked, output, ADD, member.name)
    output.note("from now on the node works while it is served: `femtoclaw serve`")
    if settings.mode == "local":
        output.note("mode local: what this machine alone has recorded is lost with its disk, others or not")
    output.note(
        f"another machine asks to come in with: {program()} --home DIR cluster request --name NAME --listen ..."
    )
    return 0


def _first_settings(arguments: Arguments) -> tuple[ClusterSettings, str]:
    more: dict[str, Any] = {"mode": arguments.mode or "quorum", "coordinator": arguments.coordinator or "static"}
    if arguments.etcd and arguments.coordinator is None:
        more["coordinator"] = "etcd"
    if more["coordinator"] == "static":
        more["owner"] = arguments.name or ""
    if arguments.etcd:
        more["etcd"] = list(arguments.etcd)
    if arguments.witnesses:
        more["witnesses"] = os.path.abspath(arguments.witnesses)
    if more["coordinator"] == "static" and arguments.etcd:
        raise UsageError(
            "a static cluster asks no etcd", where="cluster init", expected="--coordinator etcd, or no --etcd"
        )
    return member_settings(arguments, **more)


def _finish_cut(home: Home, path: str) -> bool:
    """What a crash left between the log's record and the settings; True when that is mended. Raises UsageError for a node that
    is a member already."""
    from femtoclaw.integrity import STAGED, put_in_place
    from wal.reader import read_log_directory

    reader = read_log_directory(home.log)
    try:
        member = reader.keys().newest.members is not None
    finally:
        reader.close()
    if not member:
        return False
    if os.path.lexists(path) or not os.path.lexists(path + STAGED):
        raise UsageError(
            "this node is a member of a cluster already", where=home.path, remedy="see `femtoclaw cluster status`"
        )
    put_in_place(path)
    return True


def _identity(home: Home, name: str) -> Any:
    """The node's certificate: a new one, or the one that an ``init`` left which was cut or refused."""
    from cluster.tls import CERTIFICATE_FILE, load_identity, make_identity
    from femtoclaw.cluster_home import folder_of

    folder = folder_of(home)
    if not os.path.lexists(os.path.join(folder, CERTIFICATE_FILE)):
        return make_identity(folder, name)
    identity = load_identity(folder)
    if identity.name != name:
        raise ConfigurationError(
            "this home has a certificate of another name", where=folder, expected=name, found=identity.name,
            remedy=f"use --name {identity.name}, or remove the folder: nobody knows that certificate yet",
        )  # fmt: skip
    return identity


# --- letting in ------------------------------------------------------------------------------------------------------


def _join(home: Home, arguments: Arguments, output: Output) -> int:
    """Admit who made a request, as a learner, and write the invitation: 0 done, 1 refused."""
    from femtoclaw.cli.asking import change
    from femtoclaw.membership import ADD, entry_of, membership_after, open_join_request

    require(home)
    require_served(home, output)
    out = new_file(arguments, "join")
    member = open_join_request(read_bounded(arguments.target, FILE_BYTES_MAX), arguments.target)
    _show(member, output)
    members, _ = read_members(home)
    known = members.get(member.name)
    if known is not None and known._replace(voter=False) == member:
        output.note("it is a member already: only the invitation is written again")
    else:
        membership_after(members, ADD, member)
        code = change(arguments, output, ADD, member.name, lambda node: entry_of(member))
        if code:
            return code
    _write_invitation(home, member, out)
    output.line(f"invitation for {member.name} in {out}", "green")
    output.note(f"take it there, and run: {program()} --home DIR cluster accept {os.path.basename(out)}")
    return 0


def _show(member: Member, output: Output) -> None:
    """Who is about to be let in, for an operator to compare with what the newcomer's own operator says."""
    from hashlib import sha256

    from cluster.tls import certificate_name

    name = certificate_name(member.certificate, "the request's certificate")
    if name != member.name:
        raise ConfigurationError(
            "the certificate is of another name", where="the request", expected=member.name, found=name
        )
    output.line(f"to be admitted: {member.name}", "bold")
    digest = sha256(member.certificate).hexdigest()
    output.fields([("address", member.address), ("key", member.key.vkey()), ("certificate", f"sha256 {digest}")])


def _write_invitation(home: Home, member: Member, out: str) -> None:
    from femtoclaw.cluster_home import read_owner, read_settings
    from femtoclaw.keys import load_signer
    from femtoclaw.membership import Invitation, Terms, sign_invitation
    from wal.durable_file import write_file

    settings = read_settings(home)
    owner = read_owner(home, settings)
    members, log = read_members(home)
    terms = Terms(
        settings.mode, settings.coordinator, owner.name, owner.epoch, settings.etcd, settings.etcd_prefix,
        settings.etcd_lease_s, settings.acknowledge_s, settings.patience_ms,
    )  # fmt: skip
    invitation = Invitation(log.origin, log.log_id, log.genesis, terms, members, member.name)
    write_file(os.path.abspath(out), sign_invitation(invitation, load_signer(home)))


# --- changes of members ----------------------------------------------------------------------------------------------


def _promote(home: Home, arguments: Arguments, output: Output) -> int:
    """Make a learner a voter, once it has everything: 0 done, 1 refused."""
    return _change(home, arguments, output, "member.promote")


def _leave(home: Home, arguments: Arguments, output: Output) -> int:
    """Take a member out: 0 done, 1 refused."""
    code = _change(home, arguments, output, "member.remove")
    if code == 0:
        output.note("its home holds the log as it was: stop what serves it; it cannot come back under its key")
    return code


def _change(home: Home, arguments: Arguments, output: Output, action: str) -> int:
    from femtoclaw.cli.asking import change
    from femtoclaw.membership import entry_of, membership_after

    require(home)
    require_served(home, output)
    members, _ = read_members(home)
    member = named_member(members, arguments.target)
    membership_after(members, action, member)
    return change(arguments, output, action, member.name, lambda node: entry_of(member))


def _transfer(home: Home, arguments: Arguments, output: Output) -> int:
    """Hand the leadership over, and wait until it has happened: 0 done, 1 refused or not done in time."""
    from femtoclaw.cluster_home import STATIC, read_settings

    name = arguments.target
    require(home)
    require_served(home, output)
    if read_settings(home).coordinator == STATIC:
        raise UsageError(
            "under a static coordinator only the owner leads", where="cluster transfer", expected="etcd as the coordinator",
            remedy="name another owner on a majority of the voters' machines: "
            f"`femtoclaw --home DIR cluster owner {name} --operator-key FILE`",
        )  # fmt: skip
    if _change(home, arguments, output, "leadership.transfer"):
        return 1
    leader = _wait_for_leader(home, name)
    if leader == name:
        output.line(f"{name} leads", "green")
        return 0
    output.line(f"it is ordered, and {leader or 'nobody'} leads", "yellow")
    output.note("see `femtoclaw cluster status`: the member must be a voter that has everything; then order it again")
    return 1


def _wait_for_leader(home: Home, name: str) -> str:
    """Who leads as soon as that is ``name``, or when the time is over."""
    from femtoclaw.api.client import connect

    until = time.monotonic() + HANDED_OVER_S
    with connect(home) as client:
        serving = client.status()["serving"]
        before = serving["member"]
        # Also over when somebody else has it: another member may have been quicker.
        while (leader := str(serving["leader"])) in ("", before) and leader != name and time.monotonic() < until:
            time.sleep(_POLL_S)
            serving = client.status()["serving"]
    return leader
