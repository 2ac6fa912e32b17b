"""Checks of a deployment: program, configuration, modules, telemetry, host, and one verdict over all of it."""

from __future__ import annotations

import os

from femtoclaw.compliance.checking import NotHereError, every, need, shows
from femtoclaw.compliance.deployment import (
    configuration,
    host,
    module,
    program_files,
    reverted,
    root_refused,
    surroundings,
    telemetry,
)
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.logs import verified
from femtoclaw.compliance.session import session


@shows("DEPLOY-3.2")
def the_host_can_carry_a_node(laboratory: Laboratory) -> str:
    """Files, processes, memory, descriptors and lasting storage are tried for real here; what lacks them is told by its item."""
    found = laboratory.once(host)
    need(not found["bad"], "no obstacle on this host", found["bad"])
    need(found["huge"], "a map that does not fit, refused", found["huge"])
    need(
        any("policy.cedar" in where for where in found["wide"]),
        "a file that others may write, by its name",
        found["wide"],
    )
    return f"{len(found['checks'])} tried: {', '.join(sorted(set(found['checks'])))}"


@shows("BOOT-7.1", "BOOT-10.1")
def changed_program_files_are_refused(laboratory: Laboratory) -> str:
    """The launcher takes a file by its hash and a manifest by its signature; one byte, another key, a weak hash: each refused."""
    found = laboratory.once(program_files)["refusals"]
    need(found["whole"] == "" and found["signed"] == "", "what is whole taken", found)
    every(
        ((name, found[name]) for name in ("changed", "another key", "changed manifest", "unsigned", "md5", "sha1")),
        "a refusal",
    )
    need(found["another key"] != found["changed manifest"], "an unknown key told from a bad signature", found)
    return ", ".join(f"{name}: {code}" for name, code in found.items() if code)


@shows("DEPLOY-6.2", "CONFIG-13.1")
def configurations_are_verified(laboratory: Laboratory) -> str:
    """`config verify` agrees with the record here, and tells of an edit of the file in a copy."""
    found = laboratory.once(configuration)
    need(found["verify"] == 0 and found["twin"] == 0, "exit 0 where nothing was edited", found["verify"])
    need(found["edited"] != 0, "a mismatch after an edit", found["edited"])
    return f"digest {found['recorded'][0][:24]}; edited: exit {found['edited']} {found['said'][:120]}"


@shows("DEPLOY-6.3", "CONFIG-2.1")
def configurations_are_deterministic(laboratory: Laboratory) -> str:
    """The same sources give the same canonical configuration under other hash seeds, locales and time zones."""
    found = laboratory.once(configuration)
    need(len(found["digests"]) == 4 and all(found["digests"]), "four resolutions", found["digests"])
    need(len(set(found["digests"])) == 1, "one digest", found["digests"])
    need(found["digests"][0] == found["recorded"][0], "the recorded digest", found["recorded"])
    return f"four surroundings, digest {found['digests'][0]}"


@shows("CONFIG-3.1", "CONFIG-6.1")
def origins_are_shown(laboratory: Laboratory) -> str:
    """Each key of the configuration tells which source decides it, over the domains of the suite."""
    found = laboratory.once(configuration)
    text = str(found["origin"])
    need("femtoclaw.toml" in text or "file" in text, "the file as an origin", text[:200])
    every(
        (
            (name, name in found["domains"])
            for name in ("runtime", "capabilities", "policy", "memory", "observability", "security")
        ),
        "each domain",
    )
    return f"domains {', '.join(found['domains'])}"


@shows("DEPLOY-8.2", "EXT-17.1", "SDK-17.1")
def changed_modules_are_refused(laboratory: Laboratory) -> str:
    """A module with one byte changed is refused on record, while the other claws still work."""
    found = laboratory.once(module)
    answers = found["answers"]
    need(answers["called"].body.get("code") == "PERMITTED", "a call while it is whole", answers["called"].body)
    need(found["files"] == 1, "one installed file", found["files"])
    need(answers["changed"].code != 0, "a refused call", answers["changed"].body)
    need(answers["others"].body.get("code") == "PERMITTED", "other claws at work", answers["others"].body)
    rejected = found["trail"].of("ModuleRejected")
    need(rejected, "the refusal on record")
    return f"ModuleRejected at twin: {rejected[-1].index}: {rejected[-1].event.code}"


