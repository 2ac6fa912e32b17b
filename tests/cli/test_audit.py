"""The auditor's view: what a stranger can check offline, and every way to cheat him."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgpack
import pytest
from blake3 import blake3

from femtoclaw import events
from femtoclaw.event_codec import decode, encode
from femtoclaw.events import Event
from tests.cli.forgery import (
    Members,
    Payloads,
    changed,
    deflated,
    flips,
    members_of,
    overlapping,
    payloads_of,
    records_of,
    rewrite,
    signer_of,
    stranger,
)
from tests.cli.node import READ, ROOT, SAY, Answer, Node, call, environment, femtoclaw
from wal import KIND_EVENT
from wal.blob import blob_name
from wal.chain import verify_run
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.record import EMPTY, FLAG_BATCH_END
from wal.record import encode as encode_record
from wal.segment import decode_segment, encode_segment


class Evidence(NamedTuple):
    """What the auditor got: a bundle and, by another way, a key; and what the node itself says of its log."""

    bundle: Path
    key: str
    size: int
    root: str
    state_hash: str


@pytest.fixture(scope="session")
def evidence(template: Node, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """A bundle of the template's history with one more execution whose result is a blob."""
    folder = tmp_path_factory.mktemp("evidence")
    node = template.copy(folder / "home")
    (node.workspace / "large.txt").write_text("all work and no play\n" * 5000)
    assert "blob" in node.intent(call("fs.read", path="large.txt")).body["result"]
    said = node.call("verify").body
    made = node.call("export", "--bundle", str(folder / "b.bundle")).body
    assert made["blobs"] == 1
    shutil.rmtree(node.path)
    return Evidence(folder / "b.bundle", made["key"], said["size"], said["root"], said["state_hash"])


def audit(folder: Path, bundle: bytes, key: str, expect: int | None = 3) -> Answer:
    """Verify in a directory that holds a bundle and a key file, with a HOME that does not exist."""
    (folder / "b").write_bytes(bundle)
    (folder / "key").write_text(key)
    answer = femtoclaw(
        "verify", "--bundle", "b", "--key", "key", "--json", cwd=folder, expect=expect, HOME=str(folder / "nowhere")
    )
    assert "Traceback" not in answer.stderr
    return answer


def found(answer: Answer) -> str:
    """What a refusal names: the codes of its findings, or its error."""
    body = answer.body
    return " ".join(f["code"] for f in body["findings"]) if "findings" in body else str(body["error"]["type"])


@pytest.mark.requirement("STORAGE-16.1")
def test_an_auditor_needs_the_bundle_and_a_key_only(evidence: Evidence, tmp_path: Path) -> None:
    """In an empty directory and without any home: the same size, root and state as the node said; nothing is written."""
    body = audit(tmp_path, evidence.bundle.read_bytes(), evidence.key, expect=0).body
    assert body["ok"]
    assert body["findings"] == []
    assert (body["size"], body["root"], body["state_hash"]) == (evidence.size, evidence.root, evidence.state_hash)
    assert {path.name for path in tmp_path.iterdir()} == {"b", "key"}
    as_text = femtoclaw("verify", "--bundle", str(evidence.bundle), "--key", evidence.key, cwd=tmp_path)
    assert as_text.stdout.startswith("ok:")


def test_a_bundle_without_a_key_is_not_judged(evidence: Evidence, tmp_path: Path) -> None:
    """The key must come from elsewhere: exit 2 without one, and with something that is none."""
    for words in ([], ["--key", "nonsense"], ["--key", str(evidence.bundle)]):
        answer = femtoclaw("verify", "--json", "--bundle", str(evidence.bundle), *words, cwd=tmp_path, expect=2)
        assert answer.body["error"]["remedy"]


def test_a_wrong_key_file_is_named_and_not_shown(evidence: Evidence, template: Node, tmp_path: Path) -> None:
    """The private key given for the public one, as a file or as text, is in no output; a missing file is missing."""
    secret = json.loads((template.path / "keys" / "node.key").read_text())["box"]  # in hex: there is no passphrase
    wrong = {"key": secret, "three": "a+b+" + secret, "spelled": evidence.key.replace("+", "+ ", 1)}
    for name, text in wrong.items():
        (tmp_path / name).write_text(text)
        for given in (name, text):
            answer = femtoclaw("verify", "--bundle", str(evidence.bundle), "--key", given, cwd=tmp_path, expect=2)
            assert text not in answer.stderr + answer.stdout
            assert text[-20:] not in answer.stderr + answer.stdout
    answer = femtoclaw("verify", "--bundle", str(evidence.bundle), "--key", "missing.pub", cwd=tmp_path, expect=2)
    assert "no such file" in answer.stderr
    answer = femtoclaw(
        "verify", "--bundle", str(evidence.bundle), "--key", evidence.key, "--checkpoint", "key", cwd=tmp_path, expect=3
    )
    assert secret not in answer.stderr + answer.stdout


