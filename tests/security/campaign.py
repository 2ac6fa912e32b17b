"""A campaign of hostile messages through the real validator, policy engine, gate and runtime, with a recorder in place of
the sandbox; each message is judged by the oracle too (``permitted``)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import hypothesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st

from femtoclaw.brains import Context, Thought
from femtoclaw.policy_starters import STARTERS, starter
from femtoclaw.replay import replay
from femtoclaw.runtime import RAW_BYTES_MAX, StepResult
from tests.femtoclaw.simulated import CountingIsolation, Simulated
from tests.security import permitted
from tests.security.hostile_messages import TOOLS, messages

BATCH = 24
"""Messages of one node; all of them within a minute of its clock."""


class Escape(AssertionError):
    """A claw was reached that no policy permits, or with other arguments than were judged."""


class Silence(AssertionError):
    """A message was not executed, and the log does not say why."""


class Batch(NamedTuple):
    """Messages for one node: of an agent's runs, or an operator's intents."""

    agent: str
    environment: str
    enabled: frozenset[str]
    messages: list[bytes]

    def __repr__(self) -> str:
        """Without the messages: what went wrong names the one that did it."""
        return f"<{len(self.messages)} messages of {self.agent}, {self.environment}, {sorted(self.enabled)}>"


END = b'{"message":{"content":"that was all"}}'


class Queue:
    """A brain that says the messages in turn, and then ends its run; what it was asked is no matter."""

    name = "queue"

    def __init__(self, waiting: list[bytes]) -> None:
        self.waiting, self.ended = waiting, False

    def think(self, context: Context) -> Thought:
        self.ended = not self.waiting
        return Thought(self.waiting.pop(0) if self.waiting else END, {})


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """In most of them every claw is enabled, and the environment is the one that a policy asks for."""
    agent = draw(st.sampled_from(("agent", "operator")))
    environment = draw(st.sampled_from(("production", "production", "production", "test")))
    off = draw(st.sampled_from(("", "", "", *TOOLS)))
    made = draw(st.lists(messages(), min_size=BATCH, max_size=BATCH, unique=True))
    return Batch(agent, environment, frozenset(TOOLS) - {off}, made)


def settings(batch: Batch) -> dict[str, Any]:
    """The configuration of a node for the batch."""
    own = {"shell": {"binaries": list(permitted.BINARIES)}, "web.get": {"hosts": list(permitted.HOSTS)}}
    return {
        "runtime": {"steps_max": 2 * BATCH, "environment": batch.environment},
        "capabilities": {
            tool: {"enabled": tool in batch.enabled} | ({"settings": own[tool]} if tool in own else {})
            for tool in TOOLS
        },
    }


class Trial:
    """One batch on one node, judged as it goes."""

    def __init__(self, policy: str, batch: Batch, counts: Counter[str]) -> None:
        self.policy, self.batch, self.counts = policy, batch, counts
        self.node = Simulated(
            policy=starter(policy), settings=settings(batch), isolation=CountingIsolation(lambda tool,
            args: {"said": permitted.SAID})
        )  # fmt: skip
        self.seen = permitted.Seen()
        self.taken = self.ends = 0

    def run(self) -> None:
        """Say every message, and look at what came of each. Raises Escape and Silence."""
        waiting = list(self.batch.messages)
        while waiting:
            self.seen.new_run(self.batch.agent)
            if self.batch.agent == "operator":
                raw = waiting.pop(0)
                self.judge([raw], [self.node.runtime.intent(raw)])
                continue
            before, brain = list(waiting), Queue(waiting)
            result = self.node.runtime.run("go", brain, source="test", agent="agent")
            self.ends += brain.ended
            self.judge(before[: len(before) - len(waiting)], list(result.steps[: -1 if brain.ended else None]))
        self.check_log()

    def judge(self, said: list[bytes], steps: list[StepResult]) -> None:
        """Compare each message's end with what the oracle says of it."""
        if len(said) != len(steps):
            raise Silence(f"{len(said)} messages have {len(steps)} ends")
        for raw, step in zip(said, steps, strict=True):
            reach = permitted.permitted(self.policy, raw, self.seen, self.batch.enabled, self.batch.environment)
            calls = [call for call in self.node.isolation.calls[self.taken :] if call[2] == step.execution_id]
            self.taken += len(calls)
            self.counts["messages"] += 1
            if calls:
                self.reached(raw, reach, calls)
            else:
                self.kept(raw, reach, step)
        if self.taken != len(self.node.isolation.calls):
            raise self.escaped(f"{len(self.node.isolation.calls) - self.taken} calls belong to no message")

    def escaped(self, what: str) -> Escape:
        """Count it, so that what is printed of a campaign is what was found."""
        self.counts["escapes"] += 1
        return Escape(what)

    def reached(self, raw: bytes, reach: permitted.Reach | None, calls: list[tuple[str, dict[str, Any], str]]) -> None:
        found = [(tool, json.dumps(args, sort_keys=True)) for tool, args, _ in calls]
        if reach is None or found != [(reach.tool, json.dumps(reach.args, sort_keys=True))]:
            raise self.escaped(f"{self.policy}: {raw[:300]!r} reached {found!r}"[:900])
        self.seen.reached(reach.tool)
        self.counts["reached"] += 1

    def kept(self, raw: bytes, reach: permitted.Reach | None, step: StepResult) -> None:
        if reach is not None and reach.certain:
            raise AssertionError(f"{self.policy}: {raw[:300]!r} is permitted and was {step.decision} ({step.code})")
        kind = ending(step, len(raw))
        if step.decision.startswith("DENIED"):
            self.seen.denied += 1
        self.counts[kind] += 1

    def check_log(self) -> None:
        """Every start is a call that was counted; every other message has its refusal on record; replay agrees."""
        recorded = [event for each in self.node.recorded for event in each.events]
        names = Counter(type(event).__name__ for event in recorded)
        if names["ExecutionStarted"] != len(self.node.isolation.calls):
            raise self.escaped(f"{names['ExecutionStarted']} starts and {len(self.node.isolation.calls)} calls")
        told = (
            names["ProtocolRejected"]
            + names["AuthorizationDecided"]
            + names["ApprovalRequested"]
            + names["InferenceFailed"]
        )
        if told != len(self.batch.messages) + self.ends:
            raise Silence(f"{len(self.batch.messages)} messages, {told} verdicts in the log")
        found = replay(self.node.log.scan()).divergences
        if found:
            raise AssertionError(f"replay diverges: {found[:3]}")


