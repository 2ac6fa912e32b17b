"""``audit export`` in its three forms, each checked by a reader that shares no code with the node."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cbor2
import jsonschema_rs
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from femtoclaw.auditing.receipts import make_statement, open_statement
from femtoclaw.home import Home
from femtoclaw.keys import load_signer
from tests.cli.node import READ, ROOT, Node, environment
from wal.bundle import signed_checkpoint
from wal.errors import LogError
from wal.reader import read_log_directory

CHECKER = ROOT / "scripts" / "check_audit_export.py"


@pytest.fixture(scope="module")
def exported(template: Node, tmp_path_factory: pytest.TempPathFactory) -> tuple[Node, Path]:
    """A node, and a folder with its log in each form: all of it, and a part."""
    folder = tmp_path_factory.mktemp("exported")
    node = template.copy(folder / "home")
    execution = node.intent(READ).body["execution_id"]
    node.call("audit", "export", "--out", str(folder / "all.jsonl"))
    node.call("audit", "export", "--out", str(folder / "part.jsonl"), "--first", "7", "--last", "23")
    node.call("audit", "export", "--format", "ocsf", "--out", str(folder / "all.ocsf"))
    node.call("audit", "export", "--format", "scitt", "--execution", execution, "--out", str(folder / "one.cose"))
    (folder / "execution").write_text(execution)
    return node, folder


def key_of(node: Node) -> str:
    return (node.path / "keys" / "node.pub").read_text().strip()


def judged(node: Node, lines: list[bytes]) -> str:
    """The checker's sentence, in this process: empty when everything holds."""
    spec = importlib.util.spec_from_file_location("check_audit_export", CHECKER)
    assert spec is not None and spec.loader is not None
    checker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checker)
    try:
        checker.check(lines, key_of(node))
    except (checker.Broken, *checker.NO_EXPORT) as broken:
        return f"{type(broken).__name__} {broken}"
    return ""


def checked(node: Node, lines: list[bytes], folder: Path, key: str | None = None) -> tuple[int, str]:
    """The checker's exit code and sentence, in a process that cannot import the package."""
    file = folder / "given.jsonl"
    file.write_bytes(b"".join(line + b"\n" for line in lines))
    words = [sys.executable, "-I", str(CHECKER), str(file), key or key_of(node)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder)
    assert done.stderr == ""
    return done.returncode, done.stdout.strip()


