"""Benchmark P4: one decision beside a bare Cedar decision of the same question, and one validation beside its limit.

Usage: PYTHON scripts/benchmarks/authority.py [--quick]. Nothing here fails on a figure.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from measure import Report, environment, interleaved, main_guard, met, p50

from femtoclaw.argument_schemas import ArgumentSchemas
from femtoclaw.authorization import CallContext, Decision, authorize
from femtoclaw.claws import SHIPPED
from femtoclaw.policy import PolicyEngine, default_policy
from femtoclaw.policy_cases import DEFAULTS
from femtoclaw.protocol import ToolCall, validate
from femtoclaw.state import Claw

RATIO_MAX = 1.3
VALIDATE_US_MAX = 20.0
POLICIES = 32
"""Policies of the texts that the limit is about."""

ARGS = {"path": "notes/a.txt"}
READS = {
    "run": 'context.run.environment != "production"',
    "time": "context.time.hour > 23",
    "usage": "context.usage.minute_calls >= 60",
    "history": "context.history.denied >= 10",
    "origin": 'context.origin.arguments.contains("path")',
}
"""Group of the context to a condition that is false here."""


def policies(*groups: str) -> str:
    """The shipped policy, one forbid for each group that is to be read, and permits of single files and folders up to
    ``POLICIES``, as an operator's list grows."""
    text = default_policy()
    for name in groups:
        text += f'@id("{name}") forbid (principal, action, resource) when {{ {READS[name]} }};\n'
    for number in range(POLICIES - text.count("@id(") + text.count("// @id(")):
        action, test = (
            ("fs.read", f'context.path == "reports/{number}.txt"'),
            ("fs.write", f'context.path like "out/{number}/*"'),
        )[number % 2]
        text += f'@id("p{number}") permit (principal, action == Action::"{action}", resource) when {{ {test} }};\n'
    return text


def ours(policy: str) -> Callable[[], object]:
    """The gate's whole decision: registry, schema, canonical form, groups in their declared shape, policy."""
    engine = PolicyEngine.load(policy, SHIPPED)
    registry = {claw.name: Claw(claw.name, b"", "", True) for claw in SHIPPED}
    manifests = {claw.name: claw for claw in SHIPPED}
    schemas = ArgumentSchemas(SHIPPED).compile()
    others = {name: DEFAULTS[name] for name in engine.needs if name != "run"}
    context = CallContext("agent", **DEFAULTS["run"], groups=others)

    def decide() -> object:
        return authorize(
            "fs.read",
            ARGS,
            context,
            registry=registry,
            manifests=manifests,
            schemas=schemas,
            settings={},
            engine=engine,
        )

    assert decide() == (Decision.AUTHORIZED, "PERMITTED", ("read-workspace",), None)
    return decide


def bare(policy: str, *, encoded: bool) -> Callable[[], object]:
    """cedarpy alone on the same question, policies and entities parsed before; ``encoded``: the context as well."""
    import cedarpy

    needs = PolicyEngine.load(policy, SHIPPED).needs
    parsed, entities = cedarpy.PolicySet.from_str(policy), cedarpy.Entities.from_json_str("[]")
    context: dict[str, Any] = {"args": ARGS, "path": ARGS["path"]} | {
        name: dict(DEFAULTS[name]) for name in sorted(needs)
    }
    question = {
        "principal": {"type": "Agent", "id": "agent"},
        "action": {"type": "Action", "id": "fs.read"},
        "resource": {"type": "Claw", "id": "fs.read"},
        "context": json.dumps(context) if encoded else context,
    }

    def decide() -> object:
        return cedarpy.is_authorized(question, parsed, entities).allowed

    assert decide()
    return decide


def decisions(report: Report, quick: bool) -> None:
    """The decision by the shipped policy, and by 32 that read nothing of the circumstances, some of it, and all of it."""
    rounds, count = (2, 200) if quick else (8, 1000)
    texts = {
        "shipped policy": default_policy(),
        f"{POLICIES} policies": policies(),
        f"{POLICIES}, reading run": policies("run"),
        f"{POLICIES}, reading usage": policies("usage"),
        f"{POLICIES}, reading all groups": policies(*READS),
    }
    for label, policy in texts.items():
        samples = interleaved(
            {"ours": ours(policy), "bare": bare(policy, encoded=False), "encoded": bare(policy, encoded=True)},
            rounds=rounds, count=count,
        )  # fmt: skip
        mine = p50(samples["ours"])
        for peer, what in (("bare", "bare cedarpy"), ("encoded", "bare cedarpy, context encoded before")):
            ratio = mine / p50(samples[peer])
            beside = f"{what} {p50(samples[peer]) * 1e6:.1f} us, limit {RATIO_MAX}x"
            report.row(
                "P4", f"authorize, {label}, p50", f"{mine * 1e6:.1f} us, {ratio:.2f}x", beside, met(ratio <= RATIO_MAX)
            )


def validations(report: Report, quick: bool) -> None:
    """Raw bytes to an intent, small and with 64 arguments of the shell."""
    schemas = ArgumentSchemas(SHIPPED).compile()
    small = json.dumps({"tool_call": {"tool": "fs.read", "args": ARGS}}).encode()
    large = json.dumps({"tool_call": {"tool": "shell", "args": {"bin": "git", "argv": ["a" * 20] * 64}}}).encode()
    assert all(isinstance(validate(raw, schemas), ToolCall) for raw in (small, large))
    samples = interleaved(
        {"small": lambda: validate(small, schemas), "large": lambda: validate(large, schemas)},
        rounds=2 if quick else 8, count=200 if quick else 1500,
    )  # fmt: skip
    for name, raw in (("small", small), ("large", large)):
        took = p50(samples[name]) * 1e6
        beside = f"limit {VALIDATE_US_MAX:.0f} us"
        report.row("P4", f"validate, {len(raw)} bytes, p50", f"{took:.1f} us", beside, met(took <= VALIDATE_US_MAX))


def main() -> int:
    """Print the rows."""
    main_guard()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    arguments = parser.parse_args()
    print("\n".join(environment()))
    report = Report()
    decisions(report, arguments.quick)
    validations(report, arguments.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
