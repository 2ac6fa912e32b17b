"""The policy engine: deny by default, forbid wins, errors deny, nothing in a request is code."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from femtoclaw.argument_schemas import ArgumentSchemas
from femtoclaw.authorization import CallContext, Decision, authorize
from femtoclaw.claws import SHIPPED
from femtoclaw.errors import PolicyError
from femtoclaw.policy import PolicyEngine, PolicyRequest, default_policy
from femtoclaw.policy_groups import GROUPS as DECLARED
from femtoclaw.policy_groups import time_group
from femtoclaw.state import Claw

RUN = {"source": "cli", "brain": "script", "step": 1, "environment": "production"}
GROUPS: dict[str, dict[str, Any]] = {
    "run": RUN,
    "time": time_group(1_795_269_600),
    "usage": dict.fromkeys(DECLARED["usage"], 0),
    "history": {"done": [], "failed": [], "denied": 0, "last": ""},
    "origin": {"tainted": False, "sources": [], "arguments": []},
}
FOUR = """
@id("allow-notes") permit (principal, action == Action::"fs.read", resource) when { context.path like "notes/*" };
@id("allow-echo") permit (principal, action == Action::"shell", resource) when { context.binary == "/bin/echo" };
@id("deny-secret") forbid (principal, action, resource) when { context has path && context.path like "*secret*" };
@id("small-writes") permit (principal, action == Action::"fs.write", resource)
  when { context.args.mode == "create" && context.run.environment == "staging" };
"""


def ask(engine: PolicyEngine, claw: str, args: dict[str, Any], facts: dict[str, Any], **run: Any) -> bool:
    return engine.evaluate(PolicyRequest("agent", claw, args, facts, GROUPS | {"run": RUN | run})).allowed


def read(engine: PolicyEngine, path: str) -> bool:
    return ask(engine, "fs.read", {"path": path}, {"path": path})


def load(text: str) -> PolicyEngine:
    return PolicyEngine.load(text, SHIPPED)


@pytest.mark.requirement("POLICY-9.1")
def test_allowlist_denylist_argument_and_environment_rules() -> None:
    """One policy with all four kinds: each is hit and missed; deny wins where both match; an empty policy denies."""
    engine = load(FOUR)
    write = {"path": "a", "content": "x"}
    assert read(engine, "notes/a")
    assert not read(engine, "other/a")
    assert not read(engine, "notes/secret")
    assert ask(engine, "shell", {"bin": "echo"}, {"binary": "/bin/echo", "command": "/bin/echo"})
    assert not ask(engine, "shell", {"bin": "cat"}, {"binary": "/bin/cat", "command": "/bin/cat"})
    assert ask(engine, "fs.write", write | {"mode": "create"}, {"path": "a"}, environment="staging")
    assert not ask(engine, "fs.write", write | {"mode": "replace"}, {"path": "a"}, environment="staging")
    assert not ask(engine, "fs.write", write | {"mode": "create"}, {"path": "a"})
    assert not read(load(""), "notes/a")


@pytest.mark.requirement("POLICY-5.1")
def test_the_determining_policies_are_named() -> None:
    """A permission and a prohibition name their policies; a default denial names none."""
    engine = load(FOUR)

    def verdict(path: str) -> tuple[str, ...]:
        return engine.evaluate(
            PolicyRequest("agent", "fs.read", {"path": path}, {"path": path}, {"run": RUN})
        ).determining

    assert verdict("notes/a") == ("allow-notes",)
    assert verdict("notes/secret") == ("deny-secret",)
    assert verdict("elsewhere") == ()


@pytest.mark.parametrize(
    "text, wrong",
    [
        ("permit (principal, action, resource);", "no @id"),
        ('@id("a") permit (principal, action, resource); @id("a") permit (principal, action, resource);', "same @id"),
        ('@id("a") permit (principal, action, resource) when { context.pth == "x" };', "does not fit"),
        ('@id("a") permit (principal, action == Action::"fs.raed", resource);', "does not fit"),
        (
            '@id("a") permit (principal, action == Action::"fs.read", resource) when { context.path == 7 };',
            "does not fit",
        ),
        ('@id("a") permit (principal action);', "does not parse"),
        ("// " + "x" * 300_000, "too large"),
        ('@id("a") forbid (principal == ?principal, action, resource);', "template .* at a; expected a policy without"),
        ("forbid (principal, action, resource in ?resource);", "template .* at the one Cedar calls policy0"),
        (
            '@id("a") forbid (principal, action, resource) when { context has pth && context.pth == "x" };',
            "at a; .*pth",
        ),
        ('@id("a") forbid (principal, action, resource) when { context has args.pth };', "context.args; at a; .*pth"),
        ('@id("a\\n") permit (principal, action, resource);', "cannot be shown"),
        (f'@id("{"a" * 129}") permit (principal, action, resource);', "cannot be shown"),
    ],
)
@pytest.mark.requirement("POLICY-10.1")
def test_a_wrong_policy_is_refused_at_load(text: str, wrong: str) -> None:
    """Syntax, unknown attributes, actions and types, templates, bad ids: refused with the reason, never ignored."""
    with pytest.raises(PolicyError, match=wrong) as refused:
        load(text)
    assert refused.value.exit_code == 2


ERRING = """
@id("all") permit (principal, action == Action::"fs.read", resource);
@id("some") permit (principal, action == Action::"fs.read", resource) when { context.path == "a" };
@id("overflow") forbid (principal, action == Action::"fs.read", resource)
  when { context.run.step * 9223372036854775807 < 0 };
