"""Checks of the runbook's procedures, carried out on a twin: backup and restore, keys, incidents, health, audit."""

from __future__ import annotations

import json

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.operating import STEPS, answered, audited, backed_up, rotated, watched
from femtoclaw.operations import GOALS

PARTS = ("execution_log", "audit_log", "configuration", "metadata", "memory")


@shows("RUNBOOK-18.1", "STORAGE-22.1")
def a_backup_holds_all_parts(laboratory: Laboratory) -> str:
    """A backup has execution log, audit log, configuration, metadata and memory at one record, each with count and digest."""
    found = laboratory.once(backed_up)
    need(found.answers["create"].code == 0, "a backup", found.answers["create"].stderr[-200:])
    body = found.answers["create"].body
    every(((part, body["parts"].get(part, {}).get("digest")) for part in PARTS), "each part with its digest")
    need(found.answers["restored verify"].body.get("state_hash") == body["state_hash"], "the manifest's state hash again",
         found.answers["restored verify"].body.get("state_hash"))  # fmt: skip
    return (
        f"{body['size']} records, root {body['root'][:16]}, state {body['state_hash'][:16]}: {', '.join(body['parts'])}"
    )


@shows("RUNBOOK-18.2", "STORAGE-22.2")
def a_backup_is_sealed_and_audited(laboratory: Laboratory) -> str:
    """Nothing of it can be read without the key; one byte that is another is found, and nothing is written; it is on record."""
    found = laboratory.once(backed_up)
    need(not found.facts["readable"], "no plain text in the backup")
    for name in ("tampered verify", "tampered restore"):
        need(found.answers[name].code == 3, f"exit 3: {name}", found.answers[name].code)
    need(not found.facts["written"], "nothing written by the refused restore")
    own = found.facts["own"].of("ProcedureEnded")
    ended = [each for each in own if each.event.procedure == "backup.create" and b'"manifest":' in each.event.content]
    need(ended, "the backup on record")
    manifest = found.answers["create"].body["manifest"]
    need(
        manifest in json.dumps(json.loads(ended[0].event.content)),
        "the manifest's digest in the record",
        ended[0].event.content[:80],
    )
    return f"manifest {manifest[:16]} at twin: {ended[0].index}; changed byte in {found.facts['changed'][-40:]} refused"


@shows("RUNBOOK-19.1", "RUNBOOK-26.1")
def a_restore_takes_its_steps(laboratory: Laboratory) -> str:
    """From the backup and its key alone: verify, configuration, audit log, state, in this order, to the same state and root."""
    found = laboratory.once(backed_up)
    body, made = found.answers["restore"].body, found.answers["create"].body
    steps = [step["step"] for step in body.get("steps", [])]
    need(steps == ["verify", "configuration", "audit_log", "state"], "the four steps in order", steps)
    need(
        (body["state_hash"], body["root"]) == (made["state_hash"], made["root"]),
        "the same state and root",
        body["root"],
    )
    need(
        found.answers["restored verify"].code == 0,
        "a restored log that verifies",
        found.answers["restored verify"].code,
    )
    need(found.answers["tampered restore"].code == 3 and not found.facts["written"], "a tampered backup not restored")
    return f"{' > '.join(steps)}; root {body['root'][:16]} in {body.get('seconds')} s"


@shows("RUNBOOK-26.2")
def disaster_recovery_keeps_history(laboratory: Laboratory) -> str:
    """After the restore the genesis and the backed-up root are the same, and the node goes on in a log that quotes that one."""
    found = laboratory.once(backed_up)
    need(found.facts["genesis"][0] == found.facts["genesis"][1], "the same genesis", found.facts["genesis"])
    need(
        found.answers["restored verify"].body.get("root") == found.answers["create"].body["root"], "the backed-up root"
    )
    resumed = found.answers["resume"]
    need(
        resumed.code == 0 and found.answers["restored works"].code == 0,
        "a node that works again",
        resumed.stderr[-200:],
    )
    log = found.answers["create"].body["log"]
    need((resumed.body["predecessor"], resumed.body["log"] != log) == (log, True), "a log that quotes it", resumed.body)
    return f"genesis {found.facts['genesis'][0][:16]}; {json.dumps(resumed.body)[:200]}"


