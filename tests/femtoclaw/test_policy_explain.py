"""Explanations name what kept each policy from applying; warnings name what a policy that loads may not be meant to do."""

from __future__ import annotations

import random
from typing import Any

import pytest

from femtoclaw.claws import SHIPPED
from femtoclaw.policy import PolicyEngine, PolicyRequest
from femtoclaw.policy_cases import DEFAULTS
from femtoclaw.policy_explain import VALUE_CHARS_MAX, Explained, explain
from femtoclaw.policy_starters import STARTERS, starter
from femtoclaw.policy_warnings import warnings

READ = '(principal, action == Action::"fs.read", resource)'


def why(policy: str, claw: str = "fs.read", path: str = "a", **args: Any) -> Explained:
    engine = PolicyEngine.load(policy, SHIPPED)
    request = PolicyRequest("agent", claw, {"path": path} | args, {"path": path}, DEFAULTS)
    (explained,) = explain(engine, request)
    return explained


def test_a_policy_out_of_scope_says_in_what() -> None:
    """Principal, action and resource each, with what the policy is about."""
    found = why(
        '@id("a") permit (principal == Agent::"x", action == Action::"fs.write", resource == Claw::"fs.write");'
    )
    assert (found.outcome, found.part) == ("scope", None)
    assert found.scope == (
        "principal agent is not x", "action fs.read is not fs.write", "resource fs.read is not fs.write",
    )  # fmt: skip
    many = why('@id("a") permit (principal, action in [Action::"fs.write", Action::"shell"], resource);')
    assert many.scope == ("action fs.read is not one of fs.write, shell",)


@pytest.mark.parametrize(
    "condition, clause, part, values",
    [
        ('when { context.path == "b" }', "when", 'context.path == "b"', {"context.path": '"a"'}),
        (
            'when { context.path == "a" && context.run.step > 3 && context.args.path == "z" }', "when",
            "context.run.step > 3", {"context.run.step": "1"},
        ),
        ('when { true } when { context.path like "x*" }', "when", 'context.path like "x*"', {"context.path": '"a"'}),
        (
            'unless { context.run.step > 3 || context.path == "a" }', "unless", 'context.path == "a"',
            {"context.path": '"a"'},
        ),
        (
            "when { context.args has offset && context.args.offset > 1 }", "when", "context.args has offset",
            {"context.args.offset": ""},
        ),
        (
            'when { ["x", "y"].contains(context.path) }', "when", '["x", "y"].contains(context.path)',
            {"context.path": '"a"'},
        ),
    ],
)  # fmt: skip
def test_the_part_that_decided_is_named(condition: str, clause: str, part: str, values: dict[str, str]) -> None:
    """Of a conjunction the first false part, of an `unless` the first true one, with the values that it looks at."""
    found = why(f'@id("a") permit {READ} {condition};')
    assert found.outcome == "condition"
    assert found.part is not None
    assert (found.part.clause, found.part.text, found.part.failure) == (clause, part, "")
    assert {value.attribute: value.shown for value in found.part.values} == values


def test_a_failing_part_says_how() -> None:
    """Cedar's reason, and the values."""
    found = why(
        f'@id("a") permit {READ} when {{ context.args has offset && context.args.offset * 9223372036854775807 > 0 }};',
        offset=7,
    )
    assert found.outcome == "failed"
    assert found.part is not None
    assert "overflow" in found.part.failure
    assert found.part.values[0].shown == "7"


def test_a_value_is_shown_bounded_and_printable() -> None:
    """A long path with line breaks comes as one bounded line."""
    found = why(f'@id("a") permit {READ} when {{ context.path == "x" }};', path="a\n" * 500)
    assert found.part is not None
    shown = found.part.values[0].shown
    assert shown.isprintable()
    assert len(shown) < VALUE_CHARS_MAX + 40


