"""``distribution``: what this node runs from, and an operator's word on it."""

from __future__ import annotations

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output
from femtoclaw.cluster_home import is_member
from femtoclaw.errors import SecurityError, UsageError
from femtoclaw.home import locate, require

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from femtoclaw.home import Home


def distribution(arguments: Arguments, output: Output) -> int:
    """``show`` and ``verify`` take nothing, ``accept`` a digest, ``revoke`` a key."""
    which, given = arguments.which, arguments.value
    if (which in ("accept", "revoke")) != (given is not None):
        wanted = {"accept": "a DIGEST", "revoke": "a KEY"}.get(which, "nothing more")
        raise UsageError("wrong number of words", where=f"femtoclaw distribution {which}", expected=wanted)
    home = locate(getattr(arguments, "home", None))
    if which == "verify":
        _verify()
    if which in ("accept", "revoke"):
        return _decide(home, which, given, arguments, output)
    body = _describe(home)
    output.data(body)
    output.fields(list(body.items()))
    return 0


def _verify() -> None:
    """Every file again, and the interpreter's with it. Raises SecurityError for the first that differs."""
    from femtoclaw.distribution import altered_interpreter, integrity
    from femtoclaw.distribution_watch import Watch

    if integrity().result != "verified":
        raise SecurityError(
            "nothing verified this process", where="distribution", expected="a sealed one", found="none"
        )
    for path in [*Watch().changed(), *altered_interpreter()]:
        raise SecurityError("a file was changed", where=path, expected="what was sealed", found="another")


def _decide(home: Home, which: str, given: str, arguments: Arguments, output: Output) -> int:
    """An operator's request, and when it is permitted the home's pin, signed by the node's key. The program that is to be
    accepted performs it: who runs another one has accepted it already."""
    from femtoclaw.cli.asking import change
    from femtoclaw.cli.execute import Node
    from femtoclaw.distribution import accept, acceptable, check_key, revoke
    from femtoclaw.integrity import DISTRIBUTION

    require(home)
    if which == "accept":
        found = acceptable(home, given)
        content = {"digest": found.digest, "anchor": found.anchor}
    else:
        check_key(given)
        content = {"key": given}

    if is_member(home):
        return _decide_here(home, which, given, arguments, output)

    def put_in_place(node: Node) -> None:
        signer = node.started.signer
        if which == "accept":
            accept(home, given, signer)
        else:
            revoke(home, given, signer)

    adopting = frozenset({DISTRIBUTION})
    return change(
        arguments, output, f"distribution.{which}", "node", lambda node: content, adopting=adopting, after=put_in_place
    )


def _decide_here(home: Home, which: str, given: str, arguments: Arguments, output: Output) -> int:
    """The same on a member's machine: its program is its own affair, and its log is another one's to write. The operator must be
    one whom the record lets do it; the next start of the node puts what it runs from on record."""
    from femtoclaw.api.socket import is_served
    from femtoclaw.cli.entitled import entitled
    from femtoclaw.distribution import accept, revoke
    from femtoclaw.errors import UnavailableError
    from femtoclaw.home import journal
    from femtoclaw.keys import load_signer
    from femtoclaw.sources import live

    if is_served(home):
        raise UnavailableError(
            "the node is at work", where=home.path, remedy="stop `femtoclaw serve` for this home, then run this again"
        )
    operator = entitled(home, arguments, f"distribution.{which}", "node")
    signer = load_signer(home)
    if which == "accept":
        accept(home, given, signer)
    else:
        revoke(home, given, signer)
    journal(home, live().wall_ns(), f"distribution_{which}", value=given, operator=operator)
    output.data({"action": f"distribution.{which}", "resource": "node", "operator": operator, "decision": "AUTHORIZED"})
    output.line(f"distribution.{which}: done on this machine", "green")
    return 0


def _describe(home: Home) -> dict[str, Any]:
    from femtoclaw.distribution import ROOT, integrity, trusted
    from femtoclaw.launcher.start import interpreter
    from femtoclaw.preflight import privilege, secure_boot

    found, pin = integrity(), trusted(home)
    body: dict[str, Any] = {"place": ROOT, "result": found.result, "digest": found.digest, "counter": found.counter}
    body |= {"anchor": found.anchor, "trust": found.trust, "interpreter": interpreter()}
    home_says = {"home": "none" if pin is None else pin.state, "trusted": "" if pin is None else pin.digest}
    home_says["also"] = pin.also[0] if pin is not None and pin.also is not None else ""
    body |= home_says | {"floor": 0 if pin is None else pin.floor, "revoked": [] if pin is None else list(pin.revoked)}
    return body | {"secure_boot": secure_boot(), "privilege": privilege()}