def test_a_stranger_who_calls_it_wrongly_is_told_so(exported: tuple[Node, Path], tmp_path: Path) -> None:
    """Exit 2, and no word of the export that sounds as if it were false."""
    node, folder = exported
    for words in (("nofile", key_of(node)), (str(folder / "all.jsonl"), "my-key"), (str(folder / "all.jsonl"), "a+b+c"), ()):
        done = subprocess.run(
            [sys.executable, "-I", str(CHECKER), *words], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert (done.returncode, done.stdout) == (2, "") and done.stderr and "Traceback" not in done.stderr


@pytest.mark.requirement("AUDIT-13.1")
@pytest.mark.requirement("AUDIT-8.1")
@pytest.mark.parametrize("name", ["all.jsonl", "part.jsonl"])
def test_a_stranger_checks_order_completeness_and_chain(exported: tuple[Node, Path], name: str, tmp_path: Path) -> None:
    """As it is: ok. A line removed, two swapped, one altered in any part, the end cut off, a time a nanosecond later, a count that
    lies: found, each of them also where the chain of lines was made to fit again."""
    node, folder = exported
    lines = (folder / name).read_bytes().splitlines()
    assert checked(node, lines, tmp_path)[0] == 0
    body = json.loads(lines[5])
    hurt: dict[str, list[bytes]] = {
        "removed": lines[:5] + lines[6:],
        "swapped": [*lines[:5], lines[6], lines[5], *lines[7:]],
        "doubled": [*lines[:6], *lines[5:]],
        "cut": lines[:-1],
        "last record away": [*lines[:-2], lines[-1]],
    }
    for field, value in (
        ("time_ns", body["time_ns"] + 1),
        ("epoch", 7),
        ("payload", ""),
        ("prev", "00" * 32),
        ("flags", 1),
    ):
        hurt[field] = [*lines[:5], json.dumps(body | {field: value}).encode(), *lines[6:]]
    other = dict(body["event"], fields=["another", *body["event"]["fields"][1:]])
    hurt["what is shown"] = [*lines[:5], json.dumps(body | {"event": other}).encode(), *lines[6:]]
    for what, wrong in hurt.items():
        for given in (wrong, chained(wrong)):
            assert judged(node, given), what
    assert judged(node, lines) == ""
    code, told = checked(node, hurt["swapped"], tmp_path)
    assert code == 3 and told.startswith("NOT ok")


def chained(lines: list[bytes]) -> list[bytes]:
    """What a forger without the node's key does: all lines chained anew, and the counts made to fit."""
    made, chain = [], bytes(32)
    records = len(lines) - 2
    for line in lines:
        body = json.loads(line)
        del body["chain"]
        if body["type"] != "record":
            body["count"] = records
            body["last"] = body["first"] + records - 1
        chain = hashlib.sha256(chain + json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).digest()
        made.append(json.dumps(body | {"chain": chain.hex()}, sort_keys=True, separators=(",", ":")).encode())
    return made


@pytest.mark.requirement("AUDIT-8.1")
def test_a_whole_forged_history_has_no_signature(exported: tuple[Node, Path], tmp_path: Path) -> None:
    """Every link computed anew behind a changed time: the root is not the signed one. Nor does another key vouch for it."""
    import blake3

    node, folder = exported
    lines = (folder / "all.jsonl").read_bytes().splitlines()
    forged, link = [lines[0]], json.loads(lines[1])["prev"]
    for line in lines[1:-1]:
        body = json.loads(line)
        body["prev"] = link
        body["time_ns"] += 1000 * (body["index"] >= 5)
        frame = b"FCR1" + bytes([1, body["kind"]]) + body["flags"].to_bytes(2)
        payload = base64.b64decode(body["payload"])
        frame += len(payload).to_bytes(4) + b"".join(body[name].to_bytes(8) for name in ("index", "epoch", "time_ns"))
        link = body["link"] = blake3.blake3(frame + bytes.fromhex(link) + payload).hexdigest()
        body["leaf"] = hashlib.sha256(b"\x00" + bytes.fromhex(link)).hexdigest()
        forged.append(json.dumps(body).encode())
    code, told = checked(node, chained([*forged, lines[-1]]), tmp_path)
    assert (code, told) == (3, "NOT ok: the root is not the signed one")
    other = Node(folder / "home")
    stranger = other.call("operator", "keygen", "eve", "--out", str(tmp_path / "eve.key")).body["public_key"]
    assert checked(node, lines, tmp_path, stranger) == (3, "NOT ok: the checkpoint is not signed by this key")


SCHEMA = {
    "type": "object",
    "required": ["id", "event_type", "execution_id", "component", "time_ns", "outcome", "link", "event"],
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9a-f]{16}:[0-9]+$"},
        "event_type": {"type": "string", "minLength": 1},
        "component": {"type": "string", "minLength": 1},
        "time_ns": {"type": "integer"},
        "link": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "outcome": {"type": "string"},
        "execution_id": {"type": "string"},
    },
}


@pytest.mark.requirement("AUDIT-5.1")
def test_every_record_is_an_audit_event_with_the_seven_parts(exported: tuple[Node, Path], tmp_path: Path) -> None:
    """Over the whole log; the same range exported again is the same bytes."""
    node, folder = exported
    records = [json.loads(line) for line in (folder / "all.jsonl").read_bytes().splitlines()[1:-1]]
    schema = jsonschema_rs.validator_for(SCHEMA)
    assert all(schema.is_valid(record) for record in records)
    assert len({record["id"] for record in records}) == len(records)
    assert {"AuthorizationDecided", "log:genesis"} <= {record["event_type"] for record in records}
    again = tmp_path / "again.jsonl"
    last = str(json.loads((folder / "part.jsonl").read_bytes().splitlines()[0])["last"])
    node.call("audit", "export", "--out", str(again), "--first", "7", "--last", last)
    first, second = ((file).read_bytes().splitlines()[1:-1] for file in (folder / "part.jsonl", again))
    assert [json.loads(line) | {"chain": ""} for line in first] == [json.loads(line) | {"chain": ""} for line in second]