def test_explanations_agree_with_the_engine(seed: int) -> None:
    """Over the shipped policies and many calls: a policy that determined a decision applies, and what does not apply
    determined none; every policy that applies and does not determine was overruled by a forbid."""
    chance = random.Random(seed)
    calls: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        (claw, {"path": path}, {"path": path})
        for claw in ("fs.read", "fs.list")
        for path in ("a", "x.key", ".ssh/a", "public/a", "build/a")
    ]
    calls += [
        ("fs.write", {"path": path, "content": "", "mode": mode}, {"path": path})
        for path in ("outbox/a", "build/x", ".git/a")
        for mode in ("create", "replace")
    ]
    for name in STARTERS:
        engine = PolicyEngine.load(starter(name), SHIPPED)
        for claw, args, facts in calls:
            usage = {**DEFAULTS["usage"], "run_calls": chance.choice((0, 1000))}
            origin = {**DEFAULTS["origin"], "tainted": chance.choice((True, False))}
            request = PolicyRequest("agent", claw, args, facts, {**DEFAULTS, "usage": usage, "origin": origin})
            verdict, found = engine.evaluate(request), explain(engine, request)
            applies = {each.policy: each.effect for each in found if each.outcome == "applies"}
            assert set(verdict.determining) <= applies.keys()
            effect = "permit" if verdict.allowed else "forbid"
            assert set(verdict.determining) == {policy for policy, kind in applies.items() if kind == effect}
            assert verdict.allowed or not verdict.determining or "forbid" in applies.values()


def test_a_long_list_of_alternatives_is_explained() -> None:
    """A chain as long as a policy's text may have: false as a whole, and the part of an `unless` that is true."""
    chain = " || ".join(f'context.path == "{number}"' for number in range(150))
    found = why(f'@id("a") permit {READ} when {{ {chain} }};')
    assert found.part is not None
    assert (found.outcome, found.part.clause, found.part.failure) == ("condition", "when", "")
    found = why(f'@id("a") permit {READ} unless {{ {chain} }};', path="149")
    assert found.part is not None
    assert (found.part.clause, found.part.text) == ("unless", 'context.path == "149"')


def test_a_policy_that_cannot_be_taken_apart_is_said_to_be_one() -> None:
    """Deeper than Cedar's JSON may be: no explanation, and no exception."""
    found = why(f'@id("a") permit {READ} when {{ 1{" + 1" * 190} == 5 }};')
    assert (found.outcome, found.part) == ("untold", None)


def test_no_policy_is_explained_for_a_question_that_cannot_be_put() -> None:
    """An unknown claw and arguments of other types reach no policy."""
    engine = PolicyEngine.load('@id("a") permit (principal, action, resource);', SHIPPED)
    for claw, path in (("no.such", "a"), ("fs.read", 7), ("fs.read", "\ud800")):
        request = PolicyRequest("agent", claw, {"path": path}, {"path": path}, DEFAULTS)
        assert explain(engine, request) == [] or not engine.evaluate(request).allowed


def told(policy: str) -> set[tuple[str, str]]:
    engine = PolicyEngine.load(policy, SHIPPED)
    found = warnings(engine, SHIPPED, frozenset(("agent", "operator")))
    return {(warned.code, warned.subject) for warned in found}


UNREACHABLE = {("UNREACHABLE", claw.name) for claw in SHIPPED}


@pytest.mark.parametrize(
    "policy, code",
    [
        ('@id("a") permit (principal, action, resource) when { false };', "NEVER_APPLIES"),
        ('@id("a") permit (principal, action == Action::"shell", resource) when { context has path };', "NEVER_APPLIES"),
        (f'@id("a") permit {READ} when {{ resource == Claw::"fs.list" }};', "NEVER_APPLIES"),
        ('@id("a") permit (principal == Agent::"agnt", action, resource);', "UNKNOWN_AGENT"),
        ('@id("a") permit (principal, action, resource);', "UNCONDITIONAL"),
        ('@id("a") @accepts("inlinecode") permit (principal, action == Action::"shell", resource);', "UNKNOWN_HAZARD"),
    ],
)  # fmt: skip
def test_a_warning_for_each_kind(policy: str, code: str) -> None:
    """What loads and is hardly meant so is told."""
    assert (code, "a") in told(policy)


def test_claws_that_nobody_can_call_are_told() -> None:
    """Without a permit about it, and where a forbid always applies; not where a permit may apply."""
    assert told("") == UNREACHABLE
    everything = '@id("a") permit (principal, action, resource) when { context.run.step < 9 };'
    assert told(everything) == set()
    assert told(everything + '@id("b") forbid (principal, action == Action::"shell", resource);') == {
        ("UNREACHABLE", "shell")
    }
    paths = '@id("a") permit (principal, action, resource) when { context has path };'
    reached = {("UNREACHABLE", claw) for claw in ("fs.read", "fs.list", "fs.write")}
    assert told(paths) == UNREACHABLE - reached
