"""The shipped policies: each loads for every shipped claw, decides its own cases, and can be read by a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from femtoclaw.claws import SHIPPED
from femtoclaw.policy import PolicyEngine, default_policy
from femtoclaw.policy_cases import read_cases, run_cases
from femtoclaw.policy_starters import STARTERS, chosen, starter, starter_cases
from femtoclaw.policy_warnings import NEVER_APPLIES, UNKNOWN_AGENT, warnings

AGENTS = frozenset(("agent", "operator"))


@pytest.mark.parametrize("name", STARTERS)
def test_a_starter_loads_and_decides_its_cases(name: str) -> None:
    """Against all shipped claws; no rule of it is idle."""
    engine = PolicyEngine.load(starter(name), SHIPPED)
    results = run_cases(read_cases(Path(starter_cases(name)).read_bytes(), name), engine, SHIPPED)
    assert [(result.case.name, result.wrong, result.verdict) for result in results if result.wrong] == []
    idle = [warned for warned in warnings(engine, SHIPPED, AGENTS) if warned.code in (NEVER_APPLIES, UNKNOWN_AGENT)]
    assert idle == []


@pytest.mark.parametrize("name", STARTERS)
def test_every_rule_of_a_starter_decides_some_case(name: str) -> None:
    """A rule that no case needs could be left out unnoticed: each determines one, or is shown with what it forbids."""
    engine = PolicyEngine.load(starter(name), SHIPPED)
    results = run_cases(read_cases(Path(starter_cases(name)).read_bytes(), name), engine, SHIPPED)
    decided = {policy for result in results for policy in result.verdict.determining}
    ids = {line.split('"')[1] for line in starter(name).splitlines() if line.startswith('@id("')}
    assert ids - decided == set()


def test_a_name_is_a_starter_and_a_path_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`default` is the shipped one even beside a file of that name; `./default` is the file."""
    (tmp_path / "default").write_text("// mine")
    monkeypatch.chdir(tmp_path)
    assert chosen("default") == starter("default") == default_policy()
    assert chosen("./default") == "// mine"
    with pytest.raises(KeyError):
        starter("../femtoclaw")