def test_each_export_is_on_record(exported: tuple[Node, Path]) -> None:
    """Begun and done, by whom, with the digest of the file, which is its owner's alone."""
    node, folder = exported
    rows = node.call("audit", "query", "--type", "ProcedureEnded").body["events"]
    told = [json.loads(row["content"]) for row in rows if row["procedure"] == "audit.export"]
    for name in ("all.jsonl", "part.jsonl", "all.ocsf", "one.cose"):
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert digest in {each["sha256"] for each in told}
        assert os.stat(folder / name).st_mode & 0o777 == 0o600


@pytest.mark.requirement("OBSERVE-21.1")
def test_every_record_is_a_valid_event_of_the_schema(exported: tuple[Node, Path]) -> None:
    """OCSF 1.8.0: none left out, in order, and with the links from which the receiver follows the chain."""
    _, folder = exported
    schema = jsonschema_rs.validator_for(json.loads((ROOT / "tests" / "femtoclaw" / "ocsf_1_8_0.json").read_text()))
    events = [json.loads(line) for line in (folder / "all.ocsf").read_bytes().splitlines()]
    assert [event for event in events if not schema.is_valid(event)] == []
    assert [event["metadata"]["sequence"] for event in events] == list(range(1, len(events) + 1))
    links = [event["raw_data_hash"]["value"] for event in events]
    assert [event["unmapped"]["prev"] for event in events[1:]] == links[:-1]
    assert {6003, 3004, 6002, 0} <= {event["class_uid"] for event in events}
    wrong = events[0] | {"severity_id": 77}
    assert not schema.is_valid(wrong) and not schema.is_valid({**events[0], "surprise": 1})


def root_by_definition(entry: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """RFC 9162, 2.1.3.1, read backwards: by recursion over the tree."""
    if size == 1:
        return hashlib.sha256(b"\x00" + entry).digest()
    half = 1 << (size - 1).bit_length() - 1
    if index < half:
        parts = root_by_definition(entry, index, half, path[:-1]), path[-1]
    else:
        parts = path[-1], root_by_definition(entry, index - half, size - half, path[:-1])
    return hashlib.sha256(b"\x01" + parts[0] + parts[1]).digest()


def read_statement(raw: bytes, key: str) -> tuple[dict[int, Any], list[bytes], bytes]:
    """Claims, frames and root of a statement, by RFC 9052 and RFC 9942 and another library for signatures."""
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.split("+", 2)[2])[1:])

    def check(message: Any, payload: bytes) -> dict[int, Any]:
        assert message.tag == 18
        public.verify(message.value[3], cbor2.dumps(["Signature1", message.value[0], b"", payload]))
        header: dict[int, Any] = cbor2.loads(message.value[0])
        assert header[1] == -8
        return header

    statement = cbor2.loads(raw)
    header = check(statement, statement.value[2])
    frames: list[bytes] = cbor2.loads(statement.value[2])
    (receipt,) = map(cbor2.loads, statement.value[1][394])
    assert receipt.value[2] is None
    roots = set()
    for frame, proof in zip(frames, receipt.value[1][396][-1], strict=True):
        size, index, path = cbor2.loads(proof)
        assert int.from_bytes(frame[12:20]) == index + 1
        roots.add(root_by_definition(frame[-32:], index, size, path))
    (root,) = roots
    signed = check(receipt, root)
    assert signed[395] == 1 and signed[15] == {1: header[15][1], 2: f"tree of {size} records"}
    return header[15], frames, root


