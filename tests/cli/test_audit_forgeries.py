"""The auditor's view: histories forged with the node's own key, and those of a newer program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest

from femtoclaw import events
from femtoclaw.event_codec import decode, encode
from femtoclaw.events import Event
from tests.cli.auditing import audit
from tests.cli.forgery import (
    Payloads,
    payloads_of,
    rewrite,
    signer_of,
)
from tests.cli.node import Node, call
from wal import KIND_EVENT
from wal.record import FLAG_BATCH_END


def event_at(payloads: Payloads, kind: type[Event], number: int = 0) -> tuple[int, Event]:
    places = [i for i, (_, k, raw, _) in enumerate(payloads) if k == KIND_EVENT and isinstance(decode(raw), kind)]
    return places[number], decode(payloads[places[number]][2])


def replaced(kind: type[Event], number: int, **fields: object) -> Callable[[Payloads], int]:
    """Change fields of one event; the index at which it stands in the log is returned."""

    def forge(payloads: Payloads) -> int:
        place, event = event_at(payloads, kind, number)
        payloads[place] = (payloads[place][0], KIND_EVENT, encode(event._replace(**fields)), payloads[place][3])
        return place + 2

    return forge


def raw_payload(raw: bytes) -> Callable[[Payloads], int]:
    def forge(payloads: Payloads) -> int:
        place, _ = event_at(payloads, events.AuthorizationDecided)
        payloads[place] = (payloads[place][0], KIND_EVENT, raw, payloads[place][3])
        return place + 2

    return forge


def without_cause(payloads: Payloads) -> int:
    forged = events.ExecutionStarted("e" * 32, "shell", "m", "c", "k")
    payloads.append((payloads[-1][0], KIND_EVENT, encode(forged), FLAG_BATCH_END))
    return len(payloads) + 1


FORGERIES: dict[str, Callable[[Payloads], int]] = {
    "a denial made a permission": replaced(
        events.AuthorizationDecided, 1, decision="AUTHORIZED", reason="PERMITTED", determining=("read",)
    ),
    "a permission made a denial": replaced(events.AuthorizationDecided, 0, decision="DENIED_POLICY_VIOLATION"),
    "a policy's text": replaced(events.PolicyAdopted, 0, text='@id("all") permit (principal, action, resource);'),
    "an intent": replaced(events.InputReceived, 0, content=b'{"message":{"content":"I was good"}}'),
    "a rejection": replaced(events.ProtocolRejected, 0, code="OTHER"),
    "an effect without a cause": without_cause,
    "a field of another type": replaced(events.InputReceived, 0, content="text"),
    "a blob's name that is a path": replaced(events.ExecutionFinished, 0, blob="../../../../dev/zero\0"),
    "bytes that are no event": raw_payload(b"\xc1\xff"),
}


@pytest.mark.invariant("I6")
@pytest.mark.requirement("STORAGE-6.3")
@pytest.mark.parametrize("name", FORGERIES)
def test_a_history_forged_with_the_nodes_own_key_does_not_replay(node: Node, tmp_path: Path, name: str) -> None:
    """Checksums, chain, HEAD, root and signature all hold; the rules do not: named by index, expected and found, by
    verify, by replay, and by a stranger with the bundle."""
    payloads = payloads_of(node)
    index = FORGERIES[name](payloads)
    rewrite(node, payloads, signer_of(node))
    findings = node.call("verify", expect=3).body["findings"]
    assert {"DIVERGENCE", "EventFormatError", "BLOB_DAMAGED"} >= {finding["code"] for finding in findings}
    # A changed input shows where its first consequence stands, which is the record behind it.
    assert findings[0]["where"].split(":")[0] in (f"index {index}", f"index {index + 1}")
    assert findings[0]["expected"] != findings[0]["found"]
    if "blob" not in name:
        replayed = node.call("replay", expect=3).body
        if "divergences" in replayed:
            assert {"index", "expected", "found"} == set(replayed["divergences"][0])
        else:
            assert replayed["error"]["where"] == f"index {index}"


NEWER: dict[str, Callable[[Payloads], int]] = {
    "an unknown event": raw_payload(msgpack.packb([999, 1])),
    "a newer version": raw_payload(msgpack.packb([26, 2, "x"])),
}


@pytest.mark.parametrize("name", NEWER)
def test_what_a_newer_program_wrote_is_not_called_tampering(node: Node, tmp_path: Path, name: str) -> None:
    """Nobody can judge it here, which is exit 2 and a name for it; the evidence can still be taken out."""
    (node.workspace / "large.txt").write_text("all work and no play\n" * 5000)
    node.intent(call("fs.read", path="large.txt"))
    payloads = payloads_of(node)
    finished = event_at(payloads, events.ExecutionFinished, -1)[0]
    index = NEWER[name](payloads)
    time_ns, _, raw, flags = payloads[finished]
    payloads[finished] = (time_ns, KIND_EVENT, msgpack.packb([28, 99, *msgpack.unpackb(raw)[2:]]), flags)
    rewrite(node, payloads, signer_of(node))
    for answer in (node.call("verify", expect=2), None):
        if answer is None:
            made = node.call("export", "--bundle", str(tmp_path / "made")).body
            assert made["blobs"] == 1  # named by the result that cannot be read
            answer = audit(tmp_path, (tmp_path / "made").read_bytes(), made["key"], expect=2)
        assert not answer.body["ok"]
        assert [(f["code"], f["where"]) for f in answer.body["findings"]] == [("FORMAT_UNKNOWN", f"index {index}")]
    error = node.call("replay", expect=2).body["error"]
    assert (error["what"], error["where"]) == ("event is newer than this program", f"index {index}")
    assert "upgrade" in error["remedy"]
    assert "upgrade" in node.call("verify", human=True, expect=2).stderr


def test_a_forged_history_does_not_pass_as_a_bundle(node: Node, tmp_path: Path) -> None:
    """The stranger derives the decisions too: a bundle with the node's true signature over a lie is refused."""
    payloads = payloads_of(node)
    index = FORGERIES["a denial made a permission"](payloads)
    rewrite(node, payloads, signer_of(node))
    made = node.call("export", "--bundle", str(tmp_path / "made")).body
    body = audit(tmp_path, (tmp_path / "made").read_bytes(), made["key"]).body
    first = body["findings"][0]
    assert (first["code"], first["where"]) == ("DIVERGENCE", f"index {index}")
