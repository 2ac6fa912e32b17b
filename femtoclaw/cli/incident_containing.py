"""``incident contain``: the node as a whole, or only a claw, an operator, a publisher or a key of distributions."""

from __future__ import annotations

from typing import Any

from femtoclaw.cli.incident_steps import StepRefusedError, at_incident, identify
from femtoclaw.cli.incident_steps import contain as take_contain
from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output
from femtoclaw.errors import UsageError
from femtoclaw.incidents.response import require_next


def contain(arguments: Arguments, output: Output) -> tuple[str, list[dict[str, Any]]]:
    """Contain the node, or only what was named: the incident and the steps taken, `identify` among them where nobody had taken it.
    Raises StepRefusedError where an act is refused; then the step is not taken."""
    acts = _targets(arguments)
    if acts and arguments.skip:
        raise UsageError(
            "either something is contained, or nothing needs to be", where="incident contain", expected="--skip alone",
            found="--skip with what is to be contained",
        )  # fmt: skip
    with at_incident(arguments, output) as at:
        taken = identify(at) if not at.incident.step else []
        require_next(at.incident, at.incident_id, "contain")
    done = [_act(arguments, output, *act) for act in acts]
    with at_incident(arguments, output) as at:
        if arguments.skip and not done:
            taken += take_contain(at, node=False, why_not=arguments.skip)
        else:
            taken += take_contain(at, node=not done, why_not="the node stays in service", acts=done)
    return at.incident_id, taken


def _targets(arguments: Arguments) -> list[tuple[str, str]]:
    found = [("claw", name) for name in arguments.claw or []]
    found += [("operator", name) for name in arguments.operator or []]
    found += [("publisher", name) for name in arguments.publisher or []]
    return found + ([("distribution", arguments.distribution_key)] if arguments.distribution_key else [])


def _act(arguments: Arguments, output: Output, what: str, name: str) -> str:
    """One of the control plane's own acts, by the command that has it; what was done, for the record."""
    given = {
        key: value for key, value in vars(arguments).items() if key in ("home", "json", "as", "operator_key", "cosign")
    }
    reason = f"incident {arguments.target}"
    quiet = Output(as_json=False) if not output.as_json else _Silent(as_json=True)
    if what == "claw":
        from femtoclaw.cli.claw_changes import disable

        code, told = disable(Arguments(**given, what="disable", target=name), quiet), f"claw {name} disabled"
    elif what == "operator":
        from femtoclaw.cli.operators import operator

        code, told = (
            operator(Arguments(**given, what="revoke", name=name, reason=reason), quiet),
            f"operator {name} revoked",
        )
    elif what == "publisher":
        from femtoclaw.cli.publishers import publisher

        code, told = (
            publisher(Arguments(**given, what="distrust", name=name, reason=reason), quiet),
            f"publisher {name} distrusted",
        )
    else:
        from femtoclaw.cli.distribution import distribution

        code, told = (
            distribution(Arguments(**given, which="revoke", value=name), quiet),
            f"distribution key {name} revoked",
        )
    if code:
        raise StepRefusedError(
            f"the containment was refused: {told.rpartition(' ')[0]}", where=reason, expected="a control policy that permits it",
            found="a refusal, which is on record; the step contain is not taken",
        )  # fmt: skip
    return told


class _Silent(Output):
    """Of a command within a command: its JSON object would be a second one."""

    def data(self, body: dict[str, Any]) -> None:
        """Nothing."""
