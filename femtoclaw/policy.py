"""The policy engine: Cedar, parsed and validated once per policy version, deny by default. Pure.

Cedar skips a policy whose evaluation fails, which turns a failing ``forbid`` into silence; here any evaluation error
denies. Every policy carries an ``@id``, so a decision names the policies that determined it.
"""

from __future__ import annotations

import json
import os.path
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from blake3 import blake3

from femtoclaw.errors import PolicyError
from femtoclaw.manifest import Manifest
from femtoclaw.policy_annotations import ApprovalRule, Terms, combined, terms
from femtoclaw.policy_check import check_attributes, context_read, names, told
from femtoclaw.policy_groups import GROUPS, group
from femtoclaw.policy_schema import LATER, context_attributes, python_types, schema_for
from femtoclaw.policy_text import check_text

FINDINGS_MAX = 5
"""Findings of Cedar's validation that one error quotes."""

UNKNOWN_CLAW = "UNKNOWN_CLAW"
UNUSABLE_REQUEST = "UNUSABLE_REQUEST"
HAZARD = "HAZARD"
APPROVERS_CONFLICT = "APPROVERS_CONFLICT"
TERMS_REFUSALS = frozenset((HAZARD, APPROVERS_CONFLICT))
"""Refusals of a call that policies do permit, but not on these terms; they name the permits."""

_FAILING = re.compile(r"error while evaluating policy `([^`]*)`")
_encode = json.JSONEncoder(separators=(",", ":")).encode


class PolicyRequest(NamedTuple):
    """One question: may ``agent`` call ``claw`` with these arguments, facts and circumstances?

    ``groups`` holds at least those that the engine ``needs``, each as ``femtoclaw.policy_groups`` declares it.
    """

    agent: str
    claw: str
    args: Mapping[str, Any]
    facts: Mapping[str, Any]
    groups: Mapping[str, Mapping[str, Any]]


class PolicyVerdict(NamedTuple):
    """The answer.

    ``determining`` and ``errors`` are sorted policy ids: of the policies that decided, and of those whose evaluation
    failed. ``refusal`` is a stable code when the question could not be put at all, or when what the permits ask for
    beside their conditions is not fulfilled (``TERMS_REFUSALS``). ``approval``: allowed, once operators have approved
    it so. No text of Cedar's is passed on: it would hold values of arguments (I12).
    """

    allowed: bool
    determining: tuple[str, ...]
    errors: tuple[str, ...]
    refusal: str = ""
    approval: ApprovalRule | None = None


