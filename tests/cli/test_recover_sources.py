"""``recover`` and what it is given: hostile archives, and what it says of where it looked."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from tests.cli.node import Node, environment
from tests.cli.recovering import beside, call, damage, damage_lmdb, links
from tests.wal.damaged_stores import no_segments
from wal.chain import verify_run
from wal.note import Ed25519Signer
from wal.record import FLAG_BATCH_END, Head, encode
from wal.segment import encode_segment

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
    archive = no_segments(tmp_path / "archive")
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


def test_a_folder_that_no_repair_made_is_left_alone(node: Node) -> None:
    """A name like an attempt's is no reason to delete what is in it."""
    mine = node.path / "log.repair-mynotes"
    mine.mkdir()
    (mine / "notes.txt").write_text("precious")
    damage(node)
    call(node, "recover", "--salvage", expect=3)
    assert (mine / "notes.txt").read_text() == "precious"
