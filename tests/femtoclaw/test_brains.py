"""Brains only propose: script and echo, and an HTTP brain against a real server that behaves well and badly."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.brains import Context, ExhaustedError, Turn, open_brain
from femtoclaw.brains.openai import OpenAIBrain, Settings, read_settings
from femtoclaw.errors import BrainError, ConfigurationError
from tests.femtoclaw.openai_server import Behaviour, Server, completion, says, stalls, status, stream

CONTEXT = Context((Turn("user", "hello"), Turn("assistant", "{}"), Turn("tool", '{"tool_result":{}}')), ())
MESSAGE = '{"message":{"content":"hé"}}'
KEY = "sk-very-secret"


def no_secrets(name: str) -> str | None:
    return None


def test_a_script_replays_its_lines_byte_for_byte_and_runs_out(tmp_path: Path) -> None:
    """Each line is one raw output, malformed ones included; behind the last there is a typed error with the count."""
    path = tmp_path / "script"
    path.write_bytes(b'{"message":1}\n\xff\xfe not utf-8\n\nlast')
    brain = open_brain(f"script:{path}", {}, no_secrets)
    assert [brain.think(CONTEXT).raw for _ in range(4)] == [b'{"message":1}', b"\xff\xfe not utf-8", b"", b"last"]
    with pytest.raises(ExhaustedError) as caught:
        brain.think(CONTEXT)
    assert (caught.value.code, caught.value.found) == ("BRAIN_EXHAUSTED", 4)


def test_echo_answers_the_last_user_turn() -> None:
    """The user's words come back as a message, whatever they are."""
    text = 'quote " and \u2028'
    raw = open_brain("echo", {}, no_secrets).think(Context((Turn("user", text), Turn("tool", "x")), ())).raw
    assert json.loads(raw) == {"message": {"content": text}}


@pytest.mark.parametrize("spec", ["", "gpt", "script:/no/such/file", "openai:", "SCRIPT:x"])
def test_a_brain_that_cannot_be_had_is_a_configuration_error(spec: str) -> None:
    """Unknown names, missing files and missing models are told before anything runs."""
    with pytest.raises(ConfigurationError):
        open_brain(spec, {}, no_secrets)


@pytest.mark.parametrize(
    "raw",
    [{"base_url": "ftp://x"}, {"nope": 1}, {"attempts": 0}, {"attempts": "3"}, {"read_seconds": -1.0}, {"stream": 1}],
)
def test_wrong_settings_are_refused(raw: dict[str, Any]) -> None:
    """Unknown keys, wrong types and values out of bounds name the key."""
    with pytest.raises(ConfigurationError, match="brain setting"):
        read_settings(raw)


class Peer:
    """A server, the brain that asks it, and how long the brain slept (without sleeping)."""

    def __init__(self) -> None:
        self.servers: list[Server] = []
        self.slept: list[float] = []

    def brain(self, *behaviours: Behaviour, **settings: Any) -> OpenAIBrain:
        server = Server(*behaviours)
        self.servers.append(server)
        bounds = Settings(
            base_url=server.base_url, connect_seconds=2.0, read_seconds=2.0, total_seconds=20.0, attempts=3
        )
        return OpenAIBrain("test-model", bounds._replace(**settings), KEY, sleep=self.slept.append)

    @property
    def requests(self) -> list[tuple[str, dict[str, str], dict[str, Any]]]:
        return self.servers[-1].requests


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    for server in peer.servers:
        server.stop()


@pytest.mark.requirement("WHITE-5.2")
def test_an_answer_comes_back_raw(peer: Peer) -> None:
    """The content's bytes, the model and the endpoint; the request holds system prompt, turns and the key."""
    thought = peer.brain(says(MESSAGE)).think(CONTEXT)
    assert thought.raw == MESSAGE.encode()
    assert thought.provenance["model"] == "test-model"
    assert thought.provenance["attempts"] == "1"
    path, headers, body = peer.requests[0]
    assert (path, headers["Authorization"]) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "user"]
    assert body["stream"] is False


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_a_stream_is_put_together_whatever_its_chunks(peer: Peer, size: int) -> None:
    """Chunks that end inside lines and inside characters give the same bytes."""
    brain = peer.brain(stream([MESSAGE[:5], MESSAGE[5:24], MESSAGE[24:]], size), stream=True)
    assert brain.think(CONTEXT).raw == MESSAGE.encode()
    assert peer.requests[0][2]["stream"] is True


@pytest.mark.parametrize("failing, waits", [((429,), [7.0]), ((429, 500), [7.0, 1.0]), ((503, 502), [0.5, 1.0])])
def test_passing_errors_are_retried(peer: Peer, failing: tuple[int, ...], waits: list[float]) -> None:
    """429 waits as long as it is asked to, 5xx exponentially; then the answer counts."""
    behaviours = [status(code, Retry_After="7") if code == 429 else status(code) for code in failing]
    thought = peer.brain(*behaviours, says(MESSAGE)).think(CONTEXT)
    assert thought.raw == MESSAGE.encode()
    assert thought.provenance["attempts"] == str(len(failing) + 1)
    assert peer.slept == waits