class PolicyEngine:
    """Immutable once loaded. Answers for the claws it was loaded with, and denies every other."""

    __slots__ = (
        "_arguments", "_ask", "_entities", "_names", "_policies", "_seal", "_terms", "digest", "needs",
        "schema_digest", "text",
    )  # fmt: skip

    _arguments: Mapping[str, Mapping[str, type]]
    _ask: Callable[..., Any]
    _entities: Any
    _names: Mapping[str, str]
    _policies: Any
    _seal: str
    _terms: Mapping[str, Terms]
    digest: str
    needs: frozenset[str]
    """The groups of the context that some policy reads: of ``femtoclaw.policy_groups.GROUPS``."""
    schema_digest: str
    text: str

    def __init__(self, **parts: Any) -> None:
        """``load`` makes engines; the parts are its business."""
        for name in self.__slots__:
            if name != "_seal":
                object.__setattr__(self, name, parts[name.lstrip("_")])
        object.__setattr__(self, "_seal", self._sealed())

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a policy engine does not change")

    @classmethod
    def load(cls, text: str, manifests: Iterable[Manifest]) -> PolicyEngine:
        """Parse and validate. Raises PolicyError, and nothing else for any text, naming what is wrong and where."""
        import cedarpy

        manifests = list(manifests)
        check_text(text)
        try:
            policies = cedarpy.PolicySet.from_str(text)
            body = json.loads(cedarpy.policies_to_json_str(text))
        except (ValueError, RecursionError) as error:
            # Its quoted tokens may be anything: a key file may stand where a policy was meant (I12).
            found = re.sub("`[^`]*`", "a token", told(error))
            raise PolicyError("policy does not parse", expected="Cedar policies", found=found) from None
        named = names(body)
        asked = terms(body, named)
        read = context_read(body)
        schema = schema_for(manifests, LATER if read is None else LATER & read)
        _validate(text, schema, named)
        check_attributes(body, named, context_attributes(manifests))
        return cls(
            arguments=MappingProxyType({each.name: MappingProxyType(python_types(each)) for each in manifests}),
            ask=cedarpy.is_authorized,
            entities=cedarpy.Entities.from_json_str("[]"),
            names=MappingProxyType(named),
            needs=frozenset(GROUPS) if read is None else read & GROUPS.keys(),
            policies=policies,
            terms=MappingProxyType(asked),
            text=text,
            digest=_digest(text),
            schema_digest=blake3(schema.encode()).hexdigest(),
        )

    def evaluate(self, request: PolicyRequest) -> PolicyVerdict:
        """Decide; whatever goes wrong inside is a denial."""
        if request.claw not in self._arguments:
            return PolicyVerdict(False, (), (), UNKNOWN_CLAW)
        try:
            question = self.question(request)
            if question is None:
                return PolicyVerdict(False, (), (), UNUSABLE_REQUEST)
            answer = self._ask(question, self._policies, self._entities)
            verdict = self._verdict(answer.allowed, answer.diagnostics)
            hazards = request.facts.get("hazards")
            return self._on_terms(verdict, hazards) if verdict.allowed and (self._terms or hazards) else verdict
        except Exception:  # fail closed, and keep the library's text, which may hold arguments, to itself
            return PolicyVerdict(False, (), (), UNUSABLE_REQUEST)

    def question(self, request: PolicyRequest) -> dict[str, Any] | None:
        """The question as Cedar is asked it; None for a claw that the engine does not know, or when the arguments or a
        needed group are of other types than declared. Raises ValueError or TypeError for what JSON cannot carry."""
        claw = request.claw
        types = self._arguments.get(claw)
        context = _context(request, types, self.needs) if types is not None else None
        if context is None:
            return None
        return {
            "principal": {"type": "Agent", "id": request.agent},
            "action": {"type": "Action", "id": claw},
            "resource": {"type": "Claw", "id": claw},
            "context": context,
        }

    def _verdict(self, allowed: bool, diagnostics: Any) -> PolicyVerdict:
        determining = tuple(sorted([self._names[reason] for reason in diagnostics.reasons]))
        errors = diagnostics.errors
        if not errors:
            return PolicyVerdict(allowed, determining, ())
        matches = [_FAILING.match(error) for error in errors]
        if not all(matches):
            return PolicyVerdict(False, (), (), UNUSABLE_REQUEST)
        failing = tuple(sorted({self._names[match[1]] for match in matches if match}))
        # What Cedar would have permitted was not determined by its permits, but denied by the failure.
        return PolicyVerdict(False, () if allowed else determining, failing)

    def _on_terms(self, verdict: PolicyVerdict, hazards: Any) -> PolicyVerdict:
        """What the determining permits ask for beside their conditions."""
        asked = [self._terms[name] for name in verdict.determining if name in self._terms]
        if hazards:
            if type(hazards) is not list or not all(type(code) is str for code in hazards):
                return PolicyVerdict(False, (), (), UNUSABLE_REQUEST)
            if not frozenset(hazards) <= frozenset().union(*[each.accepts for each in asked]):
                return PolicyVerdict(False, verdict.determining, (), HAZARD)
        rules = [each.approval for each in asked if each.approval is not None]
        if not rules:
            return verdict
        approval = combined(rules)
        if approval is None:
            return PolicyVerdict(False, verdict.determining, (), APPROVERS_CONFLICT)
        return verdict._replace(approval=approval)

    def intact(self) -> bool:
        """Whether the engine still is what was loaded: its text has its digest, and what answers was made of that text.

        This finds a change that was forced upon the object in memory, not one of the machine code beneath it.
        """
        import cedarpy

        try:
            made = cedarpy.PolicySet.from_str(self.text)
            same = self._ask is cedarpy.is_authorized and str(self._policies) == str(made)
            return same and self.digest == _digest(self.text) and self._seal == self._sealed()
        except Exception:  # whatever was put in the place of a part: it is not the part
            return False

    def _sealed(self) -> str:
        """BLAKE3 over everything that an answer follows from."""
        types = {claw: {name: kind.__name__ for name, kind in args.items()} for claw, args in self._arguments.items()}
        asked = {name: [each.approval, sorted(each.accepts)] for name, each in self._terms.items()}
        parts = [self.text, str(self._policies), str(self._entities), types, dict(self._names), asked]
        body = json.dumps([*parts, sorted(self.needs), self.digest, self.schema_digest], sort_keys=True)
        return blake3(b"femtoclaw policy engine v1\x00" + body.encode()).hexdigest()


def _context(request: PolicyRequest, types: Mapping[str, type], needs: frozenset[str]) -> str | None:
    """The context as JSON; None when an argument is of another type than its claw declares, or a group that is needed
    is missing or of another shape.

    ``args`` and the groups are put in last: no fact can stand in their place. A group costs as much as the rest of the
    question, so one that no policy reads is left out.
    """
    args: dict[str, Any] = {}
    for name, value in request.args.items():
        wanted = types.get(name)
        if wanted is None:
            continue
        if type(value) is not wanted or (type(value) is list and not all(type(item) is str for item in value)):
            return None
        args[name] = value
    context = {**request.facts, "args": args}
    for name in needs:
        found = group(name, request.groups[name]) if name in request.groups else None
        if found is None:
            return None
        context[name] = found
    return _encode(context)


def _digest(text: str) -> str:
    return blake3(b"femtoclaw policy v1\x00" + text.encode()).hexdigest()


def _validate(text: str, schema: str, named: Mapping[str, str]) -> None:
    import cedarpy

    checked = cedarpy.validate_policies(text, schema)
    if checked.validation_passed:
        return
    found: set[str] = set()
    for error in checked.errors:
        name = named.get(error.policy_id, error.policy_id)
        found.add(told(error.error.replace(f"for policy `{error.policy_id}`", f"policy `{name}`")))
    # Cedar gives them in no order; sorted, the same text is refused in the same words.
    raise PolicyError(
        "policy does not fit the registered claws",
        expected="actions, attributes and types that they have",
        found="; ".join(sorted(found)[:FINDINGS_MAX]),
    )


def engine_version() -> str:
    """Which engine evaluates: recorded with the policy."""
    from importlib.metadata import version

    return f"cedarpy {version('cedarpy')}"


def default_policy() -> str:
    """The shipped starter policy."""
    with open(os.path.join(os.path.dirname(__file__), "policies", "default.cedar")) as file:
        return file.read()
