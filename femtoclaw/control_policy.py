"""The control policy: which operators may do what to the node itself. Cedar, deny by default, like the policy for claws.

Principal ``Operator::"name"`` in its ``Role::"..."``, action one of ``ACTIONS``, resource ``Control::"<what>"`` such as a
claw's name, or ``Control::"node"``. Pure; parsed once per text.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, NamedTuple

from blake3 import blake3

from femtoclaw.errors import PolicyError
from femtoclaw.policy_annotations import ROLES
from femtoclaw.policy_check import names, told
from femtoclaw.policy_text import check_text
from femtoclaw.state import Operator

ACTIONS = (
    "alert.acknowledge",
    "approval.grant",
    "approval.refuse",
    "audit.export",
    "audit.retain",
    "backup.create",
    "backup.restore",
    "certificate.issue",
    "certificate.revoke",
    "claw.disable",
    "claw.enable",
    "claw.install",
    "claw.remove",
    "compliance.check",
    "configuration.set",
    "control.set",
    "data.erase",
    "distribution.accept",
    "distribution.revoke",
    "drill.run",
    "incident.open",
    "incident.step",
    "key.rotate",
    "key.verify",
    "leadership.transfer",
    "member.add",
    "member.promote",
    "member.remove",
    "migration.run",
    "node.contain",
    "node.release",
    "operator.add",
    "operator.rekey",
    "operator.revoke",
    "policy.set",
    "publisher.distrust",
    "publisher.trust",
    "release.deploy",
    "release.rollback",
    "secret.grant",
    "secret.remove",
    "secret.set",
    "secret.withdraw",
)
"""Everything that an operator can ask for."""


__all__ = ["ACTIONS", "ROLES", "ControlEngine", "ControlVerdict", "load_control", "schema"]


class ControlVerdict(NamedTuple):
    """The answer, with the sorted ids of the policies that determined it."""

    allowed: bool
    determining: tuple[str, ...]


class ControlEngine:
    """One control policy, parsed and validated. Immutable."""

    __slots__ = ("_names", "_policies", "digest")

    def __init__(self, policies: Any, named: dict[str, str], digest: str) -> None:
        self._policies = policies
        self._names = named
        self.digest = digest

    def evaluate(self, name: str, operator: Operator, action: str, resource: str) -> ControlVerdict:
        """Decide one request; whatever goes wrong inside is a denial, and so is a policy that cannot be evaluated."""
        import cedarpy

        principal = {"type": "Operator", "id": name}
        parents = [{"type": "Role", "id": role} for role in operator.roles]
        entities = [{"uid": principal, "attrs": {}, "parents": parents}]
        entities += [{"uid": role, "attrs": {}, "parents": []} for role in parents]
        question = {
            "principal": principal,
            "action": {"type": "Action", "id": action},
            "resource": {"type": "Control", "id": resource},
            "context": {},
        }
        try:
            answer = cedarpy.is_authorized(question, self._policies, entities)
            if answer.diagnostics.errors:
                return ControlVerdict(False, ())
            determining = tuple(sorted(self._names[reason] for reason in answer.diagnostics.reasons))
            return ControlVerdict(answer.allowed, determining)
        except Exception:  # fail closed, whatever the library does
            return ControlVerdict(False, ())


def schema() -> str:
    """The Cedar schema of control requests, as JSON."""
    context = {"type": "Record", "attributes": {}}
    applies = {"principalTypes": ["Operator"], "resourceTypes": ["Control"], "context": context}
    entities = {"Operator": {"memberOfTypes": ["Role"]}, "Role": {}, "Control": {}}
    return json.dumps({"": {"entityTypes": entities, "actions": {name: {"appliesTo": applies} for name in ACTIONS}}})


@lru_cache(maxsize=8)
def load_control(text: str) -> ControlEngine:
    """Parse and validate. Raises PolicyError naming what is wrong."""
    import cedarpy

    check_text(text)
    try:
        policies = cedarpy.PolicySet.from_str(text)
        body = json.loads(cedarpy.policies_to_json_str(text))
    except (ValueError, RecursionError) as error:
        raise PolicyError("control policy does not parse", expected="Cedar policies", found=told(error)) from None
    named = names(body)
    checked = cedarpy.validate_policies(text, schema())
    if not checked.validation_passed:
        found = sorted({told(error.error) for error in checked.errors})
        raise PolicyError(
            "control policy does not fit the actions that there are", expected="actions and roles of the node",
            found="; ".join(found[:5]),
        )  # fmt: skip
    return ControlEngine(policies, named, blake3(b"femtoclaw control policy v1\x00" + text.encode()).hexdigest())