@shows("RUNBOOK-22.1", "CRYPTO-19.1")
def keys_are_kept_and_rotated(laboratory: Laboratory) -> str:
    """Key files are 0600 and their secret is nowhere in outputs or records; a rotation makes a new key, and both verify."""
    found = laboratory.once(rotated)
    every(((name, mode == 0o600) for name, mode in found.facts["modes"].items()), "mode 0600")
    need(not found.facts["shown"], "no byte of the secret in any output or record")
    need(found.answers["rotate"].code == 0, "a rotation", found.answers["rotate"].stderr[-200:])
    keys = found.answers["after"].body["node"]
    need(len(keys) == 2 and keys[1]["in_force"] and not keys[0]["in_force"], "a new key in force", keys)
    need(
        found.answers["verify"].code == 0 and found.answers["key verify"].code == 0, "a log of both keys that verifies"
    )
    need(found.answers["works"].code == 0, "work under the new key", found.answers["works"].code)
    return f"{keys[0]['public_key'][-12:]} until record {keys[1]['first'] - 1}, {keys[1]['public_key'][-12:]} from there on"


@shows("RUNBOOK-22.2", "BOOT-21.1")
def key_operations_are_on_record(laboratory: Laboratory) -> str:
    """Making, rotating, verifying and revoking a key each leave an event with the operator, and without anything private."""
    found = laboratory.once(rotated)
    added, moved, gone = (found.trail.of(kind) for kind in ("OperatorAdded", "NodeKeyRotated", "OperatorRevoked"))
    verified = [each for each in found.trail.of("ProcedureEnded") if each.event.procedure == "key.verify"]
    every((("added", added), ("rotated", moved), ("verified", verified), ("revoked", gone)), "an event of each")
    need(
        moved[0].event.old != moved[0].event.new and moved[0].event.operator,
        "both keys and the operator",
        moved[0].event,
    )
    need(not found.facts["shown"], "nothing private")
    return f"twin: added {added[-1].index}, rotated {moved[0].index}, verified {verified[0].index}, revoked {gone[0].index}"


@shows("RUNBOOK-4.1", "RUNBOOK-24.1")
def roles_have_their_duties(laboratory: Laboratory) -> str:
    """Five roles; this installation's control policy lets each do its own: a Runtime Operator may not rotate a key."""
    from femtoclaw.control_policy import ACTIONS, ROLES, load_control
    from femtoclaw.restore import load_state
    from femtoclaw.state import Operator
    from wal.reader import read_log_directory

    found = laboratory.once(rotated)
    need(found.answers["refused"].code == 1, "a refusal for a Runtime Operator", found.answers["refused"].body)
    need(found.answers["rotate"].code == 0, "a rotation by who may", found.answers["rotate"].code)
    reader = read_log_directory(laboratory.home.log)
    try:
        text = load_state(reader).node.control.text
    finally:
        reader.close()
    need(len(ROLES) == 5, "five roles", ROLES)
    engine = load_control(text)
    table = {
        role: [action for action in ACTIONS if engine.evaluate("x", Operator("", (role,), True), action, "node").allowed]
        for role in ROLES
    }  # fmt: skip
    every(table.items(), "something that each role may do")
    for action in ("release.deploy", "configuration.set", "claw.enable", "policy.set"):
        allowed = [role for role in ROLES if action in table[role]]
        need(0 < len(allowed) < len(ROLES), f"{action} for some roles only", allowed)
        need(
            not engine.evaluate("x", Operator("", (), True), action, "node").allowed,
            f"{action} for no one without a role",
        )
    return "; ".join(f"{role}: {len(actions)} actions" for role, actions in table.items())


@shows("RUNBOOK-11.1", "RUNBOOK-20.1", "ERROR-11.1")
def incidents_are_answered_in_steps(laboratory: Laboratory) -> str:
    """A grave incident contains the node; the six steps come in order, none before its time, and the last one releases it."""
    found = laboratory.once(answered)
    taken = found.trail.of("IncidentStepped")
    need(tuple(each.event.step for each in taken) == STEPS, " > ".join(STEPS), [each.event.step for each in taken])
    need(found.answers["too early"].code == 1, "a step before its time refused", found.answers["too early"].body)
    need(
        found.answers["while contained"].body.get("code") == "CONTAINED",
        "denials meanwhile",
        found.answers["while contained"].body,
    )
    need(
        found.answers["afterwards"].body.get("code") == "PERMITTED", "work afterwards", found.answers["afterwards"].body
    )
    contained, released = found.trail.of("NodeContained"), found.trail.of("NodeReleased")
    need(contained and released and contained[0].index < taken[0].index, "containment first, and a release")
    steps = ", ".join(f"{each.event.step} {each.index}" for each in taken)
    return f"twin: contained {contained[0].index}, {steps}, released {released[0].index}"


