"""Bundles made to harm an auditor: whoever has the key can sign anything. No bundle makes verification raise, or take
more memory or time than its size explains."""

from __future__ import annotations

import io
import json
import random
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import pytest
from blake3 import blake3

from femtoclaw.audit import verify_bundle
from femtoclaw.errors import FemtoClawError
from tests.cli.node import femtoclaw
from tests.conftest import SEED
from tests.femtoclaw.simulated import ORIGIN, SIGNER, Simulated
from tests.wal.hostile_values import mutated
from wal.bundle import FORMAT
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.errors import CorruptFileError, LogError, SignatureError
from wal.manifest import decode_manifest
from wal.merkle import leaf_hash, root_of
from wal.note import open_note, sign_note
from wal.record import HEADER, MAGIC, NO_LINK, VERSION, Record
from wal.segment import ROW, decode_segment
from wal.stored_zip import ZipWriter

ROUNDS = 100
"""Bundles of each kind."""
ROUND_SECONDS_MAX = 10
MEMORY_BYTES_MAX = 512 * 1024 * 1024
"""What verification of these bundles, all below a megabyte, may add to this process's address space."""

Rows = list[list[Any]]
"""[kind, flags, index, epoch, time, payload] of each record."""
SEGMENT_HEADER_BYTES = 60


class Parts(NamedTuple):
    """What a bundle is made of, before it is chained, signed and packed."""

    rows: Rows
    blobs: dict[str, bytes]


@pytest.fixture(scope="module")
def parts() -> Parts:
    """A short real history."""
    node = Simulated()
    node.intent("fs.read", path="a")
    node.intent("fs.read", path="x.env")
    rows = [[r.kind, r.flags, r.index, r.epoch, r.time_ns, r.payload] for r in node.log.scan()]
    return Parts(rows, {})


