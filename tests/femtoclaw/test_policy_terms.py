"""What permits ask for beside their conditions, the groups of the context, and an engine that knows it was changed."""

from __future__ import annotations

import random
import threading
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from femtoclaw.argument_schemas import ArgumentSchemas
from femtoclaw.authorization import HELD, CallContext, Decision, Verdict, authorize, inputs_digest
from femtoclaw.claws import SHIPPED
from femtoclaw.errors import PolicyError
from femtoclaw.policy import APPROVERS_CONFLICT, HAZARD, PolicyEngine, PolicyRequest
from femtoclaw.policy_annotations import ROLES, ApprovalRule
from femtoclaw.policy_cases import DEFAULTS
from femtoclaw.policy_groups import GROUPS, group, time_group
from femtoclaw.state import Claw

MANIFESTS = {manifest.name: manifest for manifest in SHIPPED}
SCHEMAS = ArgumentSchemas(SHIPPED)
REGISTRY = {name: Claw(name, b"", "", True) for name in MANIFESTS}
BINARIES = ["/bin/echo", "/usr/bin/python3", "/usr/bin/env", "/usr/bin/sort"]
OTHERS = {name: DEFAULTS[name] for name in GROUPS if name != "run"}


def load(text: str) -> PolicyEngine:
    return PolicyEngine.load(text, SHIPPED)


def ask(engine: PolicyEngine, claw: str, facts: dict[str, Any] | None = None, **args: Any) -> Any:
    return engine.evaluate(PolicyRequest("agent", claw, args, facts or {}, DEFAULTS))


def gate(engine: PolicyEngine, tool: str, context: CallContext | None = None, **args: Any) -> Verdict:
    context = context or CallContext("agent", "cli", "script", 1, "production", OTHERS)
    return authorize(
        tool, args, context, registry=REGISTRY, manifests=MANIFESTS, schemas=SCHEMAS,
        settings={"shell": {"binaries": BINARIES}}, engine=engine,
    )  # fmt: skip


def read(annotations: str = "", condition: str = "", name: str = "a", effect: str = "permit") -> str:
    scope = '(principal, action == Action::"fs.read", resource)'
    return f'@id("{name}") {annotations} {effect} {scope} {condition};'


@pytest.mark.parametrize(
    "annotations, effect, wrong",
    [
        ('@approval("1")', "permit", "unknown annotation; at a"),
        ("@approvals", "permit", "@approvals is no number .* nothing"),
        ('@approvals("")', "permit", "@approvals is no number"),
        ('@approvals("0")', "permit", "@approvals is no number"),
        ('@approvals("17")', "permit", "@approvals is no number"),
        ('@approvals("+1")', "permit", "@approvals is no number"),
        ('@approvals("01")', "permit", "@approvals is no number"),
        ('@approvals("\u0661")', "permit", "@approvals is no number"),
        ('@approvals("1") @expires("59")', "permit", "@expires is no number"),
        ('@approvals("1") @expires("604801")', "permit", "@expires is no number"),
        ('@expires("60")', "permit", "@expires does nothing without @approvals"),
        ('@approvers("SecurityOfficer")', "permit", "@approvers does nothing without"),
        ('@approvals("1") @approvers("")', "permit", "no known role"),
        ('@approvals("1") @approvers("SecurityOficer")', "permit", "found SecurityOficer"),
        ('@approvals("1") @approvers("SecurityOfficer,")', "permit", "no known role"),
        ('@accepts("")', "permit", "names no hazards"),
        ('@accepts("inline code")', "permit", "names no hazards"),
        ('@accepts("*")', "permit", "names no hazards"),
        ('@approvals("1")', "forbid", "only a permit can have"),
        ('@accepts("newline")', "forbid", "only a permit can have"),
        ('@expires("60")', "forbid", "only a permit can have"),
    ],
)
def test_a_wrong_annotation_is_refused_at_load(annotations: str, effect: str, wrong: str) -> None:
    """Unknown, out of bounds, on a forbid, or without what it belongs to: none is ignored."""
    with pytest.raises(PolicyError, match=wrong) as refused:
        load(read(annotations, effect=effect))
    assert refused.value.where == "a"


