"""What a policy that parses may still not be: nameless, a template, or about attributes that no claw has. Pure.

Each of these would load in Cedar and then quietly do nothing, which for a ``forbid`` means to permit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from femtoclaw.errors import PolicyError

POLICIES_MAX = 1000
"""Policies of one text."""

NAME_CHARS_MAX = 128
"""Characters of an ``@id``, all of them printable: it goes into the log and onto terminals."""

FOUND_CHARS_MAX = 400
"""Characters of a Cedar message that an error quotes."""

_CONTEXT = {"Var": "context"}
_LITERAL = re.compile(r'(?<!::)"(?:\\.|[^"\\])*"')


def told(message: object) -> str:
    """A Cedar message, bounded and printable, without the values of the policy's strings (I12); entity ids stay."""
    bare = _LITERAL.sub('"..."', str(message))
    shown = "".join(char if char.isprintable() else "?" for char in bare[: FOUND_CHARS_MAX + 1])
    return shown if len(shown) <= FOUND_CHARS_MAX else shown[:FOUND_CHARS_MAX] + "..."


def names(body: Mapping[str, Any]) -> dict[str, str]:
    """Cedar's own ids of the policies in ``body`` (Cedar's JSON form), each with its ``@id``.

    Raises PolicyError for a template, for more than ``POLICIES_MAX`` policies, and for a missing, unprintable, overlong
    or repeated ``@id``.
    """
    for internal, template in body.get("templates", {}).items():
        raise PolicyError(
            "a policy template does nothing here: nothing links it to a principal or resource",
            where=_name(template) or f"the one Cedar calls {internal}",
            expected="a policy without ?principal and ?resource",
            found="a template",
            remedy="write the principal or resource out, one policy with an @id of its own for each",
        )
    policies = body.get("staticPolicies", {})
    if len(policies) > POLICIES_MAX:
        raise PolicyError("too many policies", expected=f"<= {POLICIES_MAX}", found=len(policies))
    found: dict[str, str] = {}
    seen: set[str] = set()
    for internal, policy in policies.items():
        name = _name(policy)
        if not name:
            raise PolicyError("policy has no @id", where=internal, expected='@id("a-name") before permit or forbid')
        if len(name) > NAME_CHARS_MAX or not name.isprintable():
            wanted = f"1 to {NAME_CHARS_MAX} printable characters"
            raise PolicyError("a policy's @id cannot be shown", where=internal, expected=wanted, found=len(name))
        if name in seen:
            raise PolicyError("two policies have the same @id", where=name)
        seen.add(name)
        found[internal] = name
    return found


def _name(policy: Mapping[str, Any]) -> str:
    return policy.get("annotations", {}).get("id") or ""


def check_attributes(body: Mapping[str, Any], named: Mapping[str, str], known: Mapping[str, frozenset[str]]) -> None:
    """Refuse ``context has x`` when no claw has an ``x``: Cedar calls it false, so a misspelt prohibition never holds.

    ``known`` maps ``context``, ``context.args`` and ``context.run`` to the attributes that a call may have there.
    Raises PolicyError naming the policy.
    """
    for internal, policy in body.get("staticPolicies", {}).items():
        for where, attribute in _tested(policy.get("conditions", [])):
            if where in known and attribute not in known[where]:
                raise PolicyError(
                    f"policy tests for an attribute that no registered claw has in {where}",
                    where=named[internal],
                    expected=f"one of {', '.join(sorted(known[where]))}",
                    found=told(attribute),
                )


def context_read(body: Mapping[str, Any]) -> frozenset[str] | None:
    """The attributes of ``context`` that any policy could read; None when one takes the context as a whole."""
    found: set[str] = set()
    todo: list[Any] = [policy.get("conditions", []) for policy in body.get("staticPolicies", {}).values()]
    while todo:
        node = todo.pop()
        if isinstance(node, list):
            todo.extend(node)
        elif isinstance(node, dict):
            taken = node.get(".", node.get("has"))
            if isinstance(taken, dict) and taken.get("left") == _CONTEXT and len(node) == 1:
                found.add(str(taken.get("attr")))
            elif node == _CONTEXT:
                return None
            else:
                todo.extend(node.values())
    return frozenset(found)


def _tested(conditions: Any) -> Iterator[tuple[str, str]]:
    """(record, attribute) of every ``has``; a loop, because conditions nest as deep as the text may."""
    todo = [conditions]
    while todo:
        node = todo.pop()
        if isinstance(node, list):
            todo.extend(node)
        elif isinstance(node, dict):
            tested = node.get("has")
            if isinstance(tested, dict) and isinstance(tested.get("attr"), str):
                yield _record(tested.get("left")), tested["attr"]
            todo.extend(node.values())


def _record(node: Any) -> str:
    match node:
        case {"Var": "context"}:
            return "context"
        case {".": {"left": {"Var": "context"}, "attr": str(attribute)}}:
            return f"context.{attribute}"
        case _:
            return ""