@shows("WHITE-14.1", "WHITE-6.1", "SDK-5.1", "EXT-5.1")
def modules_come_in_by_the_door(laboratory: Laboratory) -> str:
    """A module is unknown, untrusted, disabled and not permitted, each refused with its own answer, before it runs."""
    answers = laboratory.once(module)["answers"]
    need(answers["pack"].code == 0, "a packed module", answers["pack"].stderr[-200:])
    need(
        answers["unknown"].body.get("code") == "CAPABILITY_NOT_REGISTERED", "unknown at first", answers["unknown"].body
    )
    need(answers["untrusted"].code != 0, "refused while nobody trusts its publisher", answers["untrusted"].code)
    need(answers["disabled"].body.get("code") == "DISABLED", "disabled when installed", answers["disabled"].body)
    need(answers["no permit"].body.get("code") == "NO_PERMIT", "not permitted when enabled", answers["no permit"].body)
    called = answers["called"].body
    need(called.get("result", {}).get("result") == {"number": 42}, "42 when permitted", called)
    return "unknown, untrusted, DISABLED, NO_PERMIT, then 42"


@shows("DEPLOY-10.1", "DEPLOY-10.2")
def telemetry_cannot_be_altered_unseen(laboratory: Laboratory) -> str:
    """Telemetry follows from the log: an edited row is found by verification, and a rebuild gives back what it was."""
    found = laboratory.once(telemetry)
    need(found["whole"] == 0, "a whole index", found["whole"])
    need(found["changed"] == 1, "one edited row", found["changed"])
    need(found["deep"] == 3 and "INDEX" in found["found"], "exit 3 of `verify --deep`", found["found"])
    need(found["same"], "the same rows afterwards")
    need(not found["mode"] & 0o077, "a database of its owner alone", oct(found["mode"]))
    return f"found: {found['found'][:160]}"


@shows("DEPLOY-11.1")
def rights_are_the_least(laboratory: Laboratory) -> str:
    """The level of rights is recorded at each start; root is refused where nobody allowed it; claws have less than the node."""
    found, root = laboratory.once(session), laboratory.once(root_refused)
    recorded = [each for each in found.trail.of("IntegrityVerified") if each.event.component == "privileges"]
    need(recorded and recorded[0].event.result, "the level on record", recorded[:1])
    if root["root"]:
        need(root["forbidden"] and not root["allowed"], "root refused without an explicit setting", root)
    sandbox = [each for each in found.trail.of("IntegrityVerified") if each.event.component == "sandbox"]
    need(sandbox and "seccomp" in sandbox[0].event.result, "the sandbox's layers on record", sandbox[:1])
    return f"twin: {recorded[0].index} {recorded[0].event.result}; claws: {sandbox[0].event.result}"


@shows("DEPLOY-14.1")
def containers_are_confined(laboratory: Laboratory) -> str:
    """In a container: no root, no new privileges, no capability of the kernel's, a root file system that cannot be written."""
    found = laboratory.once(surroundings)
    if not found["container"]:
        raise NotHereError(
            "this installation does not run in a container: neither /.dockerenv nor /run/.containerenv is here"
        )
    need(found["uid"] != 0, "another user than root", found["uid"])
    need(found["no_new_privileges"] == "1" and found["capabilities"] == 0, "no new privileges, no capabilities", found)
    need(found["read_only_root"], "a read-only root file system")
    return f"{found['container']}: uid {found['uid']}, no capabilities, read-only root"


@shows("DEPLOY-14.2")
def containers_keep_their_home(laboratory: Laboratory) -> str:
    """In a container the home is on a volume of its own, so it outlives the container."""
    found = laboratory.once(surroundings)
    if not found["container"]:
        raise NotHereError(
            "this installation does not run in a container: neither /.dockerenv nor /run/.containerenv is here"
        )
    need(found["home_volume"], "a home on a file system of its own", laboratory.home.path)
    return f"{laboratory.home.path} is on a volume"


