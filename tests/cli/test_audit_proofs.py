"""The auditor's view: proofs by nothing but RFC 6962, and readers beside a node at work."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3

from tests.cli.auditing import edit_time
from tests.cli.forgery import (
    payloads_of,
    records_of,
    rewrite,
)
from tests.cli.node import READ, ROOT, Node, environment

# Proofs, checked with nothing but RFC 6962's own recursive definitions.


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def tree_hash(leaves: list[bytes]) -> bytes:
    """MTH of section 2.1."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(tree_hash(leaves[:split]), tree_hash(leaves[split:]))


def audit_path(place: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of section 2.1.1."""
    if len(leaves) == 1:
        return []
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if place < split:
        return [*audit_path(place, leaves[:split]), tree_hash(leaves[split:])]
    return [*audit_path(place - split, leaves[split:]), tree_hash(leaves[:split])]


def subproof(old: int, leaves: list[bytes], whole: bool = True) -> list[bytes]:
    """SUBPROOF of section 2.1.2."""
    if old == len(leaves):
        return [] if whole else [tree_hash(leaves)]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if old <= split:
        return [*subproof(old, leaves[:split], whole), tree_hash(leaves[split:])]
    return [*subproof(old - split, leaves[split:], False), tree_hash(leaves[:split])]


@pytest.mark.requirement("STORAGE-16.1")
def test_printed_proofs_are_those_of_the_rfc(node: Node) -> None:
    """Inclusion and consistency proofs equal an independent derivation from the links that `log` prints, and the root
    is the one in the note, whose signature holds under another library's hands."""
    from nacl.signing import VerifyKey

    links = [bytes.fromhex(entry["link"]) for entry in node.call("log", "--limit", "0").objects]
    leaves = [hashlib.sha256(b"\x00" + link).digest() for link in links]
    for index in (1, 7, len(leaves)):
        body = node.call("proof", "inclusion", str(index)).body
        assert body["leaf_hash"] == leaves[index - 1].hex()
        assert body["proof"] == [part.hex() for part in audit_path(index - 1, leaves)]
        assert body["root"] == tree_hash(leaves).hex()
        origin, size, root = body["checkpoint"].split("\n\n")[0].split("\n")
        assert (int(size), base64.b64decode(root)) == (len(leaves), tree_hash(leaves))
    for old, new in ((1, 2), (8, len(leaves)), (13, 21), (len(leaves), len(leaves))):
        body = node.call("proof", "consistency", str(old), str(new)).body
        assert body["proof"] == [part.hex() for part in subproof(old, leaves[:new])]
        assert (body["old_root"], body["root"]) == (tree_hash(leaves[:old]).hex(), tree_hash(leaves[:new]).hex())
    text, _, signature = body["checkpoint"].partition("\n\n")
    key = base64.b64decode((node.path / "keys" / "node.pub").read_text().split("+", 2)[2])
    raw = base64.b64decode(signature.split(" ")[2])
    assert signature.split(" ")[1] == origin
    VerifyKey(key[1:]).verify((text + "\n").encode(), raw[4:])


def test_a_printed_proof_can_be_checked_by_hand(node: Node) -> None:
    """With the lines in docs/log-format.md: the frame gives the link, the link the leaf, the proof the root, which the
    note signs. A frame or a proof that was changed does not pass them."""
    body = node.call("proof", "inclusion", "5").body
    by_hand = (ROOT / "docs" / "log-format.md").read_text().split("```python\n")[1].split("```")[0]
    names = {"base64": base64, "blake3": blake3, "sha256": hashlib.sha256}
    exec(by_hand, names | {"body": body})
    assert body["root_base64"] == body["checkpoint"].split("\n")[2]
    assert body["signed"] is True
    frame = base64.b64decode(body["frame"])
    assert int.from_bytes(frame[12:20], "big") == 5
    other = base64.b64encode(frame[:70] + bytes([frame[70] ^ 1]) + frame[71:]).decode()
    for change in ({"frame": other}, {"leaf_index": 5}, {"proof": body["proof"][:-1]}, {"proof": body["proof"][::-1]}):
        with pytest.raises(AssertionError):
            exec(by_hand, names | {"body": body | change})
    assert body["link"] in node.call("proof", "inclusion", "5", human=True).stdout


def test_no_proof_is_given_under_a_root_that_was_not_signed(node: Node) -> None:
    """A store rewritten with everything but the signature: exit 3, with the signed root and the other one."""
    payloads = payloads_of(node)
    edit_time(payloads)
    rewrite(node, payloads, None)
    signed = (node.path / "log" / "checkpoints" / "latest").read_text().split("\n")[2]
    for words in (("inclusion", "5"), ("consistency", "3", "20")):
        error = node.call("proof", *words, expect=3).body["error"]
        assert error["expected"] == base64.b64decode(signed).hex()
        assert len(error["found"]) == 64
        assert error["found"] != error["expected"]


def test_a_proof_beside_a_running_node_leads_to_a_signed_root(node: Node) -> None:
    """Records behind the newest checkpoint do not change what is proved about those before it."""
    signed = node.call("proof", "inclusion", "3").body
    before = (node.path / "log" / "checkpoints" / "latest").read_bytes()
    node.intent(READ)
    (node.path / "log" / "checkpoints" / "latest").write_bytes(before)  # as it is while a node runs
    assert node.call("proof", "inclusion", "3").body == signed
    newest = len(records_of(node))
    assert node.call("proof", "inclusion", str(newest)).body["size"] == newest


AT_WORK = """
import itertools, json, sys
from femtoclaw.cli.execute import open_node
from femtoclaw.cli.render import Output
read = json.dumps({"tool_call": {"tool": "fs.read", "args": {"path": "large.txt"}}}).encode()
for life in itertools.count():
    with open_node(sys.argv[1], Output(as_json=False)) as node:
        print("at work", flush=True)
        for turn in range(20):
            node.runtime.intent(b'{"message":{"content":"hello"}}' if turn % 5 else read)
            if turn % 3 == 0:
                node.started.log.checkpoint()
"""


BESIDE: dict[str, tuple[str, ...]] = {
    "verify": ("verify",),
    "replay": ("replay",),
    "inclusion": ("proof", "inclusion", "20"),
    "consistency": ("proof", "consistency", "9", "30"),
    "status": ("status",),
    "log": ("log", "--limit", "20"),
    "log of one kind": ("log", "--kind", "AuthorizationDecided"),
    "export": ("export", "--bundle", "b"),
}


BESIDE_ROUNDS = 3


def test_every_reading_command_is_right_beside_a_node_at_work(node: Node, tmp_path: Path) -> None:
    """A real node executes, checkpoints, stops and starts as fast as it can: nothing is called damaged, a bundle taken
    meanwhile verifies, and each answer holds against the next."""
    (node.workspace / "large.txt").write_text("all work and no play\n" * 5000)
    key = (node.path / "keys" / "node.pub").read_text().strip()
    with subprocess.Popen(
        [sys.executable, "-c", AT_WORK, str(node.path)], stdout=subprocess.PIPE, env=environment()
    ) as worker:
        try:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"at work\n"
            size = 0
            for _ in range(BESIDE_ROUNDS):
                for name, words in BESIDE.items():
                    answer = node.call(*words, expect=None)
                    assert answer.code in ((0, 1) if name == "status" else (0,)), answer
                    if name == "verify":
                        assert answer.body["ok"]
                        assert answer.body["size"] > size
                        size = answer.body["size"]
                    if name == "log":
                        indexes = [each["index"] for each in answer.objects]
                        assert indexes == list(range(indexes[0], indexes[0] + 20))
                sound = node.call("verify", "--bundle", "b", "--key", key)
                assert sound.body["ok"]
            assert worker.poll() is None
        finally:
            worker.kill()
    assert node.call("verify").body["skipped"] == []
