"""A witness at work: a real process over real HTTP. What it has answered it remembers, whatever ends it."""

from __future__ import annotations

import hashlib
import random
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.errors import WitnessAheadError, WitnessDisagreesError, WitnessRefusedError, WitnessUnavailableError
from cluster.witness import SIZE_TYPE, encode_request
from cluster.witness_client import Witnessed, exchange, submit_checkpoint
from tests.cli.node import femtoclaw
from tests.cluster.witness_process import WitnessDirectory
from tests.cluster.witnessed_log import (
    FORKED,
    NEXT_SIGNER,
    ORIGIN,
    SIGNER,
    STRANGER,
    TRUE,
    History,
    consistent,
    text_of,
)
from wal.checkpoint import open_checkpoint
from wal.cosignature import open_cosignatures
from wal.fork_proof import parse_fork_proof, verify_fork_proof
from wal.note import Ed25519Signer

SECONDS = 20.0


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[WitnessDirectory]:
    made = WitnessDirectory(tmp_path / "witness")
    made.start()
    yield made
    made.end()


def submit(witness: WitnessDirectory, log: History, size: int, known: int = 0) -> Witnessed:
    return submit_checkpoint(witness.address, log.note(size), log.prove, known_size=known, seconds=SECONDS)


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=SECONDS) as answer:
        return bytes(answer.read())


def test_a_growing_log_is_cosigned_and_the_client_finds_the_size(witness: WitnessDirectory) -> None:
    """From size 0 without a proof, from then on with one; a client that knows nothing is told the size and goes on."""
    for size, known in ((1, 0), (7, 1), (7, 7), (8, 3), (100, 0), (150, 149)):
        found = submit(witness, TRUE, size, known)
        assert found.checkpoint.size == size
        note = TRUE.note(size) + found.line.encode()
        assert open_cosignatures(note, [witness.key]) == (found.cosignature,)
    with pytest.raises(WitnessAheadError) as ahead:
        submit(witness, TRUE, 149)
    assert ahead.value.size == 150


def test_the_status_codes_of_the_protocol(witness: WitnessDirectory) -> None:
    """Over the wire, with the type of the one body that a program reads."""
    submit(witness, TRUE, 9)
    asked = {
        200: TRUE.request(9, 12), 400: b"old", 403: TRUE.request(12, 13, STRANGER), 409: TRUE.request(9, 13),
        422: FORKED.request(12, 20), 404: encode_request(0, [], TRUE.note(3, origin="example.org/other")),
    }  # fmt: skip
    for status, raw in asked.items():
        reply = exchange(witness.url, raw, SECONDS)
        assert reply.status == status, reply
        if status == 409:
            assert (reply.body, reply.content_type) == (b"12\n", SIZE_TYPE)


def test_two_histories_one_is_cosigned_and_the_key_is_convicted(witness: WitnessDirectory) -> None:
    """The second is refused at equal size and at a larger one; each leaves a proof that anybody checks offline."""
    submit(witness, TRUE, 21)
    for size in (21, 30):
        with pytest.raises(WitnessDisagreesError):
            submit(witness, FORKED, size, 21)
    proofs = witness.evidence()
    assert [path.suffix for path in proofs] == [".fork", ".fork"]
    for path in proofs:
        fork = verify_fork_proof(parse_fork_proof(path.read_bytes()), SIGNER.public)
        assert {fork.first.root, fork.root} == {TRUE.root(21), FORKED.root(21)}
        words = ["verify", "--fork", str(path)]
        told = femtoclaw("--json", *words, "--key", SIGNER.public.vkey(), cwd=path.parent).body
        assert (told["fork"], told["trusted"], told["signer"]) == (True, True, SIGNER.public.vkey())
        unsure = femtoclaw("--json", *words, cwd=path.parent)
        assert not unsure.body["trusted"] and "compare it" in unsure.stderr
        femtoclaw("--json", *words, "--key", STRANGER.public.vkey(), cwd=path.parent, expect=3)
    assert submit(witness, TRUE, 22, 21).checkpoint.size == 22


def test_what_was_answered_survives_kill_9(witness: WitnessDirectory, seed: int) -> None:
    """Killed right after an answer, again and again: each time the next process goes on from exactly there, and takes the
    other history as little as before."""
    rng = random.Random(seed)
    size = 5
    for _ in range(4):
        size += rng.randint(1, 30)
        assert submit(witness, TRUE, size).checkpoint.size == size
        witness.end(signal.SIGKILL)
        witness.start()
        reply = exchange(witness.url, TRUE.request(0, size), SECONDS)
        assert (reply.status, reply.body) == (409, b"%d\n" % size)
        with pytest.raises(WitnessDisagreesError):
            submit(witness, FORKED, size)


def test_killed_among_requests_it_never_contradicts_itself(witness: WitnessDirectory, seed: int) -> None:
    """Clients of both histories ask at once, the process is killed in the midst of it and started again: everything that
    was ever cosigned is of one history, and the state is not behind any answer."""
    rng = random.Random(seed)
    cosigned: list[tuple[int, bytes]] = []
    for round_number in range(3):
        stop = threading.Event()
        answered = threading.Event()
        clients = [
            threading.Thread(target=_ask_until, args=(witness, log, rng.random(), stop, answered, cosigned))
            for log in (TRUE, FORKED, TRUE)
        ]
        for client in clients:
            client.start()
        assert answered.wait(30), f"round {round_number}"
        witness.end(signal.SIGKILL)
        stop.set()
        for client in clients:
            client.join(60)
        witness.start()
        reply = exchange(witness.url, encode_request(0, [], TRUE.note(1)), SECONDS)
        assert int(reply.body) >= max(size for size, _ in cosigned)
    assert consistent(cosigned)


