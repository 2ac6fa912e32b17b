"""Authorization is a function of its inputs: not of the process, the hash seed, or the order of the policies."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.argument_schemas import ArgumentSchemas
from femtoclaw.authorization import CallContext, Decision, authorize
from femtoclaw.claws import SHIPPED
from femtoclaw.manifest import Manifest
from femtoclaw.policy import PolicyEngine
from femtoclaw.state import Claw

ROOT = Path(__file__).resolve().parent.parent.parent
POLICIES = (
    '@id("read") permit (principal, action in [Action::"fs.read", Action::"fs.list"], resource);',
    '@id("notes") permit (principal, action == Action::"fs.read", resource) when { context.path like "notes/*" };',
    '@id("agents") permit (principal == Agent::"agent", action, resource) when { context has path };',
    '@id("secret") forbid (principal, action, resource) when { context has path && context.path like "*secret*" };',
    '@id("never") forbid (principal, action, resource) unless { context.run.environment == "production" };',
    '@id("large") forbid (principal, action == Action::"fs.read", resource)'
    " when { context.args has offset && context.args.offset * 4611686018427387904 < 0 };",
    '@id("far") forbid (principal, action == Action::"fs.read", resource)'
    " when { context.args has length && context.args.length + 9223372036854775807 < 0 };",
    '@id("echo") permit (principal, action == Action::"shell", resource) when { context.command == "/bin/echo a" };',
)
CALLS = [
    (tool, args, agent, environment, enabled)
    for tool, args in [
        ("fs.read", {"path": "notes/a"}),
        ("fs.read", {"path": "notes/secret"}),
        ("fs.read", {"path": "a", "offset": 3}),
        ("fs.read", {"path": "a", "offset": 3, "length": 5}),
        ("fs.read", {"path": "secret", "offset": 3, "length": 5}),
        ("fs.read", {"path": "../a"}),
        ("fs.read", {"path": 7}),
        ("fs.list", {"path": "."}),
        ("fs.write", {"path": "a", "content": "", "mode": "create"}),
        ("shell", {"bin": "echo", "argv": ["a"]}),
        ("shell", {"bin": "echo", "argv": ["a", "b"]}),
        ("no.such", {}),
    ]
    for agent in ("agent", "operator")
    for environment in ("production", "staging")
    for enabled in (True, False)
]


def verdicts(policies: list[str], manifests: list[Manifest]) -> list[Any]:
    """Decision, reason and determining policies of every call."""
    engine = PolicyEngine.load("\n".join(policies), manifests)
    found = []
    for tool, args, agent, environment, enabled in CALLS:
        verdict = authorize(
            tool,
            dict(args),  # type: ignore[call-overload]
            CallContext(agent, "cli", "script", 1, environment),
            registry={each.name: Claw(each.name, b"", "", enabled) for each in manifests},
            manifests={each.name: each for each in manifests},
            schemas=ArgumentSchemas(manifests),
            settings={"shell": {"binaries": ["/bin/echo", "/bin/cat"]}},
            engine=engine,
        )
        found.append([verdict.decision.value, verdict.reason, list(verdict.determining)])
    return found


ELSEWHERE = """
import json, sys
from tests.femtoclaw.test_authorization import POLICIES, SHIPPED, verdicts
order = json.loads(sys.argv[1])
print(json.dumps(verdicts([POLICIES[at] for at in order], list(reversed(SHIPPED)))))
"""


def in_a_process(hash_seed: int, order: list[int]) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, json.dumps(order)],
        cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": str(hash_seed)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    return json.loads(done.stdout)


@pytest.mark.requirement("POLICY-13.1")
def test_the_same_inputs_give_the_same_verdicts_in_every_process(seed: int) -> None:
    """Other processes, other hash seeds, policies and claws in other orders: the same decisions, reasons and ids."""
    chance = random.Random(seed)
    expected = verdicts(list(POLICIES), list(SHIPPED))
    assert {decision for decision, _, _ in expected} == {decision.value for decision in Decision}
    assert {reason for _, reason, _ in expected} >= {"PERMITTED", "FORBIDDEN", "NO_PERMIT", "POLICY_ERROR"}
    assert max(len(named) for _, _, named in expected) >= 3
    for hash_seed in (1, 2, chance.randrange(3, 2**32)):
        assert in_a_process(hash_seed, chance.sample(range(len(POLICIES)), len(POLICIES))) == expected
    for _ in range(20):
        shuffled = chance.sample(POLICIES, len(POLICIES))
        assert verdicts(shuffled, chance.sample(SHIPPED, len(SHIPPED))) == expected


def test_judging_leaves_its_inputs_alone() -> None:
    """Neither arguments nor registry nor settings are changed, and a second judgement is the same."""
    args = {"bin": "echo", "argv": ["a"]}
    registry = {each.name: Claw(each.name, b"", "", True) for each in SHIPPED}
    settings = {"shell": {"binaries": ["/bin/echo"]}}
    before = json.dumps([args, settings], sort_keys=True)
    engine = PolicyEngine.load(POLICIES[-1], SHIPPED)
    twice = [
        authorize(
            "shell", args, CallContext("agent", "cli", "script", 1, "production"), registry=registry,
            manifests={each.name: each for each in SHIPPED}, schemas=ArgumentSchemas(SHIPPED), settings=settings, engine=engine,
        )
        for _ in range(2)
    ]  # fmt: skip
    assert twice[0] == twice[1] == (Decision.AUTHORIZED, "PERMITTED", ("echo",), None)
    assert json.dumps([args, settings], sort_keys=True) == before


def test_a_registry_that_does_not_match_denies() -> None:
    """Registered, but without a manifest, a schema or a place in the policy: denied under a policy that permits all."""
    everything = PolicyEngine.load('@id("all") permit (principal, action, resource);', SHIPPED)
    fewer = SHIPPED[:1]
    whole: dict[str, Any] = {
        "registry": {each.name: Claw(each.name, b"", "", True) for each in SHIPPED},
        "manifests": {each.name: each for each in SHIPPED},
        "schemas": ArgumentSchemas(SHIPPED),
        "settings": {},
        "engine": everything,
    }

    def judged(**changed: Any) -> tuple[str, str]:
        context = CallContext("agent", "cli", "script", 1, "production")
        verdict = authorize("fs.read", {"path": "a"}, context, **(whole | changed))
        return verdict.decision.value, verdict.reason

    missing = ("DENIED_CAPABILITY_NOT_FOUND", "NOT_REGISTERED")
    assert judged() == ("AUTHORIZED", "PERMITTED")
    assert judged(registry={}) == missing
    assert judged(manifests={each.name: each for each in fewer}) == missing
    assert judged(schemas=ArgumentSchemas(fewer)) == missing
    denied = ("DENIED_POLICY_VIOLATION", "POLICY_ERROR")
    assert judged(engine=PolicyEngine.load('@id("all") permit (principal, action, resource);', fewer)) == denied