def test_another_reader_verifies_the_statement_about_an_execution(exported: tuple[Node, Path], tmp_path: Path) -> None:
    """Signature, receipt and each record's place in the tree; any altered byte fails there and here."""
    node, folder = exported
    raw, execution = (folder / "one.cose").read_bytes(), (folder / "execution").read_text()
    claims, frames, root = read_statement(raw, key_of(node))
    assert claims[2] == f"execution {execution}" and claims[1].startswith("femtoclaw.log/")
    answer = node.call("audit", "statement", str(folder / "one.cose"), "--key", key_of(node)).body
    shown = node.call("show", execution).body["trace"]
    assert answer["events"] == shown and len(frames) == len(shown)
    proof = node.call("proof", "inclusion", "1").body
    assert answer["size"] < proof["size"] and answer["root"] == root.hex()
    for at in range(40, len(raw), max(1, len(raw) // 12)):
        hurt = tmp_path / "hurt.cose"
        hurt.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        with pytest.raises(
            (
                InvalidSignature,
                ValueError,
                KeyError,
                TypeError,
                AssertionError,
                AttributeError,
                IndexError,
                cbor2.CBORError,
            )
        ):
            read_statement(hurt.read_bytes(), key_of(node))
        node.call("audit", "statement", str(hurt), "--key", key_of(node), expect=3)


def test_a_foreign_file_is_told_of_as_a_file_and_not_as_the_home(exported: tuple[Node, Path], tmp_path: Path) -> None:
    """What is no statement condemns no home: the error names the file, and the remedy is about it."""
    node, _ = exported
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"another thing")
    error = node.call("audit", "statement", str(foreign), "--key", key_of(node), expect=3).body["error"]
    assert error["where"] == str(foreign)
    assert "statement again" in error["remedy"] and "recover" not in error["remedy"]


def test_a_receipt_of_another_root_or_place_is_none(exported: tuple[Node, Path]) -> None:
    """By the node's own key, and still none: a receipt whose signature is over another root, or whose proof is another record's."""
    node, _ = exported
    signer, reader = load_signer(Home(str(node.path))), read_log_directory(str(node.path / "log"))
    try:
        checkpoint, tree = signed_checkpoint(reader).checkpoint, reader.tree()
        record, other = reader.read(5), reader.read(6)
        good = make_statement("x", [record], checkpoint, lambda index: tree.inclusion(index, checkpoint.size), signer)
        assert open_statement(good, signer.public).records == (record,)
        wrong = checkpoint._replace(root=bytes(32))
        moved = record._replace(index=other.index)
        for raw in (
            make_statement("x", [record], wrong, lambda index: tree.inclusion(index, checkpoint.size), signer),
            swapped(
                make_statement("x", [other], checkpoint, lambda index: tree.inclusion(index, checkpoint.size), signer),
                good,
                signer,
            ),
            make_statement("x", [moved], checkpoint, lambda index: tree.inclusion(5, checkpoint.size), signer),
        ):
            with pytest.raises(LogError):
                open_statement(raw, signer.public)
    finally:
        reader.close()


def test_a_hostile_statement_is_refused_by_a_typed_error(exported: tuple[Node, Path]) -> None:
    """Every byte flipped, every prefix, and structures of other kinds in what no signature covers: no other exception."""
    node, folder = exported
    raw, key = (folder / "one.cose").read_bytes(), load_signer(Home(str(node.path))).public
    hostile = [raw[:at] + bytes([raw[at] ^ bit]) + raw[at + 1 :] for at in range(len(raw)) for bit in (1, 128)]
    hostile += [raw[:at] for at in range(0, len(raw), 7)]
    statement = cbor2.loads(raw)
    (receipt,) = map(cbor2.loads, statement.value[1][394])
    others: tuple[Any, ...] = (None, 10**12, "x", [], [10**12], [b""], {}, [cbor2.dumps(7)], [raw])
    for other in others:
        hostile.append(cbor2.dumps(cbor2.CBORTag(18, [statement.value[0], {394: other}, *statement.value[2:]])))
        for proofs in ({396: other}, {396: {-1: other}}, {396: {-1: [cbor2.dumps([2**70, 0, other])]}}):
            changed = cbor2.dumps(cbor2.CBORTag(18, [receipt.value[0], proofs, *receipt.value[2:]]))
            hostile.append(cbor2.dumps(cbor2.CBORTag(18, [statement.value[0], {394: [changed]}, *statement.value[2:]])))
    taken = 0
    for given in hostile:
        try:
            open_statement(given, key)
            taken += 1
        except LogError:
            continue
    assert taken == 0


def swapped(statement: bytes, donor: bytes, signer: Any) -> bytes:
    """A statement with another one's receipt, which no signature of the statement covers."""
    made, other = cbor2.loads(statement), cbor2.loads(donor)
    made.value[1][394] = other.value[1][394]
    return cbor2.dumps(made)


def test_what_fails_on_the_way_leaves_no_file(template: Node, tmp_path: Path) -> None:
    """An execution that is not there: the procedure is recorded as failed, and where the file was begun it is gone."""
    node = template.copy(tmp_path / "home")
    out = tmp_path / "new"
    node.call("audit", "export", "--format", "scitt", "--execution", "nobody", "--out", str(out), expect=1)
    full = tmp_path / "full"
    code = "from femtoclaw.auditing import lines\nreal = lines.record_line\n"
    code += "def line(record, log_id):\n    assert record.index < 9\n    return real(record, log_id)\nlines.record_line = line\n"
    code += "import sys\nsys.argv[0] = 'femtoclaw'\nfrom femtoclaw.__main__ import main\nmain()"
    words = ["--json", "--home", str(node.path), "audit", "export", "--out", str(full)]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, env=environment(), check=False)
    assert done.returncode == 70
    assert not out.exists() and not full.exists()
    rows = node.call("audit", "query", "--type", "ProcedureEnded").body["events"]
    assert [(row["procedure"], row["result"]) for row in rows] == [("audit.export", "failed")] * 2


