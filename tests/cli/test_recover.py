"""``recover`` in real processes: beside others, killed at its every step, with hostile archives, and what it says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
from blake3 import blake3

import femtoclaw.boot
import femtoclaw.cli.execute
import femtoclaw.cli.history
import femtoclaw.provision
import wal.inspection
import wal.repair
import wal.replacement
from femtoclaw import commands
from femtoclaw.cli.main import run
from femtoclaw.home import Home
from femtoclaw.sources import live
from tests.cli.node import READ, SAY, Answer, Node, environment
from wal import read_log_directory
from wal.chain import verify_run
from wal.head import SLOT_BYTES, SLOT_STRIDE, decode_slot
from wal.inspection import Finding
from wal.note import Ed25519Signer
from wal.record import FLAG_BATCH_END, FRAME_OVERHEAD_BYTES, LENGTH, LENGTH_OFFSET, LINK_BYTES, Head, encode
from wal.segment import encode_segment

INTENT = ("intent", json.dumps(SAY))


def in_child(act: Callable[[], int], stdout: int, stderr: int) -> int:
    """Run ``act`` in a fork and return how it ended: a process of its own, without an interpreter's start."""
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(stdout, 1)
            os.dup2(stderr, 2)
            with open(1, "w", closefd=False) as sys.stdout, open(2, "w", closefd=False) as sys.stderr:
                code = act()
            os._exit(code)
        finally:
            os._exit(70)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def inspect_in_fork(command: str, path: str, *arguments: str) -> tuple[Any, Any]:
    """As ``wal.inspection.inspect``, whose child is an interpreter of its own."""

    def act() -> int:
        wal.inspection.main([command, path, *arguments])
        return 0

    with TemporaryFile() as output:
        code = in_child(act, output.fileno(), output.fileno())
        output.seek(0)
        text = output.read()
    return (json.loads(text), None) if code == 0 else (None, Finding("STORE_UNREADABLE", path, "", str(code)))


def call(
    node: Node, *words: str, expect: int = 0, human: bool = False, prepare: Callable[[], object] = lambda: None
) -> Answer:
    """As ``Node.call``, in a fork; ``prepare`` runs in it first."""

    def act() -> int:
        wal.inspection.inspect = wal.repair.inspect = inspect_in_fork
        prepare()
        return run([*([] if human else ["--json"]), "--home", str(node.path), *words])

    with TemporaryFile() as output, TemporaryFile() as error:
        code = in_child(act, output.fileno(), error.fileno())
        output.seek(0)
        error.seek(0)
        stdout, stderr = output.read().decode(), error.read().decode()
    objects = [] if human else [json.loads(line) for line in stdout.splitlines()]
    answer = Answer(code, objects, stdout, stderr)
    assert code == expect, answer
    return answer


def links(node: Node) -> list[str]:
    return [entry["link"] for entry in call(node, "log", "--limit", "0").objects]


def beside(node: Node, infix: str) -> list[Path]:
    return sorted(path for path in node.path.iterdir() if path.name.startswith(f"log.{infix}"))


def damage(node: Node, text: bytes = b"Ship on Friday") -> None:
    """One bit of the last record that holds ``text``."""
    path = node.path / "log" / "data" / "data.mdb"
    raw = bytearray(path.read_bytes())
    raw[raw.rfind(text)] ^= 1
    path.write_bytes(raw)


def damage_lmdb(node: Node) -> None:
    """Both meta pages: LMDB can reach nothing, the records are all there."""
    path = node.path / "log" / "data" / "data.mdb"
    raw = bytearray(path.read_bytes())
    for page in (0, 4096):
        raw[page + 16 : page + 24] = b"\xff" * 8
    path.write_bytes(raw)


def bundle_of(node: Node) -> str:
    bundle = str(node.path.parent / "archive.bundle")
    call(node, "export", "--bundle", bundle)
    return bundle


# Beside other processes.

PAUSED = """
import sys
import wal.repair
rebuild = wal.repair._spools
def paused(*arguments):
    print("under way", flush=True)
    sys.stdin.readline()
    return rebuild(*arguments)
wal.repair._spools = paused
sys.argv[0] = "femtoclaw"
from femtoclaw.__main__ import main
main()
"""


