"""Whether authorization works: an allow and a deny that are known beforehand, and the engine in force against one made anew.

Nothing is executed and nothing recorded: the calls are of claws that no registry holds, by an agent that no run has. Pure but for
the policy engine's library.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from functools import cache

from femtoclaw.argument_schemas import ArgumentSchemas
from femtoclaw.authorization import CallContext, Decision, authorize
from femtoclaw.engines import Engines, load_policy
from femtoclaw.manifest import Manifest
from femtoclaw.policy import PolicyEngine, PolicyRequest, PolicyVerdict
from femtoclaw.policy_cases import DEFAULTS
from femtoclaw.policy_groups import RUN
from femtoclaw.state import Claw, Node

AGENT = "femtoclaw-canary"
ALLOWED, DENIED = "canary.allowed", "canary.denied"
_POLICY = f'@id("canary") permit (principal == Agent::"{AGENT}", action == Action::"{ALLOWED}", resource);'
_CONTEXT = CallContext(AGENT, "runtime", "none", 1, "canary")


def fault(node: Node, engines: Engines) -> str:
    """What is wrong with deciding calls, empty for nothing.

    The gate's decision is asked for a call that its policy permits and for one that it does not; then the engine in force is
    compared with its digest in the state, with what it was when it was loaded, and with one that is made anew from the recorded
    text: a question about each registered claw without arguments must be answered alike.
    """
    allowed, denied = _decided(ALLOWED), _decided(DENIED)
    if allowed is not Decision.AUTHORIZED:
        return f"a call that is permitted was decided {allowed.value}"
    if denied is not Decision.DENIED_POLICY_VIOLATION:
        return f"a call that nothing permits was decided {denied.value}"
    engine = engines.policy()
    if engine is None:
        return "" if not node.policy.text else "no policy engine is loaded"
    if engine.digest != node.policy.digest or not engine.intact():
        return "the policy engine in memory is not the one that was loaded"
    fresh = _fresh(node)
    for name in sorted(engines.registry):
        question = PolicyRequest(AGENT, name, {}, {}, _GROUPS)
        if _answer(engine, question) != _answer(fresh, question):
            return "the policy engine in force answers otherwise than one made anew of the recorded policy"
    # Not through `engines.authorize`: where calls are measured, this is none.
    verdict = authorize(
        DENIED, {}, _CONTEXT, registry=engines.registry, manifests=engines.manifests, schemas=engines.schemas,
        settings=engines.settings, engine=engine,
    )  # fmt: skip
    if verdict.decision is not Decision.DENIED_CAPABILITY_NOT_FOUND:
        return f"a call of a claw that is not registered was decided {verdict.decision.value}"
    return ""


_GROUPS = {name: dict(values) for name, values in DEFAULTS.items()}
_FRESH: list[tuple[tuple[str, tuple[str, ...]], PolicyEngine]] = []


def _answer(engine: PolicyEngine, question: PolicyRequest) -> PolicyVerdict:
    return engine.evaluate(question)


def _fresh(node: Node) -> PolicyEngine:
    """An engine of the recorded policy that nobody else has; made once for each policy and registry."""
    key = (node.policy.digest, tuple(sorted(claw.digest for claw in node.registry.values())))
    if not _FRESH or _FRESH[0][0] != key:
        _FRESH[:] = [(key, load_policy(node.policy.text, node))]
    return _FRESH[0][1]


@cache
def _canary() -> tuple[PolicyEngine, dict[str, Manifest], ArgumentSchemas]:
    manifests = [
        Manifest(
            name, "1.0.0", "A call that is only judged.", "system",
            {"type": "object", "properties": {}, "additionalProperties": False}, {}, "none:none",
        )
        for name in (ALLOWED, DENIED)
    ]  # fmt: skip
    return PolicyEngine.load(_POLICY, manifests), {each.name: each for each in manifests}, ArgumentSchemas(manifests)


def _decided(name: str) -> Decision:
    engine, manifests, schemas = _canary()
    registry = {each: Claw(each, b"", "", True) for each in manifests}
    context = _CONTEXT._replace(groups={RUN: _GROUPS[RUN]})
    return authorize(
        name, {}, context, registry=registry, manifests=manifests, schemas=schemas, settings={}, engine=engine
    ).decision
