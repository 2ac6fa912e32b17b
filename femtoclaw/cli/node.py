"""``init`` and ``status``."""

from __future__ import annotations

import os

from femtoclaw.cli.member_standing import standing
from femtoclaw.cli.render import Output, program, when
from femtoclaw.cluster_home import is_member
from femtoclaw.errors import HistoryError, PolicyError, UsageError
from femtoclaw.home import Home, locate, require

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from femtoclaw.cli.options import Arguments
    from femtoclaw.state import Live
    from wal.reader import LogReader


def init(arguments: Arguments, output: Output) -> int:
    """Provision a node and print its manifest."""
    from femtoclaw.boot import operator_name
    from femtoclaw.config import DEVELOPMENT, SECURE
    from femtoclaw.key_file import at_rest
    from femtoclaw.policy_starters import chosen
    from femtoclaw.provision import initialize
    from femtoclaw.sources import live

    os.umask(0o077)  # what this makes is its owner's, whatever the shell's umask takes from owners too
    if arguments.binary and "shell" not in arguments.enable:
        raise UsageError("--binary is for the claw `shell`", where="femtoclaw init", expected="--enable shell with it")
    home = locate(getattr(arguments, "home", None))
    policy = chosen("default" if arguments.policy is None else arguments.policy)
    try:
        manifest = initialize(
            home,
            enable=arguments.enable,
            binaries=arguments.binary,
            policy=policy,
            operator=operator_name(),
            sources=live(),
            mode=DEVELOPMENT if arguments.development else SECURE,
        )
    except PolicyError as error:
        error.where = arguments.policy
        raise
    output.data(manifest)
    output.line(f"node {manifest['runtime_id']} is ready in {home.path}", "green")
    output.fields(
        [
            ("log", manifest["log"]),
            ("public key", manifest["public_key"]),
            ("enabled", ", ".join(arguments.enable) or "nothing: every call is denied until you enable a claw"),
            ("policy", home.inside("policy.cedar")),
            ("configuration", home.config_file),
        ]
    )
    if (kept := at_rest(home.key_file)) != "encrypted":
        output.note(f"the keys are {kept}; `femtoclaw key protect` encrypts the node's (see docs/keys.md)")
    output.line()
    name = program()
    output.line(f'next: {name} intent \'{{"message":{{"content":"hello"}}}}\'   or   {name} run TEXT --brain echo')
    return 0


def status(arguments: Arguments, output: Output) -> int:
    """Print what the node is; exit 0 when it can work, 1 when its last stop left something to do."""
    home = locate(getattr(arguments, "home", None))
    require(home)
    body = describe(home)
    serving = standing(home)
    if serving is not None:
        body["serving"] = serving
    if os.path.isdir(os.path.join(home.path, "certificates")):
        from femtoclaw.cli.certifying import standing_of

        body["certificate"] = standing_of(home, output)["status"]
    output.data(body)
    output.line(f"node {body['runtime_id']}", "bold")
    output.fields([(name, _text(value)) for name, value in body.items() if name not in ("runtime_id", "serving")])
    if serving is not None:
        output.fields([("serving", _text({name: value for name, value in serving.items() if name != "monitors"}))])
        output.fields([(f"monitor {name}", monitor_text(each)) for name, each in serving.get("monitors", {}).items()])
    if body["held_calls"]:
        output.note(f"{body['held_calls']} held for operators: see `femtoclaw approvals`")
    if body["running"]:
        return 0
    cut = {kind: count for kind, count in body["in_flight"].items() if count}
    if cut:
        output.note(f"in flight when the node stopped: {_text(cut)}; the next start closes them (`femtoclaw recover`)")
    return 0 if body["last_stop"] == "clean" and not cut else 1


def monitor_text(standing: dict[str, Any]) -> str:
    """One of the monitors of a served node, as people read it."""
    last = when(standing["last_run_ns"]) if standing["last_run_ns"] else "never"
    state = "STALLED" if standing["stalled"] else standing["error"] or "at work"
    return f"{state}, last run {last}, {standing['runs']} runs"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in ("", None) else str(value)