def test_ids_and_descriptions_are_free() -> None:
    """The two annotations for people change nothing."""
    assert ask(load(read('@description("whatever; @approvals")')), "fs.read", {"path": "a"}, path="a").allowed


def test_a_permit_with_approvals_holds_the_call() -> None:
    """The verdict is HELD with the rule, by default for an hour and by anybody who may approve; it is no PERMITTED."""
    assert gate(load(read('@approvals("2")')), "fs.read", path="a").approval == ApprovalRule(2, (), 3600)
    text = read('@approvals("1") @approvers("SecurityOfficer, RuntimeOperator") @expires("900")')
    verdict = gate(load(text), "fs.read", path="a")
    rule = ApprovalRule(1, ("RuntimeOperator", "SecurityOfficer"), 900)
    assert (verdict.reason, verdict.determining, verdict.approval) == (HELD, ("a",), rule)
    assert gate(load(read()), "fs.read", path="a") == (Decision.AUTHORIZED, "PERMITTED", ("a",), None)


def test_one_held_permit_holds_what_others_permit() -> None:
    """Among several determining permits the strictest of each counts; one that does not match asks for nothing."""
    texts = [
        read(name="free"),
        read('@approvals("2") @approvers("SecurityOfficer,RuntimeOperator") @expires("900")', name="two"),
        read('@approvals("3") @approvers("SecurityOfficer,ComplianceOfficer") @expires("7200")', name="three"),
        read('@approvals("1")', name="anybody"),
        read('@approvals("16")', 'when { context.path == "other" }', name="elsewhere"),
    ]
    verdict = gate(load("\n".join(texts)), "fs.read", path="a")
    assert verdict.approval == ApprovalRule(3, ("SecurityOfficer",), 900)
    assert verdict.determining == ("anybody", "free", "three", "two")


def test_approvers_that_exclude_each_other_deny() -> None:
    """No role may approve for all of the permits: denied, instead of one of them being forgotten."""
    texts = [
        read('@approvals("1") @approvers("SecurityOfficer")', name="one"),
        read('@approvals("1") @approvers("RuntimeOperator")', name="other"),
    ]
    verdict = gate(load("\n".join(texts)), "fs.read", path="a")
    assert verdict == (Decision.DENIED_POLICY_VIOLATION, APPROVERS_CONFLICT, ("one", "other"), None)


def test_a_forbid_wins_over_a_held_permit() -> None:
    """Nobody is asked to approve what is forbidden; a failing policy denies as well."""
    held = read('@approvals("1")', name="held")
    forbidden = gate(load(held + read(effect="forbid", name="no")), "fs.read", path="a")
    assert (forbidden.decision, forbidden.reason, forbidden.approval) == (
        Decision.DENIED_POLICY_VIOLATION, "FORBIDDEN", None,
    )  # fmt: skip
    failing = read(
        condition="when { context.args.offset * 9223372036854775807 < 0 && true }", name="no", effect="forbid"
    )
    text = held + failing.replace("when {", "when { context.args has offset &&")
    failed = gate(load(text), "fs.read", path="a", offset=3)
    assert (failed.reason, failed.approval) == ("POLICY_ERROR", None)


SHELL = '(principal, action == Action::"shell", resource)'


@pytest.mark.parametrize(
    "hazards, accepts, allowed",
    [
        ([], None, True),
        (["newline"], None, False),
        (["newline"], "newline", True),
        (["newline"], "inline_code", False),
        (["inline_code", "newline"], "newline", False),
        (["inline_code", "newline"], "inline_code, newline", True),
        (["newline"], "newline,inline_code", True),
    ],
)
def test_a_hazard_must_be_accepted_by_a_permit(hazards: list[str], accepts: str | None, allowed: bool) -> None:
    """Every hazard, by a permit that determines the decision."""
    annotation = f'@accepts("{accepts}")' if accepts is not None else ""
    engine = load(f'@id("a") {annotation} permit {SHELL};')
    facts = {"binary": "/bin/x", "command": "/bin/x", "hazards": hazards}
    verdict = ask(engine, "shell", facts, bin="x")
    assert (verdict.allowed, verdict.refusal, verdict.determining) == (allowed, "" if allowed else HAZARD, ("a",))