@pytest.mark.requirement("STORAGE-16.2", "STORAGE-6.3")
def test_a_flipped_bit_anywhere_is_found(evidence: Evidence, tmp_path: Path) -> None:
    """One flipped bit in the first, middle or last byte of each member, the zip's own sums made right again: exit 3."""
    for place, raw in flips(evidence.bundle):
        assert "CRC" not in str(audit(tmp_path, raw, evidence.key).body), place


def segment_name(members: Members) -> str:
    return next(name for name in members if name.startswith("segments/"))


def drop(prefix: str) -> Callable[[Members], object]:
    return lambda members: members.pop(next(name for name in members if name.startswith(prefix)))


def resegmented(change: Callable[[Payloads], object]) -> Callable[[Members], object]:
    """Records changed, then chained and packed anew: sound in itself, but nobody signed it."""

    def tamper(members: Members) -> None:
        name = segment_name(members)
        records = list(decode_segment(members.pop(name), name).records())
        payloads = [(r.time_ns, r.kind, r.payload, r.flags) for r in records]
        change(payloads)
        frames, link = [], bytes(32)
        for index, (time_ns, kind, payload, flags) in enumerate(payloads, 1):
            frame, link = encode_record(index, 1, time_ns, kind, payload, link, flags)
            frames.append((index, frame))
        seal, raw = encode_segment("", verify_run(EMPTY, frames), None)
        members[f"segments/{seal.file_name}"] = raw

    return tamper


def edit_record(payloads: Payloads) -> None:
    time_ns, kind, payload, flags = payloads[20]
    payloads[20] = (time_ns, kind, payload[:-1] + bytes([payload[-1] ^ 1]), flags)


def edit_time(payloads: Payloads) -> None:
    """What replay cannot find: nothing is derived from a time."""
    time_ns, kind, payload, flags = payloads[-1]
    payloads[-1] = (time_ns + 1, kind, payload, flags)


def swap_records(payloads: Payloads) -> None:
    (time_a, *a), (time_b, *b) = payloads[20], payloads[21]
    payloads[20], payloads[21] = (time_a, *b), (time_b, *a)  # type: ignore[assignment]


def insert_record(payloads: Payloads) -> None:
    payloads.insert(20, payloads[19])


def drop_record(payloads: Payloads) -> None:
    del payloads[20]


def drop_last(payloads: Payloads) -> None:
    del payloads[-10:]


REWRITINGS = (edit_record, edit_time, drop_record, swap_records, insert_record, drop_last)


def foreign_checkpoint(members: Members) -> None:
    """A checkpoint that a real key signed about another log."""
    from wal.note import Ed25519Signer

    other = Ed25519Signer("femtoclaw.log/other", bytes(32))
    members["checkpoint"] = sign_checkpoint(Checkpoint("femtoclaw.log/other", 3, bytes(32)), [other])


