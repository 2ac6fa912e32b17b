"""``publisher``: whose modules may be installed here. Trusting and distrusting are an operator's signed requests."""

from __future__ import annotations

import os

from femtoclaw.cli.asking import change
from femtoclaw.cli.options import Arguments
from femtoclaw.cli.recorded_state import recorded_state
from femtoclaw.cli.render import Output
from femtoclaw.errors import UsageError
from femtoclaw.home import locate
from femtoclaw.keys import load_public_key, parse_public_key


def publisher(arguments: Arguments, output: Output) -> int:
    """``list``, ``trust NAME --public-key KEY``, ``distrust NAME``."""
    acts = {"list": _list, "trust": _trust, "distrust": _distrust}
    return acts[arguments.what](arguments, output)


def _list(arguments: Arguments, output: Output) -> int:
    home = locate(getattr(arguments, "home", None))
    node = recorded_state(home).node
    rows = [
        {
            "name": name,
            "public_key": key,
            "claws": sorted(claw.name for claw in node.registry.values() if claw.publisher == name),
        }
        for name, key in sorted(node.publishers.items())
    ]
    output.data({"publishers": rows})
    for row in rows:
        output.line(str(row["name"]), "bold")
        output.fields([("public key", row["public_key"]), ("claws", ", ".join(row["claws"]) or "none")])
    if not rows:
        output.line("no publisher is trusted: no module can be installed")
    return 0


def _trust(arguments: Arguments, output: Output) -> int:
    given = arguments.public_key
    if not given:
        raise UsageError("whose key?", where="publisher trust", expected="--public-key KEY")
    key = load_public_key(given) if os.path.isfile(given) else parse_public_key(given, "--public-key")
    return change(arguments, output, "publisher.trust", _name(arguments), lambda node: {"public_key": key.vkey()})


def _distrust(arguments: Arguments, output: Output) -> int:
    reason = arguments.reason or ""
    return change(arguments, output, "publisher.distrust", _name(arguments), lambda node: {"reason": reason})


def _name(arguments: Arguments) -> str:
    if not arguments.name:
        raise UsageError("which publisher?", where=f"publisher {arguments.what}", expected="a NAME")
    return str(arguments.name)
