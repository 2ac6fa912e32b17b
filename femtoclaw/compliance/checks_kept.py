"""Checks of audit records as others get them, of how long they stay, and of followers that hear of newer versions."""

from __future__ import annotations

import re

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.kept import AHEAD_DAYS, exported, newer, retained, stepped
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.operating import audited

SCHEMA = {
    "id": r"[0-9a-f]{16}:[0-9]+", "event_type": r".+", "execution_id": r".*", "component": r".+", "time_ns": r"[0-9]+",
    "outcome": r".*", "link": r"[0-9a-f]{64}",
}  # fmt: skip
"""The seven parts of an audit event, and how each is spelled."""


@shows("AUDIT-5.1")
def audit_events_have_seven_parts(laboratory: Laboratory) -> str:
    """Every record of an export has id, type, execution, component, time, outcome and digest, which its fields give again."""
    found = laboratory.once(exported)
    rows = found["rows"]
    need(len(rows) == laboratory.once(audited).answers["export"].body["count"] > 100, "the whole log", len(rows))
    for row in rows:
        wrong = [
            name
            for name, form in SCHEMA.items()
            if name not in row or not re.fullmatch(form, str(row[name]), re.DOTALL)
        ]
        need(not wrong, f"the parts of record {row.get('index')}", wrong)
    need(len({row["id"] for row in rows}) == len(rows), "an id of its own for each")
    every(
        ((f"record {row['index']}", row["link"] == link) for row, link in zip(rows, found["links"], strict=True)),
        "the digest computed from the canonical body",
    )
    need(found["canonical"], "one canonical form")
    named = sum(bool(row["execution_id"]) for row in rows)
    return f"{len(rows)} records, {named} of an execution, last {rows[-1]['link'][:16]} at twin: {rows[-1]['index']}"


@shows("AUDIT-10.1")
def times_never_go_back(laboratory: Laboratory) -> str:
    """The wall clock steps back by an hour at work: recorded times never decrease, and an event tells the step, once."""
    from femtoclaw.compliance.clock_steps import STEP_S

    found = laboratory.once(stepped)
    need(found["code"] == 0, "work through the step", found["stderr"])
    times = [time_ns for _, time_ns, _ in found["records"]]
    need(times == sorted(times), "times that never decrease")
    held = [index for index, _, clamped in found["records"] if clamped]
    need(held, "records that say that their time was held", len(times))
    told = [each for each in found["trail"].of("ErrorRecorded") if each.event.code == "CLOCK_ANOMALY"]
    need(len(told) == 1, "one event for one step", [each.index for each in told])
    seconds = float(re.findall(r"[0-9.]+", told[0].event.detail)[0])
    need(STEP_S - 60 < seconds <= STEP_S, f"the step of {STEP_S} s", told[0].event.detail)
    return f"{len(times)} times in order, {len(held)} of them held; stepped: {told[0].index}: {told[0].event.detail}"


@shows("AUDIT-11.1")
def records_stay(laboratory: Laboratory) -> str:
    """Deletion is refused as too young, as not archived, and because the log is whole; archival keeps range and root, on record."""
    found = laboratory.once(retained)
    answers, segment = found["answers"], found["segment"]
    need(
        (answers["young"].body["result"], answers["young"].body["last"]) == ("skipped", 0),
        "nothing young archived",
        answers["young"].body,
    )
    wanted = {
        "delete young": "younger than they must be kept", "delete unarchived": "not archived on record",
        "delete archived": "lets no segment go",
    }  # fmt: skip
    for name, what in wanted.items():
        error = answers[name].body.get("error", {})
        need(answers[name].code == 1 and what in error.get("what", ""), f"refused: {what}", answers[name].body)
    kept = answers["archive"].body
    need((kept.get("first"), kept.get("last")) == (1, segment), "the old segment archived", kept)
    need(kept["segments"] == [[1, segment, kept["root"]]], "its range and root on record", kept["segments"])
    need(
        answers["archive verify"].code == 0 and answers["archive verify"].body["size"] == segment,
        "an archive that verifies",
    )
    need(answers["verify"].code == 0, "a log that verifies from end to end", answers["verify"].body)
    return (
        f"records 1 to {segment}, root {kept['root'][:16]}, after {AHEAD_DAYS} of {kept['days']} days; nothing deleted"
    )


@shows("UPGRADE-24.1")
def newer_leaders_are_heard_or_refused(laboratory: Laboratory) -> str:
    """Records with events of a newer version are stored with the same root and never skipped; a newer format stops the run."""
    found = laboratory.once(newer)
    need(found["stored"] == "", "records of a newer leader taken", found["stored"])
    need(found["equal leaves"], "an equal leaf on both sides")
    need("EventUnknownError" in found["acted on"] and "newer" in found["acted on"], "a clear error for who would act on it",
         found["acted on"])  # fmt: skip
    need("newer" in found["another format"], "a clear error that stops the run", found["another format"])
    need(found["handshake"].endswith(".v1"), "the version in the name of the service", found["handshake"])
    return f"service {found['handshake']}; event: {found['acted on']}; format: {found['another format'][:120]}"
