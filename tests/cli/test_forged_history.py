"""Histories forged with the node's own key: every command that reads them ends with an answer or a typed error."""

from __future__ import annotations

import json
import random
import secrets
from pathlib import Path
from typing import Any

import pytest

from femtoclaw import events
from femtoclaw.event_codec import decode, encode
from femtoclaw.events import Event
from tests.cli.forgery import Payloads, payloads_of, rewrite, signer_of
from tests.cli.in_process import run_here
from tests.cli.node import Node, call
from wal import KIND_EVENT

MUTATIONS = 240
COMMANDS_EACH = 3
"""Of ``READERS``, in turn: each of them meets some thirty forgeries."""

FIRST_INDEX = 2
"""Of the first of ``Payloads``: the genesis record stands before them."""

READERS = (
    ("status",), ("log", "--limit", "0"), ("log", "--store", "execution"), ("replay",), ("approvals",),
    ("policy", "diff", "recorded", "read-only"), ("policy", "check", "read-only"), ("policy", "show"),
    ("policy", "explain", "--message", '{"tool_call":{"tool":"fs.read","args":{"path":"a"}}}'),
    ("policy", "explain", "--execution", "0"), ("claw", "list"), ("claw", "show", "fs.read"), ("config", "show"),
    ("config", "history"), ("operator", "list"), ("publisher", "list"), ("secret", "list"), ("export", "--bundle", "b"),
)  # fmt: skip

HOSTILE: dict[type, tuple[Any, ...]] = {
    int: (-1, 0, 1, 2**31, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)),
    str: ("", "fs.read", "shell", "nobody", "runtime", "AUTHORIZED", "success", "x" * 5000, "\x1b[2J\u202e", "a,b"),
    bytes: (b"", b"{", b"[]", b"7", b"null", b"\xff\xfe", b'{"tool_call":{"tool":"fs.read","args":{"path":"a"}}}',
            b'{"runtime":7}', b'{"capabilities":[]}', b"[" * 2000, b'{"name":"fs.read","limits":{}}'),
    tuple: ((), ("",), ("a", "b", "c"), ("security_officer",)),
}  # fmt: skip


@pytest.fixture(scope="module")
def forged(template: Node, tmp_path_factory: pytest.TempPathFactory) -> Node:
    """A node with a run too; each test forges a copy of it."""
    node = template.copy(tmp_path_factory.mktemp("forged") / "home")
    node.intent(call("fs.list", path="."))
    node.call("run", "hello", "--brain", "echo")
    return node


