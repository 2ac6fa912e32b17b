"""Checks of a sealed installation of this program: who verifies what, what is refused, what a day leaves on record."""

from __future__ import annotations

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.sealed_day import classes, day, swaps
from femtoclaw.compliance.tried_releases import tried
from femtoclaw.releases.building import own_versions
from femtoclaw.releases.fitting import RULES, kinds_of

NINE = (
    "start and stop", "configuration load and change", "execution", "decisions", "binary verification", "extension loading",
    "upgrades", "security violations", "authentication and operator actions",
)  # fmt: skip
FOUR = ("runtime", "storage", "module", "capability")


@shows("AUDIT-4.1")
def nine_classes_are_audited(laboratory: Laboratory) -> str:
    """One day of a sealed node: each of the nine classes of what is audited is in its log, by name."""
    found = classes(laboratory.once(day)["trail"])
    need(set(found) == set(NINE), "the nine classes", sorted(found))
    every(((name, found[name]) for name in NINE), "a record of the class")
    return "; ".join(f"{name}: installed {', '.join(map(str, found[name][:3]))}" for name in NINE)


@shows("BOOT-4.1")
def trust_goes_stage_by_stage(laboratory: Laboratory) -> str:
    """The boot journal of a start: launcher, distribution, configuration, registry of modules, each with verifier and result."""
    found = laboratory.once(day)["journal"]
    boot = found[-1]["boot_id"]
    lines = {line["stage"]: line for line in found if line.get("event") == "stage" and line["boot_id"] == boot}
    wanted = ("launcher", "distribution", "configuration", "policy", "registry", "keys", "audit_log", "runtime")
    need(tuple(name for name in lines if name in wanted) == wanted, " > ".join(wanted), list(lines))
    every(((name, lines[name].get("verifier") and lines[name].get("result")) for name in wanted), "verifier and result")
    need(lines["launcher"]["verifier"] == "host", "the launcher verified by the host", lines["launcher"])
    own = tuple(lines["distribution"][name] for name in ("verifier", "result", "trust"))
    need(own == ("launcher", "verified", "pin"), "the distribution verified by the launcher under the pinned key", own)
    need(all(lines[name]["verifier"] == "node" for name in wanted[2:]), "the rest verified by the node")
    need(
        lines["launcher"].get("secure_boot") in ("present", "absent", "unknown"),
        "the host's secure boot",
        lines["launcher"],
    )
    told = ", ".join(f"{name}: {lines[name]['verifier']} {lines[name]['result']}" for name in wanted)
    return f"{told}; secure boot of the host: {lines['launcher']['secure_boot']}"


@shows("BOOT-6.1")
def five_groups_are_verified(laboratory: Laboratory) -> str:
    """One changed bit in the executable code, a native library, a claw, a module, or a release: five refusals."""
    found = laboratory.once(swaps)
    for name in ("runtime executable", "runtime", "libraries", "capability binaries"):
        answer = found["refused"][name]
        code = answer.body.get("error", {}).get("code", "")
        need(
            answer.code == 3 and "HASH_MISMATCH" in (code or answer.stderr),
            f"exit 3: {name}",
            (answer.code, answer.stderr[-200:]),
        )
    extension = found["extension"]
    need(
        extension.code != 0 and "HASH_MISMATCH" in extension.stderr,
        "no call of a changed module",
        extension.stderr[-200:],
    )
    upgrade = laboratory.once(tried)["refused"]["changed"]
    need(upgrade.code == 3 and "HASH_MISMATCH" in str(upgrade.body), "no changed release", upgrade.body)
    need(found["works"].code == 0, "work with every file put back", found["works"].stderr[-200:])
    return f"HASH_MISMATCH for {', '.join(found['refused'])}, a module, a release"


@shows("BOOT-9.1")
def what_is_verified_is_what_runs(laboratory: Laboratory) -> str:
    """Verified before execution at start, load, claw, module and upgrade; files exchanged between check and load do not run."""
    found = laboratory.once(swaps)
    swapped = found["swapped"]
    need(swapped.get("version") not in ("", "evil", None), "the source that was verified", swapped)
    need(
        swapped.get("refused") == "HASH_MISMATCH" and not swapped["mapped"], "no library that was written over", swapped
    )
    trail = laboratory.once(day)["trail"]
    verified = [each.index for each in trail.of("IntegrityVerified") if each.event.component == "distribution"]
    ran = trail.of("ExecutionStarted")
    need(
        verified and ran and verified[0] < ran[0].index,
        "the start's verification before the first execution",
        verified[:1],
    )
    refused, installed = trail.of("ModuleRejected"), trail.of("ModuleInstalled")
    need(
        refused and installed and refused[0].index < installed[0].index,
        "a module verified before it is installed",
        refused[:1],
    )
    need(laboratory.once(tried)["refused"]["changed"].code == 3, "a release verified before it is unpacked")
    need(
        found["refused"]["capability binaries"].code == 3 and found["extension"].code != 0,
        "claw and module before their load",
    )
    return (
        f"verified at installed: {verified[0]}, first execution {ran[0].index}; swapped library: {swapped['refused']}"
    )


@shows("BOOT-19.1")
def secure_is_the_mode(laboratory: Laboratory) -> str:
    """A new home is in secure mode, takes nothing unsigned, and is not led out of it; no other mode is called production."""
    from femtoclaw.compliance.machines import settings_refused

    found = laboratory.once(day)
    refused = found["answers"]["untrusted"]
    need(
        refused.code == 3 and refused.error == "ModuleRejectedError",
        "no module without a trusted signature",
        refused.body,
    )
    away = found["answers"]["development"]
    need(away.body.get("code") == "MODE_IS_FIXED", "no way out of secure mode", away.body)
    need(laboratory.once(settings_refused)["an unknown mode"], "no permissive mode", "taken")
    body = laboratory.once(developed)
    need(body["own"] == "secure", "this installation in secure mode: no report on another is compliant", body["own"])
    need(body["fresh"] == "secure", "secure where nothing is said", body["fresh"])
    need("not compliant" in body["says"], "another mode said in each report of health", body["says"])
    return f"secure by default and here; {away.body['code']} on the way out of it; development: {body['says']}"