@shows("DEPLOY-15.1")
def a_reverted_machine_is_found_out(laboratory: Laboratory) -> str:
    """After a revert to a snapshot, a checkpoint kept elsewhere shows that the log is older than what was signed."""
    found = laboratory.once(reverted)
    need(found["whole"] == 0, "a log that fulfils its checkpoint", found["whole"])
    answer = found["reverted"]
    codes = [finding["code"] for finding in answer.body.get("findings", [])]
    need(answer.code == 3 and "ANCHOR_AHEAD" in codes, "ANCHOR_AHEAD of the reverted one", codes)
    return f"reverted: exit {answer.code} {codes}"


@shows("DEPLOY-18.2")
def a_stop_keeps_history(laboratory: Laboratory) -> str:
    """After the stop the log verifies as closed, and the state that the stop recorded is the one that folds again."""
    from femtoclaw.compliance.logs import twin_verified

    report, trail = laboratory.once(twin_verified), laboratory.once(session).trail
    need(report["ok"] and not report["skipped"], "a closed log that verifies", report["findings"][:1])
    need(
        trail.told[-1].type == "RuntimeStopped" and trail.told[-1].index == report["size"],
        "the stop as the last record",
        trail.told[-1].type,
    )
    return f"{report['size']} records, root {report['root'][:24]}"


@shows("RUNBOOK-6.1")
def a_stop_takes_its_steps(laboratory: Laboratory) -> str:
    """Refuse, drain, memory, audit log, telemetry, state: on record in this order, the interrupted told, then the stop."""
    trail = laboratory.once(session).trail
    wanted = ("refuse", "drain", "memory", "audit_log", "telemetry", "state")
    taken = [each for each in trail.of("StepTaken") if each.event.phase == "stop"]
    named = tuple(each.event.step for each in taken)
    need(named == wanted, " > ".join(wanted), " > ".join(named))
    late = [each for each in trail.of("InputReceived") if each.index > taken[0].index]
    need(not late, "no input behind the refusal", late[:1])
    need(trail.told[-1].type == "RuntimeStopped" and trail.told[-1].index > taken[-1].index, "the stop behind them")
    return f"twin: {taken[0].index} to {taken[-1].index}; {taken[1].event.detail}"


@shows("DEPLOY-22.1", "RUNBOOK-21.1")
def the_deployment_is_compliant(laboratory: Laboratory) -> str:
    """One verdict per item: distribution, configuration, policy, mode, isolation, memory, audit log, telemetry, authorization."""
    found = laboratory.once(items)
    every(found.items(), "each item compliant")
    return "; ".join(f"{name}: yes" for name in found)


def items(laboratory: Laboratory) -> dict[str, bool]:
    """The items of a deployment and whether each is compliant."""
    from femtoclaw.restore import load_state
    from wal.reader import read_log_directory

    home = laboratory.home
    reader = read_log_directory(home.log)
    try:
        node = load_state(reader).node
    finally:
        reader.close()
    report = laboratory.once(verified)
    checks = {each["name"]: each["result"] for each in laboratory.run(home.path, "health").body.get("checks", [])}
    sandbox = [result for name, result in checks.items() if name.startswith("sandbox")]
    return {
        "distribution": laboratory.once(program_files)["result"] == "verified",
        "configuration": laboratory.once(configuration)["verify"] == 0,
        "policy": bool(node.policy.digest) and checks.get("files") == "ok",
        "mode": checks.get("mode") == "ok",
        "isolation": bool(sandbox) and "bad" not in sandbox,
        "memory": bool(report["ok"]),
        "audit log": bool(report["ok"]) and not report["findings"],
        "telemetry": os.path.isdir(os.path.dirname(home.index_file)) or bool(report["ok"]),
        "authorization": node.control.version > 0,
    }  # fmt: skip
