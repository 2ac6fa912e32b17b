"""Cases that a policy must decide as its author meant: a TOML file, or JSON lines, and what became of each. Pure.

A case is complete in itself: what it does not say has a fixed value (``DEFAULTS``), never the machine's. So the same
file gives the same table everywhere.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from femtoclaw.argument_schemas import ArgumentSchemas
from femtoclaw.authorization import HELD, CallContext, Decision, Verdict, authorize
from femtoclaw.errors import ConfigurationError
from femtoclaw.manifest import Manifest
from femtoclaw.policy import PolicyEngine
from femtoclaw.policy_groups import GROUPS, HISTORY, ORIGIN, RUN, TIME, USAGE, group, time_group
from femtoclaw.settings import check_claw
from femtoclaw.state import Claw

CASES_MAX = 10_000
NAME_CHARS_MAX = 200

AT = 1_795_435_200
"""The moment of a case that names none: Monday, 23 November 2026, 12:00 UTC."""

DEFAULTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        RUN: {"source": "cli", "brain": "script", "step": 1, "environment": "production"},
        TIME: time_group(AT),
        USAGE: dict.fromkeys(GROUPS[USAGE], 0),
        HISTORY: {"done": [], "failed": [], "denied": 0, "last": ""},
        ORIGIN: {"tainted": False, "sources": [], "arguments": []},
    }
)
"""The groups of a case that says nothing of them: the first step of a run at noon of a working day."""

_KEYS = frozenset(("name", "agent", "claw", "args", "enabled", "settings", "expect", *GROUPS))
_EXPECT = frozenset(("decision", "reason", "determining", "approval"))


class Case(NamedTuple):
    """One call in its circumstances, and what must become of it: ``expect`` holds ``decision`` and any of ``reason``,
    ``determining`` and ``approval``."""

    name: str
    claw: str
    args: dict[str, Any]
    context: CallContext
    enabled: bool
    settings: Mapping[str, Any]
    expect: Mapping[str, Any]


class Result(NamedTuple):
    """What became of a case; ``wrong`` names what is not as expected."""

    case: Case
    verdict: Verdict
    wrong: tuple[str, ...]


def read_cases(raw: bytes, where: str) -> list[Case]:
    """The cases of a file: TOML with ``[[case]]`` tables and an optional ``[defaults]``, or JSON lines (of which the
    first may be ``{"defaults": {...}}``) when its first character is a brace. ``settings`` of a case are its claw's;
    those of the defaults are by claw.

    Raises ConfigurationError naming the case for an unknown key or setting, another type, or no expectation.
    """
    defaults, bodies = _from_json(raw, where) if raw.lstrip()[:1] == b"{" else _from_toml(raw, where)
    if not 0 < len(bodies) <= CASES_MAX:
        raise ConfigurationError("no cases, or too many", where=where, expected=f"1 to {CASES_MAX}", found=len(bodies))
    return [_case(defaults, body, f"{where}: case {number}") for number, body in enumerate(bodies, 1)]


def run_cases(cases: Iterable[Case], engine: PolicyEngine, manifests: Iterable[Manifest]) -> list[Result]:
    """Decide every case as the gate would: registry, arguments and policy."""
    known = {manifest.name: manifest for manifest in manifests}
    schemas = ArgumentSchemas(known.values())
    return [_result(case, engine, known, schemas) for case in cases]


def decided(verdict: Verdict) -> str:
    """What became of a call, in one word: one of the five decisions, or ``HELD`` for one that waits for approvals."""
    return HELD if verdict.approval is not None else verdict.decision.value


def approval_body(verdict: Verdict) -> dict[str, Any] | None:
    """The approval that a held verdict waits for, as data."""
    rule = verdict.approval
    return {"count": rule.count, "roles": list(rule.roles), "seconds": rule.seconds} if rule is not None else None


def _result(case: Case, engine: PolicyEngine, known: Mapping[str, Manifest], schemas: ArgumentSchemas) -> Result:
    registry = {name: Claw(name, b"", "", case.enabled) for name in known}
    verdict = authorize(
        case.claw, case.args, case.context, registry=registry, manifests=known, schemas=schemas,
        settings={case.claw: case.settings}, engine=engine,
    )  # fmt: skip
    found = {
        "decision": decided(verdict),
        "reason": verdict.reason,
        "determining": sorted(verdict.determining),
        "approval": approval_body(verdict),
    }
    wrong = tuple(name for name in sorted(case.expect) if case.expect[name] != found[name])
    return Result(case, verdict, wrong)


def _from_toml(raw: bytes, where: str) -> tuple[dict[str, Any], list[Any]]:
    from femtoclaw.config import parse_toml

    body = parse_toml(raw, where)
    _known(body, frozenset(("case", "defaults")), where)
    return _table(body.get("defaults", {}), f"{where}: defaults"), _list(body.get("case", []), f"{where}: case")


def _from_json(raw: bytes, where: str) -> tuple[dict[str, Any], list[Any]]:
    from femtoclaw.strict_json import StrictJSONError, parse

    defaults: dict[str, Any] = {}
    bodies: list[Any] = []
    for number, line in enumerate(raw.splitlines(), 1):
        if not line.strip():
            continue
        try:
            body = parse(line)
        except StrictJSONError as error:
            raise ConfigurationError(
                "a line is no JSON object", where=f"{where}: line {number}", expected="one case as JSON", found=error
            ) from None
        if body.keys() == {"defaults"} and not bodies and not defaults:
            defaults = _table(body["defaults"], f"{where}: defaults")
        else:
            bodies.append(body)
    return defaults, bodies


def _case(defaults: Mapping[str, Any], own: Any, where: str) -> Case:
    body = {**defaults, **_table(own, where)}
    _known(body, _KEYS, where)
    for name in GROUPS:
        if isinstance(defaults.get(name), dict) and isinstance(own.get(name), dict):
            body[name] = defaults[name] | own[name]
    name = _text(body.get("name", ""), f"{where}: name")[:NAME_CHARS_MAX]
    where = f"{where} ({name})" if name.isprintable() and name else where
    groups = {each: _group(each, body.get(each, {}), f"{where}: {each}") for each in GROUPS}
    run = groups.pop(RUN)
    agent = _text(body.get("agent", "agent"), f"{where}: agent")
    enabled = body.get("enabled", True)
    if type(enabled) is not bool:
        raise ConfigurationError("wrong type", where=f"{where}: enabled", expected="true or false")
    claw = _text(body.get("claw"), f"{where}: claw")
    of_claws = _table(defaults.get("settings", {}), f"{where}: settings of the defaults")
    settings = _table(own.get("settings", of_claws.get(claw, {})), f"{where}: settings")
    check_claw(claw, settings, f"{where}: settings")
    return Case(
        name or claw, claw, _table(body.get("args", {}), f"{where}: args"), CallContext(agent, **run, groups=groups),
        enabled, settings, _expect(body.get("expect"), f"{where}: expect"),
    )  # fmt: skip


def _expect(given: Any, where: str) -> dict[str, Any]:
    body: dict[str, Any] = {"decision": given} if isinstance(given, str) else _table(given, where)
    _known(body, _EXPECT, where)
    decisions = [*(decision.value for decision in Decision), HELD]
    if body.get("decision") not in decisions:
        raise ConfigurationError("no such decision", where=where, expected=" or ".join(decisions), found="another")
    if "reason" in body:
        _text(body["reason"], f"{where}.reason")
    if "determining" in body:
        body["determining"] = sorted(_text(each, f"{where}.determining") for each in _list(body["determining"], where))
    if "approval" in body:
        _known(_table(body["approval"], f"{where}.approval"), frozenset(("count", "roles", "seconds")), where)
    return body


def _group(name: str, given: Any, where: str) -> dict[str, Any]:
    """The group with what the case leaves out; ``time`` may be a moment: seconds since 1970, or RFC 3339."""
    if name == TIME and not isinstance(given, dict):
        return time_group(_seconds(given, where))
    body = _table(given, where)
    _known(body, frozenset(GROUPS[name]), where)
    if name == TIME and body.keys() == {"at"} and type(body["at"]) is int:
        return time_group(body["at"])
    found = group(name, {**DEFAULTS[name], **body})
    if found is None:
        raise ConfigurationError("wrong type", where=where, expected=f"{dict(GROUPS[name])}", found="another type")
    return found


def _seconds(given: Any, where: str) -> int:
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(given) if isinstance(given, str) else given
        if isinstance(moment, datetime):
            aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
            return int(aware.timestamp())
    except (ValueError, OverflowError):
        moment = None
    if type(moment) is not int:
        raise ConfigurationError(
            "not a time", where=where, expected="such as 2026-11-21T10:00:00Z, or seconds since 1970"
        )
    return moment


def _known(body: Mapping[str, Any], keys: frozenset[str], where: str) -> None:
    unknown = sorted(body.keys() - keys)
    if unknown:
        raise ConfigurationError(
            "unknown key", where=where, expected=", ".join(sorted(keys)), found=ascii(unknown[0])[:80]
        )


def _table(given: Any, where: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ConfigurationError("wrong type", where=where, expected="a table", found=type(given).__name__)
    return dict(given)


def _list(given: Any, where: str) -> list[Any]:
    if not isinstance(given, list):
        raise ConfigurationError("wrong type", where=where, expected="a list", found=type(given).__name__)
    return given


def _text(given: Any, where: str) -> str:
    if not isinstance(given, str):
        raise ConfigurationError("wrong type", where=where, expected="text", found=type(given).__name__)
    return given
