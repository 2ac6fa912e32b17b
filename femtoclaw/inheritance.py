"""What a log that continues another one, after an accepted loss, begins with: the control plane as far as it is known."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
import os
from typing import NamedTuple

from immutables import Map

from femtoclaw.apply import Folding
from femtoclaw.carrying import Origins, Part, parts_of
from femtoclaw.config import canonical
from femtoclaw.control import operator_signer
from femtoclaw.control_policy import load_control
from femtoclaw.errors import ControlRefusedError, FemtoClawError
from femtoclaw.event_codec import decode
from femtoclaw.events import NodeContained
from femtoclaw.home import Home
from femtoclaw.keys import load_public_key
from femtoclaw.provision import Inheritance, first_inheritance
from femtoclaw.state import EMPTY, Live, Node, Operator
from wal.errors import LogError
from wal.lmdb_storage import LmdbStorage
from wal.record import KIND_EVENT
from wal.record import decode as decode_frame
from wal.repair import Rebuilt


class Accepting(NamedTuple):
    """Whose word a new log is: an operator who may do ``action`` to ``resource``, by name or key file (``operator_signer``)."""

    action: str = "control.set"
    resource: str = "node"
    operator: str | None = None
    key_file: str | None = None


RECOVERING = Accepting()


def inherited_from(
    home: Home, rebuilt: Rebuilt, accepting: Accepting = RECOVERING
) -> tuple[Inheritance, tuple[str, ...]]:
    """What the new log begins with, and what to tell about it.

    Operators, control policy, configuration and policy are as the rebuilt records leave them, and so is whatever protects the node
    (``femtoclaw.carrying``). Where records are known to be lost the node begins contained. Accepting a loss is an
    operator's act: one who may change the control policy, or restore a backup where that is what happens. Where nothing of a
    control plane can be rebuilt the key of an operator in the home stands for it, and the files for what was in force. Raises
    ControlRefusedError for anybody else.
    """
    last = _last_state(rebuilt)
    node, unknown = last.node, rebuilt.head.index < rebuilt.seen or bool(rebuilt.missing) or not last.whole
    notes: tuple[str, ...] = ()
    if not node.control.version:
        owner = operator_signer(home, Node(operators=_in_home(home)), accepting.operator, accepting.key_file).public
        note = "of who may change this node nothing could be rebuilt: it begins anew with the files of the home"
        return first_inheritance(home, owner)._replace(parts=(_contained(rebuilt, owner.name),)), (note,)
    signer = operator_signer(home, node, accepting.operator, accepting.key_file)
    name = signer.public.name
    known = node.operators.get(name)
    allowed = known is not None and known.active and known.public_key == signer.public.vkey()
    if known is None or not allowed or not load_control(node.control.text).evaluate(
        name, known, accepting.action, accepting.resource
    ).allowed:  # fmt: skip
        raise ControlRefusedError(
            "this operator may not accept a loss", where=f"operator {name}", expected=f"one who may `{accepting.action}`",
            found="another", remedy="name the key of one who may, a Security Officer as shipped: FEMTOCLAW_OPERATOR_KEY=FILE",
        )  # fmt: skip
    flat = tuple(
        text
        for each, entry in sorted(node.operators.items())
        for text in (each, entry.public_key, ",".join(entry.roles))
    )
    parts = parts_of(node, last.live, last.origins, name, _origin(rebuilt))
    if unknown and not node.contained:
        parts.append(_contained(rebuilt, name))
    content = _without_lost_modules(node, last.origins)
    return Inheritance(name, flat, node.control.text, content, node.policy.text, tuple(parts)), notes


def _contained(rebuilt: Rebuilt, operator: str) -> Part:
    """What was stopped or revoked in records that are lost, nobody knows: an operator looks first, and then releases the node."""
    reason = f"records behind {rebuilt.head.index} are lost: what they stopped or revoked is not known"
    return Part("containment", reason, (NodeContained(reason, operator),))


def _origin(rebuilt: Rebuilt) -> str:
    return rebuilt.genesis.origin if rebuilt.genesis is not None else "a lost log"


def _without_lost_modules(node: Node, origins: Origins) -> bytes:
    """The configuration without claws that the new log cannot know."""
    body = json.loads(node.configuration.content)
    for name, claw in node.registry.items():
        if claw.publisher and name not in origins.installed:
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


class _Last(NamedTuple):
    """The state as far as the rebuilt records can be folded, and the records that it keeps only a part of."""

    node: Node
    live: Live
    origins: Origins
    whole: bool


def _last_state(rebuilt: Rebuilt) -> _Last:
    storage = LmdbStorage(rebuilt.store, writable=False)
    folding, origins, whole = Folding(EMPTY), Origins(), True
    try:
        for _, frame in storage.scan(1, rebuilt.head.index + 1):
            record = decode_frame(frame)
            if record.kind == KIND_EVENT:
                event = decode(record.payload)
                folding.take(event)
                origins.take(event)
    except (LogError, FemtoClawError):
        whole = False  # what follows is lost for this purpose
    finally:
        storage.close()
    return _Last(*folding.state(), origins, whole)