def describe(home: Home) -> dict[str, Any]:
    """The status object, read without taking the writer's lock."""
    from wal.reader import read_log_directory

    reader = read_log_directory(home.log)
    try:
        return describe_log(home, reader)
    finally:
        reader.close()


def describe_log(home: Home, reader: LogReader) -> dict[str, Any]:
    """The same of a log that is open already."""
    from femtoclaw.compliance.standing import standing as compliance_standing
    from femtoclaw.key_file import at_rest
    from femtoclaw.restore import load_state
    from femtoclaw.version import VERSION
    from wal.head import read_slots

    head = reader.head
    state = load_state(reader, head.index)
    slots = read_slots(reader.storage.read_slots())
    disk = os.statvfs(home.log)
    # Asking for the lock holds it for a moment, in which a start could not get it: only asked where a stop was
    # not clean, that is where a writer may live.
    running = not slots.clean and locked(home)
    node, live = state.node, state.live
    return {
        "runtime_id": node.runtime_id,
        "home": home.path,
        "program": VERSION,
        "log": reader.origin,
        **_keys(home, reader),
        "private_key": at_rest(home.key_file),
        "size": head.index,
        "link": head.link.hex(),
        "running": running,
        "last_stop": "clean" if slots.clean else "running" if running else "unclean",
        "process": node.process.value,
        "boots": node.boots,
        "configuration": {"version": node.configuration.version, "digest": node.configuration.digest},
        "policy": {"version": node.policy.version, "digest": node.policy.digest, "engine": node.policy.engine},
        "claws": {name: "enabled" if claw.enabled else "disabled" for name, claw in sorted(node.registry.items())},
        "mode": "development" if b'"mode":"development"' in node.configuration.content else "secure",
        "contained": node.contained or "no",
        "operators": sum(each.active for each in node.operators.values()),
        "held_calls": len(live.approvals),
        "sandbox": node.sandbox or "not known before the first start",
        "in_flight": _in_flight(live),
        "executions": dict(sorted(live.totals.items())),
        "disk_free_bytes": disk.f_bavail * disk.f_frsize,
        "compliance": compliance_standing(home, reader),
        "last_backup": _last_backup(home, reader),
    }


def _last_backup(home: Home, reader: LogReader) -> dict[str, Any] | None:
    """When the last backup on record ended, and how long ago that is; None for none."""
    import time

    from femtoclaw.backup.on_record import last

    found = last(home, reader)
    if found is None:
        return None
    age_s = max(0, time.time_ns() - found.time_ns) // 1_000_000_000
    return {"at": when(found.time_ns), "age_s": age_s, "id": found.id, "place": found.place, "size": found.size}


def _keys(home: Home, reader: LogReader) -> dict[str, str]:
    """The node's public key. Of a member its own, and the key that the log is written with now, which is its leader's."""
    if not is_member(home):
        return {"public_key": reader.key.vkey()}
    from femtoclaw.keys import load_public_key

    return {"public_key": load_public_key(home.public_key_file).vkey(), "key_in_force": reader.key.vkey()}


def _in_flight(live: Live) -> dict[str, int]:
    """What a start would close. Held calls, and the runs that wait for them, are none of that: they wait on."""
    missing = [held for held in live.approvals if held not in live.executions]
    if missing:
        raise HistoryError("a call is held of which no execution is in flight", where=ascii(missing[0])[:80])
    waiting = {live.executions[held].run_id for held in live.approvals}
    runs = sum(run_id not in waiting for run_id in live.runs)
    return {"executions": len(live.executions) - len(live.approvals), "runs": runs}


def locked(home: Home) -> bool:
    """True when a process holds the log's writer lock."""
    import fcntl

    try:
        fd = os.open(os.path.join(home.log, "LOCK"), os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