@shows("RUNBOOK-11.2")
def responses_harm_no_history(laboratory: Laboratory) -> str:
    """Each step is on record with its operator; the history at `identify` is a verified prefix of the one at `resume`."""
    found = laboratory.once(answered)
    taken = found.trail.of("IncidentStepped")
    every(((each.event.step, each.event.operator and each.time_ns) for each in taken), "operator and time")
    need("a prefix of" in taken[-1].event.detail, "the prefix verified", taken[-1].event.detail)
    need(found.answers["verify log"].code == 0, "a log that verifies", found.answers["verify log"].body)
    return f"{taken[-1].event.detail}; by {taken[0].event.operator}"


@shows("RUNBOOK-20.2")
def evidence_survives(laboratory: Laboratory) -> str:
    """Evidence is written before anything is repaired, read-only and signed, and its digest in the log matches afterwards."""
    found = laboratory.once(answered)
    taken = {each.event.step: each for each in found.trail.of("IncidentStepped")}
    need("preserve" in taken and "restore" in taken, "both steps", sorted(taken))
    need(taken["preserve"].index < taken["restore"].index, "evidence before repair")
    need(found.facts["kept"] and found.facts["mode"] == "0400", "a file of mode 0400", found.facts["mode"])
    checked = found.answers["evidence"]
    need(checked.code == 0, "evidence that verifies", checked.body)
    need(checked.body["digest"] == taken["preserve"].event.digest, "the recorded digest", checked.body["digest"])
    return f"{found.facts['kept']} bytes, digest {checked.body['digest'][:16]} at twin: {taken['preserve'].index}"


@shows("RUNBOOK-10.1")
def incidents_have_severity(laboratory: Laboratory) -> str:
    """Four severities by stated rules, each with its deadline in the event; the kinds of each are told apart."""
    from femtoclaw.incidents.severity import KINDS
    from femtoclaw.operations import SEVERITIES

    found = laboratory.once(answered)
    opened = found.trail.of("IncidentOpened")
    need(opened and opened[0].event.severity == 1, "severity 1 for a breach", opened[:1])
    seconds = (opened[0].event.respond_by_ns - opened[0].event.at_ns) / 1e9
    need(abs(seconds - SEVERITIES[1]) < 1, f"{SEVERITIES[1]} s to respond", seconds)
    severities = {name: int(kind if isinstance(kind, int) else kind[0]) for name, kind in KINDS.items()}
    wanted = {"chain_broken": 1, "authorization_engine_down": 2, "telemetry_down": 3, "slow_health": 4}
    every(((name, severities.get(name) == number) for name, number in wanted.items()), "the published severity")
    return f"{len(severities)} kinds; twin: {opened[0].index}, to be answered within {seconds:.0f} s"


@shows("RUNBOOK-8.1", "RUNBOOK-7.1")
def health_looks_for_real(laboratory: Laboratory) -> str:
    """Responsiveness, authorization, registry and memory are probed; what is broken shows, and nothing else does."""
    found = laboratory.once(watched)
    checks = {each["name"]: each["result"] for each in found.answers["once"].body["checks"]}
    every(
        (
            (name, checks.get(name) == "ok")
            for name in ("log", "authorization", "registry", "memory", "audit_log", "files")
        ),
        "ok",
    )
    need(
        found.answers["policy changed"].code == 1,
        "exit 1 where the policy was changed",
        found.answers["policy changed"].code,
    )
    bad = {each["name"] for each in found.answers["policy changed"].body["checks"] if each["result"] == "bad"}
    need(bad == {"files"}, "the files alone bad", bad)
    need(found.answers["head damaged"].code == 1, "exit 1 where the log is damaged", found.answers["head damaged"].code)
    return f"{len(checks)} checks; a changed policy: {', '.join(bad)}"


