"""What a log that continues another one, after an accepted loss, begins with: the control plane as far as it is known."""

from __future__ import annotations

import json
import os

from immutables import Map

from femtoclaw.apply import Folding
from femtoclaw.config import canonical
from femtoclaw.control import operator_signer
from femtoclaw.control_policy import load_control
from femtoclaw.errors import ControlRefusedError, FemtoClawError
from femtoclaw.event_codec import decode
from femtoclaw.home import Home
from femtoclaw.keys import load_public_key
from femtoclaw.provision import Inheritance, first_inheritance
from femtoclaw.state import EMPTY, Node, Operator
from wal.errors import LogError
from wal.lmdb_storage import LmdbStorage
from wal.record import KIND_EVENT
from wal.record import decode as decode_frame
from wal.repair import Rebuilt


def inherited_from(home: Home, rebuilt: Rebuilt) -> tuple[Inheritance, tuple[str, ...]]:
    """What the new log begins with, and what to tell about it.

    Operators, control policy, configuration and policy are as the rebuilt records leave them. Accepting a loss is an
    operator's act: one who may change the control policy. Where nothing of a control plane can be rebuilt the key of an
    operator in the home stands for it, and the files for what was in force. Raises ControlRefusedError for anybody else.
    """
    node = _last_node(rebuilt)
    if node is None or not node.control.version:
        owner = operator_signer(home, Node(operators=_in_home(home))).public
        note = "of who may change this node nothing could be rebuilt: it begins anew with the files of the home"
        return first_inheritance(home, owner), (note,)
    signer = operator_signer(home, node)
    name = signer.public.name
    known = node.operators.get(name)
    allowed = known is not None and known.active and known.public_key == signer.public.vkey()
    if known is None or not allowed or not load_control(node.control.text).evaluate(
        name, known, "control.set", "node"
    ).allowed:  # fmt: skip
        raise ControlRefusedError(
            "this operator may not accept a loss", where=f"operator {name}", expected="one who may `control.set`",
            found="another", remedy="name the key of a Security Officer: FEMTOCLAW_OPERATOR_KEY=FILE",
        )  # fmt: skip
    active = sorted((each, entry) for each, entry in node.operators.items() if entry.active)
    flat = tuple(text for each, entry in active for text in (each, entry.public_key, ",".join(entry.roles)))
    modules = any(claw.publisher for claw in node.registry.values())
    notes = ("installed modules are not carried over: install them again",) if modules else ()
    inherited = Inheritance(name, flat, node.control.text, _without_modules(node), node.policy.text)
    return inherited, notes


def _without_modules(node: Node) -> bytes:
    body = json.loads(node.configuration.content)
    for name, claw in node.registry.items():
        if claw.publisher:
            body["capabilities"].pop(name, None)
    return canonical(body)


def _in_home(home: Home) -> Map[str, Operator]:
    """The operators whose public keys are in the home."""
    try:
        names = [name for name in os.listdir(home.operators) if name.endswith(".pub")]
    except OSError:
        names = []
    keys = [load_public_key(os.path.join(home.operators, name)) for name in names]
    return Map({key.name: Operator(key.vkey(), (), True) for key in keys})


def _last_node(rebuilt: Rebuilt) -> Node | None:
    """The node as far as the rebuilt records can be folded; None for none."""
    storage = LmdbStorage(rebuilt.store, writable=False)
    folding = Folding(EMPTY)
    try:
        for _, frame in storage.scan(1, rebuilt.head.index + 1):
            record = decode_frame(frame)
            if record.kind == KIND_EVENT:
                folding.take(decode(record.payload))
    except (LogError, FemtoClawError):
        pass  # what follows is lost for this purpose
    finally:
        storage.close()
    return folding.node if rebuilt.head.index else None
