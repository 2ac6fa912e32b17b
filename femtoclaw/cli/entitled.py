"""An operator's act on a machine whose log cannot record it now: entitled by the record, told in the boot journal."""

from __future__ import annotations

from femtoclaw.cli.options import Arguments
from femtoclaw.home import Home


def entitled(home: Home, arguments: Arguments, action: str, resource: str) -> str:
    """The operator who asks: known to the log, with their key, permitted by the control policy that is recorded here.

    Raises ControlRefusedError, ConfigurationError, KeyLockedError.
    """
    from femtoclaw.cli.recorded_state import recorded_state
    from femtoclaw.control import operator_signer
    from femtoclaw.control_policy import load_control
    from femtoclaw.errors import ControlRefusedError

    node = recorded_state(home).node
    signer = operator_signer(home, node, getattr(arguments, "as", None), arguments.operator_key)
    name = signer.public.name
    known = node.operators.get(name)
    if known is None or not known.active or known.public_key != signer.public.vkey():
        raise ControlRefusedError(
            "no operator of this node has this key", where=name, expected="an operator who is not revoked"
        )
    if not load_control(node.control.text).evaluate(name, known, action, resource).allowed:
        raise ControlRefusedError(
            "no control policy permits it for your roles", where=name, expected=f"a role that may {action}",
            found=", ".join(known.roles),
        )  # fmt: skip
    return name
