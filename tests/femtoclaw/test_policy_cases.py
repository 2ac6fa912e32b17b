"""Files of cases: what is left out has a fixed value, what is misspelt is refused, what is decided otherwise is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from femtoclaw.claws import SHIPPED
from femtoclaw.errors import ConfigurationError
from femtoclaw.policy import PolicyEngine
from femtoclaw.policy_cases import DEFAULTS, read_cases, run_cases
from femtoclaw.policy_groups import time_group

POLICY = """
@id("read") permit (principal, action == Action::"fs.read", resource)
  when { context.time.hour < 13 && context.usage.run_calls < 2 && context.run.environment == "production" };
@id("held") @approvals("2") permit (principal == Agent::"other", action == Action::"fs.list", resource);
"""
ENGINE = PolicyEngine.load(POLICY, SHIPPED)


def lines(*bodies: dict[str, Any]) -> bytes:
    return "\n".join(json.dumps(body) for body in bodies).encode()


def case(**changed: Any) -> dict[str, Any]:
    return {"claw": "fs.read", "args": {"path": "a"}, "expect": "AUTHORIZED"} | changed


def wrong(*bodies: dict[str, Any]) -> list[tuple[str, ...]]:
    return [result.wrong for result in run_cases(read_cases(lines(*bodies), "cases"), ENGINE, SHIPPED)]


def test_both_forms_say_the_same() -> None:
    """TOML and JSON lines of the same cases give the same cases."""
    toml = b"""
[defaults.usage]
run_calls = 1
[[case]]
name = "one"
claw = "fs.read"
args = { path = "a" }
time = 2026-11-23T12:59:59Z
expect = { decision = "AUTHORIZED", determining = ["read"] }
"""
    body = case(name="one", time="2026-11-23T12:59:59Z", expect={"decision": "AUTHORIZED", "determining": ["read"]})
    assert read_cases(toml, "f") == read_cases(lines({"defaults": {"usage": {"run_calls": 1}}}, body), "f")


def test_expectations_are_compared_part_by_part() -> None:
    """Only what a case names is compared, and exactly what differs is told."""
    held = case(claw="fs.list", agent="other")
    rule = {"count": 2, "roles": [], "seconds": 3600}
    assert wrong(
        case(),
        case(expect="DENIED_POLICY_VIOLATION"),
        case(usage={"run_calls": 2}),
        case(time=1_795_435_200 + 3600, expect={"decision": "DENIED_POLICY_VIOLATION", "reason": "FORBIDDEN"}),
        case(run={"environment": "staging"}, expect={"decision": "AUTHORIZED", "determining": ["read"]}),
        case(enabled=False, expect="DENIED_CAPABILITY_DISABLED"),
        case(claw="no.such", expect="DENIED_CAPABILITY_NOT_FOUND"),
        case(args={"path": "../a"}, expect={"decision": "DENIED_ARGUMENT_INVALID", "reason": "PATH_ESCAPES"}),
        held | {"expect": {"decision": "HELD", "approval": rule, "determining": ["held"]}},
        held | {"expect": {"decision": "HELD", "approval": rule | {"count": 1}}},
        held | {"expect": "AUTHORIZED"},
    ) == [
        (), ("decision",), ("decision",), ("reason",), ("decision", "determining"), (), (), (), (), ("approval",),
        ("decision",),
    ]  # fmt: skip


def test_defaults_are_filled_in_and_overridden() -> None:
    """A case's own attribute stands over the file's default, and that over the fixed one."""
    defaults = {
        "defaults": {"usage": {"run_calls": 7, "day_calls": 3}, "settings": {"shell": {"binaries": ["/bin/x"]}}}
    }
    first, second, third = read_cases(lines(defaults, case(), case(usage={"run_calls": 0}), case(claw="shell")), "f")
    assert (first.context.groups["usage"]["run_calls"], first.context.groups["usage"]["day_calls"]) == (7, 3)
    assert (second.context.groups["usage"]["run_calls"], second.context.groups["usage"]["day_calls"]) == (0, 3)
    assert first.context.groups["time"] == DEFAULTS["time"] == time_group(DEFAULTS["time"]["at"])
    assert (first.settings, third.settings) == ({}, {"binaries": ["/bin/x"]})


@pytest.mark.parametrize(
    "body, where",
    [
        (case(expct="AUTHORIZED"), "case 1"),
        (case(expect="ALLOWED"), "expect"),
        (case(expect={"decision": "AUTHORIZED", "determned": []}), "expect"),
        (case(expect={}), "expect"),
        ({"claw": "fs.read"}, "expect"),
        (case(claw=7), "claw"),
        (case(args=[]), "args"),
        (case(enabled="no"), "enabled"),
        (case(usage={"run_cals": 1}), "usage"),
        (case(usage={"run_calls": "1"}), "usage"),
        (case(origin={"tainted": 1}), "origin"),
        (case(time="yesterday"), "time"),
        (case(time=True), "time"),
        (case(time=[]), "time"),
        (case(name="n", settings={"binaries": ["/bin/x"]}), "n.: settings"),
        (case(claw="shell", settings={"binares": []}), "settings"),
    ],
)
def test_what_is_misspelt_is_refused(body: dict[str, Any], where: str) -> None:
    """Unknown keys, values of other types, no expectation: refused with the place."""
    with pytest.raises(ConfigurationError, match=where) as refused:
        read_cases(lines(body), "cases")
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"\xff", b"{}\n[]", b"[[case]\n", b"case = 7", b"{" + b'"a":' * 5000, b"cases = []"]
)
def test_bytes_that_are_no_cases_are_refused(raw: bytes) -> None:
    """Empty, cut, another form: one kind of error."""
    with pytest.raises(ConfigurationError):
        read_cases(raw, "cases")
