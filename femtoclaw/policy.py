"""The policy engine: Cedar, parsed and validated once per policy version, deny by default. Pure.

Cedar skips a policy whose evaluation fails; here any evaluation error denies. Every policy carries an ``@id``, so a
decision names the policies that determined it.
"""

from __future__ import annotations

import json
import os.path
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from blake3 import blake3

from femtoclaw.errors import PolicyError
from femtoclaw.manifest import Manifest
from femtoclaw.policy_schema import carried, schema_for

POLICY_BYTES_MAX = 256 * 1024
POLICIES_MAX = 1000


class PolicyRequest(NamedTuple):
    """One question: may ``agent`` call ``claw`` with these arguments, facts and circumstances?"""

    agent: str
    claw: str
    args: Mapping[str, Any]
    facts: Mapping[str, Any]
    run: Mapping[str, Any]


class PolicyVerdict(NamedTuple):
    """The answer; ``determining`` are sorted policy ids, ``errors`` texts of policies that could not be evaluated."""

    allowed: bool
    determining: tuple[str, ...]
    errors: tuple[str, ...]


class PolicyEngine:
    """Immutable once loaded."""

    __slots__ = ("_carried", "_entities", "_policies", "digest", "schema_digest")

    _carried: dict[str, frozenset[str]]
    _entities: Any
    _policies: Any
    digest: str
    schema_digest: str

    def __init__(
        self, policies: Any, entities: Any, known: dict[str, frozenset[str]], digest: str, schema: str
    ) -> None:
        object.__setattr__(self, "_policies", policies)
        object.__setattr__(self, "_entities", entities)
        object.__setattr__(self, "_carried", known)
        object.__setattr__(self, "digest", digest)
        object.__setattr__(self, "schema_digest", schema)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a policy engine does not change")

    @classmethod
    def load(cls, text: str, manifests: Iterable[Manifest]) -> PolicyEngine:
        """Parse and validate. Raises PolicyError naming the policy and what is wrong with it."""
        import cedarpy

        manifests = list(manifests)
        if len(text.encode()) > POLICY_BYTES_MAX:
            raise PolicyError("policy is too large", expected=f"<= {POLICY_BYTES_MAX} bytes", found=len(text.encode()))
        schema = schema_for(manifests)
        try:
            policies = cedarpy.PolicySet.from_str(text)
            body = json.loads(cedarpy.policies_to_json_str(text))
        except ValueError as error:
            raise PolicyError("policy does not parse", found=error) from error
        _check_ids(body)
        checked = cedarpy.validate_policies(text, schema)
        if not checked.validation_passed:
            raise PolicyError(
                "policy does not fit the registered claws", found="; ".join(str(error) for error in checked.errors[:5])
            )
        known = {manifest.name: frozenset(carried(manifest)) for manifest in manifests}
        digest = blake3(b"femtoclaw policy v1\x00" + text.encode()).hexdigest()
        return cls(policies, cedarpy.Entities.from_json_str("[]"), known, digest, blake3(schema.encode()).hexdigest())

    def evaluate(self, request: PolicyRequest) -> PolicyVerdict:
        """Decide; whatever goes wrong inside is a denial with its error."""
        import cedarpy

        names = self._carried.get(request.claw, frozenset())
        try:
            args = {name: value for name, value in request.args.items() if name in names}
            question = {
                "principal": {"type": "Agent", "id": request.agent},
                "action": {"type": "Action", "id": request.claw},
                "resource": {"type": "Claw", "id": request.claw},
                "context": json.dumps({"args": args, "run": dict(request.run), **request.facts}),
            }
            answer = cedarpy.is_authorized(question, self._policies, self._entities)
        except Exception as error:  # fail closed
            return PolicyVerdict(False, (), (f"{type(error).__name__}: {error}",))
        ids = answer.diagnostics.id_annotations_by_reason
        determining = tuple(sorted(ids.get(reason, reason) for reason in answer.diagnostics.reasons))
        errors = tuple(str(error) for error in answer.diagnostics.errors)
        return PolicyVerdict(answer.allowed and not errors, determining, errors)


def _check_ids(body: Mapping[str, Any]) -> None:
    policies = body.get("staticPolicies", {})
    if len(policies) > POLICIES_MAX:
        raise PolicyError("too many policies", expected=f"<= {POLICIES_MAX}", found=len(policies))
    seen: set[str] = set()
    for internal, policy in policies.items():
        name = policy.get("annotations", {}).get("id")
        if not name:
            raise PolicyError("policy has no @id", where=internal, expected='@id("a-name") before permit or forbid')
        if name in seen:
            raise PolicyError("two policies have the same @id", where=name)
        seen.add(name)


def engine_version() -> str:
    """Which engine evaluates: recorded with the policy."""
    from importlib.metadata import version

    return f"cedarpy {version('cedarpy')}"


def default_policy() -> str:
    """The shipped starter policy."""
    with open(os.path.join(os.path.dirname(__file__), "policies", "default.cedar")) as file:
        return file.read()