def ending(step: StepResult, size: int) -> str:
    """What a message came to that reached no claw. Raises Silence for what is none of them."""
    if step.decision == "REJECTED":
        return "rejected"
    if step.decision.startswith("DENIED_"):
        return "denied"
    if step.decision == "HELD":
        return "held"
    if step.outcome == "answered":
        return "answered"
    if size > RAW_BYTES_MAX:
        return "rejected"
    raise Silence(f"a message ended as {step}"[:300])


def campaign(
    policy: str, batches_max: int, seed: int, counts: Counter[str], *, shrink: bool = True,
    around: Callable[[Trial], None] = Trial.run,
) -> None:  # fmt: skip
    """So many batches against one policy. Raises Escape, Silence or AssertionError, which names the message; with ``shrink``
    in the smallest batch that shows it, which can take minutes."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=batches_max, database=None, deadline=None, suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
    )  # fmt: skip
    @given(batch=batches())
    def one(batch: Batch) -> None:
        around(Trial(policy, batch, counts))

    one()


def told(counts: Counter[str], seed: int) -> str:
    """The counts on one line."""
    kinds = ("messages", "reached", "rejected", "denied", "held", "answered")
    return ", ".join(f"{kind} {counts[kind]}" for kind in kinds) + f"; escapes {counts['escapes']}; seed {seed}"


POLICIES = tuple(STARTERS)
