"""Checks of a store that is migrated: everything is kept, and a migration that is cut leaves the one format or the other."""

from __future__ import annotations

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.migrating import cuts, migrated

CUTS_MIN = 30


@shows("STORAGE-23.1")
def a_migrated_store_keeps_everything(laboratory: Laboratory) -> str:
    """A log of format 1 becomes one of format 2: as many records, each compared; the original bytes stay, verifiable; on record."""
    found = laboratory.once(migrated)
    answers, records = found["answers"], found["before"]["records"]
    validated = answers["validate"].body
    need(validated.get("ok") is True and validated["size"] == records, "every record compared", validated)
    need(
        answers["plan"].body["events"] == records - 1,
        "every event of it, beside the genesis record",
        answers["plan"].body,
    )
    before = answers["history"].body["predecessor"]
    need(int(before["size"]) == records and before["root"] == validated["root"], "the old log by size and root", before)
    old = answers["verify after rollback"].body
    need(old.get("ok") is True and old["size"] > records, "the original records, verified where they are kept", old)
    ended = [each for each in found["after"]["trail"].of("ProcedureEnded") if each.event.procedure == "migration.run"]
    need(ended and ended[0].event.result == "done", "the migration on record", ended[:1])
    return (
        f"{records} records compared one by one, root {before['root'][:16]} in the new log's first record; the old log verifies; "
        f"on record at migrated: {ended[0].index}. The original is a home of format 1 that this program makes"
    )


@shows("STORAGE-23.2")
def a_cut_migration_is_one_format_or_the_other(laboratory: Laboratory) -> str:
    """Ended at every step, at least thirty: the database is version 1 with untouched bytes, or version 2 with the expected root."""
    found = laboratory.once(cuts)
    rows = found["rows"]
    need(
        len(rows) == found["count"] >= CUTS_MIN,
        f"{CUTS_MIN} points at least, all there are",
        (len(rows), found["count"]),
    )
    every(((f"step {row['at']}", row["untouched"] if row["old"] else row["root"] == found["expected"]) for row in rows),
          "version 1 untouched, or version 2 complete")  # fmt: skip
    need({row["old"] for row in rows} == {True, False}, "both outcomes")
    return f"{len(rows)} points: {sum(row['old'] for row in rows)} left version 1 byte for byte, the others version 2 complete"