@pytest.mark.invariant("I9")
def test_no_process_can_work_on_a_log_that_is_being_repaired(node: Node) -> None:
    """While a repair is under way an intent, which would be lost, and a second repair are refused with exit 4; the
    first repair's folder is left alone, and it ends well."""
    before = links(node)
    damage_lmdb(node)
    words = [sys.executable, "-c", PAUSED, "--json", "--home", str(node.path), "recover", "--salvage"]
    first = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "under way\n"
        (attempt,) = beside(node, "repair-")
        for command in (INTENT, ("recover", "--salvage"), ("recover", "--accept-gap")):
            assert f"process {first.pid}" in call(node, *command, expect=4).stderr
        assert beside(node, "repair-") == [attempt]
        answer = json.loads(first.communicate("go on\n", timeout=60)[0])
    finally:
        first.kill()
        first.wait()
    assert (first.returncode, answer["records"]) == (0, len(before))
    assert links(node)[: len(before)] == before
    assert beside(node, "repair-") == []
    assert call(node, "verify").body["ok"]


def test_a_log_that_was_written_to_meanwhile_is_not_replaced(node: Node) -> None:
    """Should someone write without the lock after all, the repair refuses: what it rebuilt is no longer all."""
    damage_lmdb(node)
    words = [sys.executable, "-c", PAUSED, "--json", "--home", str(node.path), "recover", "--salvage"]
    first = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
    try:
        assert first.stdout is not None
        first.stdout.readline()
        checkpoint = node.path / "log" / "checkpoints" / "latest"
        checkpoint.write_bytes(checkpoint.read_bytes().replace(b"\n", b"\n\n", 1))
        answer = json.loads(first.communicate("go on\n", timeout=60)[0])
    finally:
        first.kill()
        first.wait()
    assert (first.returncode, answer["error"]["type"]) == (4, "LogUnavailableError")
    assert beside(node, "") == []


# Killed at its every step.


STEPS = ("rename", "fsync", "mkdir", "unlink", "pwrite")


def recover(node: Node, *words: str, kill_at: int = 0, exchange: bool = True, expect: int = 0) -> None:
    """Run ``recover``; with ``kill_at`` it is killed that many steps behind the one in which two logs begin to change
    places."""
    behind = -1

    def counted(act: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            nonlocal behind
            behind += behind >= 0
            if behind == kill_at > 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return act(*arguments, **options)

        return step

    def change_places(first: str, second: str) -> bool:
        nonlocal behind
        behind = 0
        return exchange_places(first, second) if exchange else False

    def prepare() -> None:
        wal.replacement._exchange = change_places
        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))

    exchange_places = wal.replacement._exchange
    call(node, "recover", *words, prepare=prepare, expect=-signal.SIGKILL if kill_at else expect)


CUT = [("--salvage", True), ("--salvage", False), ("--accept-gap", True), ("--accept-gap", False),
       ("--from-archive", True), ("", True)]  # fmt: skip


@pytest.mark.requirement("STORAGE-13.3")
@pytest.mark.parametrize("command, exchange", CUT)
def test_a_repair_that_is_killed_while_logs_change_places_ends_the_same_when_run_again(
    node: Node, tmp_path: Path, command: str, exchange: bool
) -> None:
    """Wherever it is killed, `recover` again brings the node to the same end: the same records, one damaged log kept,
    no half-built one left, and the node's key is the log's; with one system call or with two renames."""
    before = links(node)
    words = [command] if command else []
    if command == "--from-archive":
        words.append(bundle_of(node))
    if command == "":
        (node.path / "log" / "HEAD").unlink()
    elif command == "--salvage":
        damage_lmdb(node)
    else:
        damage(node)
    whole = node.copy(tmp_path / "whole")
    recover(whole, *words, exchange=exchange)
    end = end_of(whole, before)
    assert end[0] == (True, 1, 0)
    for kill_at in (1, 3) if exchange else (2, 4):
        cut = node.copy(tmp_path / f"cut-{kill_at}")
        recover(cut, *words, kill_at=kill_at, exchange=exchange)
        recover(cut, exchange=exchange)
        assert end_of(cut, before) == end


