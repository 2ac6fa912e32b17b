"""What a policy that loads may still not be meant to do: rules that never apply, permits without conditions, claws that
nobody can call. Warnings for the author; no decision depends on them. Pure.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from femtoclaw.manifest import Manifest
from femtoclaw.policy import PolicyEngine
from femtoclaw.policy_check import names
from femtoclaw.policy_schema import context_attributes
from femtoclaw.shell_hazards import CODES

NEVER_APPLIES = "NEVER_APPLIES"
UNCONDITIONAL = "UNCONDITIONAL"
UNKNOWN_AGENT = "UNKNOWN_AGENT"
UNKNOWN_HAZARD = "UNKNOWN_HAZARD"
UNREACHABLE = "UNREACHABLE"
UNTOLD = "UNTOLD"

_CONTEXT = {"Var": "context"}


class Warned(NamedTuple):
    """A stable code, the policy or claw that it is about, and a sentence."""

    code: str
    subject: str
    text: str


class _Reach(NamedTuple):
    """Cedar's ids of the policies that may, and that always, apply to calls of one claw."""

    may: frozenset[str]
    always: frozenset[str]


def warnings(engine: PolicyEngine, manifests: Iterable[Manifest], agents: frozenset[str]) -> list[Warned]:
    """Every warning, in the order of the policies, then of the claws. ``agents`` are the principals that there are."""
    import cedarpy

    body = json.loads(cedarpy.policies_to_json_str(engine.text))
    named = names(body)
    policies: dict[str, Any] = body["staticPolicies"]
    claws = sorted(manifests, key=lambda manifest: manifest.name)
    reach: dict[str, _Reach] = {}
    found: list[Warned] = []
    for manifest in claws:
        try:
            reach[manifest.name] = _reach(policies, manifest)
        except Exception as error:  # partial evaluation is an experiment of Cedar's: without it there is less to tell
            found.append(Warned(UNTOLD, manifest.name, f"Cedar cannot say what applies to it ({type(error).__name__})"))
    for internal, policy in policies.items():
        name = named[internal]
        found += _of_policy(name, policy, agents)
        if len(reach) == len(claws) and not any(internal in each.may for each in reach.values()):
            told = "its scope and conditions hold for no call of any registered claw"
            found.append(Warned(NEVER_APPLIES, name, told))
    found += [
        Warned(UNREACHABLE, claw, "no call of it can be permitted: " + why)
        for claw, each in reach.items()
        if (why := _unreachable(policies, named, each))
    ]
    return found


def _of_policy(name: str, policy: Mapping[str, Any], agents: frozenset[str]) -> list[Warned]:
    found: list[Warned] = []
    if policy["effect"] == "permit" and not policy["conditions"]:
        action = policy["action"]
        entities = action.get("entities") or ([action["entity"]] if "entity" in action else [])
        what = ", ".join(sorted(str(entity["id"]) for entity in entities)) or "every claw"
        found.append(Warned(UNCONDITIONAL, name, f"it permits {what} with whatever arguments"))
    entity = policy["principal"].get("entity", {})
    if entity.get("type") == "Agent" and entity.get("id") not in agents:
        known = ", ".join(sorted(agents))
        found.append(Warned(UNKNOWN_AGENT, name, f"it is about an agent that there is not; there are: {known}"))
    accepted = policy["annotations"].get("accepts") or ""
    unknown = sorted({code.strip() for code in accepted.split(",")} - CODES.keys() - {""})
    found += [Warned(UNKNOWN_HAZARD, name, f"it accepts {code}, which no command can have") for code in unknown]
    return found


def _unreachable(policies: Mapping[str, Any], named: Mapping[str, str], reach: _Reach) -> str:
    forbids = sorted(named[each] for each in reach.always if policies[each]["effect"] == "forbid")
    if forbids:
        return f"{forbids[0]} forbids every one"
    return "" if any(policies[each]["effect"] == "permit" for each in reach.may) else "no permit is about it"


def _reach(policies: Mapping[str, Any], manifest: Manifest) -> _Reach:
    """Evaluate with the claw known and everything else unknown; attributes that the claw lacks are known to be absent."""
    import cedarpy

    known = context_attributes([manifest])
    bodies = {internal: {**policy, "effect": "permit"} for internal, policy in policies.items()}
    for each in bodies.values():
        each["conditions"] = _without_absent(each["conditions"], known)
    text = json.dumps({"staticPolicies": bodies, "templates": {}, "templateLinks": []})
    name = json.dumps(manifest.name)
    question = {"action": f"Action::{name}", "resource": f"Claw::{name}"}
    # Without them Cedar takes the two for unknown where a policy asks what they are in.
    entities = [{"uid": {"type": kind, "id": manifest.name}, "attrs": {}, "parents": []} for kind in ("Action", "Claw")]
    answer = cedarpy.is_authorized_partial(question, cedarpy.PolicySet.from_json_str(text), entities)
    always = frozenset(answer.diagnostics.reasons)
    return _Reach(frozenset(answer.diagnostics.nontrivial_residuals) | always, always)


def _without_absent(node: Any, known: Mapping[str, frozenset[str]]) -> Any:
    """The conditions with every ``has`` of an attribute that no call of the claw has replaced by false."""
    if isinstance(node, list):
        return [_without_absent(item, known) for item in node]
    if not isinstance(node, dict):
        return node
    tested = node.get("has")
    if isinstance(tested, dict) and len(node) == 1:
        left = tested.get("left")
        inner = left.get(".", {}) if isinstance(left, dict) else {}
        where = (
            "context" if left == _CONTEXT else f"context.{inner.get('attr')}" if inner.get("left") == _CONTEXT else ""
        )
        if where in known and tested.get("attr") not in known[where]:
            return {"Value": False}
    return {key: _without_absent(value, known) for key, value in node.items()}
