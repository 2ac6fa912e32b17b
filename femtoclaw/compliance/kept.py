"""Measurements of what an auditor gets and keeps: exported records, retention on a machine whose clock is ahead, records of newer
programs at a follower's door."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import msgpack

from femtoclaw.cli.cluster_demo_machines import environment
from femtoclaw.compliance.installed import interpreter_for
from femtoclaw.compliance.laboratory import COMMAND_S, Answer, Laboratory, read_objects
from femtoclaw.compliance.operating import audited
from femtoclaw.compliance.twin import twin
from femtoclaw.home import Home
from wal.limits import SEGMENT_RECORDS

AHEAD_DAYS = 400
_LATER = """
import sys, time
import femtoclaw.sources as sources
real = sources.live
sources.live = lambda: real()._replace(wall_ns=lambda: time.time_ns() + {days} * 86_400 * 10**9)
sys.argv[:] = ["femtoclaw", *sys.argv[1:]]
from femtoclaw.__main__ import main
main()
"""
"""The command, on a machine whose clock is so many days ahead."""

FORMAT_AT = 4
"""Where in a frame the version of its format stands."""


def exported(laboratory: Laboratory) -> dict[str, Any]:
    """The records of the session's twin as its export has them, and the digest of each computed again from its fields."""
    from blake3 import blake3

    path = laboratory.once(audited).answers["export"].body["file"]
    with open(path, "rb") as file:
        lines = file.read().splitlines()[1:-1]
    rows = [json.loads(line) for line in lines]
    links = []
    for row in rows:
        payload = _decoded(row["payload"])
        frame = b"FCR1" + bytes([1, row["kind"]]) + row["flags"].to_bytes(2)
        frame += len(payload).to_bytes(4) + b"".join(row[name].to_bytes(8) for name in ("index", "epoch", "time_ns"))
        links.append(blake3(frame + bytes.fromhex(row["prev"]) + payload).hexdigest())
    canonical = all(
        json.dumps(row, sort_keys=True, separators=(",", ":")).encode() == line
        for row, line in zip(rows, lines, strict=True)
    )
    return {"rows": rows, "links": links, "canonical": canonical}


def _decoded(text: str) -> bytes:
    import base64

    return base64.b64decode(text)


def retained(laboratory: Laboratory) -> dict[str, Any]:
    """A twin with a full segment: nothing young is archived or deleted; what is old is archived, and deleted neither."""
    home, archive = laboratory.copy(laboratory.once(twin), "retained"), laboratory.place("archive")
    laboratory.run(home, "intent", '{"message":{"content":"kept"}}')
    _fill(Home(home))
    delete = ("audit", "retain", archive, "--delete", str(SEGMENT_RECORDS))
    answers = {"young": laboratory.run(home, "audit", "retain", archive), "delete young": laboratory.run(home, *delete)}
    answers["delete unarchived"] = _ahead(home, *delete)
    answers["archive"] = _ahead(home, "audit", "retain", archive)
    answers["delete archived"] = _ahead(home, *delete)
    answers["archive verify"] = laboratory.run(home, "archive", "verify", archive)
    answers["verify"] = laboratory.run(home, "verify")
    return {"answers": answers, "segment": SEGMENT_RECORDS}


def _fill(home: Home) -> None:
    """As many records as fill a segment, each an append of its own."""
    from femtoclaw.event_codec import encode
    from femtoclaw.events import ErrorRecorded
    from femtoclaw.keys import load_signer
    from femtoclaw.sources import live
    from wal import open_log_directory

    line = encode(ErrorRecorded("0" * 26, "RUNTIME", "INFO", "HISTORY", "measurement", "a line of history"))
    log, _ = open_log_directory(home.log, signer=load_signer(home), clock=live().wall_ns)
    for _ in range(SEGMENT_RECORDS):
        log.submit([line])
    log.close()


def _ahead(home: str, *words: str) -> Answer:
    done = subprocess.run(
        [*interpreter_for(home, _LATER.format(days=AHEAD_DAYS)), "--json", "--home", home, *words], capture_output=True,
        check=False, timeout=COMMAND_S, stdin=subprocess.DEVNULL, env=environment(), start_new_session=True,
    )  # fmt: skip
    return Answer(done.returncode, read_objects(done.stdout), done.stderr.decode(errors="replace"))


def newer(laboratory: Laboratory) -> dict[str, Any]:
    """A follower of this version, and a leader of the next: events of a version that is still to be written, and frames of a format
    that is."""
    from blake3 import blake3

    from cluster.v1 import replication_pb2
    from femtoclaw.errors import FemtoClawError
    from femtoclaw.event_codec import decode
    from wal.chain import verify_run
    from wal.errors import LogError
    from wal.merkle import leaf_hash
    from wal.record import FLAG_BATCH_END, KIND_EVENT, LINK_BYTES, Head, encode
    from wal.record import decode as read

    head = Head(7, b"\x07" * LINK_BYTES)
    payload = msgpack.packb((1, 99, "of a version that is still to be written"))
    frame, link = encode(8, 1, 1 << 60, KIND_EVENT, payload, head.link, FLAG_BATCH_END)
    said = {"stored": "", "acted on": "", "another format": ""}
    try:
        verify_run(head, [(8, frame)])
    except LogError as error:
        said["stored"] = str(error)
    try:
        decode(payload)
    except FemtoClawError as error:
        said["acted on"] = f"{type(error).__name__}: {error.what}"
    raw = bytearray(frame)
    raw[FORMAT_AT] += 1
    raw[-LINK_BYTES:] = blake3(raw[:-LINK_BYTES]).digest()
    try:
        verify_run(head, [(8, bytes(raw))])
    except LogError as error:
        said["another format"] = f"{type(error).__name__}: {error}"
    leaves = (leaf_hash(link), leaf_hash(read(frame).link))
    return said | {"equal leaves": leaves[0] == leaves[1], "handshake": replication_pb2.DESCRIPTOR.package}


def stepped(laboratory: Laboratory) -> dict[str, Any]:
    """The records of a twin whose wall clock was stepped back by an hour while it worked."""
    from femtoclaw.compliance.trails import read_trail
    from wal.reader import read_log_directory
    from wal.record import FLAG_CLOCK_CLAMPED

    home = laboratory.copy(laboratory.once(twin), "stepped")
    first = read_trail("stepped", f"{home}/log").size + 1
    code = "from femtoclaw.compliance.clock_steps import main; main()"
    done = subprocess.run(
        [*interpreter_for(home, code), home], capture_output=True, check=False, timeout=COMMAND_S,
        stdin=subprocess.DEVNULL, env=environment(), start_new_session=True,
    )  # fmt: skip
    reader = read_log_directory(f"{home}/log")
    try:
        records = [(each.index, each.time_ns, bool(each.flags & FLAG_CLOCK_CLAMPED)) for each in reader.scan(first)]
    finally:
        reader.close()
    return {
        "code": done.returncode, "stderr": done.stderr.decode(errors="replace")[-300:], "records": records,
        "trail": read_trail("stepped", f"{home}/log"),
    }  # fmt: skip