def end_of(node: Node, before: list[str]) -> tuple[tuple[bool, int, int], int]:
    """((it verifies, damaged logs kept, half-built ones left), how many of the records of before are in it)."""
    verified, _ = inspect_in_fork("verify", str(node.path / "log"))
    output = node.path.parent / "frames"
    inspect_in_fork("dump", str(node.path / "log"), str(output))
    raw, found, offset = output.read_bytes(), [], 0
    while offset < len(raw):
        offset += 100 + int.from_bytes(raw[offset + 8 : offset + 12], "big")
        found.append(raw[offset - 32 : offset].hex())
    kept = (verified["ok"], len(beside(node, "damaged-")), len(beside(node, "repair-")))
    return kept, len(before) if found[: len(before)] == before else 0


# What counts as a source.


def segment_of(node: Node, folder: Path, payloads: list[bytes], key: Any = None) -> Path:
    """A segment that continues the node's public chain with records of one's own; ``key`` may sign it."""
    entry = call(node, "log", "--limit", "0").objects[-1]
    start = Head(entry["index"], bytes.fromhex(entry["link"]))
    index, link, frames = start.index, start.link, []
    for payload in payloads:
        index += 1
        frame, link = encode(index, 1, 1 << 62, 16, payload, link, FLAG_BATCH_END)
        frames.append((index, frame))
    folder.mkdir(exist_ok=True)
    origin = call(node, "status").body["log"]
    seal, raw = encode_segment(origin, verify_run(start, frames), key)
    path = folder / seal.file_name
    path.write_bytes(raw)
    return path


def test_a_forged_continuation_in_an_archive_is_not_adopted(node: Node, tmp_path: Path) -> None:
    """Links are public: records that only continue the chain, unsigned or signed by another of the same name, are not
    the node's history, and the repair names the files that it did not use."""
    before = links(node)
    archive = tmp_path / "archive"
    name = (node.path / "keys" / "node.pub").read_text().split("+")[0]
    forged = [
        segment_of(node, archive, [b"forged"]),
        segment_of(node, archive, [b"forged", b"too"], Ed25519Signer(name, bytes(32))),
    ]
    damage_lmdb(node)
    answer = call(node, "recover", "--from-archive", str(archive))
    assert answer.body["records"] == len(before)
    assert b"forged" not in (node.path / "log" / "data" / "data.mdb").read_bytes()
    assert all(f"not used: {path}" in answer.stderr for path in forged)


def test_an_archive_with_pipes_links_and_devices_is_read_to_its_end(node: Node, tmp_path: Path) -> None:
    """Named like segments, they are left out by name; a pipe as the archive itself is refused."""
    archive = tmp_path / "archive"
    archive.mkdir()
    os.mkfifo(archive / "1.seg")
    (archive / "2.seg").symlink_to("/dev/zero")
    (archive / "3.seg").mkdir()
    with open(archive / "4.seg", "wb") as file:
        file.truncate((256 << 20) + 1)
    damage_lmdb(node)
    code, said = timed(node, "recover", "--from-archive", str(archive))
    assert (code, [f"{number}.seg" in said for number in (1, 2, 3, 4)]) == (0, [True] * 4)
    damage_lmdb(node)
    code, said = timed(node, "recover", "--from-archive", str(archive / "1.seg"))
    assert (code, "not an archive" in said, beside(node, "repair-")) == (4, True, [])


