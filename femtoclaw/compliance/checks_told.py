"""Checks of which a part cannot be had in one run on one machine: their evidence says what is left out, and where it is shown."""

from __future__ import annotations

from femtoclaw.compliance.banners import banners
from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.clustered import cluster
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.machines import ABI_VERSIONS, abi, event_versions
from femtoclaw.compliance.measures_more import standing_words
from femtoclaw.compliance.migrating import migrated
from femtoclaw.compliance.upgraded import upgraded
from femtoclaw.version import VERSION

KINDS = {
    "start": ("RuntimeStarted", ""), "stop": ("RuntimeStopped", ""), "upgrade": ("ProcedureEnded", "migration.run"),
    "incident": ("IncidentOpened", ""),
}  # fmt: skip


@shows("RUNBOOK-28.1")
def operations_are_told(laboratory: Laboratory) -> str:
    """One scripted run: start, stop, upgrade and incident are lines of the telemetry, each at its index; audit rows join by it."""
    found = laboratory.once(upgraded)
    every(((name, code == 0) for name, code in found.codes.items()), "exit 0")
    places = {
        name: [each["index"] for each in found.lines if (each["event_type"], each.get("procedure", "")) == kind]
        for name, kind in KINDS.items()
    }
    every(places.items(), "a line")
    indexes = [each["index"] for each in found.lines]
    need(indexes == found.events, "a line for each event of the log, in order", len(indexes))
    joined = set(found.audit) & set(indexes)
    need(
        joined and set(found.audit) - joined <= set(found.own),
        "a line for each event that the audit store names",
        len(joined),
    )
    told = ", ".join(f"{name} at upgraded: {at[-1]}" for name, at in places.items())
    return (
        f"{told}; {len(indexes)} lines for {len(found.events)} events; {len(joined)} of them in the audit store too. "
        "The upgrade is one of the store's format; that of the program (release.deploy) has the same events (RUNBOOK-14.1)"
    )


@shows("SUITE-8.1")
def a_cluster_lasts(laboratory: Laboratory) -> str:
    """Three machines of which the leader is killed at work: equal roots at the end, and no acknowledged record lost."""
    found = laboratory.once(cluster)
    need(found["ok"], "a cluster that did all of it", found)
    need(found["compared"]["acknowledged"] > 0, "acknowledged executions", found["compared"])
    need(len(found["verified"]["root"]) == 64 and found["verified"]["size"] > 0, "three equal roots", found["verified"])
    return (
        f"{found['compared']['proved'][:160]}; {found['verified']['proved'][:160]}. Left out here: thirty minutes, network cuts "
        "and slow disks, which scripts/cluster_campaign.py --minutes 30 has beside a checkout (tests/cluster/soak.py)"
    )


@shows("SUITE-3.3")
def earlier_versions_keep_working(laboratory: Laboratory) -> str:
    """A log of the format before is read record by record and decides alike; modules of an earlier ABI of this major are taken."""
    found, versions, earlier = laboratory.once(migrated), laboratory.once(event_versions), laboratory.once(abi)
    validated = found["answers"]["validate"].body
    need(validated.get("ok") is True, "every record of the earlier log as it was", validated)
    before, after = found["before"], found["after"]
    need(before["verdicts"] == after["verdicts"], "equal verdicts over it", len(before["verdicts"]))
    need(not versions["missing"], "a way up from each earlier version of an event", versions["missing"])
    need(earlier["table"] == ABI_VERSIONS, "compatible versions of the ABI taken, others refused", earlier["table"])
    taken = ", ".join(name for name, compatible in ABI_VERSIONS.items() if compatible)
    return (
        f"a log of format 1, {validated['size']} records, {len(before['verdicts'])} verdicts equal; upcasters "
        f"{versions['upcasters']}; ABI {taken}. Left out: the previous minor release, since there is none ({VERSION} is the "
        "first), and golden calls of a module that it made"
    )


@shows("SUITE-9.2")
def a_build_says_what_its_report_says(laboratory: Laboratory) -> str:
    """Status, health and version say UNVERIFIED without a report, NON_COMPLIANT after a failing one; another build's is none."""
    said, words = laboratory.once(banners), laboratory.once(standing_words)
    for state, word in (("no report", "UNVERIFIED"), ("a failing report", "NON_COMPLIANT")):
        every(((f"{name} with {state}", told == word) for name, told in said[state].items()), word)
    need(len(said["no report"]) == 3, "three commands", said["no report"])
    need(
        words["another build"] == "UNVERIFIED" and words["a good one"] == "COMPLIANT", "only this build's report", words
    )
    return (
        f"{', '.join(said['no report'])}: UNVERIFIED, then NON_COMPLIANT; another build's report: {words['another build']}; "
        "`--version` without --json says the number alone"
    )
