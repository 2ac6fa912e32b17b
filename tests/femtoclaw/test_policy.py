"""The policy engine: deny by default, forbid wins, errors deny, nothing in a request is code."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from femtoclaw.authorization import CallContext, Decision, authorize
from femtoclaw.claws import SHIPPED
from femtoclaw.errors import PolicyError
from femtoclaw.policy import PolicyEngine, PolicyRequest, default_policy
from femtoclaw.state import Claw

RUN = {"source": "cli", "brain": "script", "step": 1, "environment": "production"}
FOUR = """
@id("allow-notes") permit (principal, action == Action::"fs.read", resource) when { context.path like "notes/*" };
@id("allow-echo") permit (principal, action == Action::"shell", resource) when { context.binary == "/bin/echo" };
@id("deny-secret") forbid (principal, action, resource) when { context has path && context.path like "*secret*" };
@id("small-writes") permit (principal, action == Action::"fs.write", resource)
  when { context.args.mode == "create" && context.run.environment == "staging" };
"""


def ask(engine: PolicyEngine, claw: str, args: dict[str, Any], facts: dict[str, Any], **run: Any) -> bool:
    return engine.evaluate(PolicyRequest("agent", claw, args, facts, RUN | run)).allowed


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
        return engine.evaluate(PolicyRequest("agent", "fs.read", {"path": path}, {"path": path}, RUN)).determining

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
    ],
)
@pytest.mark.requirement("POLICY-10.1")
def test_a_wrong_policy_is_refused_at_load(text: str, wrong: str) -> None:
    """Syntax, unknown attributes, actions and types, missing or doubled ids: refused with the reason, never ignored."""
    with pytest.raises(PolicyError, match=wrong):
        load(text)


def test_an_evaluation_error_denies() -> None:
    """Cedar skips a policy that fails; here the failure of any policy denies the call."""
    text = """
    @id("all") permit (principal, action == Action::"fs.read", resource);
    @id("overflow") forbid (principal, action == Action::"fs.read", resource)
      when { context.run.step * 9223372036854775807 > 10 };
    """
    engine = load(text)
    request = PolicyRequest("agent", "fs.read", {"path": "a"}, {"path": "a"}, RUN | {"step": 3})
    verdict = engine.evaluate(request)
    assert not verdict.allowed
    assert verdict.errors


@given(st.text(max_size=40))
def test_hostile_text_is_data(path: str) -> None:
    """Quotes, stars, line breaks and code in a value neither break the request nor match what they are not."""
    assert read(ENGINE, path) is (path.startswith("notes/") and "secret" not in path)


ENGINE = load(FOUR)


def test_unknown_claws_and_broken_requests_deny() -> None:
    """An action that no policy names, facts that are missing, values Cedar cannot carry: denied, never raised."""
    assert not ask(ENGINE, "no.such", {}, {})
    assert not ask(ENGINE, "fs.read", {}, {})
    assert not ENGINE.evaluate(PolicyRequest("agent", "fs.read", {"path": object()}, {"path": "notes/a"}, RUN)).allowed


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


def decide(tool: str, args: dict[str, Any], *, enabled: bool = True, engine: Any = ENGINE) -> tuple[Decision, str]:
    registry = {name: Claw(name, b"", "", enabled) for name in MANIFESTS}
    verdict = authorize(
        tool,
        args,
        CONTEXT,
        registry=registry,
        manifests=MANIFESTS,
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
    """An engine that raises, arguments of an impossible shape: fail closed."""

    class Broken:
        def evaluate(self, request: object) -> object:
            raise RuntimeError("broken")

    assert decide("fs.read", {"path": "notes/x"}, engine=Broken())[0] is Decision.DENIED_POLICY_VIOLATION
    assert decide("fs.read", {"path": None})[0] is Decision.DENIED_POLICY_VIOLATION
