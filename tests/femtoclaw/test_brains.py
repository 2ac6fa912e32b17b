"""Brains only propose: script and echo, and an HTTP brain against a real server that behaves well and badly."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.brains import Context, ExhaustedError, Turn, open_brain
from femtoclaw.brains.openai import OpenAIBrain, Settings, read_settings
from femtoclaw.brains.script import SCRIPT_BYTES_MAX
from femtoclaw.errors import BrainError, ConfigurationError
from tests.femtoclaw.brain_peer import CONTEXT, KEY, MESSAGE, Peer
from tests.femtoclaw.openai_server import Behaviour, Server, completion, says, stalls, status, stream


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


def test_a_script_is_a_regular_file_of_bounded_size(tmp_path: Path) -> None:
    """A pipe that nobody writes to, a device without an end and a folder are refused at once; a link to a file is not."""
    pipe, file, link, large = (tmp_path / name for name in ("pipe", "file", "link", "large"))
    os.mkfifo(pipe)
    file.write_bytes(b"line\n")
    link.symlink_to(file)
    with large.open("wb") as sparse:
        sparse.truncate(SCRIPT_BYTES_MAX + 1)
    for path in (str(pipe), "/dev/zero", str(tmp_path), str(large)):
        words = [sys.executable, "-c", OPENING, f"script:{path}"]
        opening = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
        assert opening.stdout == "CONFIGURATION_ERROR\n", opening.stderr
    assert open_brain(f"script:{link}", {}, no_secrets).think(CONTEXT).raw == b"line"


OPENING = """
import sys
from femtoclaw.brains import open_brain
from femtoclaw.errors import ConfigurationError
try:
    open_brain(sys.argv[1], {}, lambda name: None)
except ConfigurationError as error:
    print(error.code)
"""
"""In a process of its own: a thread that hangs in an open() could not be ended."""


def test_echo_answers_the_last_user_turn() -> None:
    """The user's words come back as a message, whatever they are."""
    text = 'quote " and \u2028'
    raw = open_brain("echo", {}, no_secrets).think(Context((Turn("user", text), Turn("tool", "x")), ())).raw
    assert json.loads(raw) == {"message": {"content": text}}


@pytest.mark.parametrize("spec", ["", "gpt", "script:/no/such/file", "script:a\0b", "openai:", "SCRIPT:x"])
def test_a_brain_that_cannot_be_had_is_a_configuration_error(spec: str) -> None:
    """Unknown names, missing files and missing models are told before anything runs."""
    with pytest.raises(ConfigurationError):
        open_brain(spec, {}, no_secrets)


@pytest.mark.parametrize(
    "raw",
    [
        {"base_url": "ftp://x"}, {"base_url": 7}, {"nope": 1}, {"attempts": 0}, {"attempts": "3"}, {"attempts": 101},
        {"attempts": True}, {"read_seconds": -1.0}, {"read_seconds": 0}, {"connect_seconds": float("nan")},
        {"total_seconds": float("inf")}, {"total_seconds": 10**400}, {"temperature": float("nan")}, {"stream": 1},
        {"max_tokens": 1.5},
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(raw: dict[str, Any]) -> None:
    """Unknown keys, wrong types and values out of bounds, no number and infinity among them, name the key."""
    with pytest.raises(ConfigurationError, match="brain setting") as caught:
        read_settings(raw)
    assert next(iter(raw)) in caught.value.where


@pytest.mark.parametrize(
    "base_url",
    [
        "", "http://", "http:///v1", "//host/v1", "http://user:secret-word@host/v1", "http://host/v1?key=secret-word",
        "http://host/v1#secret-word", "http://host:port/v1", "http://host:99999/", "http://host:0/", "http://[::1/v1",
        "http://ho st/", "http://host/\r\nX: secret-word", "http://höst/", "http://host/ü",
    ],
)  # fmt: skip
def test_an_address_that_no_key_should_go_to_is_refused_and_not_shown(base_url: str) -> None:
    """No host, no port, parts that are never sent, and secrets where they would be recorded."""
    with pytest.raises(ConfigurationError) as caught:
        read_settings({"base_url": base_url})
    assert "secret-word" not in f"{caught.value} {caught.value!r}"
    with pytest.raises(ConfigurationError):
        OpenAIBrain("m", Settings(base_url=base_url), None)


@pytest.mark.parametrize("key", [f"{KEY}\n", f"{KEY}\r\nX: y", f"{KEY}é", f"{KEY}\x00"])
def test_a_key_that_no_header_can_hold_is_told_without_showing_it(key: str) -> None:
    """A line break from a file, or another alphabet: a configuration error before anything is sent."""
    with pytest.raises(ConfigurationError) as caught:
        OpenAIBrain("m", Settings(), key)
    assert KEY not in f"{caught.value} {caught.value!r} {caught.value.__context__!r}"


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


SHOWN_KEY = 'sk-very/SECRET-"1' + "\\"
SHOWN = r"sk-\u0076ery\/\u0053ECRET\u002D\"1\\"
"""``SHOWN_KEY`` within JSON: escapes with digits in both cases, short ones, and a backslash at the end."""


@pytest.mark.invariant("I12")
@pytest.mark.parametrize(
    "content",
    [
        f'{{"message":{{"content":"{SHOWN}"}}}}',
        f'{{"tool_call":{{"tool":"t","args":{{"a":[[{{"{SHOWN}":1}}]]}}}}}}',
        f'{{"message":{{"content":"{SHOWN}"}},"message":{{"content":"again"}}}}',
        f'{{"message":{{"content":"{SHOWN}"',
        "[" * 100_000 + f'"{SHOWN}"',
    ],
    ids=["value", "name", "twice", "broken", "deep"],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_the_key_behind_json_escapes_is_no_answer(peer: Peer, content: str, streaming: bool) -> None:
    """Wherever a reader of the message would undo them; what only resembles the key is an answer."""
    near = r'{"message":{"content":"sk-\\u0076ery\/SECRET-\"1\\"}}'  # an escaped backslash, then letters
    says_it = (lambda text: stream([text[:70], text[70:]], 4096)) if streaming else says
    with pytest.raises(BrainError) as caught:
        peer.brain(says_it(content), key=SHOWN_KEY, stream=streaming).think(CONTEXT)
    assert caught.value.code == "BRAIN_MALFORMED_ANSWER"
    assert "the key that was sent" in str(caught.value)
    assert "SECRET" not in f"{caught.value} {caught.value!r}"
    assert peer.brain(says_it(near), key=SHOWN_KEY, stream=streaming).think(CONTEXT).raw == near.encode()


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_with_the_key(peer: Peer, code: int) -> None:
    """Where it leads to, nobody is asked, with or without the key."""
    elsewhere = Server(says(MESSAGE))
    peer.servers.append(elsewhere)
    brain = peer.brain(status(code, Location=f"{elsewhere.base_url}/chat/completions"))
    with pytest.raises(BrainError) as caught:
        brain.think(CONTEXT)
    assert caught.value.code == "BRAIN_HTTP_ERROR"
    assert len(peer.requests) == 1
    assert elsewhere.requests == []


def test_proxy_variables_do_not_get_the_key(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment cannot send the request through someone else."""
    elsewhere = Server(says("from elsewhere"))
    peer.servers.append(elsewhere)
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, elsewhere.base_url)
    monkeypatch.setenv("no_proxy", "")
    assert peer.brain(says(MESSAGE)).think(CONTEXT).raw == MESSAGE.encode()
    assert elsewhere.requests == []


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