@pytest.fixture
def bounded_memory() -> Iterator[None]:
    """Allocations beyond the bound raise MemoryError, which nothing catches."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES_MAX, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def chained(rows: Rows) -> tuple[bytes, list[bytes]]:
    """An unsigned segment over rows as they are, checksums and links made right, and its links."""
    table, payloads, links, link = b"", b"", [], NO_LINK
    for kind, flags, index, epoch, time_ns, payload in rows:
        header = HEADER.pack(MAGIC, VERSION, kind, flags, len(payload), index, epoch, time_ns, link)
        link = blake3(header + payload).digest()
        links.append(link)
        table += ROW.pack(epoch, time_ns, kind, flags, len(payload), link)
        payloads += payload
    head = b"FCSEG001" + (1).to_bytes(8, "big") + len(rows).to_bytes(4, "big") + NO_LINK
    return head + len(payloads).to_bytes(8, "big") + table + payloads, links


def segment_member(body: bytes) -> tuple[str, bytes]:
    digest = blake3(body).digest()
    first = int.from_bytes(body[8:16], "big")
    return f"segments/{first:016d}-{digest[:8].hex()}.seg", body + digest


def signed(links: list[bytes], origin: str = ORIGIN) -> bytes:
    return sign_checkpoint(Checkpoint(origin, len(links), root_of([leaf_hash(link) for link in links])), [SIGNER])


def packed(members: list[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    writer = ZipWriter(out)
    for name, raw in members:
        writer.add(name, raw)
    writer.finish()
    return out.getvalue()


def members_of(rows: Rows, note: bytes | None = None) -> list[tuple[str, bytes]]:
    body, links = chained(rows)
    return [("FORMAT", FORMAT), ("checkpoint", note if note is not None else signed(links)), segment_member(body)]


def hostile_event(parts: Parts, chance: random.Random) -> bytes:
    rows = [list(row) for row in parts.rows]
    for row in chance.sample(rows[1:], chance.randrange(1, 4)):
        row[5] = msgpack.packb(mutated(msgpack.unpackb(row[5]), chance))
    return packed(members_of(rows))


SAME_TYPE: dict[type, list[Any]] = {
    str: ["", "x" * 300, "\0", "0" * 64, "AUTHORIZED", "success", "fs.read", "..", "{}", '{"a":[' + "[" * 5000],
    bytes: [b"", b"\xff", b"[" * 5000, b'{"tool_call":{"tool":"fs.read","args":{"path":"a"}}}', b'{"message":1}'],
    int: [0, -1, 1, 2**63, 2**64 - 1],
    list: [[], ["x"], ["\0"] * 1000],
}


def hostile_field(parts: Parts, chance: random.Random) -> bytes:
    """What passes the check of types, and is wrong all the same."""
    rows = [list(row) for row in parts.rows]
    row = chance.choice(rows[1:])
    event = msgpack.unpackb(row[5])
    place = chance.randrange(2, len(event))
    event[place] = chance.choice(SAME_TYPE[type(event[place])])
    row[5] = msgpack.packb(event)
    return packed(members_of(rows))


def hostile_genesis(parts: Parts, chance: random.Random) -> bytes:
    rows = [list(row) for row in parts.rows]
    rows[0][5] = msgpack.packb(mutated(msgpack.unpackb(rows[0][5]), chance))
    return packed(members_of(rows))


def hostile_records(parts: Parts, chance: random.Random) -> bytes:
    rows = [list(row) for row in parts.rows]
    match chance.randrange(4):
        case 0:
            row = chance.choice(rows)
            row[0], row[1] = chance.randrange(256), chance.randrange(65536)
        case 1:
            chance.choice(rows)[chance.choice([2, 3, 4])] = chance.choice([0, 1, 2**63, 2**64 - 1])
        case 2:
            chance.shuffle(rows)
        case _:
            rows = rows[: chance.randrange(1, len(rows))] + [list(row) for row in rows[: chance.randrange(len(rows))]]
    if chance.random() < 0.7:
        for index, row in enumerate(rows, 1):
            row[2] = index
    return packed(members_of(rows))


def hostile_segment(parts: Parts, chance: random.Random) -> bytes:
    body, links = chained(parts.rows)
    raw = bytearray(body)
    spans = [(8, 8), (16, 4), (52, 8), (SEGMENT_HEADER_BYTES + ROW.size * chance.randrange(len(links)) + 19, 4)]
    at, length = chance.choice(spans)
    value = chance.choice([0, 1, 4095, 4097, 2**31, 256 ** min(length, 4) - 1, 256**length - 1])
    raw[at : at + length] = min(value, 256**length - 1).to_bytes(length, "big")
    seal = chance.choice([b"", b"\n", sign_note(chance.choice(["x\n", "femtoclaw segment v1\n" * 8]), [SIGNER])])
    name, whole = segment_member(bytes(raw))
    return packed([("FORMAT", FORMAT), ("checkpoint", signed(links)), (name, whole + seal)])


def hostile_note(parts: Parts, chance: random.Random) -> bytes:
    _, links = chained(parts.rows)
    note = signed(links)
    text = note.decode().split("\n\n")[0].split("\n")
    junk = ["", "0", "-1", "9" * 5000, "1e9", "\u00e9", "+5", " 7", "=" * 44, "x" * 100_000]
    text[chance.randrange(len(text))] = chance.choice(junk)
    choices = [
        lambda: sign_note("\n".join(text) + "\n", [SIGNER]),
        lambda: sign_note("\n", [SIGNER]),
        lambda: note * chance.randrange(2, 200),
        lambda: note + "\u2014 x ".encode() + b"A" * chance.randrange(100_000) + b"\n",
        lambda: note.replace(b"\n", b"\r\n"),
        lambda: note[: chance.randrange(len(note))],
        lambda: chance.randbytes(chance.randrange(2000)),
    ]
    return packed(members_of(parts.rows, chance.choice(choices)()))


def hostile_members(parts: Parts, chance: random.Random) -> bytes:
    members = members_of(parts.rows)
    names = [name for name, _ in members] + ["", "blobs/" + "0" * 64, "../x", "segments/", "segments/x.seg", "a/" * 60]
    for _ in range(chance.randrange(1, 3)):
        at = chance.randrange(len(members))
        match chance.randrange(4):
            case 0:
                members.insert(at, (chance.choice(names), chance.choice(members)[1]))
            case 1:
                members[at] = (chance.choice(names), members[at][1])
            case 2:
                chance.shuffle(members)
            case _:
                members[at] = (members[at][0], chance.randbytes(chance.randrange(3000)))
    return packed(members)


def hostile_zip(parts: Parts, chance: random.Random) -> bytes:
    raw = bytearray(packed(members_of(parts.rows)))
    places = [at for at in range(len(raw)) if raw[at : at + 2] == b"PK"]
    for _ in range(chance.randrange(1, 4)):
        at = chance.choice(places) + chance.randrange(46)
        value = chance.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", chance.randbytes(4)])
        raw[at : at + 4] = value[: max(0, len(raw) - at)]
    return bytes(raw[: chance.choice([len(raw), chance.randrange(len(raw))])])


KINDS: dict[str, Callable[[Parts, random.Random], bytes]] = {
    "events": hostile_event,
    "fields": hostile_field,
    "genesis": hostile_genesis,
    "records": hostile_records,
    "segment": hostile_segment,
    "note": hostile_note,
    "members": hostile_members,
    "zip": hostile_zip,
}


def test_the_harness_makes_sound_bundles(parts: Parts, tmp_path: Path) -> None:
    """Without a change nothing is found: what the others find is what was changed."""
    (tmp_path / "b").write_bytes(packed(members_of(parts.rows)))
    assert verify_bundle(str(tmp_path / "b"), SIGNER.public)["findings"] == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_bundle_breaks_the_auditor(parts: Parts, kind: str, tmp_path: Path, bounded_memory: None) -> None:
    """A report, or a typed refusal with an exit code for the auditor; never another exception."""
    chance = random.Random(f"{SEED} {kind}")
    path, sound = tmp_path / "b", 0
    for turn in range(ROUNDS):
        path.write_bytes(KINDS[kind](parts, chance))
        begun = time.monotonic()
        try:
            report = verify_bundle(str(path), SIGNER.public)
            sound += report["ok"]
            json.dumps(report)
        except (LogError, FemtoClawError) as error:
            assert error.exit_code in (2, 3), f"seed {SEED}, {kind} {turn}: {error}"
        assert time.monotonic() - begun < ROUND_SECONDS_MAX, f"seed {SEED}, {kind} {turn}"
    assert sound < ROUNDS // 2, "the changes change too little"


def test_declared_sizes_are_not_believed(parts: Parts, tmp_path: Path, bounded_memory: None) -> None:
    """Lengths that would take all memory, where a length stands: refused by what the file really holds."""
    rows = [list(row) for row in parts.rows]
    huge = (10**14, b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\x91" * 100_000)
    for value in huge:
        first = msgpack.unpackb(parts.rows[0][5])
        first[3] = value
        for place, payload in ((0, msgpack.packb(first)), (0, value), (5, value)):
            if isinstance(payload, bytes):
                rows[place][5] = payload
                (tmp_path / "b").write_bytes(packed(members_of(rows)))
                assert not verify_bundle(str(tmp_path / "b"), SIGNER.public)["ok"]
                rows[place][5] = parts.rows[place][5]


@pytest.mark.parametrize("place,value", [(1, 5), (1, b"bytes"), (2, 5), (3, 10**14), (5, 5), (5, [1] * 6)])
def test_the_command_refuses_a_hostile_genesis(parts: Parts, tmp_path: Path, place: int, value: object) -> None:
    """Fields of a wrong type, signed by the key: exit 3, not the exit code of a defect."""
    rows = [list(row) for row in parts.rows]
    fields = msgpack.unpackb(rows[0][5])
    fields[place] = value
    rows[0][5] = msgpack.packb(fields)
    (tmp_path / "b").write_bytes(packed(members_of(rows)))
    words = ("verify", "--json", "--bundle", "b", "--key", SIGNER.public.vkey())
    answer = femtoclaw(*words, cwd=tmp_path, expect=3, HOME=str(tmp_path))
    assert [finding["code"] for finding in answer.body["findings"]] == ["CorruptRecordError"]


def test_formats_refuse_by_their_own_errors() -> None:
    """Notes, manifests and segments with right checksums over random content: one error type each."""
    chance = random.Random(SEED)
    for _ in range(3000):
        body = chance.choice([b"FCMAN001", b"FCSEG001", b""]) + chance.randbytes(chance.randrange(400))
        for decode in (lambda raw: decode_manifest(raw, ORIGIN), lambda raw: decode_segment(raw, "x")):
            with pytest.raises(CorruptFileError):
                decode(body + blake3(body).digest())
        with pytest.raises(SignatureError):
            open_note(body, [SIGNER.public])


def test_a_record_has_the_fields_that_rows_hold() -> None:
    """The harness follows the record's own fields."""
    assert {"kind", "flags", "index", "epoch", "time_ns", "payload"} <= set(Record._fields)