@id("far") forbid (principal, action == Action::"fs.read", resource)
  when { context.args has offset && context.args.offset + 9223372036854775807 < 10 };
@id("never-b") forbid (principal, action == Action::"fs.read", resource) when { context.path == "b" };
"""


@pytest.mark.parametrize(
    "step, args, failing, determining",
    [
        (1, {"path": "a", "offset": 0}, (), ("all", "some")),
        (3, {"path": "a"}, ("overflow",), ()),
        (3, {"path": "a", "offset": 7}, ("far", "overflow"), ()),
        (0, {"path": "b", "offset": 7}, ("far",), ("never-b",)),
    ],
)
def test_an_evaluation_error_denies(
    step: int, args: dict[str, Any], failing: tuple[str, ...], determining: tuple[str, ...]
) -> None:
    """Cedar skips a policy that fails; here any failing policy denies and is named, and nothing else of it is told."""
    engine = load(ERRING)
    verdict = engine.evaluate(
        PolicyRequest("agent", "fs.read", args, {"path": args["path"]}, {"run": RUN | {"step": step}})
    )
    assert verdict == (not failing, determining, failing, "", None)
    shown = authorize(
        "fs.read",
        args,
        CONTEXT._replace(step=step),
        registry={"fs.read": Claw("fs.read", b"", "", True)},
        manifests=MANIFESTS,
        schemas=SCHEMAS,
        settings={},
        engine=engine,
    )
    if failing:
        assert shown == (Decision.DENIED_POLICY_VIOLATION, "POLICY_ERROR", tuple(sorted(failing + determining)), None)
    else:
        assert shown == (Decision.AUTHORIZED, "PERMITTED", determining, None)


def test_a_missing_fact_denies() -> None:
    """A policy about a fact that the call does not have fails, and so denies, whatever others permit."""
    text = """
    @id("all") permit (principal, action, resource);
    @id("not-b") forbid (principal, action == Action::"fs.read", resource) when { context.path == "b" };
    """
    verdict = load(text).evaluate(PolicyRequest("agent", "fs.read", {"path": "a"}, {}, {"run": RUN}))
    assert verdict == (False, (), ("not-b",), "", None)


@given(st.text(max_size=40))
def test_hostile_text_is_data(path: str) -> None:
    """Quotes, stars, line breaks and code in a value neither break the request nor match what they are not."""
    assert read(ENGINE, path) is (path.startswith("notes/") and "secret" not in path)


ENGINE = load(FOUR)


EVERYTHING = load('@id("everything") permit (principal, action, resource);')


@pytest.mark.parametrize(
    "claw, args, refusal",
    [
        ("no.such", {}, "UNKNOWN_CLAW"),
        ("fs.read\x00", {"path": "a"}, "UNKNOWN_CLAW"),
        ("fs.read", {"path": object()}, "UNUSABLE_REQUEST"),
        ("fs.read", {"path": {"__entity": {"type": "Agent", "id": "operator"}}}, "UNUSABLE_REQUEST"),
        ("fs.read", {"path": "a", "offset": True}, "UNUSABLE_REQUEST"),
        ("fs.read", {"path": "a", "offset": 2**63}, "UNUSABLE_REQUEST"),
        ("fs.read", {"path": "\ud800"}, "UNUSABLE_REQUEST"),
        ("shell", {"bin": "a", "argv": [1]}, "UNUSABLE_REQUEST"),
        ("shell", {"bin": "a", "argv": [{"__extn": {"fn": "ip", "arg": "::1"}}]}, "UNUSABLE_REQUEST"),
    ],
)
def test_the_engine_itself_denies_what_it_does_not_know(claw: str, args: dict[str, Any], refusal: str) -> None:
    """Under a policy that permits everything: unregistered claws, and values of undeclared types, are denied."""
    facts = {"path": "a"}
    assert EVERYTHING.evaluate(PolicyRequest("agent", "fs.read", {"path": "a"}, facts, {"run": RUN})).allowed
    assert EVERYTHING.evaluate(PolicyRequest("agent", claw, args, facts, {"run": RUN})) == (
        False,
        (),
        (),
        refusal,
        None,
    )


def test_no_fact_stands_in_for_a_reserved_part_of_the_context() -> None:
    """Facts named ``args`` and ``run`` do not replace where the call comes from or what it passes."""
    text = """@id("staging") permit (principal, action, resource)
      when { context.run.environment == "staging" || (context.args has path && context.args.path == "open") };"""
    forged = {"run": RUN | {"environment": "staging"}, "args": {"path": "open"}, "path": "a"}
    verdict = load(text).evaluate(PolicyRequest("agent", "fs.read", {"path": "a"}, forged, {"run": RUN}))
    assert not verdict.allowed
    assert not verdict.errors


@pytest.mark.parametrize(
    "read_as",
    [
        "context.run.environment",
        'context["run"]["environment"]',
        "(if context has run then context else context).run.environment",
        "{c: context}.c.run.environment",
    ],
)
def test_where_a_call_comes_from_reaches_every_policy_that_reads_it(read_as: str) -> None:
    """``run`` is left out of the question for policies that do not read it, and for no others."""
    for effect in ("permit", "forbid"):
        base = '@id("base") permit (principal, action, resource);' if effect == "forbid" else ""
        engine = load(f'{base} @id("a") {effect} (principal, action, resource) when {{ {read_as} == "staging" }};')
        for environment in ("staging", "production"):
            allowed = ask(engine, "fs.read", {"path": "a"}, {"path": "a"}, environment=environment)
            assert allowed is ((environment == "staging") is (effect == "permit"))


SECRET = "s3cr3t-in-the-policy"


@pytest.mark.parametrize(
    "condition",
    [
        f'"{SECRET}" && true',
        f'"{SECRET}" "b"',
        f'ip("{SECRET}").isIpv4()',
        f'decimal("{SECRET}") == decimal("1.0")',
        f'context.path == "{SECRET}',
        f'context.path == "a" + "{SECRET}"',
        f'context.path like 7 || "{SECRET}"',
    ],
)
def test_a_refused_policy_does_not_show_its_strings(condition: str) -> None:
    """What is compared with may be a secret: no error text repeats a string of the policy."""
    with pytest.raises(PolicyError) as refused:
        load(f'@id("a") permit (principal, action == Action::"fs.read", resource) when {{ {condition} }};')
    assert SECRET not in f"{refused.value} {refused.value.remedy} {refused.value.__cause__}"


@pytest.mark.requirement("POLICY-13.1")
def test_decisions_do_not_depend_on_order_or_threads() -> None:
    """10,000 shuffled requests over 64 threads decide as they do one after the other."""
    paths = [f"{folder}/{name}" for folder in ("notes", "other") for name in ("a", "secret", "b")]
    questions = [paths[number % len(paths)] for number in range(10_000)]
    expected = {path: read(ENGINE, path) for path in paths}
    random.Random(7).shuffle(questions)
    wrong: list[str] = []

    def work(part: list[str]) -> None:
        wrong.extend(path for path in part if read(ENGINE, path) is not expected[path])

    threads = [threading.Thread(target=work, args=(questions[number::64],)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_engine_does_not_change() -> None:
    """No attribute of a loaded engine can be set."""
    for name in ("digest", "_policies", "anything"):
        with pytest.raises(AttributeError):
            setattr(ENGINE, name, None)


def test_the_shipped_policy_reads_and_protects() -> None:
    """Reading in the workspace is permitted, secrets are not, nothing else is."""
    engine = load(default_policy())
    assert read(engine, "a/b.txt")
    assert not read(engine, "prod.env")
    assert not read(engine, ".ssh/id_rsa")
    assert not ask(engine, "fs.write", {"path": "a", "content": "", "mode": "create"}, {"path": "a"})


CONTEXT = CallContext("agent", "cli", "script", 1, "production")
MANIFESTS = {manifest.name: manifest for manifest in SHIPPED}
SCHEMAS = ArgumentSchemas(SHIPPED)


def decide(tool: str, args: dict[str, Any], *, enabled: bool = True, engine: Any = ENGINE) -> tuple[Decision, str]:
    registry = {name: Claw(name, b"", "", enabled) for name in MANIFESTS}
    verdict = authorize(
        tool,
        args,
        CONTEXT,
        registry=registry,
        manifests=MANIFESTS,
        schemas=SCHEMAS,
        settings={"shell": {"binaries": ["/bin/echo"]}},
        engine=engine,
    )
    return verdict.decision, verdict.reason


@pytest.mark.requirement("POLICY-7.1", "POLICY-8.1")
def test_the_five_decisions_in_their_order() -> None:
    """Not found before disabled before arguments before policy; each code has its call."""
    assert decide("no.such", {"path": "../x"}, enabled=False) == (
        Decision.DENIED_CAPABILITY_NOT_FOUND,
        "NOT_REGISTERED",
    )
    assert decide("fs.read", {"path": "../x"}, enabled=False) == (Decision.DENIED_CAPABILITY_DISABLED, "DISABLED")
    assert decide("fs.read", {"path": "../secret"}) == (Decision.DENIED_ARGUMENT_INVALID, "PATH_ESCAPES")
    assert decide("fs.read", {"path": "notes/secret"}) == (Decision.DENIED_POLICY_VIOLATION, "FORBIDDEN")
    assert decide("fs.read", {"path": "x"}) == (Decision.DENIED_POLICY_VIOLATION, "NO_PERMIT")
    assert decide("fs.read", {"path": "notes/x"}) == (Decision.AUTHORIZED, "PERMITTED")
    assert decide("fs.read", {"path": "notes/x"}, engine=None) == (Decision.DENIED_POLICY_VIOLATION, "NO_POLICY")
    with pytest.raises(ValueError, match="MAYBE"):
        Decision("MAYBE")


@pytest.mark.requirement("EXEC-9.1")
def test_a_failure_inside_deciding_is_a_denial() -> None:
    """An engine that raises, arguments of an impossible shape: fail closed, without the error's words."""

    class Broken:
        def evaluate(self, request: object) -> object:
            raise RuntimeError(f"broken by {request}")

    denied = (Decision.DENIED_POLICY_VIOLATION, "GATE_FAILURE:RuntimeError")
    assert decide("fs.read", {"path": "notes/x"}, engine=Broken()) == denied
    assert decide("fs.read", {"path": None}) == (Decision.DENIED_ARGUMENT_INVALID, "ARGUMENT_TYPE")