def test_only_determining_permits_accept_hazards() -> None:
    """Several may accept one each; what a permit that does not match accepts, counts for nothing."""
    first = f'@id("first") @accepts("newline") permit {SHELL};'
    second = f'@id("second") @accepts("inline_code") permit {SHELL}'
    facts = {"binary": "/bin/x", "command": "/bin/x", "hazards": ["inline_code", "newline"]}
    assert ask(load(f"{first} {second};"), "shell", facts, bin="x").allowed
    elsewhere = load(f'{first} {second} when {{ context.binary == "/bin/y" }};')
    assert ask(elsewhere, "shell", facts, bin="x").refusal == HAZARD


@pytest.mark.parametrize("hazards", ["newline", ("newline",), [7], {"newline": 1}, 1])
def test_hazards_of_another_shape_deny(hazards: Any) -> None:
    """A fact that is no list of codes is none that a permit could accept."""
    engine = load(f'@id("a") @accepts("newline,n") permit {SHELL};')
    facts = {"binary": "/bin/x", "command": "/bin/x", "hazards": hazards}
    assert not ask(engine, "shell", facts, bin="x").allowed


@pytest.mark.parametrize(
    "program, argv",
    [("python3", ["-c", "1"]), ("env", ["sh", "-c", "ls"]), ("sort", ["--compress-program", "sh"]), ("echo", ["a\nb"])],
)
def test_a_hazardous_command_is_denied_by_the_gate(program: str, argv: list[str]) -> None:
    """Under a policy that permits every command: the known ways around a list of programs are denied, and named."""
    verdict = gate(load(f'@id("all") permit {SHELL};'), "shell", bin=program, argv=argv)
    assert verdict == (Decision.DENIED_POLICY_VIOLATION, HAZARD, ("all",), None)


def test_hazards_can_be_judged_by_policy_too() -> None:
    """A forbid about a hazard holds whatever permits accept."""
    text = f'@id("a") @accepts("newline") permit {SHELL}; @id("no") forbid {SHELL} when {{ context.hazards.contains("newline") }};'
    assert gate(load(text), "shell", bin="echo", argv=["a\nb"]).reason == "FORBIDDEN"
    assert gate(load(text), "shell", bin="echo", argv=["a"]).decision is Decision.AUTHORIZED


READS = {
    "run": "context.run.step > 99",
    "time": "context.time.hour > 99",
    "usage": "context.usage.run_calls > 99",
    "history": 'context.history.done.contains("x")',
    "origin": "context.origin.tainted",
}


@pytest.mark.parametrize("name", READS)
def test_a_group_is_needed_when_it_is_read(name: str) -> None:
    """Each group alone; with it missing or of another shape the call is denied, with any other missing it is not."""
    engine = load(read() + read(condition=f"when {{ {READS[name]} }}", effect="forbid", name="b"))
    assert engine.needs == {name}
    given = PolicyRequest("agent", "fs.read", {"path": "a"}, {"path": "a"}, {name: DEFAULTS[name]})
    assert engine.evaluate(given).allowed
    for attribute, kind in GROUPS[name].items():
        other: Any = "7" if kind != "String" else 7
        for wrong in ({attribute: other}, {attribute: None}, {"more": 1}):
            changed = given._replace(groups={name: {**DEFAULTS[name], **wrong}})
            assert engine.evaluate(changed).refusal == "UNUSABLE_REQUEST"
        fewer = {key: value for key, value in DEFAULTS[name].items() if key != attribute}
        assert engine.evaluate(given._replace(groups={name: fewer})).refusal == "UNUSABLE_REQUEST"
    assert engine.evaluate(given._replace(groups={})).refusal == "UNUSABLE_REQUEST"
    assert load(read()).needs == frozenset()
    assert load(read(condition="when { {c: context}.c has path }")).needs == frozenset(GROUPS)


