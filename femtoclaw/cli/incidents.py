"""``incident``: what went wrong, and its answer in six steps."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from femtoclaw import events
from femtoclaw.cli.asking import change
from femtoclaw.cli.options import Arguments
from femtoclaw.cli.recorded_state import recorded_state
from femtoclaw.cli.render import Output, addressed, printable, when
from femtoclaw.errors import AnswerIsNoError, ConfigurationError, UsageError
from femtoclaw.home import locate
from femtoclaw.incidents.severity import KINDS, NAMES, chosen_severity, opened_at
from femtoclaw.incidents.story import Entry, Story, alert_of, alerts_of_names, all_incidents, names_that_begin, story_of
from femtoclaw.operations import STEPS, next_step
from femtoclaw.state import Incident

if TYPE_CHECKING:
    from wal.reader import LogReader


class AcknowledgedError(AnswerIsNoError):
    """An alert that does not wait for anybody any more."""

    code = "ACKNOWLEDGED"
    default_remedy = "`femtoclaw incident list` names those that wait; who acknowledged this one `femtoclaw log` tells"


def incident(arguments: Arguments, output: Output) -> int:
    """One of the words of ``incident_options.WORDS``."""
    acts = {
        "list": _list, "show": _show, "open": _open, "acknowledge": _acknowledge, "verify-evidence": _evidence,
        "contain": _contain, "respond": _respond, "resolve": _resolve,
    }  # fmt: skip
    if arguments.dry_run and arguments.what in (*STEPS, "respond", "resolve"):
        return _preview(arguments, output)
    return acts.get(arguments.what, _step)(arguments, output)


def _preview(arguments: Arguments, output: Output) -> int:
    """Whether the next step would be permitted now, and which would follow; what each finds shows when it is taken."""
    from femtoclaw.cli.incident_steps import whole_id
    from femtoclaw.cli.previewing import preview

    known = recorded_state(locate(getattr(arguments, "home", None))).node.operations.incidents
    incident_id = whole_id(target(arguments, "an ID"), known)
    following = next_step(known[incident_id])
    begins = arguments.what == "respond" or (arguments.what == "contain" and following == STEPS[0])
    step = following if begins else "restore" if arguments.what == "resolve" else arguments.what
    body = {"step": step, "result": "done", "detail": "", "digest": ""}
    code = preview(arguments, output, "incident.step", incident_id, lambda node: body)
    last = STEPS.index(arguments.what) if arguments.what in STEPS else len(STEPS) - 1
    output.line("steps: " + ", ".join(STEPS[STEPS.index(step) : last + 1]))
    return code


# --- looking ---


def _list(arguments: Arguments, output: Output) -> int:
    """Open incidents and alerts; 0 when there is none that is overdue or that nobody has begun to answer, 1 otherwise."""
    home = locate(getattr(arguments, "home", None))
    state = recorded_state(home)
    node, now = state.node, time.time_ns()
    rows = [_row(name, each, now) for name, each in _by_urgency(node.operations.incidents)]
    alerts = _waiting(home.log, node.operations.alerts)
    body: dict[str, Any] = {"incidents": rows, "alerts": alerts, "contained": node.contained or "no"}
    if arguments.all:
        body["resolved"] = _resolved(home.log, {row["id"] for row in rows})
    output.data(body)
    for row in rows:
        colour = "red" if row["severity"] == 1 or row["overdue"] else "yellow"
        late = "OVERDUE" if row["overdue"] else f"respond by {when(row['respond_by_ns'])}" if not row["step"] else ""
        output.line(f"{row['id']}  {row['severity']} {NAMES[row['severity']]:<8}  {row['kind']}", colour)
        output.fields(
            [
                ("opened", when(row["opened_ns"])),
                ("next step", f"{row['next']}  {late}".strip()),
                ("what", row["sentence"]),
            ]
        )
    for each in body.get("resolved", []):
        output.line(f"{each['id']}  {each['severity']} {NAMES[each['severity']]:<8}  {each['kind']}  resolved", "dim")
    if not rows:
        output.line("no incident is open", "green")
    if alerts:
        output.line(addressed(f"{len(alerts)} alerts wait for `femtoclaw incident acknowledge ALERT`:"))
        told: list[tuple[str, object]] = [
            (each["id"], f"{when(each['at_ns'])}  {each.get('severity', '')} {each.get('rule', '')}") for each in alerts
        ]
        output.fields(told)
    if node.contained:
        output.note(f"the node is contained: {node.contained}")
    return 1 if any(not row["step"] for row in rows) else 0


def _waiting(path: str, alerts: Mapping[str, int]) -> list[dict[str, Any]]:
    """The alerts that wait to be acknowledged, oldest first, each with what its record says."""
    from wal.reader import read_log_directory

    if not alerts:
        return []
    reader = read_log_directory(path)
    try:
        raised = alerts_of_names(reader, frozenset(alerts))
    finally:
        reader.close()
    rows: list[dict[str, Any]] = []
    for name, at_ns in sorted(alerts.items(), key=lambda each: each[1]):
        event = raised.get(name)
        row = {} if event is None else {"rule": event.rule, "severity": event.severity, "detail": event.detail}
        rows.append({"id": name, "at_ns": at_ns, **row})
    return rows


def _by_urgency(incidents: Any) -> list[tuple[str, Incident]]:
    return sorted(incidents.items(), key=lambda each: (each[1].severity, each[1].respond_by_ns, each[0]))


def _row(name: str, each: Incident, now: int) -> dict[str, Any]:
    return {
        "id": name, "kind": each.kind, "severity": each.severity, "step": each.step, "next": next_step(each),
        "opened_ns": opened_at(each.severity, each.respond_by_ns), "respond_by_ns": each.respond_by_ns,
        "overdue": not each.step and now > each.respond_by_ns,
        "sentence": KINDS[each.kind].sentence if each.kind in KINDS else each.kind,
    }  # fmt: skip


def _resolved(path: str, still_open: set[str]) -> list[dict[str, Any]]:
    from wal.reader import read_log_directory

    reader = read_log_directory(path)
    try:
        stories = all_incidents(reader)
    finally:
        reader.close()
    found = [each.opened.event for each in stories if each.opened is not None]
    return [
        {"id": event.incident_id, "kind": event.kind, "severity": event.severity, "opened_ns": event.at_ns}
        for event in found
        if isinstance(event, events.IncidentOpened) and event.incident_id not in still_open
    ]


def _show(arguments: Arguments, output: Output) -> int:
    """Everything that the log says of one incident, or of one alert."""
    from wal.reader import read_log_directory

    home = locate(getattr(arguments, "home", None))
    node = recorded_state(home).node
    reader = read_log_directory(home.log)
    try:
        name = _whole_name(reader, target(arguments, "an ID"), node.operations.incidents)
        story, alert = story_of(reader, name), None
        if story.opened is None:
            alert = alert_of(reader, name)
    finally:
        reader.close()
    body = _story_body(name, story, node.operations.incidents.get(name)) if alert is None else {"alert": _shown(alert)}
    output.data(body)
    _tell_story(body, output)
    return 0


def _whole_name(reader: LogReader, part: str, still_open: Iterable[str]) -> str:
    """The one id of an incident or an alert that begins so, of the open ones first, then of all that the log holds. Raises
    ConfigurationError for none or several, UsageError for a part that is too short to look for."""
    from femtoclaw.cli.incident_steps import ID_CHARACTERS_MIN

    expected = "an ID of `femtoclaw incident list --all`"
    if len(part) < ID_CHARACTERS_MIN:
        raise UsageError(
            "too little of an id",
            where="incident",
            expected=f"at least its first {ID_CHARACTERS_MIN} characters",
            found=part,
        )
    found = [each for each in still_open if each.startswith(part)]
    if len(found) != 1:
        found = names_that_begin(reader, part)
    if len(found) == 1:
        return found[0]
    raise ConfigurationError(
        "several incidents or alerts begin so" if found else "the log holds no such incident or alert", where="incident",
        expected=expected, found=part[:40],
    )  # fmt: skip


def _story_body(name: str, story: Story, open_now: Incident | None) -> dict[str, Any]:
    return {
        "id": name, "open": open_now is not None, "next": next_step(open_now) if open_now is not None else "",
        "opened": _shown(story.opened) if story.opened is not None else None,
        "alert": _shown(story.alert) if story.alert is not None else None, "steps": [_shown(each) for each in story.steps],
    }  # fmt: skip


def _shown(entry: Entry) -> dict[str, Any]:
    fields = {name: list(value) if isinstance(value, tuple) else value for name, value in entry.event._asdict().items()}
    return {"index": entry.index, "time_ns": entry.time_ns, "type": type(entry.event).__name__} | fields


def _tell_story(body: dict[str, Any], output: Output) -> None:
    opened = body.get("opened")
    if opened:
        kind = opened["kind"]
        state = f"open, next: {body['next']}" if body["open"] else "resolved"
        output.line(
            f"incident {body['id']}  {kind}, severity {opened['severity']} ({NAMES[opened['severity']]}): {state}",
            "bold",
        )
        output.fields([
            ("opened", f"{when(opened['at_ns'])}, index {opened['index']}, by {opened['operator'] or 'the node itself'}"),
            ("respond by", when(opened["respond_by_ns"])), ("detail", opened["detail"]),
            ("evidence", "records " + ", ".join(opened["evidence"]) if opened["evidence"] else "none"),
            ("first", addressed(KINDS[kind].first) if kind in KINDS else "as its detail says"),
        ])  # fmt: skip
    alert = body.get("alert")
    if alert:
        output.line(
            f"  alert {alert['alert_id']}  {alert['rule']}, index {alert['index']}: {printable(alert['detail'], 300)}"
        )
    for step in body.get("steps", []):
        output.line(
            f"  {when(step['time_ns'])}  {step['step']:<9} {step['result']:<8} by {printable(step['operator'])}"
        )
        output.line(f"    {printable(step['detail'], 400)}", "dim")
        if step["digest"]:
            output.line(f"    {step['digest']}", "dim")


# --- asking ---


def _open(arguments: Arguments, output: Output) -> int:
    """An operator opens an incident that the node did not find itself."""
    kind = target(arguments, "a KIND: " + ", ".join(KINDS))
    severity = chosen_severity(kind, arguments.severity)
    wrong = [each for each in arguments.evidence or [] if not (each.isascii() and each.isdigit())]
    if wrong:
        raise UsageError(
            "no record has this index", where="--evidence", expected="an index of the log", found=wrong[0][:40]
        )
    incident_id = os.urandom(16).hex()
    content = {
        "kind": kind,
        "severity": severity,
        "detail": arguments.detail or "",
        "evidence": arguments.evidence or [],
    }
    code = change(arguments, output, "incident.open", incident_id, lambda node: content)
    if code == 0 and not arguments.dry_run:
        output.line(addressed(f"next: `femtoclaw incident respond {incident_id}`, or its steps one by one"))
    return code


def _acknowledge(arguments: Arguments, output: Output) -> int:
    """An operator has seen an alert."""
    from wal.reader import read_log_directory

    home = locate(getattr(arguments, "home", None))
    waiting, part = recorded_state(home).node.operations.alerts, target(arguments, "an ALERT")
    reader = read_log_directory(home.log)
    try:
        name = part if part in waiting else _whole_name(reader, part, waiting)
        if name not in waiting:
            if alert_of(reader, name) is None:
                raise ConfigurationError(
                    "this is no alert", where="incident acknowledge", expected="an ALERT of `femtoclaw incident list`",
                    found=name[:40],
                )  # fmt: skip
            raise AcknowledgedError(
                "somebody has acknowledged this alert already", where="incident acknowledge", found=name
            )
    finally:
        reader.close()
    return change(arguments, output, "alert.acknowledge", name, lambda node: {})


def _step(arguments: Arguments, output: Output) -> int:
    """One step of an incident."""
    from femtoclaw.cli.incident_steps import TAKERS, at_incident

    with at_incident(arguments, output, files=arguments.what == "restore") as at:
        taken = TAKERS[arguments.what](at)
    return _told(output, at.incident_id, taken)


def _respond(arguments: Arguments, output: Output) -> int:
    """Every step that remains."""
    from femtoclaw.cli.incident_steps import at_incident, walk

    with at_incident(arguments, output, files=True) as at:
        taken = walk(at, STEPS[0])
    return _told(output, at.incident_id, taken)


def _resolve(arguments: Arguments, output: Output) -> int:
    """The steps behind preserve; refused while one before is missing."""
    from femtoclaw.cli.incident_steps import at_incident, walk

    with at_incident(arguments, output, files=True) as at:
        taken = walk(at, "restore")
    return _told(output, at.incident_id, taken)


def _contain(arguments: Arguments, output: Output) -> int:
    """The second step, with what it acts on."""
    from femtoclaw.cli.incident_containing import contain

    return _told(output, *contain(arguments, output))


def _evidence(arguments: Arguments, output: Output) -> int:
    """Check a file of evidence."""
    from femtoclaw.cli.incident_evidence import verify_file

    return verify_file(arguments, output, target(arguments, "a FILE"))


def _told(output: Output, incident_id: str, taken: list[dict[str, Any]]) -> int:
    last = taken[-1]["step"]
    resolved = last == STEPS[-1]
    following = "" if resolved else STEPS[STEPS.index(last) + 1]
    output.data({"incident": incident_id, "steps": taken, "resolved": resolved, "next": following})
    output.line(
        f"incident {incident_id}: " + ("resolved" if resolved else f"next: {following}"),
        "green" if resolved else "bold",
    )
    return 0


def target(arguments: Arguments, what: str) -> str:
    """What a word is about. Raises UsageError when it is not said."""
    if not arguments.target:
        raise UsageError("of what?", where=f"incident {arguments.what}", expected=what)
    return str(arguments.target)