@pytest.mark.parametrize(
    "code, behaviour, attempts",
    [
        ("BRAIN_RATE_LIMITED", status(429), 3),
        ("BRAIN_HTTP_ERROR", status(500), 3),
        ("BRAIN_HTTP_ERROR", status(401), 1),
        ("BRAIN_HTTP_ERROR", status(302, Location="http://127.0.0.1:1/"), 1),
        ("BRAIN_MALFORMED_ANSWER", lambda h, b: h.answer(b"{not json"), 1),
        ("BRAIN_MALFORMED_ANSWER", lambda h, b: h.answer(b'{"choices":[]}'), 1),
        ("BRAIN_MALFORMED_ANSWER", lambda h, b: h.answer(b"[]"), 1),
        ("BRAIN_MALFORMED_ANSWER", lambda h, b: h.answer(completion(None)), 1),
        ("BRAIN_MALFORMED_ANSWER", lambda h, b: h.answer(completion(7)), 1),
        ("BRAIN_MALFORMED_ANSWER", lambda h, b: h.answer(b"[" * 200_000), 1),
        ("BRAIN_OVERSIZE", lambda h, b: h.answer(completion("x" * 1_200_000)), 1),
        ("BRAIN_OVERSIZE", lambda h, b: h.chunks([b"y" * 65536] * 40), 1),
        ("BRAIN_UNREACHABLE", lambda h, b: h.answer(b"short", 200, {"Content-Length": "500"}) or h.wfile.close(), 3),
    ],
)
@pytest.mark.requirement("WHITE-9.5")
def test_bad_answers_are_typed_and_bounded(peer: Peer, code: str, behaviour: Behaviour, attempts: int) -> None:
    """Each way to answer badly has its code; only what may pass is asked again; the key is in no text."""

    def closing(handler: Any, body: dict[str, Any]) -> None:
        handler.close_connection = True
        behaviour(handler, body)

    brain = peer.brain(closing)
    with pytest.raises(BrainError) as caught:
        brain.think(CONTEXT)
    assert caught.value.code == code
    assert len(peer.requests) == attempts
    assert KEY not in f"{caught.value} {caught.value!r} {brain!r} {caught.value.remedy}"


def test_a_stream_that_breaks_off_is_no_answer(peer: Peer) -> None:
    """Without [DONE] the half answer is not taken for a whole one."""
    with pytest.raises(BrainError) as caught:
        peer.brain(stream([MESSAGE], done=False), stream=True).think(CONTEXT)
    assert caught.value.code == "BRAIN_MALFORMED_ANSWER"


@pytest.mark.requirement("WHITE-9.5")
def test_a_stalling_server_costs_the_read_timeout(peer: Peer) -> None:
    """Nothing comes: each attempt ends at its timeout."""
    with pytest.raises(BrainError) as caught:
        peer.brain(stalls, read_seconds=0.1, attempts=2).think(CONTEXT)
    assert caught.value.code == "BRAIN_TIMEOUT"
    assert len(peer.requests) == 2


def test_a_dripping_server_cannot_outlast_the_total_time(peer: Peer) -> None:
    """A byte now and then keeps the read alive but not the exchange."""

    def drip(handler: Any, body: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        while not handler.server.stalled.wait(0.02):
            handler.wfile.write(b" ")

    with pytest.raises(BrainError) as caught:
        peer.brain(drip, total_seconds=0.3, attempts=2).think(CONTEXT)
    assert caught.value.code == "BRAIN_TIMEOUT"


def test_nobody_listening(peer: Peer) -> None:
    """A refused connection is told as such, after its attempts."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    brain = OpenAIBrain(
        "m", Settings(base_url=f"http://127.0.0.1:{port}/v1", attempts=2), None, sleep=peer.slept.append
    )
    with pytest.raises(BrainError) as caught:
        brain.think(CONTEXT)
    assert caught.value.code == "BRAIN_UNREACHABLE"
    assert len(peer.slept) == 1


def test_one_native_tool_call_becomes_a_protocol_message_and_two_do_not(peer: Peer) -> None:
    """A model that answers in the endpoint's own tool format is understood once; two calls at once are rejected."""
    from femtoclaw.claws import SHIPPED
    from femtoclaw.protocol import ArgumentSchemas, Rejected, ToolCall, validate

    def native(count: int) -> Behaviour:
        calls = [{"type": "function", "function": {"name": "fs.read", "arguments": '{"path":"a"}'}}] * count
        return lambda handler, body: handler.answer(completion(None, tool_calls=calls))

    schemas = ArgumentSchemas(SHIPPED)
    one, two = peer.brain(native(1)).think(CONTEXT), peer.brain(native(2)).think(CONTEXT)
    assert validate(one.raw, schemas) == ToolCall("fs.read", {"path": "a"})
    assert isinstance(validate(two.raw, schemas), Rejected)
