"""Measurement of a module's versions: one that asks for more than the one before, and one that this program is too old for."""

from __future__ import annotations

import os
from typing import Any

from femtoclaw.compliance.deployment import MODULE
from femtoclaw.compliance.laboratory import Answer, Laboratory
from femtoclaw.compliance.migrating import verdicts
from femtoclaw.compliance.trails import read_trail
from femtoclaw.compliance.twin import POLICY, call, twin

NAME = "number.double"
_WIDER = ('version="1.0.0",', 'version="1.1.0",\n    permissions=("network",),')
_TOO_NEW = ('version="1.0.0",', 'version="1.2.0",\n    requires_runtime=">=900",')


def versions(laboratory: Laboratory) -> dict[str, Any]:
    """Install and enable a module, then its next version, which wants the network; call it at each point."""
    home, key = laboratory.copy(laboratory.once(twin), "versions"), laboratory.place("versions.key")
    public = laboratory.run(home, "operator", "keygen", "acme", "--out", key).body.get("public_key", "")
    laboratory.run(home, "publisher", "trust", "acme", "--public-key", public)
    raw = call(NAME, number=21).decode()
    answers = {"first": _install(laboratory, home, key, MODULE)}
    laboratory.run(home, "claw", "enable", NAME)
    policy = laboratory.place("versions.cedar")
    with open(policy, "w") as file:
        file.write(POLICY + f'@id("double") permit (principal, action == Action::"{NAME}", resource);\n')
    laboratory.run(home, "policy", "set", policy)
    answers["called"] = laboratory.run(home, "intent", raw)
    before = verdicts(home)
    answers["wider while enabled"] = _install(laboratory, home, key, MODULE.replace(*_WIDER, 1))
    answers["called as before"] = laboratory.run(home, "intent", raw)
    answers["disable"] = laboratory.run(home, "claw", "disable", NAME)
    answers["wider"] = _install(laboratory, home, key, MODULE.replace(*_WIDER, 1))
    answers["called ungranted"] = laboratory.run(home, "intent", raw)
    after = verdicts(home)
    answers["shown"] = laboratory.run(home, "claw", "show", NAME)
    answers["enable"] = laboratory.run(home, "claw", "enable", NAME)
    answers["called granted"] = laboratory.run(home, "intent", raw)
    answers["too new"] = _install(laboratory, home, key, MODULE.replace(*_TOO_NEW, 1))
    answers["called still"] = laboratory.run(home, "intent", raw)
    return {
        "answers": answers,
        "before": before,
        "after": after,
        "trail": read_trail("versions", os.path.join(home, "log")),
    }


def _install(laboratory: Laboratory, home: str, key: str, text: str) -> Answer:
    """Pack and sign this text as the module, and install it."""
    folder = laboratory.place("version")
    os.mkdir(folder)
    with open(os.path.join(folder, "double.py"), "w") as file:
        file.write(text)
    packed = laboratory.run(home, "claw", "pack", folder, "--key", key, "--entry", "python:double.py:double")
    return packed if packed.code else laboratory.run(home, "claw", "install", folder)
