"""Check of a configuration that changes under a node at work."""

from __future__ import annotations

from femtoclaw.compliance.checking import need, shows
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.reloaded import reloaded


@shows("CONFIG-16.1")
def a_reload_is_whole_or_rejected(laboratory: Laboratory) -> str:
    """What is no configuration is rejected on record and changes nothing; another comes between two decisions, never into one."""
    found = laboratory.once(reloaded)
    before, kept, after = found.digests
    for name in ("out of bounds", "no TOML"):
        need(found.answers[name].code == 2, f"a refusal ({name})", found.answers[name].stderr[-160:])
    rejected = [each for each in found.trail.of("ErrorRecorded") if each.event.code == "RELOAD_REJECTED"]
    need(len(rejected) == 2 and rejected[0].event.category == "CONFIGURATION", "both on record", rejected)
    need(
        found.answers["good"].code == 0 and before == kept != after, "the old one kept, then the new one", found.digests
    )
    adopted = found.trail.of("ConfigurationAdopted")
    need(adopted and adopted[-1].event.digest == after, "the new one on record", adopted[-1:])
    at = adopted[-1].index
    wrong = [index for index, digest in found.decided if digest != (after if index > at else before)]
    need(not wrong, "each decision by the configuration in force at its index", wrong[:3])
    counts = [sum(index < at for index, _ in found.decided), sum(index > at for index, _ in found.decided)]
    need(all(counts), "decisions before and after it", counts)
    said = f"{counts[0]} decisions by {before[:12]}, {counts[1]} by {after[:12]}"
    return f"{found.trail.cite(rejected)} rejected; adopted at {at}: {said}"
