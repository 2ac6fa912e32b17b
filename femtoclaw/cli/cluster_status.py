"""``cluster status``: what every member says of itself, and whether that makes a cluster that works.

The members are asked over the wire that they use among themselves, each with a bounded wait, all at once. What they answer is
their own word; it changes nothing.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output
from femtoclaw.home import Home, require

if TYPE_CHECKING:
    from cluster.client import PeerClient
    from cluster.tls import Identity
    from femtoclaw.cluster_home import ClusterSettings
    from wal.membership import Member, Membership

ASK_S = 2.0
"""How long one member, or the coordinator, may take to answer."""


def status(home: Home, arguments: Arguments, output: Output) -> int:
    """0 when a majority of the voters has or follows a leader that executes, 4 when nobody answers, else 1."""
    from cluster.tls import load_identity
    from femtoclaw.cli.member_words import read_members, refuse_single
    from femtoclaw.cluster_home import folder_of, read_settings

    require(home)
    refuse_single(home)
    settings = read_settings(home)
    members, log = read_members(home)
    rows = _ask_all(members, load_identity(folder_of(home)), log.log_id)
    _add_own(home, settings.name, rows)
    body = judge(rows, members) | {
        "log": log.origin, "log_id": log.log_id.hex(), "version": members.version, "mode": settings.mode,
        "this": settings.name, "coordinator": _coordinator(home, settings, log.log_id), "members": rows,
    }  # fmt: skip
    output.data(body)
    _tell(body, output)
    if body["healthy"]:
        return 0
    return 1 if any(row["answers"] for row in rows) else 4


def _ask_all(members: Membership, identity: Identity, log_id: bytes) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(len(members.members)) as pool:
        return list(pool.map(lambda member: _ask(member, identity, log_id), members.members))


def _ask(member: Member, identity: Identity, log_id: bytes) -> dict[str, Any]:
    from cluster.client import PeerClient
    from cluster.errors import ClusterError
    from cluster.steps import Role

    row: dict[str, Any] = {
        "name": member.name, "address": member.address, "voter": member.voter, "answers": False, "role": "", "epoch": 0,
        "size": 0, "commit": 0, "behind": None, "leader": "", "leader_age_ms": None, "why": "",
        "executes": None,
    }  # fmt: skip
    try:
        with contextlib.closing(PeerClient(member, identity)) as peer:
            found = peer.status(ASK_S)
            executes = _executes(peer) if found.freshness.role is Role.LEADER else None
    except ClusterError as error:
        row["why"] = error.what
        return row
    if found.log_id != log_id or found.member != member.name:
        row["why"] = "it answers for another node or another log"
        return row
    fresh = found.freshness
    age = None if fresh.leader_age_ns is None else fresh.leader_age_ns // 1_000_000
    return row | {
        "answers": True, "role": fresh.role.value, "epoch": fresh.epoch, "size": fresh.size, "commit": fresh.commit,
        "leader": found.leader, "leader_age_ms": age, "executes": executes,
    }  # fmt: skip


def _executes(peer: PeerClient) -> bool | None:
    """Whether a leader has its log open for work, None when it does not say. It is asked for nothing, which it refuses as such
    when it takes requests at all, and records nothing of."""
    from cluster.errors import ClusterError, PeerRefusedError
    from cluster.messages import Reason

    try:
        peer.ask(b"", ASK_S)
    except PeerRefusedError as error:
        return False if error.reason is Reason.NOT_LEADING else None
    except ClusterError:
        return None
    return True


def _add_own(home: Home, name: str, rows: list[dict[str, Any]]) -> None:
    """What only this machine knows of its own node: whether it is served, restored, frozen."""
    from cluster.replica_store import STATE_FILE, decode_durable
    from femtoclaw.api.socket import is_served
    from femtoclaw.restored_log import has_mark
    from wal.durable_file import read_file
    from wal.reader import read_log_directory

    row = next((each for each in rows if each["name"] == name), None)
    if row is None:
        return
    durable = decode_durable(read_file(f"{home.log}/{STATE_FILE}"), home.log)
    row["restored"], row["frozen"] = durable.restored or has_mark(home), durable.frozen
    row["served"] = is_served(home)
    if not row["answers"]:
        reader = read_log_directory(home.log)
        try:
            row["size"], row["epoch"] = reader.size, max(durable.epoch, reader.keys().newest.epoch)
        finally:
            reader.close()
        if not row["served"]:
            row["why"] = "it is not being served"


def judge(rows: list[dict[str, Any]], members: Membership) -> dict[str, Any]:
    """Whether these answers are a cluster that works, who leads it, and how far each is behind (set in the rows). Pure.

    It works when in some epoch a leader that executes, with those who follow it in that epoch, is a majority of the voters.
    A member that has seen a higher epoch, and is alone with it, changes nothing of that.
    """
    answering = [row for row in rows if row["answers"]]
    seen = max((row["epoch"] for row in answering), default=0)
    leaders = sorted((row for row in answering if row["role"] == "leader"), key=lambda row: -row["epoch"])
    backed = [row for row in leaders if _backing(row, answering) >= members.majority]
    leader = backed[0] if backed else next((row for row in leaders if row["epoch"] == seen), None)
    voters = sum(row["voter"] for row in answering)
    ahead = leader["size"] if leader is not None else max((row["size"] for row in answering), default=0)
    for row in answering:
        row["behind"] = max(0, ahead - row["size"])
    executes = bool(backed) and backed[0].get("executes") is not False
    return {
        "healthy": executes, "leader": leader["name"] if leader is not None else "",
        "executes": leader.get("executes") if leader is not None else None,
        "epoch": leader["epoch"] if leader is not None else seen, "followed": bool(backed),
        "commit": max((row["commit"] for row in answering), default=0), "answering_voters": voters,
        "voters": len(members.voters), "majority": members.majority,
    }  # fmt: skip


def _backing(leader: dict[str, Any], answering: list[dict[str, Any]]) -> int:
    """The voters that are this leader, or say that they follow it in its epoch."""
    return sum(
        row is leader or (row["epoch"], row["role"], row["leader"]) == (leader["epoch"], "follower", leader["name"])
        for row in answering
        if row["voter"]
    )


def _coordinator(home: Home, settings: ClusterSettings, log_id: bytes) -> dict[str, Any]:
    """What the coordinator says; the static one is this machine's own file."""
    from femtoclaw.cluster_home import STATIC, open_coordinator, read_owner

    if settings.coordinator == STATIC:
        owner = read_owner(home, settings)
        return {"kind": settings.coordinator, "owner": owner.name, "epoch": owner.epoch, "answers": True}
    from cluster.errors import ClusterError

    body: dict[str, Any] = {"kind": settings.coordinator, "endpoints": list(settings.etcd)}
    coordinator = open_coordinator(home, settings, log_id)
    try:
        found = coordinator.leader()
    except ClusterError as error:
        return body | {"answers": False, "why": error.what}
    finally:
        with contextlib.suppress(ClusterError):
            coordinator.close()
    return body | {"answers": True, "leader": found[0] if found else "", "epoch": found[1] if found else 0}


