"""A node's own log before a witness: it grows, its key is rotated, and a copied node that goes its own way is convicted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.errors import WitnessDisagreesError, WitnessRefusedError
from cluster.witness_client import Witnessed, submit_checkpoint
from cluster.witness_policy import PolicyLog, PolicyWitness, judge_note, threshold_policy
from tests.cli.node import SAY, Node, femtoclaw
from tests.cluster.witness_process import WitnessDirectory
from wal.fork_proof import parse_fork_proof, verify_fork_proof
from wal.note import PublicKey, text_of
from wal.reader import LogReader, read_log_directory

SECONDS = 20.0


@pytest.fixture
def node(tmp_path: Path) -> Node:
    made = Node(tmp_path / "home")
    made.call("init", "--enable", "fs.read")
    made.intent(SAY)
    return made


@pytest.fixture
def witness(tmp_path: Path, node: Node) -> Iterator[WitnessDirectory]:
    """Watches the node's log."""
    made = WitnessDirectory(tmp_path / "witness")
    reader = log_of(node)
    made.call("add-log", reader.origin, reader.key.vkey())
    reader.close()
    made.start()
    yield made
    made.end()


def log_of(node: Node) -> LogReader:
    return read_log_directory(str(node.path / "log"))


def submit(witness: WitnessDirectory, node: Node) -> tuple[bytes, Witnessed]:
    """The node's newest checkpoint, and what the witness says of it."""
    reader = log_of(node)
    try:
        note = reader.checkpoint_note()
        assert note is not None
        return note, submit_checkpoint(witness.address, note, reader.tree().consistency, seconds=SECONDS)
    finally:
        reader.close()


def test_a_node_is_witnessed_as_it_grows(witness: WitnessDirectory, node: Node) -> None:
    """With the proofs of its own tree; the cosigned note satisfies a policy that names both, and verify still takes it."""
    sizes = []
    for _ in range(3):
        note, found = submit(witness, node)
        sizes.append(found.checkpoint.size)
        node.intent(SAY)
    assert sizes == sorted(set(sizes))
    key = PublicKey.parse((node.path / "keys" / "node.pub").read_text().strip())
    policy = threshold_policy([PolicyWitness("w", witness.key)], 1, [PolicyLog(key)])
    cosigned = note + found.line.encode()
    assert judge_note(cosigned, policy).satisfied and not judge_note(note, policy).satisfied
    kept = node.path.parent / "cosigned.note"
    kept.write_bytes(cosigned)
    assert node.call("verify", "--checkpoint", str(kept)).body["ok"]


def test_a_rotated_key_is_taken_once_the_operator_has_added_it(witness: WitnessDirectory, node: Node) -> None:
    """Before that it is a stranger's."""
    submit(witness, node)
    node.call("key", "rotate")
    node.intent(SAY)
    with pytest.raises(WitnessRefusedError):
        submit(witness, node)
    witness.end()
    reader = log_of(node)
    witness.call("add-log", reader.origin, reader.keys().newest.key.vkey())
    reader.close()
    witness.start()
    note, found = submit(witness, node)
    assert text_of(note).splitlines()[1] == str(found.checkpoint.size)


def test_a_copied_node_that_goes_its_own_way_is_convicted(witness: WitnessDirectory, node: Node) -> None:
    """Two nodes with one key and one past: the second history is refused, whether longer or as long, and what the witness
    keeps convicts the key before anyone, offline."""
    twin = node.copy(node.path.parent / "twin")
    node.intent(SAY)
    twin.intent(SAY)
    _, found = submit(witness, node)
    with pytest.raises(WitnessDisagreesError):
        submit(witness, twin)
    twin.intent(SAY)
    with pytest.raises(WitnessDisagreesError):
        submit(witness, twin)
    key = (node.path / "keys" / "node.pub").read_text().strip()
    proofs = [path for path in witness.evidence() if path.suffix == ".fork"]
    assert proofs
    for path in proofs:
        fork = verify_fork_proof(parse_fork_proof(path.read_bytes()), PublicKey.parse(key))
        assert fork.first.size == found.checkpoint.size and found.checkpoint.root in (fork.first.root, fork.root)
        told = femtoclaw("verify", "--fork", str(path), "--key", key, cwd=path.parent)
        assert f"signed two histories of {fork.origin}" in told.stdout