REFUSED: dict[str, Callable[[Node, Path], tuple[str, ...]]] = {
    "no file": lambda node, folder: ("export",),
    "a place of the node's own": lambda node, folder: ("export", "--out", str(node.path / "log" / "x")),
    "something is there": lambda node, folder: ("export", "--out", str(folder / "all.jsonl")),
    "beyond what is signed": lambda node, folder: ("export", "--out", str(folder / "new"), "--last", "99999"),
    "backwards": lambda node, folder: ("export", "--out", str(folder / "new"), "--first", "9", "--last", "8"),
    "of an execution as lines": lambda node, folder: ("export", "--out", str(folder / "new"), "--execution", "x"),
    "another form": lambda node, folder: ("export", "--out", str(folder / "new"), "--format", "xml"),
    "no key": lambda node, folder: ("statement", str(folder / "one.cose")),
    "an option of another act": lambda node, folder: ("export", "--out", str(folder / "new"), "--type", "x"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_mistakes_exit_with_2_and_leave_nothing(exported: tuple[Node, Path], what: str) -> None:
    node, folder = exported
    before = sorted(path.name for path in folder.iterdir())
    error = node.call("audit", *REFUSED[what](node, folder), expect=2).body["error"]
    assert error["remedy"]
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_dry_run_says_the_range_and_records_nothing(exported: tuple[Node, Path], tmp_path: Path) -> None:
    """Neither a file nor a record; elsewhere it has no meaning."""
    node, _ = exported
    size = node.call("status").body["size"]
    body = node.call("audit", "export", "--dry-run", "--first", "3", "--last", "9", "--out", str(tmp_path / "new")).body
    assert (body["dry_run"], body["count"]) == (True, 7) and not (tmp_path / "new").exists()
    assert node.call("status").body["size"] == size
    node.call("audit", "query", "--dry-run", expect=2)
    node.call("certificate", "status", "--dry-run", expect=2)


def test_who_may_not_export_gets_nothing(template: Node, tmp_path: Path) -> None:
    """A RuntimeOperator: refused, on record, and no file."""
    node, key = template.copy(tmp_path / "home"), str(tmp_path / "bob.key")
    public = node.call("operator", "keygen", "bob", "--out", key).body["public_key"]
    node.call("operator", "add", "bob", "--role", "RuntimeOperator", "--public-key", public)
    node.call("audit", "export", "--out", str(tmp_path / "new"), "--operator-key", key, expect=1)
    assert not (tmp_path / "new").exists()
    (row,) = node.call("audit", "query", "--type", "operator_action", "--operator", "bob").body["events"]
    assert (row["action"], row["outcome"]) == ("audit.export", "DENIED_POLICY_VIOLATION")
