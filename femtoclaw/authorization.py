"""The gate's decision: lookup, enabled, arguments, policy, in this order; deny by default. Pure.

The validator has judged lookup and schema before; the gate does not take its word for it.

Same inputs, same decision (I6): the inputs are the call, the registry entry, the policy text, the configuration and
the run's context, and their digest is recorded with the decision.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, NamedTuple

from blake3 import blake3

from femtoclaw.argument_schemas import ArgumentSchemas
from femtoclaw.facts import ArgumentInvalid, facts
from femtoclaw.manifest import Manifest
from femtoclaw.policy import TERMS_REFUSALS, PolicyEngine, PolicyRequest
from femtoclaw.policy_annotations import ApprovalRule
from femtoclaw.policy_groups import RUN, group_bytes
from femtoclaw.state import Claw


class Decision(str, Enum):
    """The only possible decisions (POLICY-8.1)."""

    AUTHORIZED = "AUTHORIZED"
    DENIED_CAPABILITY_NOT_FOUND = "DENIED_CAPABILITY_NOT_FOUND"
    DENIED_CAPABILITY_DISABLED = "DENIED_CAPABILITY_DISABLED"
    DENIED_POLICY_VIOLATION = "DENIED_POLICY_VIOLATION"
    DENIED_ARGUMENT_INVALID = "DENIED_ARGUMENT_INVALID"


class CallContext(NamedTuple):
    """Where a call comes from: what policy may look at besides the call.

    ``groups`` holds the groups of the policy context that the engine ``needs``, ``run`` excepted: that one is made of
    the fields before it. A group that is needed and missing denies the call.
    """

    agent: str
    source: str
    brain: str
    step: int
    environment: str
    groups: Mapping[str, Mapping[str, Any]] = MappingProxyType({})


HELD = "HELD"
"""Reason of the denial of a call that operators may still approve."""


class Verdict(NamedTuple):
    """A decision, its reason (a stable code), and the ids of the policies that determined it, failing ones included.

    ``approval`` is set exactly when the reason is ``HELD``.
    """

    decision: Decision
    reason: str
    determining: tuple[str, ...] = ()
    approval: ApprovalRule | None = None


def authorize(
    tool: str,
    args: dict[str, Any],
    context: CallContext,
    *,
    registry: Mapping[str, Claw],
    manifests: Mapping[str, Manifest],
    schemas: ArgumentSchemas,
    settings: Mapping[str, Mapping[str, Any]],
    engine: PolicyEngine | None,
) -> Verdict:
    """Decide one call. Never raises: a failure inside deciding is a denial (EXEC-9.1), named by its type alone."""
    try:
        return _decide(tool, args, context, registry, manifests, schemas, settings, engine)
    except Exception as error:  # fail closed, whatever a library does
        return Verdict(Decision.DENIED_POLICY_VIOLATION, f"GATE_FAILURE:{type(error).__name__}")


def _decide(
    tool: str,
    args: dict[str, Any],
    context: CallContext,
    registry: Mapping[str, Claw],
    manifests: Mapping[str, Manifest],
    schemas: ArgumentSchemas,
    settings: Mapping[str, Mapping[str, Any]],
    engine: PolicyEngine | None,
) -> Verdict:
    claw, manifest = registry.get(tool), manifests.get(tool)
    if claw is None or manifest is None or tool not in schemas:
        return Verdict(Decision.DENIED_CAPABILITY_NOT_FOUND, "NOT_REGISTERED")
    if not claw.enabled:
        return Verdict(Decision.DENIED_CAPABILITY_DISABLED, "DISABLED")
    fault = schemas.fault(tool, args)
    if fault is not None:
        return Verdict(Decision.DENIED_ARGUMENT_INVALID, fault.code)
    found = facts(manifest, args, settings.get(tool, {}))
    if isinstance(found, ArgumentInvalid):
        return Verdict(Decision.DENIED_ARGUMENT_INVALID, found.code)
    if engine is None:
        return Verdict(Decision.DENIED_POLICY_VIOLATION, "NO_POLICY")
    run = {"source": context.source, "brain": context.brain, "step": context.step, "environment": context.environment}
    groups = {**context.groups, RUN: run} if context.groups else {RUN: run}
    answer = engine.evaluate(PolicyRequest(context.agent, tool, args, found.attributes, groups))
    if answer.allowed and answer.approval is not None:
        # A denial until operators approve: whoever overlooks the reason runs nothing.
        return Verdict(Decision.DENIED_POLICY_VIOLATION, HELD, answer.determining, answer.approval)
    if answer.allowed:
        return Verdict(Decision.AUTHORIZED, "PERMITTED", answer.determining)
    if answer.refusal in TERMS_REFUSALS:
        return Verdict(Decision.DENIED_POLICY_VIOLATION, answer.refusal, answer.determining)
    if answer.errors or answer.refusal:
        named = tuple(sorted({*answer.errors, *answer.determining}))
        return Verdict(Decision.DENIED_POLICY_VIOLATION, "POLICY_ERROR", named)
    reason = "FORBIDDEN" if answer.determining else "NO_PERMIT"
    return Verdict(Decision.DENIED_POLICY_VIOLATION, reason, answer.determining)


def inputs_digest(
    call_digest: str,
    manifest_digest: str,
    policy_digest: str,
    configuration_digest: str,
    context: CallContext,
    needs: frozenset[str] | None = None,
) -> str:
    """BLAKE3 over everything a decision depends on, domain-tagged, 64 hex digits (EXEC-6.1).

    Of the context's groups it covers those in ``needs`` (default: those that the context holds, which are those that the
    engine needs): what no policy reads, no decision depends on. Without any beyond ``run`` it is the digest of the
    first version, which knew no others.
    """
    parts = (call_digest, manifest_digest, policy_digest, configuration_digest, *map(str, context[:5]))
    body = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)
    others = sorted((context.groups.keys() if needs is None else needs) - {RUN})
    if not others:
        return blake3(b"femtoclaw decision inputs v1\x00" + body).hexdigest()
    groups = [group_bytes(name, context.groups.get(name)) for name in others]
    body += b"".join(len(part).to_bytes(4, "big") + part for part in groups)
    return blake3(b"femtoclaw decision inputs v2\x00" + body).hexdigest()