TAMPERINGS: dict[str, Callable[[Path], bytes]] = {
    **{f"records: {how.__name__}": changed(resegmented(how)) for how in REWRITINGS},
    "no FORMAT": changed(drop("FORMAT")),
    "no checkpoint": changed(drop("checkpoint")),
    "no segment": changed(drop("segments/")),
    "no blob": changed(drop("blobs/")),
    "a blob changed": changed(lambda m: m.update({next(n for n in m if n.startswith("blobs/")): b"other"})),
    "another log's checkpoint": changed(foreign_checkpoint),
    "a checkpoint without signature": changed(
        lambda m: m.update({"checkpoint": m["checkpoint"].split("\u2014".encode())[0]})
    ),
    "a newer FORMAT": changed(lambda m: m.update({"FORMAT": m["FORMAT"].replace(b"v1", b"v2")})),
    "a segment twice": changed(lambda m: m.update({"segments/again": m[segment_name(m)]})),
    "garbage for a segment": changed(lambda m: m.update({segment_name(m): b"FCSEG001" + b"\xff" * 500})),
    "a member that does not belong": changed(lambda m: m.update({"AUDIT-RESULT.txt": b"everything is in order"})),
    "a blob that no record names": changed(lambda m: m.update({f"blobs/{blob_name(b'x')}": b"x"})),
    "bytes before it": lambda bundle: b"#!/bin/sh\n" + bundle.read_bytes(),
    "bytes behind it": lambda bundle: bundle.read_bytes() + b"\0",
    "compressed": lambda bundle: deflated(members_of(bundle)),
    "a bomb of zeros": lambda bundle: deflated(members_of(bundle) | {"blobs/x": bytes(1 << 27)}),
    "cut in half": lambda bundle: bundle.read_bytes()[: bundle.stat().st_size // 2],
    "empty": lambda bundle: b"",
    "no zip": lambda bundle: b"hello" * 100,
}


@pytest.mark.requirement("STORAGE-16.2", "STORAGE-6.3")
@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_with_a_bundle_is_found(evidence: Evidence, tmp_path: Path, name: str) -> None:
    """Exit 3 and a named finding for each."""
    assert found(audit(tmp_path, TAMPERINGS[name](evidence.bundle), evidence.key))


def test_a_bundle_whose_members_share_bytes_is_not_even_read(evidence: Evidence, tmp_path: Path) -> None:
    """A small file cannot keep an auditor busy for days: its directory is not the one that follows from its bytes."""
    error = audit(tmp_path, overlapping(evidence.bundle), evidence.key).body["error"]
    assert error["what"] == "bundle's directory is not that of its members"


def test_the_harness_itself_does_no_harm(evidence: Evidence, tmp_path: Path) -> None:
    """Zipping the members again, and chaining the records again, without changing anything: accepted."""
    for change in (lambda members: None, resegmented(lambda payloads: None)):
        assert audit(tmp_path, changed(change)(evidence.bundle), evidence.key, expect=0).body["ok"]


def test_the_wrong_key_is_refused(evidence: Evidence, template: Node, tmp_path: Path) -> None:
    """A perfect bundle is no evidence under a key of the same name that did not sign it."""
    name = evidence.key.split("+")[0]
    from wal.note import Ed25519Signer

    assert found(audit(tmp_path, evidence.bundle.read_bytes(), Ed25519Signer(name, bytes(32)).public.vkey()))


@pytest.mark.requirement("STORAGE-6.3", "STORAGE-16.2")
@pytest.mark.parametrize("how", REWRITINGS)
def test_a_rewritten_store_does_not_match_its_signed_checkpoint(node: Node, how: Callable[[Payloads], object]) -> None:
    """Edit, delete, swap, insert, cut: with every checksum, link and HEAD recomputed, the signature still tells."""
    payloads = payloads_of(node)
    how(payloads)
    rewrite(node, payloads, None)
    assert found(node.call("verify", expect=3))


@pytest.mark.requirement("STORAGE-6.3")
def test_a_whole_log_under_a_made_up_key_is_not_the_nodes(node: Node) -> None:
    """Replacing everything, genesis included, does not survive a look at keys/node.pub; the node does not start."""
    payloads = payloads_of(node)
    drop_last(payloads)
    rewrite(node, payloads, stranger(node))
    assert "FOREIGN_KEY" in found(node.call("verify", expect=3))
    assert node.call("intent", json.dumps(SAY), expect=3).body["error"]["type"] == "WrongKeyError"


def test_the_key_that_an_auditor_trusts_counts_for_a_home_too(node: Node) -> None:
    """Another node's key: exit 3 with both keys told. The node's own, as file or text: ok. What is no key: exit 2."""
    from wal.note import Ed25519Signer

    own = node.path / "keys" / "node.pub"
    for given in (str(own), own.read_text().strip()):
        assert node.call("verify", "--key", given).body["ok"]
    other = Ed25519Signer("femtoclaw.log/other", bytes(32)).public.vkey()
    answer = node.call("verify", "--key", other, expect=3)
    assert found(answer) == "FOREIGN_KEY"
    finding = answer.body["findings"][0]
    assert (finding["expected"], finding["found"]) == (other, own.read_text().strip())
    for given in ("nonsense", "missing.pub", str(node.path / "log" / "HEAD")):
        assert node.call("verify", "--key", given, expect=2).body["error"]["where"]


@pytest.mark.requirement("STORAGE-6.3")
def test_only_a_checkpoint_kept_elsewhere_finds_a_cut_by_the_nodes_own_key(node: Node, tmp_path: Path) -> None:
    """Whoever has the key can sign a shorter or other log: `verify` alone says ok, with the kept checkpoint it does
    not; one kept before an honest continuation is still fulfilled."""
    kept = tmp_path / "kept"
    shutil.copy(node.path / "log" / "checkpoints" / "latest", kept)
    node.intent(SAY)
    assert node.call("verify", "--checkpoint", str(kept)).body["ok"]
    bundle = ("--bundle", str(tmp_path / "b"))
    node.call("export", *bundle)
    key = (node.path / "keys" / "node.pub").read_text().strip()
    assert node.call("verify", *bundle, "--key", key, "--checkpoint", str(kept)).body["ok"]
    shutil.copy(node.path / "log" / "checkpoints" / "latest", kept)

    payloads = payloads_of(node)
    size_before = payloads_of(node)
    del payloads[-14:]  # the whole last command: start, intent, stop
    while decode(payloads[-1][2]).__class__ is not events.RuntimeStopped:
        payloads.pop()
    rewrite(node, payloads, signer_of(node))
    assert node.call("verify").body["ok"]
    assert found(node.call("verify", "--checkpoint", str(kept), expect=3)) == "ANCHOR_AHEAD"
    node.call("export", *bundle)
    short = node.call("verify", *bundle, "--key", key, "--checkpoint", str(kept), expect=3)
    assert found(short) == "ANCHOR_AHEAD"

    while len(payloads_of(node)) <= len(size_before):
        node.intent(SAY)
    assert node.call("verify").body["ok"]
    assert found(node.call("verify", "--checkpoint", str(kept), expect=3)) == "ANCHOR_DIFFERS"
    kept.write_bytes(b"nothing of the kind")
    assert found(node.call("verify", "--checkpoint", str(kept), expect=3)) == "ANCHOR_INVALID"


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


def test_a_bundle_takes_no_place_of_the_nodes_own(node: Node, tmp_path: Path) -> None:
    """Names in the log, keys and index, of the home's files, there or not, through links too: exit 2, home as it was.
    Elsewhere, and over an earlier bundle, it is written."""
    node.call("log", "--limit", "1", "--kind", "ClawRegistered")
    (tmp_path / "way").symlink_to(node.path)
    (tmp_path / "key").symlink_to(node.path / "keys" / "node.key")

    def files() -> dict[Path, bytes]:  # lock.mdb holds LMDB's table of readers
        found = [path for path in node.path.rglob("*") if path.is_file() and path.name != "lock.mdb"]
        return {path: path.read_bytes() for path in found}

    kept = files()
    own = ["keys/node.key", "keys/new", "log/HEAD", "log/data/data.mdb", "log/new", "index/projections.db", "index/new",
           "femtoclaw.toml", "policy.cedar", "boot.journal", "boot.journal.old", "manifest.json", "init.unfinished",
           "log", "log.new", "workspace/notes.txt"]  # fmt: skip
    paths = [str(node.path / name) for name in own] + [str(tmp_path / "way" / "log" / "new"), str(tmp_path / "key")]
    for path in paths:
        assert node.call("export", "--bundle", path, expect=2).body["error"]["remedy"], path
    assert files() == kept
    for _ in range(2):
        node.call("export", "--bundle", str(node.path / "log-2026.bundle"))


def test_a_bundle_holds_the_blobs_of_its_own_records_only(node: Node, tmp_path: Path) -> None:
    """Records behind the checkpoint, as a running node has them, are not in the bundle, and what they name is not."""
    before = (node.path / "log" / "checkpoints" / "latest").read_bytes()
    (node.workspace / "large.txt").write_text("all work and no play\n" * 5000)
    node.intent(call("fs.read", path="large.txt"))
    (node.path / "log" / "checkpoints" / "latest").write_bytes(before)
    made = node.call("export", "--bundle", str(tmp_path / "made")).body
    assert (made["blobs"], made["not_covered"] > 0) == (0, True)
    assert audit(tmp_path, (tmp_path / "made").read_bytes(), made["key"], expect=0).body["size"] == made["size"]


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


def interpreters() -> list[str]:
    """Other Pythons on this machine that have the dependencies; often none."""
    found = [shutil.which(f"python3.{minor}") for minor in range(11, 16)]
    probe = "import lmdb, msgpack, blake3, nacl, cedarpy, jsonschema_rs, immutables"
    return [path for path in found if path and _runs(path, probe)]


def _runs(python: str, program: str) -> bool:
    return subprocess.run([python, "-c", program], capture_output=True, env=environment(), check=False).returncode == 0


@pytest.mark.invariant("I6")
@pytest.mark.requirement("STORAGE-25.1")
def test_two_hash_seeds_and_every_other_interpreter_agree(evidence: Evidence, node: Node, tmp_path: Path) -> None:
    """State, decisions and root do not depend on the process that derives them; other interpreters join where the
    machine has any with the dependencies."""
    words = ("--json", "verify", "--bundle", str(evidence.bundle), "--key", evidence.key)
    replay = ("--json", "--home", str(node.path), "replay")
    verified = {femtoclaw(*words, cwd=tmp_path, PYTHONHASHSEED=seed).stdout for seed in ("1", "4242")}
    replayed = {femtoclaw(*replay, cwd=tmp_path, PYTHONHASHSEED=seed).stdout for seed in ("1", "4242")}
    for python in interpreters():
        verified.add(femtoclaw(*words, cwd=tmp_path, python=python).stdout)
        replayed.add(femtoclaw(*replay, cwd=tmp_path, python=python).stdout)
    assert len(verified) == len(replayed) == 1
    assert json.loads(verified.pop())["state_hash"] == evidence.state_hash
