"""Why a policy engine decided as it did: every policy alone, taken apart into its scope and the parts of its conditions.

For the operator's own terminal: what is explained may quote the call's values, so it goes into no log and no error. Pure;
nothing here decides anything.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from femtoclaw.authorization import CallContext
from femtoclaw.engines import Engines
from femtoclaw.facts import ArgumentInvalid, facts
from femtoclaw.policy import PolicyEngine, PolicyRequest
from femtoclaw.policy_check import names, told
from femtoclaw.policy_groups import GROUPS, RUN
from femtoclaw.protocol import ToolCall

VALUE_CHARS_MAX = 120
"""Characters of one value that an explanation shows."""

APPLIES, OUT_OF_SCOPE, CONDITION, FAILED, UNTOLD = "applies", "scope", "condition", "failed", "untold"

_ANY: Mapping[str, Any] = {"principal": {"op": "All"}, "action": {"op": "All"}, "resource": {"op": "All"}}
_FAILING = re.compile(r"error while evaluating policy `([^`]*)`: ?(.*)", re.DOTALL)
_NEEDLESS = re.compile(r"(?<!\w)\((context(?:\.\w+)*)\)")
_TEXT = re.compile(r"when \{\s*(.*?)\s*\};\s*$", re.DOTALL)


class Value(NamedTuple):
    """An attribute of the context that a condition looks at, with its value as bounded JSON; ``type`` is its Cedar type,
    or ``absent``."""

    attribute: str
    type: str
    shown: str


class Part(NamedTuple):
    """The part of a ``when`` or ``unless`` that kept a policy from applying: a ``when`` part that is false, an
    ``unless`` part that is true, or one whose evaluation failed (``failure`` is then Cedar's text, without strings)."""

    clause: str
    text: str
    values: tuple[Value, ...]
    failure: str


class Explained(NamedTuple):
    """One policy. ``outcome`` is ``applies``, ``scope`` (``scope`` says which parts do not match), ``condition`` or
    ``failed`` (``part`` says which), or ``untold`` for one that cannot be taken apart."""

    policy: str
    effect: str
    outcome: str
    scope: tuple[str, ...]
    part: Part | None


def explain(engine: PolicyEngine, request: PolicyRequest) -> list[Explained]:
    """Every policy of the engine, in the order of its text. Empty when the question cannot be put (an unknown claw,
    values of other types): then no policy was asked."""
    import cedarpy

    try:
        question = engine.question(request)
    except (TypeError, ValueError):
        return []
    if question is None:
        return []
    body = json.loads(cedarpy.policies_to_json_str(engine.text))
    named = names(body)
    asker = _Asker(question)
    return [_one(asker, named[internal], policy) for internal, policy in body["staticPolicies"].items()]


def request_of(fixed: Engines, call: ToolCall, context: CallContext) -> PolicyRequest | None:
    """What the policy engine is asked about the call; None when the gate refuses it before: a claw that is not
    registered or not enabled, or arguments without a canonical form."""
    claw, manifest = fixed.registry.get(call.tool), fixed.manifests.get(call.tool)
    if claw is None or manifest is None or not claw.enabled:
        return None
    found = facts(manifest, call.args, fixed.settings.get(call.tool, {}))
    if isinstance(found, ArgumentInvalid):
        return None
    run = {name: getattr(context, name) for name in GROUPS[RUN]}
    return PolicyRequest(context.agent, call.tool, call.args, found.attributes, {**context.groups, RUN: run})


class _Asker:
    """Puts the same question to policies made of parts of others."""

    def __init__(self, question: dict[str, Any]) -> None:
        import cedarpy

        self._question = question
        self._entities = cedarpy.Entities.from_json_str("[]")
        self.context: dict[str, Any] = json.loads(question["context"])
        self.named = {name: question[name] for name in ("principal", "action", "resource")}

    def ask(self, **parts: Any) -> bool | str:
        """Whether a permit with these parts, and otherwise about everything, applies; Cedar's words when it fails.

        Raises ValueError for parts that Cedar does not take back.
        """
        import cedarpy

        policy = {"effect": "permit", **_ANY, "conditions": [], "annotations": {}, **parts}
        text = json.dumps({"staticPolicies": {"part": policy}, "templates": {}, "templateLinks": []})
        answer = cedarpy.is_authorized(self._question, cedarpy.PolicySet.from_json_str(text), self._entities)
        if answer.diagnostics.errors:
            match = _FAILING.match(answer.diagnostics.errors[0])
            return told(match[2] if match else "the evaluation failed")
        return bool(answer.allowed)


def _one(asker: _Asker, name: str, policy: Mapping[str, Any]) -> Explained:
    effect = str(policy["effect"])
    try:
        scope = tuple(part for part in _ANY if asker.ask(**{part: policy[part]}) is not True)
        if scope:
            return Explained(name, effect, OUT_OF_SCOPE, tuple(_mismatch(asker, part, policy) for part in scope), None)
        for condition in policy["conditions"]:
            part = _hindering(asker, condition)
            if part is not None:
                return Explained(name, effect, FAILED if part.failure else CONDITION, (), part)
    except (ValueError, RecursionError):  # deeper than Cedar's JSON may be
        return Explained(name, effect, UNTOLD, (), None)
    return Explained(name, effect, APPLIES, (), None)


def _mismatch(asker: _Asker, part: str, policy: Mapping[str, Any]) -> str:
    """Such as ``action fs.read is not fs.write``."""
    scope = policy[part]
    entities = scope.get("entities") or ([scope["entity"]] if "entity" in scope else [])
    wanted = ", ".join(sorted(str(entity.get("id", entity)) for entity in entities)) or str(
        scope.get("entity_type", "it")
    )
    return f"{part} {asker.named[part]['id']} is not {'one of ' if len(entities) > 1 else ''}{wanted}"


def _hindering(asker: _Asker, condition: Mapping[str, Any]) -> Part | None:
    """The first part of a clause that keeps the policy from applying, in the order of evaluation; None when none does.

    A ``when`` is taken apart at its top-level ``&&``, an ``unless`` at its ``||``: what stands after the part that
    decides is not evaluated, so it is not asked either.
    """
    clause = str(condition["kind"])
    hinders = clause == "unless"
    for part in _flat(condition["body"], "||" if hinders else "&&"):
        body = _balanced(part)
        answer = asker.ask(conditions=[{"kind": "when", "body": body}])
        if answer is hinders or isinstance(answer, str):
            failure = answer if isinstance(answer, str) else ""
            return Part(clause, _text(body), _values(asker.context, body), failure)
    return None


def _flat(body: Any, operator: str) -> list[Any]:
    """The operands of a chain of one operator, left to right; a loop, because chains nest as deep as the text may."""
    found: list[Any] = []
    todo = [body]
    while todo:
        node = todo.pop()
        if isinstance(node, dict) and node.keys() == {operator}:
            todo += [node[operator]["right"], node[operator]["left"]]
        else:
            found.append(node)
    return found


def _balanced(node: Any) -> Any:
    """The same condition with its chains of ``&&`` and of ``||`` as trees: a long list of alternatives is deeper than
    Cedar's JSON may be, and what is evaluated when does not change."""
    if isinstance(node, list):
        return [_balanced(item) for item in node]
    if not isinstance(node, dict):
        return node
    for operator in ("&&", "||"):
        if node.keys() == {operator}:
            return _tree([_balanced(part) for part in _flat(node, operator)], operator)
    return {key: _balanced(value) for key, value in node.items()}


def _tree(parts: list[Any], operator: str) -> Any:
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    return {operator: {"left": _tree(parts[:middle], operator), "right": _tree(parts[middle:], operator)}}


def _text(body: Any) -> str:
    """The part as Cedar writes it, on one line."""
    import cedarpy

    policy = {"effect": "permit", **_ANY, "conditions": [{"kind": "when", "body": body}], "annotations": {}}
    text = json.dumps({"staticPolicies": {"part": policy}, "templates": {}, "templateLinks": []})
    match = _TEXT.search(cedarpy.format_policies(cedarpy.policies_from_json_str(text), line_width=10_000))
    shown = " ".join(match[1].split()) if match else ""
    while (fewer := _NEEDLESS.sub(r"\1", shown)) != shown:  # Cedar puts brackets around every operand
        shown = fewer
    return shown


def _values(context: Mapping[str, Any], body: Any) -> tuple[Value, ...]:
    """What the part looks at, by name, each once."""
    found: dict[str, Value] = {}
    todo = [body]
    while todo:
        node = todo.pop(0)
        path = _path(node)
        if path:
            found.setdefault(".".join(path), _value(context, path))
        elif isinstance(node, dict):
            todo.extend(node.values())
        elif isinstance(node, list):
            todo.extend(node)
    return tuple(found[name] for name in sorted(found))


def _path(node: Any) -> list[str]:
    """``context.a.b`` as [context, a, b]; empty for anything else."""
    path: list[str] = []
    while isinstance(node, dict) and len(node) == 1:
        taken = node.get(".", node.get("has"))
        if not isinstance(taken, dict) or not isinstance(taken.get("attr"), str):
            break
        path.insert(0, taken["attr"])
        node = taken.get("left")
    return ["context", *path] if node == {"Var": "context"} and path else []


def _value(context: Mapping[str, Any], path: list[str]) -> Value:
    value: Any = context
    for attribute in path[1:]:
        if not isinstance(value, dict) or attribute not in value:
            return Value(".".join(path), "absent", "")
        value = value[attribute]
    kinds = {str: "String", int: "Long", bool: "Boolean", list: "Set", dict: "Record"}
    shown = json.dumps(value, ensure_ascii=True)
    if len(shown) > VALUE_CHARS_MAX:
        shown = f"{shown[:VALUE_CHARS_MAX]}... ({len(shown)} characters)"
    return Value(".".join(path), kinds.get(type(value), "another"), shown)
