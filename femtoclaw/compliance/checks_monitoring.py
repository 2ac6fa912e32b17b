"""Checks of a twin that watches itself: health on record, alerts, incidents, and what becomes of them."""

from __future__ import annotations

from typing import Any

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.monitored import monitored
from femtoclaw.compliance.operating import rotated
from femtoclaw.compliance.session import session

DETECTED = ("authorization_failures", "configuration_tampering", "policy_tampering")


@shows("RUNBOOK-9.1", "DEPLOY-21.1", "THREAT-27.1", "AUDIT-20.1")
def tampering_at_work_is_detected(laboratory: Laboratory) -> str:
    """While the node runs: a burst of denials, an edited configuration and policy each open an incident, with evidence."""
    found = laboratory.once(monitored)
    opened = {each.event.kind: each for each in found.trail.of("IncidentOpened")}
    every(((kind, kind in opened and opened[kind].event.evidence) for kind in DETECTED), "an incident with evidence")
    need(found.during.code == "CONTAINED", "a contained node after an edited policy", found.during)
    force = {
        each.event.policy_digest
        for each in found.trail.of("AuthorizationDecided")
        if each.event.claw and each.event.policy_digest
    }
    adopted = {each.event.digest for each in found.trail.of("PolicyAdopted")}
    need(force <= adopted, "no decision under the edited policy", force - adopted)
    return "; ".join(
        f"{kind} at twin: {opened[kind].index}, severity {opened[kind].event.severity}" for kind in DETECTED
    )


@shows("RUNBOOK-9.2")
def each_incident_has_its_alert(laboratory: Laboratory) -> str:
    """Each incident has exactly one alert, and the two point to each other."""
    found = laboratory.once(monitored)
    alerts = [each for each in found.trail.of("AlertRaised") if each.event.incident_id]
    opened = found.trail.of("IncidentOpened")
    need(opened, "incidents")
    for each in opened:
        own = [alert for alert in alerts if alert.event.incident_id == each.event.incident_id]
        need(len(own) == 1, "one alert of its own", (each.event.kind, len(own)))
        need(str(own[0].index) in each.event.evidence, "the alert among its evidence", each.event.evidence)
    return "; ".join(
        f"{each.event.kind}: alert and incident at twin: {each.index - 1}, {each.index}" for each in opened
    )


@shows("RUNBOOK-27.2")
def alerts_are_acknowledged_on_record(laboratory: Laboratory) -> str:
    """Each alert has monitor, rule and evidence; acknowledging it takes an operator, and is on record."""
    found = laboratory.once(monitored)
    alerts = found.trail.of("AlertRaised")
    every(
        ((f"index {each.index}", each.event.source and each.event.rule and each.event.detail) for each in alerts),
        "monitor, rule, detail",
    )
    seen = found.trail.of("AlertAcknowledged")
    need(found.answers["acknowledge"].code == 0 and seen, "an acknowledged alert", found.answers["acknowledge"].body)
    need(
        seen[0].event.operator and seen[0].event.alert_id == alerts[0].event.alert_id,
        "the operator and the alert",
        seen[0].event,
    )
    return f"{len(alerts)} alerts; acknowledged by {seen[0].event.operator} at twin: {seen[0].index}"


@shows("RUNBOOK-27.1")
def three_monitors_report(laboratory: Laboratory) -> str:
    """Health, security and compliance are watched by tasks whose last run stands in `status`, and none of them is stalled."""
    found = laboratory.once(monitored).status["serving"].get("monitors", {})
    every(
        ((name, found.get(name, {}).get("runs", 0) > 0) for name in ("health", "security", "compliance")),
        "a monitor that ran",
    )
    stalled = [name for name, each in found.items() if each["stalled"]]
    need(not stalled, "none stalled", stalled)
    return "; ".join(f"{name}: {each['runs']} runs" for name, each in found.items())


