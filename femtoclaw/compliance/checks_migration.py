"""Checks of migrations: a home of the format before becomes one of the newest, complete or untouched, and comes back."""

from __future__ import annotations

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.migrating import cuts, migrated
from femtoclaw.compliance.starts import starts


@shows("UPGRADE-7.1")
def migrations_are_whole_or_not_there(laboratory: Laboratory) -> str:
    """Ended at every step of a migration: the log is the old one byte for byte, or the new one with the expected root."""
    found = laboratory.once(cuts)
    rows = found["rows"]
    need(len(rows) == found["count"] > 20, "a cut at every step", (len(rows), found["count"]))
    every(((f"step {row['at']}", row["ended"] == 77) for row in rows), "a process that was ended there")
    every(((f"step {row['at']}", row["untouched"] == row["old"]) for row in rows), "the old bytes, or the new log")
    need({row["old"] for row in rows} == {True, False}, "both outcomes", rows[-1])
    again = [row for row in rows if "again" in row]
    every(((f"step {row['at']}", row["again"]) for row in again), "migrated when it is tried again")
    roots = {row["root"] for row in rows if "root" in row}
    need(roots == {found["expected"]}, "the expected root after each", roots)
    kept = sum(row["old"] for row in rows)
    return (
        f"{found['records']} records, cut at all {len(rows)} steps: {kept} left the old log, {len(rows) - kept} the new one, root "
        f"{found['expected'][:16]}; 100,000 records: tests/femtoclaw/test_migration_long.py"
    )


@shows("UPGRADE-8.1")
def migrations_are_checked(laboratory: Laboratory) -> str:
    """The wrong source version is refused; a step that copies too little, or another event, is found and rolled back; on record."""
    found, cut = laboratory.once(migrated), laboratory.once(cuts)
    refused = found["answers"]["wrong source"]
    need((refused.code, refused.error) == (1, "NotApplicableError"), "a refusal of the newest format", refused.body)
    every(
        ((name, said == "MigrationUnsoundError: kept") for name, said in cut["faults"].items()),
        "found by the verification, the old log untouched",
    )
    ended = [each for each in found["after"]["trail"].of("ProcedureEnded") if each.event.procedure == "migration.run"]
    need(ended and ended[0].event.result == "done", "the end on record", ended[:1])
    return f"{', '.join(cut['faults'])}: {next(iter(cut['faults'].values()))}; on record at migrated: {ended[0].index}"


@shows("UPGRADE-9.1")
def migrations_are_remembered(laboratory: Laboratory) -> str:
    """Formats, roots and time are told by `migrate history` of two processes, from records of the chain."""
    found = laboratory.once(migrated)
    first, again = (found["answers"][name].body.get("history", []) for name in ("history", "again"))
    need(len(first) == 1 and first == again, "one entry, the same after restarts", (len(first), len(again)))
    row = first[0]
    need((row["from"], row["to"]) == (1, 2) and row["time_ns"] and row["root"], "versions, root and time", row)
    records = {each.index: each for each in found["after"]["trail"].told}
    need(
        records.get(row["index"]) and records[row["index"]].type == "ProcedureEnded",
        "a record of the chain",
        row["index"],
    )
    before = found["answers"]["history"].body["predecessor"]
    need(before["root"] == row["root"], "the old root in the first record", before)
    return f"1 to 2 at migrated: {row['index']}, old root {row['root'][:16]}"


@shows("UPGRADE-10.1")
def configurations_keep_their_meaning(laboratory: Laboratory) -> str:
    """After a migration the effective configuration and every verdict of the corpus are the same; a broken one stops it."""
    found = laboratory.once(migrated)
    before, after = found["before"], found["after"]
    changed = {
        f"{domain}.{key}" for domain in before["recorded"] for key, value in before["recorded"][domain].items()
        if after["recorded"][domain].get(key) != value
    }  # fmt: skip
    need(changed <= {"security.allow_root"}, "an equal configuration, but for who may run it", sorted(changed))
    need(
        len(before["verdicts"]) > 100 and before["verdicts"] == after["verdicts"],
        "equal verdicts",
        len(before["verdicts"]),
    )
    broken = found["answers"]["broken configuration"]
    need(broken.code == 2 and broken.error == "ConfigurationError", "a broken one refused", broken.body)
    need(found["answers"]["broken configuration: log as it was"].code == 0, "nothing migrated then")
    start = laboratory.once(starts)["configuration that does not parse"]
    need(start.refused, "no start with a broken one", start.answer.code)
    return (
        f"{len(before['verdicts'])} verdicts equal; changed: {', '.join(sorted(changed)) or 'nothing'}; broken: exit 2"
    )


@shows("UPGRADE-19.1")
def migrations_are_deterministic(laboratory: Laboratory) -> str:
    """Two copies of one home become logs with equal roots; the result is sealed by the node's key, and a start checks it again."""
    first, second = laboratory.once(cuts)["twice"]
    need(first == second, "equal sizes and roots", (first, second))
    found = laboratory.once(migrated)["answers"]
    need(found["works"].code == 0, "a start with the seal", found["works"].stderr[-200:])
    need(found["unsealed"].code == 3 and found["unsealed"].error == "MigrationUnsoundError", "none with a changed one",
         found["unsealed"].body)  # fmt: skip
    return f"{first[0]} records, root {first[1][:16]} twice; a changed seal: exit 3"


@shows("UPGRADE-22.1")
def migrations_have_their_tools(laboratory: Laboratory) -> str:
    """Run, validate and rollback, each tried without a change first; they leave events, and the old log comes back."""
    found = laboratory.once(migrated)
    answers = found["answers"]
    every(
        (
            (name, answers[name].code == 0)
            for name in ("plan", "dry run", "run", "validate", "rollback dry run", "rollback")
        ),
        "exit 0",
    )
    need(found["before"]["untouched"], "nothing recorded by the dry run")
    need(answers["validate"].body.get("ok") is True, "a comparison of every record", answers["validate"].body)
    begun = [each for each in found["after"]["trail"].of("ProcedureBegun") if each.event.procedure == "migration.run"]
    need(begun, "an event of the run")
    back = [each for each in found["back"].of("ErrorRecorded") if each.event.code == "MIGRATION_ROLLED_BACK"]
    need(back, "an event of the rollback")
    need(answers["verify after rollback"].code == 0, "an old log that verifies", answers["verify after rollback"].body)
    return (
        f"migrated: begun {begun[0].index}; migrated back: {back[0].index}, {found['before']['records']} records again"
    )


@shows("UPGRADE-25.1")
def migrations_are_tested_in_three_groups(laboratory: Laboratory) -> str:
    """Correctness, rollback and compatibility of each past format, in this run and by the suite; the guide has its three parts."""
    from femtoclaw.compliance.suite_groups import guide, migration_tests
    from femtoclaw.migration.formats import NEWEST, OLDEST

    tests = laboratory.once(migration_tests)
    every(((name, len(listed) > 0) for name, listed in tests.items()), "tests of the group")
    need(tuple(tests) == ("correctness", "rollback", "compatibility"), "three groups", tuple(tests))
    row = (laboratory.once(migrated)["answers"]["history"].body.get("history") or [{}])[0]
    need((row.get("from"), row.get("to")) == (OLDEST, NEWEST), "the only past format migrated in this run", row)
    parts = laboratory.once(guide)
    every(parts.items(), "the part in the guide")
    figures = ", ".join(f"{name} {len(listed)} tests" for name, listed in tests.items())
    return f"{figures}; format {OLDEST} to {NEWEST} in this run; guide: {', '.join(parts)}"
