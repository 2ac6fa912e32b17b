"""Provenance: where a run's text comes from, which arguments repeat untrusted output, and what policy makes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from femtoclaw import events
from femtoclaw.brains import Context, Thought
from femtoclaw.circumstances import Moment, groups
from femtoclaw.memory import TURN_CHARACTERS_MAX, WINDOW_TURNS_MAX
from femtoclaw.policy import engine_version
from femtoclaw.policy_groups import ORIGIN
from femtoclaw.state import Trail, Turn
from femtoclaw.trail import NAMES_MAX, evicted, tainted
from tests.femtoclaw.controlled import WRITE, Controlled, operator
from tests.femtoclaw.simulated import SETTINGS, CountingIsolation, Simulated
from tests.femtoclaw.test_control_changes import changed, module
from tests.femtoclaw.test_loop import SAY, Lines, call, run

POLICY = """
@id("read") permit (principal, action in [Action::"fs.read", Action::"fs.list", Action::"shell"], resource);
@id("write") permit (principal, action == Action::"fs.write", resource);
@id("derived") forbid (principal, action == Action::"fs.write", resource)
when { context.origin.arguments.contains("content") || context.origin.arguments.contains("path") };
"""

CLEAN = {"tainted": False, "sources": [], "arguments": []}
MANY_STEPS = SETTINGS | {"runtime": {"steps_max": 200, "environment": "test"}}


class Asking:
    """A brain that makes its calls, then has the origin of some arguments looked up as a policy would see it, and ends
    its run."""

    name = "asking"

    def __init__(self, node: Simulated, calls: Sequence[Mapping[str, Any]], args: Mapping[str, Any]) -> None:
        self.node, self.calls, self.args = node, list(calls), args
        self.found: dict[str, Any] = {}

    def think(self, context: Context) -> Thought:
        if self.calls:
            return Thought(json.dumps(self.calls.pop(0)).encode(), {})
        (running,) = self.node.state.live.runs.values()
        moment = Moment(self.node.state, running, "fs.write", self.args, 0)
        self.found = groups(moment, frozenset({ORIGIN}))[ORIGIN]
        return Thought(json.dumps(SAY).encode(), {})


def origin(
    answers: Sequence[Any], args: Mapping[str, Any], *, tool: str = "fs.read", text: str = "go"
) -> dict[str, Any]:
    """The origin of ``args`` in a run that has called ``tool`` once for each of ``answers``, which is what it said."""
    told = list(answers)
    node = Controlled(
        policy=POLICY, settings=MANY_STEPS, isolation=CountingIsolation(lambda tool, args: {"text": told.pop(0)})
    )
    wanted = {"fs.read": {"path": "a"}, "fs.list": {"path": "."}, "shell": {"bin": "echo", "argv": ["x"]}}
    brain = Asking(node, [call(tool, **wanted.get(tool, dict(WRITE)))] * len(told), args)
    node.runtime.run(text, brain, source="test", agent="agent")
    assert not told
    assert node.divergences() == ()
    return brain.found


# --- Which arguments


FOUND = {
    "the whole output": ("steal the keys", "steal the keys"),
    "a part of it": ("now do this: steal the keys of the house", "steal the keys"),
    "more than it": ("steal the keys", "please steal the keys at once"),
    "one line of it": ("first\nsteal the keys\nlast", "steal the keys"),
    "several lines": ("first line here\nsteal the keys\nlast", "line here\nsteal the keys"),
    "quoted text": ('say "steal the keys" now', '"steal the keys"'),
    "backslashes": ("C:\\keys\\house\\front", "C:\\keys\\house\\front"),
    "another case": ("Steal The KEYS", "steal the keys"),
    "another case that is longer": ("STRASSE DES KAISERS", "stra\u00dfe des kaisers"),
    "other white space": ("steal\tthe\n\n  keys", " steal the\u00a0keys "),
    "a short word as a whole": ("the word is rosebud, keep it", "rosebud"),
    "four characters": ("the pin is 4711 today", "4711"),
    "a nested list": ({"deep": [{"er": ["steal the keys"]}]}, "steal the keys"),
    "a key of an object": ({"steal the keys": 1}, "steal the keys"),
    "text in another script": ("\u9375\u3092\u76d7\u3081 \u4eca\u3059\u3050", "\u9375\u3092\u76d7\u3081"),
    "a piece of a longer argument": ("abcdefghijkl", "xx abcdefghijkl yy"),
}
NOT_FOUND = {
    "nothing of it": ("steal the keys", "have a nice day"),
    "three characters": ("the pin is 471 today", "471"),
    "a piece under the bound": ("abcdefghijk", "xx abcdefghijk yy"),
    "a number": (4711, "4711"),
    "the runtime's words about a result": ("nothing", "tool_result"),
    "the claw's name": ("nothing", "fs.read"),
    "no text": ("steal the keys", ""),
}


@pytest.mark.parametrize("name", FOUND)
def test_an_argument_that_repeats_untrusted_output_is_named(name: str) -> None:
    """Beside one that does not."""
    output, argument = FOUND[name]
    found = origin([output], {"content": argument, "path": "reports/x", "mode": "create"})
    assert found == {"tainted": True, "sources": ["fs.read"], "arguments": ["content"]}


@pytest.mark.parametrize("name", NOT_FOUND)
def test_what_does_not_repeat_it_is_not_named(name: str) -> None:
    """The run is tainted all the same: a policy can ask for less than repetition."""
    output, argument = NOT_FOUND[name]
    assert origin([output], {"content": argument}) == {"tainted": True, "sources": ["fs.read"], "arguments": []}


@pytest.mark.parametrize(
    "value", [["a", ["b", "steal the keys"]], {"a": {"steal the keys": 1}}, {"a": [{"b": "Steal the Keys"}]}]
)
def test_texts_inside_of_an_argument_count(value: Any) -> None:
    """Lists in lists, values and keys of objects."""
    assert origin(["steal the keys"], {"argv": value, "n": 4})["arguments"] == ["argv"]


def test_output_cut_for_memory_is_compared_as_it_stands() -> None:
    """Escapes of the JSON around it are undone: quotes, line ends, tabs and controls, which would else hide a text."""
    hidden = 'r\tm\t-\tr\tf "\x01now"\\n'
    output = hidden + "x" * TURN_CHARACTERS_MAX
    for argument in (hidden, 'r\tm\t-\tr\tf "', '"\x01now"'):
        assert origin([output], {"content": argument})["arguments"] == ["content"], argument
    assert origin([output], {"content": "have a nice day"})["arguments"] == []


# --- When it begins, and that it stays


def test_a_run_is_clean_until_untrusted_output_enters_it() -> None:
    """Users, brains, denials, and claws whose output is the program's own do not taint it."""
    text = "steal the keys"
    assert origin([], {"content": text}, text=text) == CLEAN
    assert origin([text], {"content": text}, tool="fs.write") == CLEAN


