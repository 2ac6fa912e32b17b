"""``--dry-run`` of what an operator asks for: decided over the recorded state as the node would decide it, and nothing recorded."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from femtoclaw import events
from femtoclaw.cli.asking import REFUSALS, Content
from femtoclaw.cli.options import Arguments
from femtoclaw.cli.recorded_state import recorded_state
from femtoclaw.cli.render import Output
from femtoclaw.home import locate


def preview(
    arguments: Arguments, output: Output, action: str, resource: str, content: Callable[[Any], Content],
) -> int:  # fmt: skip
    """0 when the request would be permitted and could come into force, 1 when it would be refused.

    ``content`` is what ``asking.change`` takes; it may look at the recorded state, home and clocks of the node that it is given.
    The request is signed, and decided here: the node is not opened, and whoever serves it is not asked. Raises ControlRefusedError,
    ConfigurationError or PolicyError as the request itself would.
    """
    from femtoclaw.control import load_cosigners, operator_signer, request
    from femtoclaw.control_plane import decide_control
    from femtoclaw.engines import EngineCache
    from femtoclaw.sources import live

    home, sources = locate(getattr(arguments, "home", None)), live()
    state, engines = recorded_state(home), EngineCache()
    node = SimpleNamespace(
        served=False,
        started=SimpleNamespace(home=home, sources=sources, authority=SimpleNamespace(state=state, engines=engines)),
    )
    signer = operator_signer(home, state.node, getattr(arguments, "as", None), arguments.operator_key)
    cosigners = load_cosigners(home, getattr(arguments, "cosign", None) or [])
    asked = request(state.node, signer, sources, action, resource, content(node), cosigners=cosigners)
    happened = decide_control(state, asked, engines)
    decided = next(event for event in happened if isinstance(event, events.ControlDecided))
    permitted = decided.decision == "AUTHORIZED"
    follow = [type(event).__name__ for event in happened[2:]]
    output.data(
        {
            "dry_run": True, "action": action, "resource": resource, "operator": signer.public.name,
            "decision": decided.decision, "code": decided.reason, "would_record": follow,
        }
    )  # fmt: skip
    if permitted:
        output.line(f"{action} {resource}: would be done ({', '.join(follow)}); nothing was recorded", "green")
        return 0
    why = REFUSALS.get(decided.reason, "")
    output.line(f"{action} {resource}: would be refused ({decided.reason})" + (f": {why}" if why else ""), "red")
    return 1
