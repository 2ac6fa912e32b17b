"""Checks of telemetry: of a served twin in which secrets were planted and whose sinks fail, and of counted executions."""

from __future__ import annotations

import itertools
import json

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.observed import CANARIES, SECRET, counted, json_lines, observed

LINE_FIELDS = ("timestamp", "event_type", "execution_id", "capability_id", "decision", "result")


@shows("OBSERVE-3.1")
def five_ways_tell_of_one_execution(laboratory: Laboratory) -> str:
    """Telemetry rows, structured lines, metrics, a trace and the audit each have what they tell of the same execution."""
    found = laboratory.once(observed)
    name = found.execution
    rows = [row for row in found.stores["telemetry"] if row["execution_id"] == name]
    lines = [body for _, body in json_lines(found.told["lines"]) if body and body["execution_id"] == name]
    audit = found.answers["audit"].body.get("events", [])
    need(rows and lines and audit, "rows, lines and audit records", (len(rows), len(lines), len(audit)))
    need(name.encode() in found.told["traces"], "a span that names it", name)
    need(name in json.dumps(found.answers["trace"].body), "its way through the audit", found.answers["trace"].code)
    every(
        ((metric, more > 0) for metric, more in found.counts.items()),
        "a metric that has counted it, and its neighbours",
    )
    return (
        f"{name}: telemetry {len(rows)} rows, log {len(lines)} lines, audit {len(audit)} events, trace sent; metrics, which hold no"
        f" ids, rose by {', '.join(f'{more:g}' for more in found.counts.values())}"
    )


@shows("OBSERVE-5.1")
def all_that_is_written_is_json(laboratory: Laboratory) -> str:
    """Each line of log, standard error, standard output and boot journal parses; log lines have their fields."""
    found = laboratory.once(observed)
    counts = {}
    for name in ("lines", "stderr", "stdout", "journal"):
        counts[name] = 0
        for line, body in json_lines(found.told[name]):
            need(isinstance(body, dict), f"JSON on {name}", line[:80])
            need(
                name in ("stdout", "journal") or all(each in body for each in LINE_FIELDS),
                f"the fields on {name}",
                line[:80],
            )
            counts[name] += 1
        need(counts[name], f"lines on {name}", 0)
    note = b"telemetry: log fails"
    need(note in found.told["stderr"], "a remark of a failing sink among them", found.told["stderr"][:120])
    told = ", ".join(f"{name}: {count} lines" for name, count in counts.items())
    return f"{told}; left out: what another process would print there, such as a fork server that cannot start"


@shows("OBSERVE-6.1")
def counters_are_exact(laboratory: Laboratory) -> str:
    """After a hundred executions with thirty denials the counters read 100, 70 and 30, and the log alone gives them again."""
    found = laboratory.once(counted)
    read = (found["executions"], found["invocations"], found["denials"])
    need(read == (100, 70, 30), "100, 70 and 30", read)
    need(
        found["latencies"] == found["events"]["ExecutionFinished"] == 70,
        "a latency for each result",
        found["latencies"],
    )
    need(found["validations"] == 100, "a latency for each validation", found["validations"])
    need(found["writes"] == found["appends"] > 0, "a latency for each append", (found["writes"], found["appends"]))
    need(
        found["again"] == {name: found[name] for name in found["again"]}, "the same from the log alone", found["again"]
    )
    return f"executions, invocations, denials {read}; {found['writes']} writes, {found['validations']} validations"


@shows("OBSERVE-9.1")
def lines_have_their_shape(laboratory: Laboratory) -> str:
    """Every line of a served twin is of its type's schema; with an undeclared field, or one left out, none is."""
    import jsonschema_rs

    from femtoclaw.telemetry.lines import schema

    is_valid = jsonschema_rs.validator_for(schema()).is_valid
    bodies = [body for name in ("lines", "stderr") for _, body in json_lines(laboratory.once(observed).told[name])]
    kinds: set[str] = set()
    for body in bodies:
        need(is_valid(body), "a line of its type's schema", body)
        need(not is_valid(body | {"undeclared": 1}), "a refused field more", body.get("event_type"))
        need(
            not is_valid({name: each for name, each in body.items() if name != "result"}), "a refused field less", body
        )
        kinds.add(body["event_type"])
    need(len(kinds) >= 8, "eight kinds of lines", sorted(kinds))
    return f"{len(bodies)} lines of {len(kinds)} types; the schema has {len(schema()['oneOf'])}"