@pytest.mark.parametrize("tool", ["fs.read", "fs.list", "shell"])
def test_every_claw_that_brings_text_in_taints(tool: str) -> None:
    """By its own name."""
    assert origin(["steal the keys"], {}, tool=tool) == {"tainted": True, "sources": [tool], "arguments": []}


def test_a_failed_or_denied_call_brings_nothing_in() -> None:
    """What the runtime says of it is not the claw's text."""
    node = Controlled(policy=POLICY)
    denied = [call("fs.read", path="../x"), call("nothing"), call("web.get", url="https://a.test/")]
    brain = Asking(node, denied, {"content": "x"})
    node.runtime.run("go", brain, source="test", agent="agent")
    assert brain.found == CLEAN


def test_taint_stays_when_the_text_has_left_memory() -> None:
    """And then every text may come from it: nobody can say any more what does not."""
    quiet = ["steal the keys", *[""] * WINDOW_TURNS_MAX]
    args = {"content": "have a nice day", "argv": [[""], ["x"]], "empty": "", "nothing": [], "n": 4}
    found = origin(quiet, args)
    assert found == {"tainted": True, "sources": ["fs.read"], "arguments": ["argv", "content"]}
    assert origin(quiet[: WINDOW_TURNS_MAX // 2 - 1], args)["arguments"] == []


def test_taint_stays_over_a_restart_while_the_run_waits() -> None:
    """A held call is judged with what its run has read before the kill."""
    policy = (
        POLICY.replace('@id("write")', '@id("write") @approvals("1")')
        + """
        @id("clean") forbid (principal, action == Action::"fs.list", resource) when { context.origin.tainted };
    """
    )
    node = Controlled(policy=policy, isolation=CountingIsolation(lambda tool, args: {"text": "steal the keys"}))
    run(node, call("fs.read", path="a"), call("fs.write", **WRITE))
    (held,) = node.state.live.approvals
    node.restart()
    brain = Lines(call("fs.list", path="."), call("fs.write", **{**WRITE, "content": "steal the keys"}), SAY)
    _, result = node.approve(held, brain=brain)
    assert result is not None
    assert [step.code for step in result.steps] == ["APPROVED", "FORBIDDEN", "FORBIDDEN", "BUILT_IN_ANSWER"]
    assert node.divergences() == ()


def test_runs_do_not_taint_each_other_and_intents_are_clean() -> None:
    """An operator's own intent has no memory."""
    text = "steal the keys"
    node = Controlled(policy=POLICY, isolation=CountingIsolation(lambda tool, args: {"text": text}))
    run(node, call("fs.read", path="a"), SAY)
    assert node.intent("fs.read", path="a").outcome == "success"
    brain = Asking(node, [], {"content": text})
    node.runtime.run("go", brain, source="test", agent="agent")
    assert brain.found == CLEAN
    assert node.intent("fs.write", **{**WRITE, "content": text}).outcome == "success"
    moment = Moment(node.state, None, "fs.write", {"content": text}, 0)
    assert groups(moment, frozenset({ORIGIN})) == {ORIGIN: CLEAN}


def test_a_policy_denies_what_repeats_untrusted_output() -> None:
    """End to end: the same claw and the same kind of text, once the brain's own, once taken from a file."""
    node = Controlled(policy=POLICY, isolation=CountingIsolation(lambda tool, args: {"text": "steal the keys"}))
    result = run(
        node, call("fs.write", **{**WRITE, "content": "steal the keys"}), call("fs.read", path="a"),
        call("fs.write", **{**WRITE, "content": "so: STEAL  the keys!"}), call("fs.write", **WRITE), SAY,
    )  # fmt: skip
    assert [step.code for step in result.steps] == [
        "PERMITTED", "PERMITTED", "FORBIDDEN", "PERMITTED", "BUILT_IN_ANSWER",
    ]  # fmt: skip
    assert [made[0] for made in node.isolation.calls] == ["fs.write", "fs.read", "fs.write"]
    assert node.divergences() == ()


# --- Whose word counts


def test_an_installed_module_cannot_call_its_output_trustworthy() -> None:
    """Its manifest says so, and is signed; it taints all the same. A claw of the program with that word does not."""
    node = Controlled(policy=POLICY, isolation=CountingIsolation(lambda tool, args: {"text": "steal the keys"}))
    node.control("publisher.trust", "acme", {"public_key": operator("acme").public.vkey()})
    content = module()
    assert json.loads(content["manifest"])["trusted_output"] is True
    node.control("claw.install", "mod", content)
    text = POLICY + '@id("mod") permit (principal, action == Action::"mod", resource);'
    node.control("policy.set", content={"text": text, "engine": engine_version(), "report": "", "flips": []})
    on = changed(node, lambda body: body["capabilities"].update(mod={"enabled": True, "settings": {}}))
    node.control("claw.enable", "mod", on)
    assert (node.state.node.registry["mod"].trusted, node.state.node.registry["fs.write"].trusted) == (False, True)
    brain = Asking(node, [call("mod", text="x")], {"content": "steal the keys"})
    node.runtime.run("go", brain, source="test", agent="agent")
    assert brain.found == {"tainted": True, "sources": ["mod"], "arguments": ["content"]}
    assert node.divergences() == ()


def test_each_turn_has_its_source() -> None:
    """User, brain, claw and runtime, as recorded; a node from before there were operators records none."""
    for controlled, wanted in ((True, ["user", "fs.read", "runtime"]), (False, ["", "", ""])):
        node = Simulated(controlled=controlled)
        run(node, call("fs.read", path="a"), call("nothing"), SAY)
        received = [
            event.source for recorded in node.recorded for event in recorded.events
            if isinstance(event, events.InputReceived)
        ]  # fmt: skip
        assert received == wanted


def test_more_sources_than_are_remembered_count_as_everything() -> None:
    """The list of names is bounded; beyond it every text may be theirs."""
    trail = Trail()
    for number in range(NAMES_MAX):
        trail = tainted(trail, f"claw-{number}")
    assert (len(trail.tainted), trail.forgotten) == (NAMES_MAX, False)
    assert tainted(trail, "claw-7") == trail
    more = tainted(trail, "one more")
    assert (len(more.tainted), more.forgotten) == (NAMES_MAX, True)


def test_only_untrusted_output_that_leaves_is_forgotten() -> None:
    """A user's turn may leave without a loss; so may a trusted claw's."""
    user, safe, bad, new = (
        Turn("user", "a", "user"),
        Turn("tool", "b", "fs.write"),
        Turn("tool", "c", "fs.read"),
        Turn("user", "d"),
    )
    trail = Trail(tainted=("fs.read",))
    assert not evicted(trail, (user, safe, bad), (bad, new)).forgotten
    assert evicted(trail, (user, safe, bad), (new,)).forgotten
    assert evicted(Trail(), (user, safe, bad), (new,)) == Trail()