def _ask_until(
    witness: WitnessDirectory,
    log: History,
    chance: float,
    stop: threading.Event,
    answered: threading.Event,
    cosigned: list[tuple[int, bytes]],
) -> None:
    """Submit growing sizes until told to stop; what is cosigned is noted before anything else happens."""
    rng, size = random.Random(chance), 5
    while not stop.is_set():
        size = min(size + rng.randint(1, 3), 200)
        try:
            found = submit(witness, log, size)
        except WitnessAheadError as error:
            size = error.size
            continue
        except (WitnessDisagreesError, WitnessUnavailableError):
            continue
        cosigned.append((found.checkpoint.size, found.checkpoint.root))
        if len(cosigned) % 8 == 0:
            answered.set()


def test_the_newest_checkpoint_is_there_for_monitors(witness: WitnessDirectory) -> None:
    """Under the hash of the origin: with the log's signature and the witness's; nothing before the first, nothing else."""
    path = f"{witness.url}/{hashlib.sha256(ORIGIN.encode()).hexdigest()}/checkpoint"
    for other in (path, f"{witness.url}/", f"{witness.url}/add-checkpoint", f"{path}/x"):
        with pytest.raises(urllib.error.HTTPError) as missing:
            get(other)
        assert missing.value.code == 404
        missing.value.close()
    found = submit(witness, TRUE, 9)
    assert get(path) == TRUE.note(9) + found.line.encode()
    assert open_checkpoint(get(path), [SIGNER.public], ORIGIN).checkpoint.root == TRUE.root(9)
    assert text_of(get(path)) == text_of(TRUE.note(9))


def test_a_second_process_and_a_change_while_it_runs_are_refused(witness: WitnessDirectory) -> None:
    """Two processes on one state would not know of each other's answers."""
    assert witness.refused_start() == 4
    witness.call("add-log", ORIGIN, NEXT_SIGNER.public.vkey(), expect=4)
    assert witness.end(signal.SIGTERM) == 0
    witness.start()


def test_a_log_may_get_another_key(witness: WitnessDirectory) -> None:
    """After its rotation the operator adds the new one; what was cosigned stays the base, and comments stay."""
    with pytest.raises(WitnessRefusedError):
        _submit_as(witness, NEXT_SIGNER, 9)
    submit(witness, TRUE, 7)
    assert witness.end(signal.SIGINT) == 0
    config = witness.path / "witness.toml"
    config.write_text("# ours\n" + config.read_text())
    assert witness.call("add-log", ORIGIN, NEXT_SIGNER.public.vkey()).body["new"]
    assert not witness.call("add-log", ORIGIN, NEXT_SIGNER.public.vkey()).body["new"]
    assert config.read_text().startswith("# ours\n")
    witness.start()
    assert _submit_as(witness, NEXT_SIGNER, 9) == 9
    with pytest.raises(WitnessDisagreesError):
        submit(witness, FORKED, 9)


def _submit_as(witness: WitnessDirectory, signer: Ed25519Signer, size: int) -> int:
    return submit_checkpoint(
        witness.address, TRUE.note(size, signer), TRUE.prove, seconds=SECONDS
    ).checkpoint.size  # fmt: skip


@pytest.mark.parametrize("damage", ["missing", "folder", "bit", "short", "empty", "key", "public", "config"])
def test_it_does_not_start_on_a_damaged_or_lost_state(tmp_path: Path, damage: str) -> None:
    """Nothing is begun anew: a state that was there once is demanded, byte by byte, and so are key and configuration."""
    witness = WitnessDirectory(tmp_path / "witness")
    path = witness.state_file()
    raw = path.read_bytes()
    expected = 3
    if damage == "missing":
        path.unlink()
    elif damage == "folder":
        path.unlink()
        path.parent.rmdir()
    elif damage in ("bit", "short", "empty"):
        path.write_bytes({"bit": bytes([raw[0] ^ 1]) + raw[1:], "short": raw[:-9], "empty": b""}[damage])
    else:
        expected = 2
        name = {"key": "witness.key", "public": "witness.pub", "config": "witness.toml"}[damage]
        (witness.path / name).unlink()
    assert witness.refused_start() == expected
    if expected == 3:
        witness.call("add-log", ORIGIN, NEXT_SIGNER.public.vkey(), expect=3)


def test_a_witness_is_made_once(tmp_path: Path) -> None:
    """Its key is its own, readable to its owner only, and its public half is a cosigner's."""
    witness = WitnessDirectory(tmp_path / "witness")
    witness.call("init", expect=2)
    witness.call("key", "extra", "--name", "x", expect=2)
    assert witness.call("key").body == {
        "name": witness.key.name, "public_key": witness.key.vkey(), "logs": [ORIGIN]
    }  # fmt: skip
    assert (witness.path / "witness.key").stat().st_mode & 0o077 == 0
    witness.call("add-log", "no origin", SIGNER.public.vkey(), expect=2)
    witness.call("add-log", ORIGIN, witness.key.vkey(), expect=2)