def test_the_gate_denies_when_a_needed_group_is_missing() -> None:
    """A caller that forgets what policy reads gets a denial, and not a decision without it."""
    engine = load(read() + read(condition="when { context.usage.run_calls > 3 }", effect="forbid", name="b"))
    bare = CallContext("agent", "cli", "script", 1, "production")
    assert gate(engine, "fs.read", bare, path="a") == (Decision.DENIED_POLICY_VIOLATION, "POLICY_ERROR", (), None)


def test_no_group_of_a_caller_stands_in_for_run() -> None:
    """``run`` is made of the context's own fields, whatever stands in its groups."""
    engine = load(read(condition='when { context.run.environment == "staging" }'))
    forged = {"run": {"source": "cli", "brain": "script", "step": 1, "environment": "staging"}}
    context = CallContext("agent", "cli", "script", 1, "production", forged)
    assert gate(engine, "fs.read", context, path="a").decision is Decision.DENIED_POLICY_VIOLATION


def test_sequence_budget_time_and_origin_rules() -> None:
    """One rule on each group, hit and missed."""
    text = """
    @id("after") permit (principal, action == Action::"fs.write", resource)
      when { context.history.done.contains("fs.read") && context.history.failed.isEmpty() };
    @id("hours") forbid (principal, action, resource) unless { context.time.hour >= 6 && context.time.weekday <= 5 };
    @id("budget") forbid (principal, action, resource) when { context.usage.run_calls >= 3 };
    @id("origin") forbid (principal, action, resource) when { context.origin.arguments.contains("content") };
    """
    engine = load(text)

    def write(**changed: dict[str, Any]) -> tuple[str, ...]:
        ready = {"history": {"done": ["fs.read"]}} | changed
        groups = {name: {**OTHERS[name], **ready.get(name, {})} for name in OTHERS}
        context = CallContext("agent", "cli", "script", 1, "production", groups)
        verdict = gate(engine, "fs.write", context, path="a", content="x", mode="create")
        return (verdict.reason, *verdict.determining)

    assert write() == ("PERMITTED", "after")
    assert write(history={"done": []}) == ("NO_PERMIT",)
    assert write(history={"done": ["fs.read"], "failed": ["shell"]}) == ("NO_PERMIT",)
    assert write(time=time_group(1_795_435_200 - 86_400)) == ("FORBIDDEN", "hours")
    assert write(usage={"run_calls": 2}) == ("PERMITTED", "after")
    assert write(usage={"run_calls": 3}) == ("FORBIDDEN", "budget")
    assert write(origin={"tainted": True, "arguments": ["content"]}) == ("FORBIDDEN", "origin")


def test_a_misspelt_group_is_refused() -> None:
    """An attribute or group that there is not does not quietly make a rule false."""
    for condition in ("context.usage.run_cals > 3", "context has uasge", "context.usage has run_cals",
                      "context.time.hour == \"3\"", "context.origin.sources == \"x\""):  # fmt: skip
        with pytest.raises(PolicyError, match=r"does not fit|no registered claw has"):
            load(read(condition=f"when {{ {condition} }}"))


def test_a_schema_digest_knows_only_what_the_policy_reads() -> None:
    """Schemas that the log recorded before there were more groups and facts keep their digests."""
    plain = load(read()).schema_digest
    assert load(read(condition="when { context.run.step < 9 }")).schema_digest == plain
    assert load(read(condition="when { context.usage.run_calls < 9 }")).schema_digest != plain


GROUP_VALUES = st.fixed_dictionaries(
    {
        "time": st.integers(0, 2**40).map(time_group),
        "usage": st.fixed_dictionaries({name: st.integers(0, 2**62) for name in GROUPS["usage"]}),
        "history": st.fixed_dictionaries(
            {
                "done": st.frozensets(st.text(max_size=5), max_size=3),
                "failed": st.lists(st.text(max_size=5), max_size=3),
                "denied": st.integers(0, 99),
                "last": st.text(max_size=9),
            }
        ),
        "origin": st.fixed_dictionaries(
            {
                "tainted": st.booleans(),
                "sources": st.lists(st.text(max_size=5), max_size=3),
                "arguments": st.lists(st.text(max_size=5), max_size=3),
            }
        ),
    }
)