@shows("OBSERVE-12.1")
def planted_secrets_are_nowhere(laboratory: Laboratory) -> str:
    """Five canaries are in no line, metric, trace, output or row; lines have the record's hash, a stored secret its mark."""
    found = laboratory.once(observed)
    planted = [name for name in CANARIES if name != "CANARY-environment"]
    every(((name, name.encode() in found.log) for name in planted), "recorded where it belongs, or nothing was planted")
    for name, raw in found.told.items():
        need(raw, f"something told by {name}")
        need(b"CANARY" not in raw, f"no canary in {name}", raw[max(0, raw.find(b"CANARY") - 80) :][:200])
    need(b"CANARY-environment" not in found.log, "the environment in no record either")
    need(SECRET.encode() not in found.log and b"[secret token]" in found.log, "a mark in the place of a stored secret")
    links = {each.link for each in found.trail.told}
    lines = [body for _, body in json_lines(found.told["lines"]) if body and "link" in body]
    need(lines and all(body["link"] in links for body in lines), "each line with its record's hash")
    return f"{len(CANARIES)} canaries in none of {', '.join(found.told)}; {len(lines)} lines with their record's link"


@shows("OBSERVE-14.1")
def failing_telemetry_stops_nothing(laboratory: Laboratory) -> str:
    """With a file of lines that cannot be written executions go on; it is on record, on stderr, in the health, and made up."""
    found = laboratory.once(observed)
    failing = found.failing
    every(((name, outcome == "success") for outcome, name in failing["steps"]), "an execution that went on")
    errors = [each for each in found.trail.of("ErrorRecorded") if each.event.category == "OBSERVABILITY"]
    need(errors and errors[0].event.code == "TELEMETRY_LOG", "an error of OBSERVABILITY on record", errors[:1])
    need(b"telemetry: log fails" in found.told["stderr"], "a line on standard error")
    checks = {each["name"]: each["result"] for each in failing["health"].get("checks", [])}
    need(checks.get("telemetry") == "warning", "a warning of the health", checks.get("telemetry"))
    rows = {row["execution_id"] for row in found.stores["telemetry"]}
    every(((name, name in rows) for _, name in failing["steps"]), "rows from the log of what was missed")
    need(failing["again"], "lines again when the file can be written")
    return f"{found.trail.cite(errors)}; {len(failing['steps'])} executions meanwhile, all in `log --store telemetry`"


@shows("OBSERVE-21.1")
def a_receiver_can_check_and_cannot_block(laboratory: Laboratory) -> str:
    """Each line has index, link and the link before, as in the log; a collector that answers nobody slows no execution."""
    found = laboratory.once(observed)
    lines = [body for _, body in json_lines(found.told["lines"]) if body and "index" in body]
    links = {each.index: each.link for each in found.trail.told}
    every(((str(body["index"]), links.get(body["index"]) == body["link"]) for body in lines), "the record's own link")
    pairs = [(a, b) for a, b in itertools.pairwise(lines) if b["index"] == a["index"] + 1]
    every(((str(b["index"]), b["prev"] == a["link"]) for a, b in pairs), "the link before")
    blocked = found.blocked
    need(blocked["still"] and blocked["asked"], "a collector that was asked and held", blocked)
    need(blocked["held_s"] < blocked["free_s"] * 5 + 0.5, "executions as quick as before", blocked)
    free, held = (f"{blocked[name] * 1000:.0f} ms" for name in ("free_s", "held_s"))
    return f"{len(pairs)} neighbours checked; an execution took {free}, {held} while the collector held its answer"
