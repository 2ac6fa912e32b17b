"""The control plane: an operator's request to change the node, through the same gate and the same log as a call. Pure.

A request is signed by its operator over all that it asks for, this node's id and the time; it is refused unrecorded when
that is not so, for whoever can write without a key could fill the log. What an operator did sign is recorded with the
decision on it, and, when the control policy permits it, with its effect: one append.
"""

from __future__ import annotations

from femtoclaw import commands, events
from femtoclaw.authorization import Decision
from femtoclaw.control_effects import EFFECTS, Request
from femtoclaw.control_policy import ACTIONS, ControlVerdict, load_control
from femtoclaw.engines import EngineCache
from femtoclaw.errors import ControlRefusedError
from femtoclaw.events import Event
from femtoclaw.state import Operator, State
from femtoclaw.statement import statement, verify_statement

SKEW_NS = 300 * 1_000_000_000
"""How far an operator's signed time may be from the node's clock, either way."""

FOUR_EYES = frozenset({"control.set", "operator.add"})
"""What decides who decides: signed by two where there are two operators who may do it."""

NODE = "node"
NODE_WIDE = frozenset(
    {
        "configuration.set", "control.set", "distribution.accept", "distribution.revoke", "key.rotate", "node.contain",
        "node.release", "policy.set",
    }
)  # fmt: skip
"""What is asked of the whole node: its resource is ``NODE`` and nothing else."""

NAME_CHARACTERS_MAX = 128
REQUEST_ID_CHARACTERS_MAX = 64


def decide_control(state: State, command: commands.Control, engines: EngineCache) -> list[Event]:
    """The events of a request that its operator signed: it, the decision, and the effect of a permitted one.

    Raises ControlRefusedError for one that they did not sign, or that was seen before; ConfigurationError or PolicyError
    for content that cannot come into force. Nothing is recorded then.
    """
    signers = _authenticate(state, command)
    requested = events.ControlRequested(*command[:-1])
    verdict, reason = _judge(state, command, signers)
    if verdict.allowed:
        # May raise: what cannot come into force is the operator's mistake, and no act of theirs.
        effects = EFFECTS[command.action](Request(state, command, engines))
        reason, effects = (reason, effects) if not isinstance(effects, str) else (effects, [])
        verdict = verdict if effects else ControlVerdict(False, verdict.determining)
    else:
        effects = []
    decision = Decision.AUTHORIZED if verdict.allowed else Decision.DENIED_POLICY_VIOLATION
    decided = events.ControlDecided(
        command.request_id, decision.value, reason, verdict.determining, state.node.control.digest
    )
    return [requested, decided, *effects]


def _authenticate(state: State, command: commands.Control) -> dict[str, Operator]:
    """The operators who signed this very request, now. Raises ControlRefusedError."""
    if command.action not in ACTIONS:
        raise ControlRefusedError("no such action", expected=", ".join(ACTIONS), found=command.action[:80])
    if len(command.resource) > NAME_CHARACTERS_MAX or not command.resource.isprintable():
        raise ControlRefusedError("a resource has no name", expected=f"<= {NAME_CHARACTERS_MAX} printable characters")
    if not 1 <= len(command.request_id) <= REQUEST_ID_CHARACTERS_MAX or not command.request_id.isprintable():
        wanted = f"1 to {REQUEST_ID_CHARACTERS_MAX} printable characters"
        raise ControlRefusedError("a request has no id", expected=wanted, found=len(command.request_id))
    if abs(command.at_ns - command.received_ns) > SKEW_NS:
        raise ControlRefusedError(
            "the request is not from now", where="its signed time", expected=f"within {SKEW_NS // 10**9} s of the node's",
            found=f"{(command.at_ns - command.received_ns) // 10**9} s beside it", remedy="set the clocks, and sign it again",
        )  # fmt: skip
    told = statement(
        state.node.runtime_id, command.request_id, command.operator, command.action, command.resource,
        command.content, command.at_ns,
    )  # fmt: skip
    signers = {command.operator: _signer(state, command.operator, told, command.signature)}
    if command.request_id in signers[command.operator].seen:
        raise ControlRefusedError(
            "the request was seen before", where=f"operator {command.operator}", expected="a new one",
            found="the same again", remedy="sign a new request",
        )  # fmt: skip
    pairs = command.cosignatures
    if len(pairs) % 2:
        raise ControlRefusedError("cosignatures are not in pairs", expected="a name and a signature each")
    for name, signature in zip(pairs[::2], pairs[1::2], strict=True):
        signers[name] = _signer(state, name, told, _hex(signature))
    return signers


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _signer(state: State, name: str, told: bytes, signature: bytes) -> Operator:
    operator = state.node.operators.get(name)
    if operator is None or not operator.active:
        raise ControlRefusedError(
            "no such operator", where="the request", expected="an operator of this node who is not revoked",
            found="revoked" if operator is not None else "unknown", remedy="see `femtoclaw operator list`",
        )  # fmt: skip
    if not verify_statement(operator.public_key, told, signature):
        raise ControlRefusedError(
            "the signature is not this operator's", where=f"operator {name}", expected=operator.public_key,
            found="another key's, or of another request", remedy="sign with the key that the node knows for this operator",
        )  # fmt: skip
    return operator


def _judge(state: State, command: commands.Control, signers: dict[str, Operator]) -> tuple[ControlVerdict, str]:
    """The verdict on an authentic request, and its reason, a stable code."""
    if state.node.control.version == 0:
        return ControlVerdict(False, ()), "NO_CONTROL_POLICY"
    engine = load_control(state.node.control.text)
    verdicts = [engine.evaluate(name, each, command.action, command.resource) for name, each in signers.items()]
    refusing = [verdict for verdict in verdicts if not verdict.allowed]
    determining = tuple(sorted({name for verdict in refusing or verdicts for name in verdict.determining}))
    if refusing:
        return ControlVerdict(False, determining), "FORBIDDEN" if determining else "NO_PERMIT"
    if command.action in NODE_WIDE and command.resource != NODE:
        # A policy that forbids it for the node must not be passed by under another word for the same thing.
        return ControlVerdict(False, determining), "NOT_THE_NODE"
    if command.action in FOUR_EYES and len(signers) < 2 and _another_may(state, command):
        return ControlVerdict(False, determining), "SECOND_SIGNATURE_MISSING"
    return ControlVerdict(True, determining), "PERMITTED"


def _another_may(state: State, command: commands.Control) -> bool:
    engine = load_control(state.node.control.text)
    others = [(name, each) for name, each in state.node.operators.items() if each.active and name != command.operator]
    return any(engine.evaluate(name, each, command.action, command.resource).allowed for name, each in others)