@given(GROUP_VALUES, GROUP_VALUES, st.frozensets(st.sampled_from(sorted(GROUPS))))
def test_groups_that_are_not_read_change_no_digest(
    some: dict[str, Any], other: dict[str, Any], needs: frozenset[str]
) -> None:
    """The digest of a decision's inputs follows the groups that are needed, and no others."""
    first = CallContext("agent", "cli", "script", 1, "production", some)
    mixed = {name: some[name] if name in needs else other[name] for name in some}
    digest = inputs_digest("c", "m", "p", "f", first, needs)
    assert digest == inputs_digest("c", "m", "p", "f", first._replace(groups=mixed), needs)
    differs = any(group(name, some[name]) != group(name, other[name]) for name in needs & some.keys())
    assert differs is (digest != inputs_digest("c", "m", "p", "f", first._replace(groups=other), needs))


def test_without_groups_the_digest_is_the_first_versions() -> None:
    """Pinned: what old logs hold comes out the same for ever."""
    context = CallContext("agent", "cli", "script", 1, "production", OTHERS)
    pinned = "3d69507f6795409c510f14e72345553798c514483012271100b487c9d64beb5d"
    bare = context._replace(groups=MappingProxyType({}))
    found = inputs_digest("c", "m", "p", "f", bare)
    assert found == inputs_digest("c", "m", "p", "f", context, frozenset({"run"})) == pinned
    assert inputs_digest("c", "m", "p", "f", context, frozenset({"time"})) != found
    assert inputs_digest("c", "m", "p", "f", bare, frozenset({"time"})) != found


CONDITIONS = st.sampled_from(
    ["", 'when { context has path && context.path like "a*" }', 'unless { context has path && context.path like "*b" }',
     "when { context.run.step < 2 }", "when { context.usage.run_calls < 5 }", "when { context.origin.tainted }",
     'when { context has args && context.args has mode && context.args.mode == "create" }']
)  # fmt: skip
SCOPES = st.sampled_from(
    [
        "action",
        'action == Action::"fs.read"',
        'action in [Action::"fs.read", Action::"fs.list"]',
        'action == Action::"shell"',
    ]
)
ANNOTATIONS = st.sampled_from(
    ["", '@approvals("1")', '@accepts("newline,folder_config")', '@approvals("2") @expires("60")']
)
RULES = st.tuples(st.booleans(), SCOPES, CONDITIONS, ANNOTATIONS)
PATHS = st.fixed_dictionaries({"path": st.text("abc/.\n*", min_size=1, max_size=6)})
COMMANDS = st.fixed_dictionaries(
    {"bin": st.sampled_from(["echo", "sort", "x"]), "argv": st.lists(st.text(max_size=5), max_size=3)}
)
CALLS = st.one_of(
    st.tuples(st.sampled_from(["fs.read", "fs.list"]), PATHS),
    st.tuples(st.just("shell"), COMMANDS),
    st.tuples(st.text(max_size=8), st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2)),
)


def rule_text(number: int, rule: tuple[bool, str, str, str]) -> str:
    permits, scope, condition, extra = rule
    head = f"{extra} permit" if permits else "forbid"
    return f'@id("p{number}") {head} (principal, {scope}, resource) {condition};'


