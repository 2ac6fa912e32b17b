"""Keys and passwords through the real command: in no output, no record, no index and no journal (I12)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.node import SAY, Answer, Node, femtoclaw
from tests.femtoclaw.openai_server import Behaviour, Handler, Server, completion, says, status

KEY = "sk-SECRET-0123456789"
HIDDEN = "SECRET"
PASSWORD = "hunter2-SECRET"
MESSAGE = json.dumps(SAY)


@pytest.fixture
def asking(node: Node) -> Iterator[Any]:
    """Runs the node over a server that behaves so, with this key in the environment."""
    server = Server()
    settings = {"base_url": json.dumps(server.base_url), "attempts": "1"}
    node.call("config", "set", *(f"runtime.brains.openai.{name}={value}" for name, value in settings.items()))

    def ask(key: str, *behaviours: Behaviour) -> tuple[Answer, list[str | None]]:
        server.behaviours = behaviours
        server.requests.clear()
        words = ["--json", "--home", str(node.path), "run", "hello", "--brain", "openai:m"]
        answer = femtoclaw(*words, cwd=node.path, expect=None, FEMTOCLAW_OPENAI_API_KEY=key)
        return answer, [headers.get("Authorization") for _, headers, _ in server.requests]

    yield ask
    server.stop()


def traces(node: Node, secret: str) -> list[str]:
    """Where the secret is found: every file of the home with its index, and what reading commands print."""
    shown = [node.call("log", "--limit", "0"), node.call("log", "--kind", "InputReceived", "--limit", "0")]
    shown.append(node.call("show", shown[-1].objects[-1]["execution_id"], human=True))
    found = [f"reading {number}" for number, answer in enumerate(shown) if secret in answer.stdout + answer.stderr]
    assert (node.path / "index" / "projections.db").exists()
    return found + [
        str(path) for path in node.path.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()
    ]


def escaped(key: str) -> str:
    """The inside of a JSON string in which every character is an escape."""
    return "".join(f"\\u{ord(char):04x}" for char in key)


SHOWING: tuple[Callable[[str], str], ...] = (
    lambda key: key,
    lambda key: f'{{"message":{{"content":"{escaped(key)}"}}}}',
    lambda key: f'{{"tool_call":{{"tool":"fs.list","args":{{"path":"{escaped(key)}"}}}}}}',
)
"""Contents that show a key: as it is, and behind escapes that whoever reads the message undoes."""


def echoing(handler: Handler, code: int, *, content: Callable[[str], str] | None = None) -> None:
    """An endpoint that shows the key it got wherever an answer has room for it."""
    key = handler.headers["Authorization"]
    raw = completion(content(key)) if content else json.dumps({"error": {"message": key}}).encode()
    handler.send_response(code, key)
    for name, value in (("Content-Length", str(len(raw))), ("Retry-After", key), ("X-Key", key), ("Location", key)):
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(raw)


@pytest.mark.invariant("I12")
def test_a_key_is_sent_and_nothing_else(node: Node, asking: Any) -> None:
    """With the line break that a file puts at its end: the endpoint gets the key, the provenance has none of it."""
    for ending in ("", "\n", "\r\n"):
        answer, sent = asking(KEY + ending, says(MESSAGE))
        assert (answer.code, sent) == (0, [f"Bearer {KEY}"])
        assert HIDDEN not in answer.stdout + answer.stderr
    received = node.call("log", "--kind", "InferenceReceived").objects[-1]
    assert "m" in received["provenance"]
    assert traces(node, HIDDEN) == []


WRONG_KEYS = (f"{KEY}\r", f"{KEY}\n\n", f"{KEY}\n \n", f"a\n{KEY}", f"\x1b{KEY}", f"{KEY}\u20ac", f"{KEY}\udcff")


@pytest.mark.invariant("I12")
def test_a_key_that_cannot_be_sent_is_refused_unseen(node: Node, asking: Any) -> None:
    """Exit 2 naming the variable, in JSON and in text; nothing was asked, recorded or shown."""
    for key in WRONG_KEYS:
        answer, sent = asking(key, says(MESSAGE))
        assert (answer.code, sent) == (2, [])
        assert answer.body["error"]["where"] == "FEMTOCLAW_OPENAI_API_KEY"
        assert HIDDEN not in answer.stdout + answer.stderr
    assert traces(node, HIDDEN) == []


@pytest.mark.invariant("I12")
def test_an_endpoint_that_shows_the_key_it_got_cannot_place_it(node: Node, asking: Any) -> None:
    """In an error's body, reason and headers, and in an answer's content, also escaped: it is in no text and no record."""
    cases = [*((code, None) for code in (401, 429, 500, 302, 200)), *((200, content) for content in SHOWING)]
    for code, content in cases:
        answer, sent = asking(
            KEY, lambda handler, body, code=code, content=content: echoing(handler, code, content=content)
        )
        assert (answer.code, sent) == (4, [f"Bearer {KEY}"])
        assert HIDDEN not in answer.stdout + answer.stderr
    assert len(node.call("log", "--kind", "InferenceFailed", "--limit", "0").objects) == len(cases)
    assert traces(node, HIDDEN) == []


@pytest.mark.invariant("I12")
def test_a_password_in_the_address_is_never_adopted(node: Node) -> None:
    """The configuration is refused before it is recorded, and the refusal does not repeat it."""
    config = node.path / "femtoclaw.toml"
    good = config.read_text()
    config.write_text(good + f'\n[runtime.brains.openai]\nbase_url = "http://user:{PASSWORD}@127.0.0.1:1/v1"\n')
    answer = node.call("intent", MESSAGE, expect=2)
    assert answer.body["error"]["where"].endswith("runtime.brains.openai.base_url")
    assert str(config) in answer.body["error"]["where"]
    assert PASSWORD not in answer.stdout + answer.stderr
    config.write_text(good)
    assert traces(node, PASSWORD) == []


@pytest.mark.invariant("I12")
def test_the_private_key_in_any_place_is_not_shown(node: Node, tmp_path: Path) -> None:
    """Given as a file or as text where a public key, a checkpoint, a bundle, a policy or an archive belongs, or lying in
    the place of the public one: refused, and neither printed nor kept in the boot journal."""
    private = node.path / "keys" / "node.key"
    seed = json.loads(private.read_text())["box"]  # in hex: this home has no passphrase
    bundle = str(tmp_path / "bundle")
    node.call("export", "--bundle", bundle)
    for words in (
        ["verify", "--bundle", bundle, "--key", str(private)],
        ["verify", "--bundle", bundle, "--key", seed],
        ["verify", "--bundle", str(private), "--key", str(node.path / "keys" / "node.pub")],
        ["verify", "--checkpoint", str(private)],
        ["replay", "--policy", str(private)],
        ["recover", "--from-archive", str(private)],
        ["show", "0" * 32],
    ):
        answer = node.call(*words, expect=None)
        assert answer.code != 70, words
        assert seed not in answer.stdout + answer.stderr, words
    public = node.path / "keys" / "node.pub"
    public.write_text(seed + "\n")
    for words in (["intent", MESSAGE], ["recover"], ["verify"], ["status"]):
        answer = node.call(*words, expect=None)
        assert answer.code != 70
        assert seed not in answer.stdout + answer.stderr, words
    journal = (node.path / "boot.journal").read_text()
    assert "not a public key" in journal
    assert seed not in journal


@pytest.mark.invariant("I12")
def test_a_defect_is_told_by_type_and_place(node: Node, tmp_path: Path) -> None:
    """What an exception that nobody foresaw says is shown with FEMTOCLAW_DEBUG=1 only."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nreal = os.listdir\n"
        f"def listdir(*words):\n    raise RuntimeError({PASSWORD!r})\n"
        "import sys\nif 'status' in sys.orig_argv: os.listdir = listdir\n"
    )
    path = f"{tmp_path}:{Path(__file__).resolve().parent.parent.parent}"
    words = ["--json", "--home", str(node.path), "status"]
    told = femtoclaw(*words, cwd=tmp_path, expect=70, PYTHONPATH=path)
    assert told.body["error"]["what"] == "a defect in femtoclaw: RuntimeError"
    assert told.body["error"]["where"].startswith("sitecustomize.py:")
    assert PASSWORD not in told.stdout + told.stderr
    debugged = femtoclaw(*words, cwd=tmp_path, expect=70, PYTHONPATH=path, FEMTOCLAW_DEBUG="1")
    assert "Traceback" in debugged.stderr
    assert PASSWORD in debugged.stderr


def test_a_short_word_for_a_key_is_a_word(asking: Any) -> None:
    """Local endpoints are given keys such as `none`: an answer may hold the word."""
    answer, sent = asking("none", says(json.dumps({"message": {"content": "none at all"}})))
    assert (answer.code, sent) == (0, ["Bearer none"])


def test_an_endpoint_that_refuses_is_told_by_its_status(node: Node, asking: Any) -> None:
    """What helps is still said."""
    answer, _ = asking(KEY, status(401))
    assert answer.code == 4
    assert "status 401" in node.call("log", "--kind", "InferenceFailed").objects[0]["detail"]