def timed(node: Node, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        node.command(*words), capture_output=True, text=True, env=environment(), timeout=60, stdin=subprocess.DEVNULL,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


# What is refused, and what the way forward is.


def forget_newest(node: Node) -> None:
    """An older data.mdb and HEAD under a newer signed checkpoint."""
    log = node.path / "log"
    kept = {name: (log / name).read_bytes() for name in ("data/data.mdb", "HEAD")}
    call(node, *INTENT)
    for name, raw in kept.items():
        (log / name).write_bytes(raw)


def test_a_log_shorter_than_its_signed_checkpoint_is_not_installed(node: Node) -> None:
    """HEAD is fulfilled, the checkpoint is not: salvage refuses and changes nothing, the gap can be accepted."""
    good = len(links(node))
    forget_newest(node)
    promised = int((node.path / "log" / "checkpoints" / "latest").read_text().split("\n")[1])
    assert call(node, "recover", "--dry-run", expect=3).body["verdict"] == "halt-rolled-back"
    refused = call(node, "recover", "--salvage", expect=3).body["error"]
    assert f"{promised} records" in refused["expected"]
    assert beside(node, "") == []
    body = call(node, "recover", "--accept-gap").body
    assert (body["good_size"], body["promised_size"]) == (good, promised)
    assert call(node, *INTENT).body["decision"]


def test_a_log_without_its_first_record_can_be_given_up(node: Node) -> None:
    """Nothing can be rebuilt, not even who it was: the new log says so, with the identity that HEAD still names."""
    promised, first = len(links(node)), links(node)[0]
    (node.path / "log" / "data" / "data.mdb").write_bytes(bytes(100_000))
    assert "not even the first record" in call(node, "recover", "--salvage", expect=3).stderr
    body = call(node, "recover", "--accept-gap").body
    assert (body["good_size"], body["promised_size"]) == (0, promised)
    assert body["predecessor"] == (node.path / "keys" / "node.pub").read_text().split("+")[0]
    assert bytes.fromhex(first) in (node.path / "log" / "data" / "data.mdb").read_bytes()
    assert call(node, *INTENT).body["decision"]


def test_nothing_says_what_was_promised(node: Node) -> None:
    """Neither HEAD nor a checkpoint: no repair guesses, and the operator can still go on by accepting a gap."""
    (node.path / "log" / "HEAD").unlink()
    (node.path / "log" / "checkpoints" / "latest").unlink()
    assert "nothing says" in call(node, "recover", "--salvage", expect=3).stderr
    call(node, "recover", "--accept-gap")
    assert call(node, *INTENT).body["decision"]


@pytest.mark.parametrize("command", ["--salvage", "--accept-gap"])
def test_a_log_of_a_newer_version_is_not_repaired_with_an_older_one(node: Node, command: str) -> None:
    """To this version its records look like damage: exit 2 and nothing is given up."""
    data = node.path / "log" / "data" / "data.mdb"
    raw = bytearray(data.read_bytes())
    at = -1
    while (at := raw.find(b"FCR1\x01", at + 1)) >= 0:
        end = at + FRAME_OVERHEAD_BYTES + LENGTH.unpack_from(raw, at + LENGTH_OFFSET)[0]
        raw[at + 4] = 2
        raw[end - LINK_BYTES : end] = blake3(raw[at : end - LINK_BYTES]).digest()
    data.write_bytes(raw)
    assert "newer" in call(node, "recover", command, expect=2).stderr
    assert data.read_bytes() == raw
    assert beside(node, "") == []


def test_a_sound_log_is_not_replaced(node: Node) -> None:
    """`--salvage` of a log in which a full verification finds nothing opens it, and that is all."""
    before = links(node)
    answer = call(node, "recover", "--salvage")
    assert "nothing to repair" in answer.stderr
    assert answer.body["verdict"] == "open"
    assert links(node)[: len(before)] == before
    assert beside(node, "") == []


# What it says.


def test_a_dry_run_knows_the_nodes_key(node: Node, tmp_path: Path) -> None:
    """What opening would refuse, because the key is another node's, a dry run says too."""
    other = Node(tmp_path / "other")
    call(other, "init")
    shutil.rmtree(node.path / "keys")
    shutil.copytree(other.path / "keys", node.path / "keys")
    assert call(node, "recover", "--dry-run", expect=3).body["verdict"] == "halt-foreign"
    assert call(node, "recover", "--salvage", expect=3).body["error"]["type"] == "ForeignLogError"


def test_what_was_looked_at_is_said(node: Node) -> None:
    """Opening vouches for what it read, and the text says what that is; without HEAD, up to where the checkpoint goes."""
    for words in (("recover", "--dry-run"), ("recover",)):
        assert "HEAD, the newest checkpoint, every record;" in call(node, *words, human=True).stdout
    (node.path / "log" / "HEAD").unlink()
    size = int((node.path / "log" / "checkpoints" / "latest").read_text().split("\n")[1])
    assert f"match the signed checkpoint at {size}" in call(node, "recover", human=True).stdout


def test_a_log_that_nobody_vouches_for_is_signed_again_by_the_operators_act(node: Node) -> None:
    """The checkpoint is gone: the node does not open, `--salvage` states it in a record and under a signature."""
    before = links(node)
    (node.path / "log" / "checkpoints" / "latest").unlink()
    call(node, *INTENT, expect=3)
    body = call(node, "recover", "--salvage").body
    assert (body["records"], body["doubt"]) == (len(before), "no signed checkpoint vouched for these records")
    (record,) = [entry for entry in call(node, "log", "--limit", "0").objects if entry["type"] == "log:recovered"]
    assert body["doubt"] in json.dumps(record)
    assert call(node, *INTENT).body["decision"]
    assert call(node, "verify").body["ok"]


def cut_at_work(node: Node) -> int:
    """A node killed with one execution started and one run waiting for its brain; returns how many records it promised."""
    started = femtoclaw.boot.start(Home(str(node.path)), live())
    started.authority.perform(commands.SubmitIntent("started", json.dumps(READ).encode()))
    started.authority.perform(commands.StartRun("run", "waiting", "brain", "test", "agent", b"go"))
    started.log.abandon()
    return started.log.head.index


def flip_link(node: Node, index: int) -> None:
    """One bit of the link that record ``index`` ends with, wherever LMDB has it."""
    reader = read_log_directory(str(node.path / "log"))
    link = reader.read(index).link
    reader.close()
    path = node.path / "log" / "data" / "data.mdb"
    raw = bytearray(path.read_bytes())
    raw[raw.rfind(link)] ^= 1
    path.write_bytes(raw)


def lose_newest_slot(node: Node) -> None:
    path = node.path / "log" / "HEAD"
    raw = bytearray(path.read_bytes())
    slots = [decode_slot(bytes(raw[at : at + SLOT_BYTES])) for at in (0, SLOT_STRIDE)]
    newest = max(range(2), key=lambda number: slots[number].sequence)  # type: ignore[union-attr]
    raw[newest * SLOT_STRIDE + 20] ^= 1
    path.write_bytes(raw)


@pytest.mark.invariant("I2", "I3", "I7")
@pytest.mark.parametrize("lost", ["HEAD", "its newest slot"])
def test_what_a_lost_slot_may_have_promised_is_never_dropped(node: Node, lost: str) -> None:
    """The last append is damaged, and with it what would say whether it was acknowledged: neither opening nor salvage
    goes on without it, and the gap that an operator accepts reaches to its last trace."""
    size = cut_at_work(node)
    flip_link(node, size)
    if lost == "HEAD":
        (node.path / "log" / "HEAD").unlink()
    else:
        lose_newest_slot(node)
    before = (node.path / "log" / "data" / "data.mdb").read_bytes()
    for words in (("recover",), ("recover", "--salvage"), INTENT):
        call(node, *words, expect=3)
    assert (node.path / "log" / "data" / "data.mdb").read_bytes() == before
    body = call(node, "recover", "--accept-gap").body
    assert (body["promised_size"], body["good_size"]) == (size, size - 2)


@pytest.mark.invariant("I7")
def test_what_was_in_flight_where_records_may_be_lost_has_an_unknown_outcome(node: Node) -> None:
    """HEAD is gone after a kill: every record is whole, and still nobody knows whether more followed. Plain `recover` does
    not decide that; after --salvage nothing in flight is called unexecuted, over a second kill too; replay agrees."""
    size = cut_at_work(node)
    (node.path / "log" / "HEAD").unlink()
    call(node, "recover", expect=3)
    body = call(node, "recover", "--salvage").body
    assert body["records"] == size
    assert body["doubt"].startswith("without HEAD nobody knows")
    closed = [e["execution_id"] for e in call(node, "log", "--kind", "OutcomeUnknown").objects]
    assert sorted(closed) == ["started", "waiting"]
    assert call(node, "replay").body["divergences"] == []
    assert call(node, "verify").body["ok"]


def test_a_folder_that_no_repair_made_is_left_alone(node: Node) -> None:
    """A name like an attempt's is no reason to delete what is in it."""
    mine = node.path / "log.repair-mynotes"
    mine.mkdir()
    (mine / "notes.txt").write_text("precious")
    damage(node)
    call(node, "recover", "--salvage", expect=3)
    assert (mine / "notes.txt").read_text() == "precious"
