"""What every command that asks for a change has in common: open the node, sign, perform, say what was decided."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from femtoclaw import events
from femtoclaw.authority import Recorded
from femtoclaw.cli.execute import Node, open_node
from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output
from femtoclaw.control import load_cosigners, operator_signer, request
from femtoclaw.errors import ConfigurationError, ControlRefusedError, PolicyError
from femtoclaw.key_file import KeySigner

REFUSALS = {
    "NO_PERMIT": "no control policy permits it for your roles",
    "FORBIDDEN": "a control policy forbids it",
    "SECOND_SIGNATURE_MISSING": "another operator has to sign too: --cosign FILE with their key",
    "NO_CONTROL_POLICY": "this node has no control policy",
    "NOT_HELD": "no such call is held: it was settled, has expired, or never was",
    "ANOTHER_CALL": "what is held is not what was signed: look at it again",
    "APPROVAL_EXPIRED": "its time is up",
    "APPROVED_BEFORE": "you have approved it before: somebody else has to",
    "NOT_AN_APPROVER": "you are not one of those who may approve it",
    "MODE_IS_FIXED": "a node stays in the secure mode in which it was made",
    "SWITCHES_CLAWS": "claws are switched with `femtoclaw claw enable` and `disable`",
    "LAST_OF_THEIR_KIND": "without this operator nobody could change the control policy, or add operators",
    "KNOWN_BEFORE": "there is one of this name, or with this key",
    "KEY_OF_ANOTHER": "the key is of another name: `operator keygen NAME` makes one for this operator",
    "KEY_IN_USE": "another operator has this key: one key is one person",
    "IN_FLIGHT": "something of theirs is still in flight: settle it first",
    "ERASED_BEFORE": "they were erased before",
    "UNKNOWN": "there is none of this name",
    "NOT_REGISTERED": "no claw of this name is registered",
    "NOT_THE_NODE": "it is asked of the whole node, and of nothing else",
    "CONTAINED_BEFORE": "the node is contained already",
    "NOT_CONTAINED": "the node is in service",
    "INCIDENT_OPEN": "an open incident contains the node: `femtoclaw incident list`, then `incident respond` or `resolve` it",
    "NOTHING_TO_CHANGE": "it is so already",
    "CHANGES_MORE_THAN_THE_SWITCH": "the sources of the configuration differ from the record: `femtoclaw config verify`",
    "PUBLISHER_NOT_TRUSTED": "nobody vouches for its code: its publisher is not trusted",
    "UNTRUSTED_KEY": "its publisher is not trusted",
    "BAD_SIGNATURE": "its publisher did not sign this",
    "ANOTHER_PUBLISHER": "a claw of this name is another publisher's",
    "ASKS_FOR_MORE": "it asks for permissions that the enabled version has not: disable that, install, then enable this one",
    "ANOTHER_MODULE": "the manifest is not of the module that was named",
    "NAME_TAKEN": "a claw of this name is part of the program",
    "PART_OF_THE_PROGRAM": "it comes with the program: disable it instead",
    "STILL_ENABLED": "disable it first",
    "ANOTHER_MEMBER": "what was signed is about another member than the one that was named",
    "HAS_CLAWS": "claws of a publisher of this name are registered: remove them first",
    "NOT_ASKED_FOR": "the claw's manifest does not ask for this secret",
    "TOO_MANY": "there are as many as a node takes",
}
"""Reasons of a refused request, in words."""


class Asked(NamedTuple):
    """A request that was performed: the open node, and what was recorded."""

    node: Node
    recorded: Recorded

    @property
    def permitted(self) -> bool:
        """Whether the gate permitted it."""
        return self.decided.decision == "AUTHORIZED"

    @property
    def decided(self) -> events.ControlDecided:
        """The decision."""
        return next(event for event in self.recorded.events if isinstance(event, events.ControlDecided))


Content = bytes | dict[str, Any]


def signer_of(node: Node, arguments: Arguments) -> KeySigner:
    """Who is asking, by --as and --operator-key. Raises as ``control.operator_signer``."""
    name, key = getattr(arguments, "as", None), getattr(arguments, "operator_key", None)
    return operator_signer(node.started.home, node.started.authority.state.node, name, key)


def ask(node: Node, arguments: Arguments, action: str, resource: str, content: Content) -> Asked:
    """Sign and perform one request that runs no claw. Raises ControlRefusedError, ConfigurationError or PolicyError."""
    started = node.started
    cosigners = load_cosigners(started.home, getattr(arguments, "cosign", []) or [])
    state = started.authority.state
    told = request(
        state.node, signer_of(node, arguments), started.sources, action, resource, content, cosigners=cosigners
    )
    return Asked(node, started.authority.perform(told))


def change(
    arguments: Arguments,
    output: Output,
    action: str,
    resource: str,
    content: Callable[[Node], Content],
    *,
    adopting: frozenset[str] = frozenset(),
    before: Callable[[Node], None] | None = None,
    after: Callable[[Node], None] | None = None,
    undo: Callable[[Node], None] | None = None,
    room: int = 0,
    more: Callable[[Node, bool], dict[str, Any]] | None = None,
) -> int:
    """Open the node, ask, tell: 0 when it was done, 1 when it was refused. ``before`` and ``after`` prepare files and put
    them in place, around a change that was permitted, and ``undo`` removes what was prepared for one that was not;
    ``adopting`` and ``room`` as in ``boot.start``; ``more`` is what else there is to say, given whether it was permitted.
    With ``--dry-run``, where the command takes it, only what would be decided is told."""
    if getattr(arguments, "dry_run", False):
        from femtoclaw.cli.previewing import preview

        return preview(arguments, output, action, resource, content)
    files = before is not None or after is not None
    with open_node(getattr(arguments, "home", None), output, adopting=adopting, room=room, files=files) as node:
        body = content(node)
        if before is not None:
            before(node)
        try:
            asked = ask(node, arguments, action, resource, body)
        except (ControlRefusedError, ConfigurationError, PolicyError):
            # Other errors do not say whether the change is on record: the next start settles the files then.
            if undo is not None:
                undo(node)
            raise
        then = after if asked.permitted else undo
        if then is not None:
            then(node)
        return tell(asked, output, action, resource, more(node, asked.permitted) if more is not None else None)


def tell(asked: Asked, output: Output, action: str, resource: str, more: dict[str, Any] | None = None) -> int:
    """Say what was decided, and ``more``."""
    decided, requested = asked.decided, asked.recorded.events[0]
    assert isinstance(requested, events.ControlRequested)
    output.data(
        {
            "action": action,
            "resource": resource,
            "operator": requested.operator,
            "decision": decided.decision,
            "code": decided.reason,
            "determining": list(decided.determining),
            "request_id": decided.request_id,
            "index": asked.recorded.receipt.first,
        }
        | (more or {})
    )
    if asked.permitted:
        output.line(f"{action} {resource}: done, recorded at index {asked.recorded.receipt.first}", "green")
        return 0
    why = REFUSALS.get(decided.reason, "")
    output.line(f"{action} {resource}: refused ({decided.reason})" + (f": {why}" if why else ""), "red")
    return 1


def printable_json(value: Any) -> str:
    """Canonical JSON in ASCII: what looks alike is told apart, and nothing steers a terminal."""
    return json.dumps(value, sort_keys=True, ensure_ascii=True)
