"""Five thousand hostile messages and more: no claw is reached outside of policy."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from typing import Any

import pytest
from blake3 import blake3

from femtoclaw import authorization, circumstances, protocol, state
from femtoclaw.facts import Facts
from femtoclaw.policy import PolicyEngine
from femtoclaw.strict_json import StrictJSONError
from tests.security.campaign import BATCH, POLICIES, Escape, Trial, campaign, told

BATCHES = 60
"""For each of the five policies: 7,200 messages in all, more than 5,000 different ones."""


@pytest.fixture(scope="module")
def counts() -> Counter[str]:
    """Of all policies together."""
    return Counter()


@pytest.fixture(scope="module")
def said() -> set[bytes]:
    """Digests of the messages of all policies together."""
    return set()


@pytest.mark.invariant("I5", "I6")
@pytest.mark.parametrize("policy", POLICIES)
def test_no_hostile_message_reaches_a_claw_outside_of_policy(
    policy: str, counts: Counter[str], said: set[bytes], seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was reached is what the oracle permits, with those arguments; the rest left its refusal; replay agrees."""
    mine: Counter[str] = Counter()

    def run(trial: Trial) -> None:
        said.update(blake3(raw).digest() for raw in trial.batch.messages)
        trial.run()

    campaign(policy, BATCHES, seed + POLICIES.index(policy), mine, shrink=False, around=run)
    counts.update(mine)
    with capsys.disabled():
        print(f"\n  hostile messages, {policy}: {told(mine, seed)}")
    assert min(mine["reached"], mine["rejected"], mine["denied"]) > 0, mine


@pytest.mark.invariant("I5")
@pytest.mark.requirement("WHITE-9.1")
def test_they_were_as_many_as_promised(
    counts: Counter[str], said: set[bytes], seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over all policies, with enough of each kind to mean something."""
    with capsys.disabled():
        print(f"\n  hostile messages, in all: {told(counts, seed)}; {len(said)} different")
    if counts["messages"] < BATCHES * BATCH * len(POLICIES):
        pytest.skip("only some of the policies were run")
    assert len(said) >= 5_000
    assert min(counts[kind] for kind in ("reached", "rejected", "denied", "held")) >= 20


# --- It can fail


def ignore_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate that takes each target as it was written."""

    def careless(manifest: Any, args: dict[str, Any], settings: Any) -> Facts:
        found: dict[str, Any] = {"path": args.get("path", "")} if "path" in args else {}
        if "bin" in args:
            found |= {"binary": args["bin"], "command": " ".join([args["bin"], *args.get("argv", [])]), "hazards": []}
        if "url" in args:
            found |= {"scheme": "https", "host": "docs.example.org", "port": 443, "url_path": "/"}
        return Facts(found)

    monkeypatch.setattr(authorization, "facts", careless)


def permit_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy engine whose answer nobody looks at."""
    evaluate = PolicyEngine.evaluate
    monkeypatch.setattr(
        PolicyEngine, "evaluate", lambda self, asked: evaluate(self, asked)._replace(allowed=True, approval=None)
    )  # fmt: skip


def hold_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that forgets which permits ask for approvals."""
    evaluate = PolicyEngine.evaluate
    monkeypatch.setattr(PolicyEngine, "evaluate", lambda self, asked: evaluate(self, asked)._replace(approval=None))


def take_the_last_of_two_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A validator that forgives: of doubled keys the last one counts."""
    strict = protocol.parse

    def forgiving(raw: bytes) -> Any:
        try:
            return strict(raw)
        except StrictJSONError as error:
            if error.code != "DUPLICATE_KEY":
                raise
            with contextlib.suppress(ValueError):
                return json.loads(raw)
            raise

    monkeypatch.setattr(protocol, "parse", forgiving)


def forget_what_is_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every registered claw is on."""
    monkeypatch.setattr(state.Claw, "enabled", True)


def forget_taint(monkeypatch: pytest.MonkeyPatch) -> None:
    """No run has read anything."""
    clean = {"tainted": False, "sources": [], "arguments": []}
    monkeypatch.setitem(circumstances._GROUPS, "origin", lambda moment: clean)


HOLE_BATCHES = 8 * BATCHES
"""Ends at the first escape. The rarest hole takes 400 messages in the mean, so that one run in fifty would miss it within
``BATCHES``, and one in 10^13 within these."""

HOLES = {
    "facts": (ignore_facts, "default"),
    "policy": (permit_everything, "locked-down"),
    "approvals": (hold_nothing, "developer"),
    "doubled keys": (take_the_last_of_two_keys, "read-only"),
    "disabled claws": (forget_what_is_disabled, "default"),
    "taint": (forget_taint, "developer"),
}


@pytest.mark.parametrize("name", HOLES)
def test_a_hole_is_found(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one check switched off, a claw is reached that the oracle does not permit."""
    hole, policy = HOLES[name]
    hole(monkeypatch)
    with pytest.raises(Escape):
        campaign(policy, HOLE_BATCHES, seed + POLICIES.index(policy), Counter(), shrink=False)
