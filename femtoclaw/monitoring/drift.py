"""Whether what runs still is what was recorded: the compliance monitor's question, asked again while a node runs."""

from __future__ import annotations

from collections.abc import Callable

from femtoclaw.distribution_watch import distribution_changed
from femtoclaw.errors import FemtoClawError
from femtoclaw.home import Home, effective_configuration, policy_text
from femtoclaw.integrity import check_recorded
from femtoclaw.monitoring.looked import Finding, Looked, shown
from femtoclaw.state import Node

NAMES_MAX = 5

Recorded = Callable[[], Node | None]
"""What is recorded now; None where this node records nothing (it follows, or takes nothing any more)."""


def drift(looked: Looked, recorded: Recorded) -> list[Finding]:
    """What was changed by hand: files of the configuration or the policy, files of the program. A member that follows has files
    that only count when it leads. The state of the look is not compared with: it may be an interval older than the files."""
    found = _files(looked.home, recorded) if looked.leads else []
    changed = distribution_changed(looked.home)
    if changed:
        found.append(Finding("program", shown(f"changed: {', '.join(changed[:NAMES_MAX])}")))
    return found


def _files(home: Home, recorded: Recorded) -> list[Finding]:
    """The files against what is recorded, both of one moment: whoever changes them in order holds the home's lock until record and
    files agree again. While somebody has it for long they are not compared."""
    from femtoclaw.api.executor import NotTakenError
    from femtoclaw.api.own_files import alone

    try:
        with alone(home):
            node = recorded()
            if node is not None:
                effective = effective_configuration(home, None)
                check_recorded(home, node, effective, policy_text(home, effective), frozenset())
    except NotTakenError:
        return []
    except FemtoClawError as error:
        return [Finding("files", shown(error.what))]
    except OSError as error:  # the home itself cannot be opened: then its files are not what is recorded either
        return [Finding("files", f"the home cannot be read: {type(error).__name__}")]
    return []