def developed(laboratory: Laboratory) -> dict[str, str]:
    """The mode of this installation and of the twin, and what is said of a home that was made in development mode."""
    from femtoclaw.compliance.twin import twin

    home = laboratory.place("developed")
    laboratory.run(home, "init", "--development")
    checks = {each["name"]: each for each in laboratory.run(home, "health").body.get("checks", [])}
    modes = {
        name: str(laboratory.run(path, "status").body.get("mode", ""))
        for name, path in (("own", laboratory.home.path), ("fresh", laboratory.once(twin)))
    }
    return modes | {"says": str(checks.get("mode", {}).get("text", ""))}


@shows("BOOT-23.1")
def older_versions_stay_out(laboratory: Laboratory) -> str:
    """A distribution, and a release, below the home's floor is refused although its signature is valid; so is accepting it."""
    found, releases = laboratory.once(swaps), laboratory.once(tried)["refused"]
    older = found["older"]
    need(older.code == 3 and older.body["error"].get("code") == "ROLLBACK", "no start of an older one", older.body)
    need(found["older accepted"].code == 3, "no operator takes it", found["older accepted"].body)
    below = releases["below the floor"]
    need(below.code == 3 and "ROLLBACK" in str(below.body), "no release below the floor", below.body)
    from femtoclaw.errors import FemtoClawError
    from femtoclaw.releases.deploying import refuse_older
    from femtoclaw.releases.statement import Release

    own = Release("0.1.0", 12, 0, "", *own_versions(), "0" * 64, {})
    refuse_older(own, 12, "at the floor")
    try:
        refuse_older(own, 13, "below the floor")
        need(False, "no rollback below the floor")
    except FemtoClawError as error:
        return f"exit 3 for each; counters {older.body['error']['found']} and below; rollback: {error.what[-40:]}"
    return ""


@shows("UPGRADE-3.1")
def upgrades_have_their_kinds(laboratory: Laboratory) -> str:
    """Seven sample changes, each classified, with its rule; a major one needs its own word."""
    from femtoclaw.releases.statement import Release

    own = own_versions()
    base = Release("1.4.7", 12, 0, "", *own, "0" * 64, {})
    samples: dict[str, tuple[Release, tuple[str, ...]]] = {
        "patch": (base._replace(program="1.4.8"), ("patch",)), "minor": (base._replace(program="1.5.0"), ("minor",)),
        "major": (base._replace(program="2.0.0"), ("major",)),
        "storage": (base._replace(program="1.5.0", home=(1, 9)), ("minor", "storage")),
        "capability": (base._replace(claws={}), ("patch", "capability")),
        "extension": (base._replace(abi="FC-ABI-1.1.0"), ("patch", "extension")),
        "configuration": (base._replace(configuration="1" * 64), ("patch", "configuration")),
    }  # fmt: skip
    every(((name, kinds_of(sample, "1.4.7", own) == kinds) for name, (sample, kinds) in samples.items()), "its kinds")
    every(((name, RULES.get(name)) for name in samples), "a rule")
    found = laboratory.once(tried)
    need(found["refused"]["major"].code == 1, "no major one without --major", found["refused"]["major"].body)
    need(found["asked"].code == 0 and "major" in found["asked"].body["kinds"], "its rule with it", found["asked"].body)
    return f"{', '.join(samples)}; major: {found['asked'].body['kinds']['major']}"


@shows("UPGRADE-13.1")
def releases_that_do_not_fit_are_refused(laboratory: Laboratory) -> str:
    """Four signed releases that do not fit, one for each kind: refused by the name of the kind, and nothing is touched."""
    found = laboratory.once(tried)
    said = {name: str(found["refused"][name].body.get("error", {}).get("what", "")) for name in FOUR}
    every(
        ((name, found["refused"][name].code == 1 and said[name].startswith(f"{name}: ")) for name in FOUR),
        "its kind named",
    )
    need(found["untouched"], "the home's pin and the installation as they were")
    return "; ".join(said.values())


@shows("UPGRADE-16.1")
def failed_upgrades_are_survived(laboratory: Laboratory) -> str:
    """No room, a power cut, checks that fail: the old version works, the chain holds, the failures are on record."""
    found = laboratory.once(tried)
    failed, after = found["failed"], found["after"]
    need(failed["disk full"].code == 4, "exit 4 without room", failed["disk full"].body)
    need(failed["power cut"].code == -9, "a process that was killed", failed["power cut"].code)
    need(failed["bad check"].code == 1 and failed["bad check"].error == "ReleaseFailedError", "exit 1 for failed checks",
         failed["bad check"].body)  # fmt: skip
    every(((name, after[name].code == 0) for name in ("power cut", "bad check")), "the old version at work")
    need(after["verify"].code == 0 and after["verify"].body.get("ok") is True, "a valid chain", after["verify"].body)
    ended = [each for each in found["trail"].of("ProcedureEnded") if each.event.procedure == "release.deploy"]
    last = [each for each in ended if each.event.result == "failed"][-2:]
    need("cannot be written" in last[0].event.detail and "its work" in last[1].event.detail, "both failures on record",
         [each.event.detail for each in last])  # fmt: skip
    told = ", ".join(f"{each.index} ({each.event.detail})" for each in last)
    return f"failed at installed: {told}; a limit on the size of files stands for a full disk"