@shows("RUNBOOK-29.1", "RUNBOOK-15.2")
def deviations_are_found(laboratory: Laboratory) -> str:
    """A file changed by hand under a running node takes no effect, and is told as a noncompliance and as an incident."""
    found = laboratory.once(monitored)
    told = [each for each in found.trail.of("AlertRaised") if each.event.source == "compliance"]
    need(told, "an alert of the compliance monitor")
    configured = found.trail.of("ConfigurationAdopted")
    after = [each for each in configured if each.index > told[0].index]
    need(not after, "no configuration adopted by the edit", after[:1])
    need(found.answers["health"].code == 1, "a node that is not healthy meanwhile", found.answers["health"].code)
    return f"twin: {told[0].index}: {told[0].event.rule}: {told[0].event.detail[:120]}"


@shows("RUNBOOK-15.1")
def configurations_change_by_request(laboratory: Laboratory) -> str:
    """A change of the configuration is a signed request, its decision, the new version, then the file: in this order on record."""
    trail = laboratory.once(session).trail
    changed = [each for each in trail.of("ControlRequested") if each.event.action == "configuration.set"]
    need(changed, "a request")
    request = changed[0]
    decided = next(each for each in trail.of("ControlDecided") if each.event.request_id == request.event.request_id)
    adopted = next((each for each in trail.of("ConfigurationAdopted") if each.index > request.index), None)
    need(
        adopted is not None and request.index < decided.index < adopted.index,
        "request, decision, adoption",
        request.index,
    )
    assert adopted is not None
    need(
        adopted.event.operator == request.event.operator and adopted.event.previous,
        "the operator and the version before",
    )
    need(laboratory.once(session).answers["config"].code == 0, "exit 0")
    return (
        f"twin: request {request.index}, decision {decided.index}, version {adopted.event.version} at {adopted.index}"
    )


@shows("CRYPTO-29.1")
def algorithms_pass_their_vectors(laboratory: Laboratory) -> str:
    """Published test vectors of each algorithm hold in this installation, and a negative case of each is refused."""
    found = laboratory.once(vectors)
    need(found.get("ok") and len(found.get("vectors", [])) >= 5, "five algorithms at least", found)
    every(((each["algorithm"], each["holds"] and each["refuses"]) for each in found["vectors"]), "holds and refuses")
    return "; ".join(f"{each['algorithm']} ({each['source']})" for each in found["vectors"])[:600]


def vectors(laboratory: Laboratory) -> dict[str, Any]:
    """`key selftest` on a twin."""
    from femtoclaw.compliance.twin import twin

    body = laboratory.run(laboratory.copy(laboratory.once(twin), "vectors"), "key", "selftest").body
    return dict(body) if isinstance(body, dict) else {}


@shows("THREAT-3.1")
def nine_assets_are_guarded(laboratory: Laboratory) -> str:
    """Nine assets, from the state to the program's files: a tampering with each is refused, or found."""
    from femtoclaw.compliance.checks_session import dropped_in
    from femtoclaw.compliance.deployment import module, program_files, telemetry
    from femtoclaw.compliance.logs import tampered
    from femtoclaw.compliance.starts import starts

    begun, logs = laboratory.once(starts), laboratory.once(tampered)
    dropped = laboratory.once(dropped_in)
    assets = {
        "runtime state": begun["record changed"].refused, "storage": begun["head damaged"].refused,
        "configuration": begun["configuration changed"].refused, "registry": dropped["before"] == dropped["after"],
        "policies": begun["policy changed"].refused, "audit logs": bool(logs["edited"]),
        "telemetry": laboratory.once(telemetry)["deep"] == 3, "extensions": laboratory.once(module)["answers"]["changed"].code != 0,
        "program": bool(laboratory.once(program_files)["refusals"]["changed"]),
    }  # fmt: skip
    every(assets.items(), "refused or found")
    need(laboratory.once(rotated).answers["refused"].code == 1, "keys guarded too")
    return ", ".join(assets)