@settings(deadline=None)
@given(st.lists(RULES, max_size=5), CALLS, st.integers(0, 9), st.booleans())
def test_nothing_is_authorized_that_no_permit_matches(
    rules: list[tuple[bool, str, str, str]], call: tuple[str, dict[str, Any]], calls: int, tainted: bool
) -> None:
    """For any policy and call: authorized or held only when some permit, loaded alone, matches the call, and no forbid,
    loaded alone beside a permit for everything, does."""
    texts = [rule_text(number, rule) for number, rule in enumerate(rules)]
    groups = {
        **OTHERS,
        "usage": {**OTHERS["usage"], "run_calls": calls},
        "origin": {**OTHERS["origin"], "tainted": tainted},
    }
    context = CallContext("agent", "cli", "script", 1, "production", groups)
    tool, args = call
    verdict = gate(load("\n".join(texts)), tool, context, **args)
    if verdict.decision is not Decision.AUTHORIZED and verdict.approval is None:
        return
    every = '@id("every") @accepts("newline") permit (principal, action, resource);'
    matches = [gate(load(text), tool, context, **args) for text in texts]
    assert any("permit (" in text and match.determining for text, match in zip(texts, matches, strict=True))
    for text in texts:
        if "forbid (" in text:
            assert gate(load(every + text), tool, context, **args).reason != "FORBIDDEN"
    asked = any("@approvals" in text and match.determining for text, match in zip(texts, matches, strict=True))
    assert (verdict.reason == HELD) is asked is (verdict.approval is not None)


@pytest.mark.requirement("POLICY-13.1")
def test_verdicts_do_not_depend_on_order_or_threads(seed: int) -> None:
    """Ten thousand shuffled questions on groups, approvals and hazards over 64 threads: as one after the other."""
    engine = load(
        f'@id("held") @approvals("2") permit {SHELL} when {{ context.usage.run_calls >= 5 }};'
        f'@id("free") @accepts("newline") permit {SHELL};'
        '@id("night") forbid (principal, action, resource) when { context.time.hour < 6 };'
    )
    questions = []
    for number in range(60):
        groups = {**OTHERS, "usage": {**OTHERS["usage"], "run_calls": number % 10}, "time": time_group(number * 3600)}
        hazards = [["newline"], ["inline_code"], []][number % 3]
        facts = {"binary": "/bin/x", "command": "/bin/x", "hazards": hazards}
        questions.append(PolicyRequest("agent", "shell", {"bin": "x"}, facts, groups))
    expected = [engine.evaluate(question) for question in questions]
    assert {(verdict.allowed, verdict.refusal, verdict.approval is None) for verdict in expected} == {
        (True, "", True), (True, "", False), (False, "", True), (False, HAZARD, True),
    }  # fmt: skip
    order = [number % len(questions) for number in range(10_000)]
    random.Random(seed).shuffle(order)
    wrong: list[int] = []

    def work(part: list[int]) -> None:
        wrong.extend(number for number in part if engine.evaluate(questions[number]) != expected[number])

    threads = [threading.Thread(target=work, args=(order[number::64],)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


OTHER = load('@id("every") permit (principal, action, resource);')


@pytest.mark.parametrize(
    "name, value",
    [
        ("_policies", OTHER._policies),
        ("_names", {"policy0": "b"}),
        ("_arguments", {}),
        ("_terms", {}),
        ("_ask", lambda *question: None),
        ("_entities", None),
        ("needs", frozenset({"time"})),
        ("digest", OTHER.digest),
        ("schema_digest", "0" * 64),
        ("text", OTHER.text),
        ("_seal", OTHER._seal),
    ],
)
def test_a_forced_change_of_an_engine_is_found(name: str, value: Any) -> None:
    """Setting raises; where it was forced past that, the engine knows that it is not what was loaded."""
    engine = load(read('@approvals("1")'))
    assert engine.intact()
    with pytest.raises(AttributeError):
        setattr(engine, name, value)
    object.__setattr__(engine, name, value)
    assert not engine.intact()


def test_parts_of_an_engine_cannot_be_changed_in_place() -> None:
    """What an answer follows from is read-only all the way down."""
    engine = load(read('@approvals("1")'))
    for part in (engine._names, engine._terms, engine._arguments, engine._arguments["fs.read"]):
        with pytest.raises(TypeError):
            part["fs.read"] = None  # type: ignore[index]


def test_every_role_can_be_named() -> None:
    """The five roles, and no others."""
    assert gate(
        load(read(f'@approvals("1") @approvers("{",".join(ROLES)}")')), "fs.read", path="a"
    ).approval == ApprovalRule(1, tuple(sorted(ROLES)), 3600)
