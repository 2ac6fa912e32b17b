"""The auditor's view: what a stranger can check offline, and every way to cheat him without the node's key."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from femtoclaw import events
from femtoclaw.event_codec import decode
from tests.cli.auditing import audit, edit_time
from tests.cli.forgery import (
    Members,
    Payloads,
    changed,
    deflated,
    flips,
    members_of,
    overlapping,
    payloads_of,
    rewrite,
    signer_of,
    stranger,
)
from tests.cli.node import SAY, Answer, Node, call, environment, femtoclaw
from wal.blob import blob_name
from wal.chain import verify_run
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.record import EMPTY
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
        "verify", "--bundle", str(evidence.bundle), "--key", evidence.key, "--checkpoint", "key", cwd=tmp_path, expect=2
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

    (node.path / "boot.journal").unlink()  # which would tell; whoever has the key removes it too
    while len(payloads_of(node)) <= len(size_before):
        node.intent(SAY)
    assert node.call("verify").body["ok"]
    assert found(node.call("verify", "--checkpoint", str(kept), expect=3)) == "ANCHOR_DIFFERS"


def test_a_file_that_is_no_checkpoint_says_nothing_about_the_log(
    node: Node, evidence: Evidence, tmp_path: Path
) -> None:
    """Empty, garbled, a note of something else: exit 2 about that file, for a home and for a bundle. A checkpoint by another key,
    or of another log by the same key, is a finding."""
    from wal.note import Ed25519Signer, sign_note

    kept, signer = tmp_path / "kept", signer_of(node)
    real = (node.path / "log" / "checkpoints" / "latest").read_bytes()
    text = real.rpartition(b"\n\n")[0].decode() + "\n"
    garbled = {"empty": b"", "garbage": b"nothing of the kind", "cut": real[:-9], "binary": bytes(range(256)),
               "unsigned": text.encode(), "no signature": text.encode() + b"\nnothing\n",
               "another note": sign_note("a line of text\n", [signer])}  # fmt: skip
    bundle = ("--bundle", str(evidence.bundle), "--key", evidence.key)
    for name, raw in garbled.items():
        kept.write_bytes(raw)
        for words in ((), bundle) if name == "empty" else ((),):
            error = node.call("verify", *words, "--checkpoint", str(kept), expect=2).body["error"]
            assert (error["what"], error["where"]) == ("this is no checkpoint", str(kept)), name
            assert "checkpoint again" in error["remedy"] and "recover" not in error["remedy"], name
    stranger_s = Ed25519Signer(signer.public.name, bytes(32))
    other = Checkpoint("femtoclaw.log/other", 1, bytes(32))
    for raw in (sign_note(text, [stranger_s]), sign_checkpoint(other, [signer])):
        kept.write_bytes(raw)
        assert found(node.call("verify", "--checkpoint", str(kept), expect=3)) == "ANCHOR_INVALID"
        assert found(node.call("verify", *bundle, "--checkpoint", str(kept), expect=3)) == "ANCHOR_INVALID"


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