def read(node: Node, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run one command in this process; its exit code and everything it said."""
    code = run_here("--json", "--home", str(node.path), *words)
    said = capsys.readouterr()
    return code, said.out + said.err


def mutate(raw: bytes, chance: random.Random) -> bytes:
    """The manifest, configuration or message with one value of another kind."""
    body = json.loads(raw)
    table = body
    while isinstance(table, dict) and table:
        name = chance.choice(sorted(table))
        if not isinstance(table[name], dict) or chance.random() < 0.4:
            table[name] = chance.choice((None, 7, -1, "x", [], {}, [7], {"a": []}, True, 1e300))
            break
        table = table[name]
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def forge(event: Event, others: list[Event], chance: random.Random) -> Event:
    """The event with one field exchanged: for another event's, or for a hostile value; its type is kept."""
    name = chance.choice(event._fields)
    value = getattr(event, name)
    same = [
        other for each in others for other in each if type(other) is type(value) and other != value
    ]  # fmt: skip
    if isinstance(value, bytes) and value[:1] == b"{" and chance.random() < 0.6:
        return event._replace(**{name: mutate(value, chance)}) if _is_json(value) else event
    pool = same if same and chance.random() < 0.4 else list(HOSTILE[type(value)])
    return event._replace(**{name: chance.choice(pool)})


def _is_json(raw: bytes) -> bool:
    try:
        json.loads(raw)
    except ValueError:
        return False
    return True


def changed(payloads: Payloads, at: int, payload: bytes) -> Payloads:
    time_ns, kind, _, flags = payloads[at]
    return [*payloads[:at], (time_ns, kind, payload, flags), *payloads[at + 1 :]]


def test_no_forged_history_is_a_defect(
    forged: Node, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # fmt: skip
    """A few hundred histories with one field forged, one event more, or one fewer: each reader ends with 0 to 3."""
    node = forged.copy(tmp_path / "home")
    seed = secrets.randbits(32)
    with capsys.disabled():
        print(f"\nseed {seed}")
    chance = random.Random(seed)
    monkeypatch.chdir(node.path.parent)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # no machine stops here, and it is half of the time
    payloads, signer = payloads_of(node), signer_of(node)
    places = [at for at, each in enumerate(payloads) if each[1] == KIND_EVENT]
    recorded = [decode(payloads[at][2]) for at in places]
    codes: dict[int, int] = {}
    for number in range(MUTATIONS):
        at = chance.choice(places)
        event = decode(payloads[at][2])
        way = chance.random()
        if way < 0.85:
            event = forge(event, recorded, chance)
            history = changed(payloads, at, encode(event))
        elif way < 0.93:
            history = [*payloads[:at], *payloads[at + 1 :]]
        else:
            history = [*payloads[: at + 1], *payloads[chance.choice(places) :]]
        rewrite(node, history, signer)
        for turn in range(COMMANDS_EACH):
            words = READERS[(number * COMMANDS_EACH + turn) % len(READERS)]
            code, said = read(node, words, capsys)
            told = f"seed {seed}, number {number}: {words} of {event!r} at {at + FIRST_INDEX}: {code} {said[-1500:]}"
            assert code in (0, 1, 2, 3), told
            assert "Traceback" not in said, told
            codes[code] = codes.get(code, 0) + 1
    assert codes[0] > 0, f"seed {seed}: {codes}"
    assert codes[3] > MUTATIONS // 10, f"seed {seed}: {codes}"


def first(payloads: Payloads, kind: type[Event]) -> tuple[int, Any]:
    return next(
        (at, event) for at, each in enumerate(payloads) if isinstance(event := decode(each[2]), kind)
    )  # fmt: skip


FORGERIES: dict[str, tuple[type[Event], dict[str, Any], tuple[tuple[str, ...], ...]]] = {
    "a manifest that is no object": (
        events.ClawRegistered, {"manifest": b"[]"},
        (("claw", "list"), ("policy", "check", "read-only"), ("policy", "diff", "recorded", "read-only")),
    ),
    "a manifest with other types": (
        events.ClawRegistered, {"manifest": b'{"name":"fs.list","arguments":[],"limits":{}}'},
        (("claw", "list"), ("policy", "check", "read-only")),
    ),
    "a configuration that is no JSON": (
        events.ConfigurationAdopted, {"content": b"{"},
        (("config", "show"), ("config", "history"), ("health",), ("policy", "explain", "--message", '{"message":{"content":"a"}}')),
    ),
    "a configuration with other tables": (
        events.ConfigurationAdopted, {"content": b'{"capabilities":[],"runtime":7}'},
        (("policy", "check", "read-only"), ("policy", "diff", "recorded", "read-only")),
    ),
    "an impossible version": (
        events.PolicyAdopted, {"version": 9},
        (("status",), ("claw", "list"), ("policy", "check", "read-only"), ("policy", "diff", "recorded", "read-only"),
         ("approvals",), ("operator", "list"), ("intent", '{"message":{"content":"a"}}')),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_what_nobody_could_record_is_an_integrity_error(
    forged: Node, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # fmt: skip
    """Exit 3 with a typed error that points to ``verify``; an event that cannot have happened is named by its index."""
    kind, fields, commands = FORGERIES[name]
    node = forged.copy(tmp_path / "home")
    monkeypatch.setattr(
        "femtoclaw.cli.forged.unsound", lambda parsed: None
    )  # the readers' own checks, not the last word
    payloads = payloads_of(node)
    at, event = first(payloads, kind)
    rewrite(node, changed(payloads, at, encode(event._replace(**fields))), signer_of(node))
    for words in commands:
        code, said = read(node, words, capsys)
        error = json.loads(said.splitlines()[0])["error"]
        assert (code, error["category"]) == (3, "SECURITY"), said
        assert "verify" in error["remedy"]
        if name == "an impossible version":
            assert error["where"].startswith(f"index {at + FIRST_INDEX}"), said


def test_a_reader_that_stumbles_asks_the_verification(
    forged: Node, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # fmt: skip
    """Whatever the reader's own checks did not foresee: 3 with the first finding's index where the history does not
    hold, 70 where it does."""
    node = forged.copy(tmp_path / "home")

    def stumble(home: object) -> None:
        raise KeyError("unforeseen")

    monkeypatch.setattr("femtoclaw.cli.node.describe", stumble)
    payloads = payloads_of(node)
    rewrite(node, payloads, signer_of(node))
    assert read(node, ("status",), capsys)[0] == 70
    at, event = first(payloads, events.ExecutionFinished)
    rewrite(node, changed(payloads, at, encode(event._replace(duration_ns=-1))), signer_of(node))
    code, said = read(node, ("status",), capsys)
    error = json.loads(said.splitlines()[0])["error"]
    assert (code, error["type"], error["where"]) == (3, "HistoryError", f"index {at + FIRST_INDEX}")


@pytest.mark.parametrize("field", ["duration_ns", "original_bytes", "kept_bytes"])
def test_nothing_took_less_than_no_time_or_room(
    forged: Node, field: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:  # fmt: skip
    """A negative number in a result is a divergence at its index."""
    node = forged.copy(tmp_path / "home")
    payloads = payloads_of(node)
    at, event = first(payloads, events.ExecutionFinished)
    rewrite(node, changed(payloads, at, encode(event._replace(**{field: -1}))), signer_of(node))
    code, said = read(node, ("replay",), capsys)
    assert code == 3
    assert json.loads(said.splitlines()[0])["divergences"][0]["index"] == at + FIRST_INDEX