# --- for people ------------------------------------------------------------------------------------------------------


def _tell(body: dict[str, Any], output: Output) -> None:
    count = f"{body['answering_voters']} of {body['voters']} voters answer, {body['majority']} are needed"
    if body["healthy"]:
        output.line(f"the cluster works: {body['leader']} leads in epoch {body['epoch']}; {count}", "green")
    else:
        what = "NOBODY LEADS"
        if body["answering_voters"] < body["majority"]:
            what = "no majority"
        elif body["followed"]:
            what = f"{body['leader']} leads in epoch {body['epoch']} and EXECUTES NOTHING"
        elif body["leader"]:
            what = f"{body['leader']} leads in epoch {body['epoch']}, and NO MAJORITY FOLLOWS IT"
        output.line(f"THE CLUSTER DOES NOT WORK: {what}; {count}", "red")
    coordinator = body["coordinator"]
    told = _coordinator_told(coordinator)
    output.fields([("acknowledged", body["mode"]), ("coordinator", told), ("committed", f"{body['commit']} records")])
    output.line()
    for row in body["members"]:
        mark = "  (this machine)" if row["name"] == body["this"] else ""
        colour = "red" if not row["answers"] or row["role"] == "frozen" else "green" if row["role"] == "leader" else ""
        output.line(f"{row['name']}{mark}  {_part(row)}", colour)
        output.fields(_details(row))
    _advise(body, output)


def _coordinator_told(coordinator: dict[str, Any]) -> str:
    if coordinator["kind"] == "static":
        return f"static; this machine lets {coordinator['owner']} lead, from epoch {coordinator['epoch']} on"
    if not coordinator["answers"]:
        return f"etcd DOES NOT ANSWER ({', '.join(coordinator['endpoints'])}): {coordinator['why']}"
    return f"etcd; {coordinator['leader'] or 'nobody'} has the leadership, epoch {coordinator['epoch']}"


def _part(row: dict[str, Any]) -> str:
    kind = "voter" if row["voter"] else "learner"
    if not row["answers"]:
        return f"{kind}, DOES NOT ANSWER"
    return f"{kind}, {'FROZEN' if row['role'] == 'frozen' else row['role']}"


def _details(row: dict[str, Any]) -> list[tuple[str, object]]:
    told: list[tuple[str, object]] = [("address", row["address"])]
    if not row["answers"]:
        told.append(("because", row["why"]))
    if row["size"]:
        behind = f", {row['behind']} behind" if row["behind"] else ""
        told.append(("has", f"{row['size']} records{behind}; epoch {row['epoch']}"))
    if row["answers"] and row["role"] != "leader":
        age = row["leader_age_ms"]
        heard = "never since it started" if age is None else f"{age} ms ago" if age < 10_000 else f"{age // 1000} s ago"
        told.append(("leader", f"{row['leader']}, heard {heard}" if row["leader"] else "none that it hears"))
    if row.get("restored"):
        told.append(("restored", "its disk was put back: it neither votes nor leads until it has everything again"))
    if row.get("frozen"):
        told.append(("frozen", row["frozen"]))
    return told


def _advise(body: dict[str, Any], output: Output) -> None:
    """What to do next."""
    coordinator, silent = body["coordinator"], [row["name"] for row in body["members"] if not row["answers"]]
    if any(row["role"] == "frozen" or row.get("frozen") for row in body["members"]):
        output.note(
            "a frozen member has met two histories and does nothing more: keep its home as evidence (docs/cluster.md)"
        )
    if body["healthy"]:
        return
    if body["answering_voters"] < body["majority"]:
        output.note(
            f"bring members back until {body['majority']} voters answer; silent now: {', '.join(silent) or 'none'}"
        )
    elif body["followed"]:
        output.note(
            f"the leader opens its log, or cannot: look again in a few seconds, then at the journal of {body['leader']}"
        )
    elif not coordinator["answers"]:
        output.note("nobody may lead until the coordinator answers: check etcd and the way to it")
    elif coordinator["kind"] == "static" and coordinator["owner"] in silent:
        output.note(
            f"{coordinator['owner']} alone may lead, and it does not answer: bring it back, or name another owner on "
            f"{body['majority']} voters: `femtoclaw --home DIR cluster owner NAME --operator-key FILE`, then `serve` anew there"
        )
    else:
        output.note("a leadership may be changing hands: look again in a few seconds; then at the members' journals")