@shows("RUNBOOK-8.2")
def health_is_deterministic(laboratory: Laboratory) -> str:
    """Two looks at an idle node say the same, start no claw, and a served node's are on record."""
    from femtoclaw.compliance.session import session

    found = laboratory.once(watched)

    def said(name: str) -> list[tuple[str, str]]:
        return [(each["name"], each["result"]) for each in found.answers[name].body["checks"]]

    need(said("once") == said("twice"), "equal answers", said("twice")[:3])
    need(found.facts["started"][0] == found.facts["started"][1], "no claw started", found.facts["started"])
    checked = laboratory.once(session).trail.of("HealthChecked")
    need(checked, "looks of the served node on record")
    return f"{len(said('once'))} equal results; twin: {checked[0].index}"


@shows("AUDIT-12.1", "AUDIT-3.1")
def questions_are_answered(laboratory: Laboratory) -> str:
    """By execution, type, time and capability: the same records as a scan finds, over a verified range, and nothing changes."""
    found = laboratory.once(audited)
    trail = found.trail
    execution = found.facts["execution"]
    scanned = {
        "by execution": {each.index for each in trail.told if getattr(each.event, "execution_id", "") == execution},
        "by type": {each.index for each in trail.of("AuthorizationDecided")},
    }  # fmt: skip
    said = []
    for name in ("by execution", "by type", "by capability", "by time", "operators"):
        body = found.answers[name].body
        need(found.answers[name].code == 0 and body["events"], f"answers {name}", found.answers[name].stderr[-200:])
        need(
            body["verified"]["last"] == found.facts["size"],
            f"the whole log verified for {name}",
            body["verified"]["last"],
        )
        if name in scanned:
            need(
                {each["index"] for each in body["events"]} == scanned[name],
                f"the same records as a scan, {name}",
                body["count"],
            )
        said.append(f"{name}: {body['count']}")
    need(found.facts["unchanged"], "an unchanged log")
    return "; ".join(said)


@shows("AUDIT-2.1")
def an_execution_is_traced_back(laboratory: Laboratory) -> str:
    """From one execution to its decision, the policy, configuration and registry in force, and the operator's actions before it."""
    found = laboratory.once(audited)
    answer = found.answers["trace"]
    need(answer.code == 0, "a trace", answer.stderr[-200:])
    body = answer.body
    for name in ("policy", "configuration"):
        need((body.get(name) or {}).get("digest"), f"the {name} in force", body.get(name))
    need(body.get("decisions") and body.get("program") and "build" in body, "decision, program and build", sorted(body))
    need(body.get("last_operator_action"), "the last operator's action before it", body.get("last_operator_action"))
    return f"records {body['records']}, policy {body['policy']['index']}, configuration {body['configuration']['index']} (twin)"


@shows("AUDIT-13.1")
def exports_are_whole(laboratory: Laboratory) -> str:
    """An export counts its lines, ends with a signed root, and is on record with its digest."""
    found = laboratory.once(audited)
    body = found.answers["export"].body
    need(found.answers["export"].code == 0, "an export", found.answers["export"].stderr[-200:])
    need(
        found.facts["lines"] >= body["count"] == body["last"] - body["first"] + 1,
        "as many lines as records",
        found.facts["lines"],
    )
    ended = [each for each in found.trail.of("ProcedureEnded") if each.event.procedure == "audit.export"]
    need(ended and body["sha256"] in ended[-1].event.content.decode(), "its digest on record", ended[-1:])
    return f"{body['count']} records in {body['bytes']} bytes, SHA-256 {body['sha256'][:16]} at twin: {ended[-1].index}"


@shows("RUNBOOK-2.1")
def procedures_end_with_their_goals(laboratory: Laboratory) -> str:
    """Each procedure ends on record with seven booleans; all are met where nothing is broken."""
    said = []
    for found in (laboratory.once(audited), laboratory.once(rotated)):
        for each in found.trail.of("ProcedureEnded"):
            goals = dict(zip(each.event.goals[::2], each.event.goals[1::2], strict=True))
            need(tuple(goals) == GOALS, "the seven goals", sorted(goals))
            need(each.event.result == "done", "done", each.event.result)
            need(set(goals.values()) == {"true"}, f"all goals met after {each.event.procedure}", goals)
            said.append(f"{each.event.procedure} at twin: {each.index}")
    need(len(said) >= 2, "two procedures at least", said)
    return "; ".join(said)
