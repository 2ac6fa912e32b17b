"""The policy engine: Cedar, parsed and validated once per policy version, deny by default. Pure.

Cedar skips a policy whose evaluation fails, which turns a failing ``forbid`` into silence; here any evaluation error
denies. Every policy carries an ``@id``, so a decision names the policies that determined it.
"""

from __future__ import annotations

import json
import os.path
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from blake3 import blake3

from femtoclaw.errors import PolicyError
from femtoclaw.manifest import Manifest
from femtoclaw.policy_check import check_attributes, names, reads, told
from femtoclaw.policy_schema import context_attributes, python_types, schema_for
from femtoclaw.policy_text import check_text

FINDINGS_MAX = 5
"""Findings of Cedar's validation that one error quotes."""

UNKNOWN_CLAW = "UNKNOWN_CLAW"
UNUSABLE_REQUEST = "UNUSABLE_REQUEST"

_FAILING = re.compile(r"error while evaluating policy `([^`]*)`")
_encode = json.JSONEncoder(separators=(",", ":")).encode


class PolicyRequest(NamedTuple):
    """One question: may ``agent`` call ``claw`` with these arguments, facts and circumstances?"""

    agent: str
    claw: str
    args: Mapping[str, Any]
    facts: Mapping[str, Any]
    run: Mapping[str, Any]


class PolicyVerdict(NamedTuple):
    """The answer.

    ``determining`` and ``errors`` are sorted policy ids: of the policies that decided, and of those whose evaluation
    failed. ``refusal`` is a stable code when the question could not be put at all. No text of Cedar's is passed on: it
    would hold values of arguments (I12).
    """

    allowed: bool
    determining: tuple[str, ...]
    errors: tuple[str, ...]
    refusal: str = ""


class PolicyEngine:
    """Immutable once loaded. Answers for the claws it was loaded with, and denies every other."""

    __slots__ = ("_arguments", "_ask", "_entities", "_names", "_policies", "_reads_run", "digest", "schema_digest")

    _arguments: Mapping[str, Mapping[str, type]]
    _ask: Callable[..., Any]
    _entities: Any
    _names: Mapping[str, str]
    _policies: Any
    _reads_run: bool
    digest: str
    schema_digest: str

    def __init__(self, **parts: Any) -> None:
        """``load`` makes engines; the parts are its business."""
        for name in self.__slots__:
            object.__setattr__(self, name, parts[name.lstrip("_")])

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a policy engine does not change")

    @classmethod
    def load(cls, text: str, manifests: Iterable[Manifest]) -> PolicyEngine:
        """Parse and validate. Raises PolicyError, and nothing else for any text, naming what is wrong and where."""
        import cedarpy

        manifests = list(manifests)
        check_text(text)
        schema = schema_for(manifests)
        try:
            policies = cedarpy.PolicySet.from_str(text)
            body = json.loads(cedarpy.policies_to_json_str(text))
        except (ValueError, RecursionError) as error:
            # Its quoted tokens may be anything: a key file may stand where a policy was meant (I12).
            found = re.sub("`[^`]*`", "a token", told(error))
            raise PolicyError("policy does not parse", expected="Cedar policies", found=found) from None
        named = names(body)
        _validate(text, schema, named)
        check_attributes(body, named, context_attributes(manifests))
        return cls(
            arguments={manifest.name: python_types(manifest) for manifest in manifests},
            ask=cedarpy.is_authorized,
            entities=cedarpy.Entities.from_json_str("[]"),
            names=named,
            policies=policies,
            reads_run=reads(body, "run"),
            digest=blake3(b"femtoclaw policy v1\x00" + text.encode()).hexdigest(),
            schema_digest=blake3(schema.encode()).hexdigest(),
        )

    def evaluate(self, request: PolicyRequest) -> PolicyVerdict:
        """Decide; whatever goes wrong inside is a denial."""
        claw = request.claw
        types = self._arguments.get(claw)
        if types is None:
            return PolicyVerdict(False, (), (), UNKNOWN_CLAW)
        try:
            context = _context(request, types, self._reads_run)
            if context is None:
                return PolicyVerdict(False, (), (), UNUSABLE_REQUEST)
            question = {
                "principal": {"type": "Agent", "id": request.agent},
                "action": {"type": "Action", "id": claw},
                "resource": {"type": "Claw", "id": claw},
                "context": context,
            }
            answer = self._ask(question, self._policies, self._entities)
            return self._verdict(answer.allowed, answer.diagnostics)
        except Exception:  # fail closed, and keep the library's text, which may hold arguments, to itself
            return PolicyVerdict(False, (), (), UNUSABLE_REQUEST)

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


def _context(request: PolicyRequest, types: Mapping[str, type], reads_run: bool) -> str | None:
    """The context as JSON; None when an argument is of another type than its claw declares.

    ``args`` and ``run`` are put in last: no fact can stand in their place. ``run`` is a third of the cost of a decision
    in Cedar, so it stays empty for policies of which none reads it.
    """
    args: dict[str, Any] = {}
    for name, value in request.args.items():
        wanted = types.get(name)
        if wanted is None:
            continue
        if type(value) is not wanted or (type(value) is list and not all(type(item) is str for item in value)):
            return None
        args[name] = value
    return _encode({**request.facts, "args": args, "run": request.run if reads_run else {}})


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
