"""The vault: who gets a secret, and that striking one out never makes another call of what was said."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import example, given
from hypothesis import strategies as st
from immutables import Map

from femtoclaw import brains, events
from femtoclaw.argument_schemas import ArgumentSchemas
from femtoclaw.brains import BrainError, Context, Thought
from femtoclaw.claws import SHIPPED
from femtoclaw.errors import CapabilityError, ConfigurationError
from femtoclaw.event_codec import encode
from femtoclaw.home import Home
from femtoclaw.isolation import Outcome
from femtoclaw.key_file import KeySigner
from femtoclaw.manifest import Manifest
from femtoclaw.protocol import Message, Rejected, ToolCall, validate
from femtoclaw.replay import replay
from femtoclaw.runtime import Runtime
from femtoclaw.secret_store import SecretStore, check_value
from femtoclaw.state import Node, Secret
from femtoclaw.vault import EMPTY_VAULT, STRUCK, StoredVault, open_vault
from tests.femtoclaw.simulated import CountingIsolation, Simulated
from tests.femtoclaw.test_loop import SAY, Lines, call

VALUE = "s3cr3t-VALUE-0123"
SCHEMAS = ArgumentSchemas(SHIPPED)
SIGNER = KeySigner("femtoclaw.log/x", b"k" * 32)


def asking(claw: str, *secrets: str) -> Manifest:
    return Manifest(claw, "1.0.0", "a claw", "system", {"type": "object"}, {}, "x:x", secrets=secrets)


def node_with(**secrets: Secret) -> Node:
    return Node(secrets=Map(secrets))


def test_a_claw_gets_what_it_asks_for_and_was_granted() -> None:
    """Both, by name, at the moment of the call: not what only it asked for, or what only an operator granted."""
    vault = StoredVault({"token": VALUE, "other": "another value"}, {"token": "m1", "other": "m2"})
    node = node_with(token=Secret("m1", ("a",)), other=Secret("m2", ("a", "b")))
    assert vault.granted(node, asking("a", "token")) == {"token": VALUE}
    assert vault.granted(node, asking("a", "token", "other", "unknown")) == {"token": VALUE, "other": "another value"}
    assert vault.granted(node, asking("b", "token", "other")) == {"other": "another value"}
    assert vault.granted(node, asking("a")) == {}
    withdrawn = node_with(token=Secret("m1"), other=Secret("m2", ("b",)))
    assert vault.granted(withdrawn, asking("a", "token", "other")) == {}
    assert vault.granted(node_with(), asking("a", "token")) == {}


def test_another_value_than_the_recorded_one_is_not_delivered() -> None:
    """Set anew since, put back from before, or gone: an error that shows nothing of either value."""
    for vault in (StoredVault({"token": VALUE}, {"token": "m1"}), StoredVault({}, {})):
        with pytest.raises(CapabilityError) as refused:
            vault.granted(node_with(token=Secret("m2", ("a",))), asking("a", "token"))
        assert VALUE not in f"{refused.value} {vars(refused.value)}"


def test_the_vault_of_a_node_holds_what_the_log_knows(tmp_path: Path) -> None:
    """Values behind recorded marks; what is missing, altered or of another mark is named, and not in it; what a crash
    left of a removed secret goes."""
    home = Home(str(tmp_path))
    store = SecretStore(home, SIGNER)
    marks = {name: store.stage(name, f"{VALUE} {name}", 1) for name in ("a", "b", "c", "d")}
    for name, mark in marks.items():
        store.settle(name, mark)
    (tmp_path / "secrets" / "b.box").unlink()
    (tmp_path / "secrets" / "c.box").write_bytes((tmp_path / "secrets" / "a.box").read_bytes())
    marks["d"] = "0" * 64
    store.settle("removed", store.stage("removed", VALUE, 1))
    (tmp_path / "secrets" / "not ours.box").write_text("x")
    node = Node(secrets=Map({name: Secret(mark, ("claw",)) for name, mark in marks.items()}))
    vault, missing = open_vault(home, SIGNER, node)
    assert missing == ("b", "c", "d")
    assert sorted(os.listdir(tmp_path / "secrets")) == ["a.box", "c.box", "d.box", "not ours.box"]
    assert vault.granted(node, asking("claw", "a")) == {"a": f"{VALUE} a"}
    assert vault.redact(f"{VALUE} a".encode()) == b"[secret a]"
    for name in missing:
        with pytest.raises(CapabilityError):
            vault.granted(node, asking("claw", name))
    assert open_vault(home, SIGNER, Node()) == (EMPTY_VAULT, ())


def test_without_secrets_everything_passes_as_it_is() -> None:
    outcome = Outcome("success", {"a": VALUE}, None, 0, 1, 2, 3, 4, "x")
    raw = VALUE.encode()
    assert EMPTY_VAULT.redact(raw) is EMPTY_VAULT.redact_message(raw) is raw
    assert EMPTY_VAULT.redact_outcome(outcome) is outcome
    assert StoredVault({"token": VALUE}, {"token": "m"}).redact_outcome(outcome._replace(result={"a": 1})).result == {
        "a": 1
    }


def test_an_outcome_is_kept_without_the_value() -> None:
    """In results, keys and error texts; size and digest are those of what is kept, and tell nothing of the value."""
    vault = StoredVault({"token": VALUE}, {"token": "m"})
    result = {"said": [VALUE, {VALUE: VALUE.encode().hex()}], "n": 1}
    plain = json.dumps(result, sort_keys=True, separators=(",", ":")).encode()
    outcome = Outcome("success", result, None, 0, 1, 2, 900, len(plain), blake3(plain).hexdigest())
    kept = vault.redact_outcome(outcome)
    assert kept.result == {"said": ["[secret token]", {"[secret token]": "[secret token]"}], "n": 1}
    raw = json.dumps(kept.result, sort_keys=True, separators=(",", ":")).encode()
    assert (kept.kept_bytes, kept.output_digest) == (len(raw), blake3(raw).hexdigest())
    failed = Outcome("error", None, {"class": "ExecutionError", "message": f"no {VALUE}"}, 1, 1, 2, 0, 0, "")
    told = vault.redact_outcome(failed)
    assert told == failed._replace(error={"class": "ExecutionError", "message": "no [secret token]"})


FRAGMENTS = [
    "tool_call",
    '"args":{',
    '","path":"',
    '":"',
    '"}}',
    "reports/",
    "fs.write",
    '{"message":',
    '\\"',
    "\\u0061",
]
SECRETS = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=3).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=8, max_size=12),
).filter(lambda text: len(text) >= 8)
ARGS = st.dictionaries(
    st.sampled_from(["path", "content", "mode", "bin", "argv", "reports/"]),
    st.one_of(
        st.sampled_from(["reports/x", "create", "a", *FRAGMENTS]), st.text(max_size=8), st.lists(st.just("reports/"))
    ),
    max_size=3,
)
CALLS = st.builds(
    lambda tool, args: {"tool_call": {"tool": tool, "args": args}},
    st.sampled_from(["fs.read", "fs.write", "fs.delete", "shell", "fs.list"]), ARGS,
)  # fmt: skip
MESSAGES = st.builds(lambda text: {"message": {"content": text}}, st.sampled_from([*FRAGMENTS, "a b"]) | st.text())


@given(SECRETS, CALLS | MESSAGES | st.dictionaries(st.text(), st.text()), st.data())
@example('","mode":"', {"tool_call": {"tool": "fs.write", "args": {"path": "a", "mode": "create"}}}, None)
@example("reports/", {"tool_call": {"tool": "fs.read", "args": {"path": "reports/x"}}}, None)
def test_a_redacted_message_is_never_another_call(secret: str, message: dict[str, Any], data: Any) -> None:
    """What held a value becomes a rejection, or stays a message for a person; what held none is as it was."""
    raw = json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    if data is not None and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(raw)))
        raw = raw[:at] + secret.encode() + raw[at:]
    clean = StoredVault({"token": secret}, {"token": "m"}).redact_message(raw)
    before, after = validate(raw, SCHEMAS), validate(clean, SCHEMAS)
    if clean == raw:
        return
    assert not isinstance(after, ToolCall)
    assert isinstance(after, Rejected) or isinstance(before, Message)
    assert secret.encode() not in clean


class Vaulted(Simulated):
    """A node whose vault holds one secret."""

    def __init__(self, value: str, isolation: CountingIsolation | None = None) -> None:
        super().__init__(isolation=isolation)
        self.vault = StoredVault({"token": value}, {"token": "m"})
        self.runtime = Runtime(
            self.log, self.authority, self.gate, self.sources, concurrency_max=4, vault=self.vault
        )  # fmt: skip

    def said(self) -> list[bytes]:
        return [encode(event) for recorded in self.recorded for event in recorded.events]


@pytest.mark.invariant("I12")
def test_what_users_and_brains_say_is_recorded_without_the_value() -> None:
    """Inputs, intents, answers, what a brain says of itself and of its failures; a call that holds it does not run, and
    its brain is told so and goes on."""

    class Failing(brains.Brain):
        name = "failing"

        def think(self, context: Context) -> Thought:
            raise BrainError(f"the endpoint said {VALUE}")

    class Telling(Lines):
        def think(self, context: Context) -> Thought:
            return super().think(context)._replace(provenance={"model": VALUE, VALUE: "x"})

    node = Vaulted(VALUE)
    brain = Telling(call("fs.write", path="reports/x", content=VALUE, mode="create"), f"{VALUE} {{".encode(), SAY)
    ended = node.runtime.run(f"use {VALUE}", brain, source="t", agent="a")
    assert [step.code for step in ended.steps[:2]] == ["SYNTAX", "SYNTAX"]
    assert ended.response == "done"
    node.intent("fs.read", path=VALUE)
    assert node.runtime.run("x", Failing(), source="t", agent="a").outcome == "no_inference"
    assert node.isolation.calls == []
    assert brain.seen[0].turns[0].content == "use [secret token]"
    assert all(VALUE.encode() not in raw for raw in node.said())
    assert sum(b"[secret token]" in raw for raw in node.said()) >= 6
    assert any(STRUCK in raw for raw in node.said())
    assert replay(node.log.scan()).divergences == ()


WORDS = (
    "AUTHORIZED",
    "tool_call",
    '"path":"',
    "ExecutionError",
    "success!",
    "fs.write",
    '{"message":{"content":"',
    "}}}}}}}}",
)


@pytest.mark.parametrize("word", WORDS)
def test_a_secret_that_is_a_word_of_the_protocol_only_stops_calls(word: str) -> None:
    """The store refuses what is short, not what is common. The operator who chooses such a word loses the calls that hold
    it; nothing is allowed by it, decisions keep their names, and the log replays."""
    check_value(word)
    isolation = CountingIsolation(lambda tool, args: {"word": word})
    node = Vaulted(word, isolation)
    message = call("fs.write", path="reports/x", content="y", mode="create")
    result = node.runtime.intent(json.dumps(message, separators=(",", ":")).encode())
    struck = word in json.dumps(message, separators=(",", ":"))
    assert (result.decision, len(isolation.calls)) == (("REJECTED", 0) if struck else ("AUTHORIZED", 1))
    if not struck:
        assert result.result == {"status": "success", "result": {"word": "[secret token]"}}
    finished = [
        event for recorded in node.recorded for event in recorded.events if type(event) is events.ExecutionCompleted
    ]
    assert [event.outcome for event in finished] == ([] if struck else ["success"])
    assert replay(node.log.scan()).divergences == ()


@pytest.mark.parametrize(
    "value", ["", "a", "AUTHORI", "\u20ac" * 7, "x" * (64 * 1024 + 1), "\u20ac" * 22000, "1234567\ud800"]
)
def test_what_cannot_be_struck_out_is_no_secret(value: str) -> None:
    with pytest.raises(ConfigurationError):
        check_value(value)


class Delivering(CountingIsolation):
    """Notes the secrets of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.delivered: list[dict[str, str]] = []

    def run(
        self, manifest: Manifest, args: dict[str, Any], settings: dict[str, Any], *, idempotency_key: str = "",
        secrets: Mapping[str, str] = MappingProxyType({}),
    ) -> Outcome:  # fmt: skip
        self.delivered.append(dict(secrets))
        return super().run(manifest, args, settings, idempotency_key=idempotency_key)


def test_a_wrong_value_executes_nothing() -> None:
    """The call ends as unavailable, is recorded as that, and never reaches the claw."""

    class Wrong(StoredVault):
        def granted(self, node: Node, manifest: Manifest) -> dict[str, str]:
            return super().granted(node_with(token=Secret("other", (manifest.name,))), asking(manifest.name, "token"))

    isolation = Delivering()
    node = Vaulted(VALUE, isolation)
    node.runtime = Runtime(
        node.log, node.authority, node.gate, node.sources, concurrency_max=4, vault=Wrong({"token": VALUE}, {"token": "m"})
    )  # fmt: skip
    result = node.intent("fs.read", path="a")
    assert (result.decision, result.outcome, isolation.delivered) == ("AUTHORIZED", "unavailable", [])
    assert result.result["error"]["class"] == "EnvironmentError"
    assert VALUE not in json.dumps(result)
    assert replay(node.log.scan()).divergences == ()
