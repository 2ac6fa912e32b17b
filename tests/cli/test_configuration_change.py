"""A change of the configuration by the runbook's five steps, at rest and while the node is served."""

from __future__ import annotations

import pytest

from femtoclaw.config_effect import effect_of
from tests.cli.node import SAY, Node
from tests.femtoclaw.serving_process import serving


@pytest.mark.requirement("RUNBOOK-15.1")
def test_a_change_takes_five_steps(node: Node) -> None:
    """In this order; a node at rest has nothing to restart. One that is not valid changes nothing."""
    told = node.call("config", "set", "runtime.concurrency_max=2", "runtime.steps_max=8").body
    assert [each["step"] for each in told["steps"]] == [
        "validated",
        "integrity checked",
        "audited",
        "applied",
        "restarted",
    ]
    assert (told["changed"], told["restart_required"]) == (["runtime.concurrency_max", "runtime.steps_max"], [])
    kinds = [row["type"] for row in node.call("log", "--limit", "0").objects]
    at = kinds.index("ControlRequested")
    assert kinds[at : at + 3] == ["ControlRequested", "ControlDecided", "ConfigurationAdopted"]
    version = node.call("config", "show").body["version"]
    node.call("config", "set", "runtime.concurrency_max=0", expect=2)
    assert node.call("config", "show").body["version"] == version


def test_when_a_key_takes_effect() -> None:
    before = {
        "runtime": {"steps_max": 1, "concurrency_max": 1},
        "security": {"workspace": "a"},
        "observability": {"denial_burst": 1},
    }
    after = {
        "runtime": {"steps_max": 2, "concurrency_max": 2},
        "security": {"workspace": "b"},
        "observability": {"denial_burst": 2},
    }
    assert effect_of(before, after) == (
        ("observability.denial_burst", "runtime.steps_max"), ("runtime.concurrency_max",), ("security.workspace",),
    )  # fmt: skip
    assert effect_of(before, before) == ((), (), ())


@pytest.mark.requirement("RUNBOOK-15.1")
def test_a_served_node_says_which_keys_wait_for_a_restart(node: Node) -> None:
    """The change is on record, the old value in effect; keys on which decisions and the sandbox agree are refused."""
    with serving(node.path) as process:
        told = node.call("config", "set", "runtime.concurrency_max=2", "runtime.steps_max=8").body
        assert told["restart_required"] == ["runtime.concurrency_max"]
        assert told["steps"][-1] == {"step": "restarted", "result": "required"}
        assert node.call("config", "verify").body["ok"] is True
        assert node.intent(SAY).body["decision"] == "AUTHORIZED"
        node.call("config", "set", "memory.map_bytes=137438953472", expect=4)
        assert process.poll() is None
    assert node.call("config", "show").body["configuration"]["runtime"]["concurrency_max"] == 2
    node.intent(SAY)
