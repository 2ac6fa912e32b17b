"""Whether what runs still is what was recorded: the compliance monitor's question, asked again while a node runs."""

from __future__ import annotations

from femtoclaw.distribution_watch import distribution_changed
from femtoclaw.errors import FemtoClawError
from femtoclaw.home import effective_configuration, policy_text
from femtoclaw.integrity import check_recorded
from femtoclaw.monitoring.looked import Finding, Looked, shown

NAMES_MAX = 5


def drift(looked: Looked) -> list[Finding]:
    """What was changed by hand: files of the configuration or the policy, files of the program. A member that follows has files
    that only count when it leads."""
    found = []
    if looked.leads:
        try:
            effective = effective_configuration(looked.home, None)
            check_recorded(looked.home, looked.state.node, effective, policy_text(looked.home, effective), frozenset())
        except FemtoClawError as error:
            found.append(Finding("files", shown(error.what)))
    changed = distribution_changed(looked.home)
    if changed:
        found.append(Finding("program", shown(f"changed: {', '.join(changed[:NAMES_MAX])}")))
    return found
