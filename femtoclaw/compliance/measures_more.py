"""Measurements of brains, libraries, the writer's lock, readers during writes, latencies, and the standing on record."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from typing import Any

from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.simulation import Simulated
from femtoclaw.compliance.sources import PACKAGES, sources
from femtoclaw.compliance.tracing import MAP_BYTES, Watched, _signer
from femtoclaw.compliance.twin import call, say, twin
from femtoclaw.errors import FemtoClawError
from femtoclaw.sources import live
from wal import create_log_directory, open_log_directory
from wal.errors import LogError
from wal.log import create_log
from wal.memory_storage import MemoryStorage
from wal.reader import LogReader, read_log_directory

DECLARED = frozenset(
    ("blake3", "cedarpy", "cryptography", "google", "grpc", "immutables", "jsonschema_rs", "lmdb", "msgpack", "nacl", "obstore",
     "prometheus_client", "tenacity", "tomlkit", "wasmtime", "zstandard", "cffi", "opentelemetry", "cbor2", "grpc_health", "_sha2")
)  # fmt: skip
"""The libraries that the program's lock file lists."""


def brains(laboratory: Laboratory) -> dict[str, str]:
    """What each kind of brain says to the same context, and how the remote one fails."""
    import http.server

    from femtoclaw.brains import Context, Turn, open_brain

    context = Context((Turn("user", "say it"),), ())
    script = laboratory.place("brain.jsonl")
    with open(script, "wb") as file:
        file.write(say("from a script") + b"\n")

    class Answers(http.server.BaseHTTPRequestHandler):
        length = 0

        def do_POST(self) -> None:
            import json

            text = "x" * self.length or say("over HTTP").decode()
            body = json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing is printed."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = {
        "openai": {
            "base_url": f"http://127.0.0.1:{server.server_port}/v1",
            "connect_seconds": 5,
            "read_seconds": 5,
            "total_seconds": 10,
            "attempts": 1,
        }
    }
    unreachable = {
        "openai": {
            "base_url": "http://127.0.0.1:1/v1",
            "connect_seconds": 1,
            "read_seconds": 1,
            "total_seconds": 2,
            "attempts": 1,
        }
    }

    def think(spec: str, of: dict[str, Any]) -> str:
        try:
            return open_brain(spec, of, lambda name: None).think(context).raw.decode()[:100]
        except FemtoClawError as error:
            return f"!{error.code}"

    found = {
        "script": think(f"script:{script}", settings),
        "echo": think("echo", settings),
        "http": think("openai:any", settings),
    }
    Answers.length = 3 << 20
    failures = {"http too long": think("openai:any", settings), "http unreachable": think("openai:any", unreachable)}
    server.shutdown()
    server.server_close()
    good = {name: said for name, said in found.items() if not said.startswith("!")}
    return good | {name: said[1:] if said.startswith("!") else "" for name, said in failures.items()}


class _Chance:
    """Numbers that look like chance and are the same each time: what is mutated must not differ between two runs."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def randrange(self, low: int, high: int = 0) -> int:
        """One of ``low`` numbers, or from ``low`` up to before ``high``."""
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        first, count = (low, high - low) if high else (0, low)
        return first + (self._state >> 33) % count


def parsed_twice(laboratory: Laboratory) -> dict[str, Any]:
    """Mutated messages through the validator, in two orders."""
    from femtoclaw.protocol import Rejected, validate

    node = Simulated()
    schemas = node.authority.engines.engines(node.authority.state.node).schemas
    chance = _Chance(20261121)
    bases = [call("fs.read", path="notes.txt"), say("hello"), call("shell", bin="/bin/echo", argv=["a", "b"])]
    messages = []
    for _ in range(10_000):
        raw = bytearray(bases[chance.randrange(len(bases))])
        for _ in range(chance.randrange(1, 4)):
            place = chance.randrange(len(raw))
            act = chance.randrange(3)
            if act == 0:
                raw[place] ^= 1 << chance.randrange(8)
            elif act == 1:
                del raw[place]
            else:
                raw.insert(place, chance.randrange(256))
        messages.append(bytes(raw))

    def verdicts(order: list[int]) -> tuple[str, int]:
        found = {at: validate(messages[at], schemas) for at in order}
        hasher = hashlib.sha256()
        for at in range(len(messages)):
            hasher.update(repr(found[at]).encode())
        return hasher.hexdigest(), sum(isinstance(each, Rejected) for each in found.values())

    first, rejected = verdicts(list(range(len(messages))))
    second, _ = verdicts(list(reversed(range(len(messages)))))
    return {"messages": len(messages), "first": first, "second": second, "rejected": rejected}


def libraries(laboratory: Laboratory) -> dict[str, Any]:
    """Libraries of others that the program's files import, and the versions that are installed."""
    from importlib import metadata

    known = set(sys.stdlib_module_names) | set(PACKAGES)
    imported = {root for source in laboratory.once(sources).values() for root in source.roots} - known
    names = {"nacl": "pynacl", "jsonschema_rs": "jsonschema-rs", "google": "protobuf", "grpc": "grpcio"}
    versions = {}
    for name in sorted(imported & {"blake3", "cedarpy", "immutables", "jsonschema_rs", "lmdb", "msgpack", "nacl"}):
        versions[name] = metadata.version(names.get(name, name))
    return {"foreign": sorted(imported - DECLARED), "versions": versions}


def locked(laboratory: Laboratory) -> dict[str, Any]:
    """A log that is open: a second writer, its interface, and an append on an index that is taken."""
    path = laboratory.place("locked-log")
    signer, genesis = _signer()
    create_log_directory(path, genesis, signer=signer, clock=live().wall_ns, map_bytes=MAP_BYTES)
    log, _ = open_log_directory(path, signer=signer, clock=live().wall_ns, map_bytes=MAP_BYTES)
    try:
        log.append([b"%d" % at for at in range(12)])
        before = _bytes_of(log.storage)
        try:
            open_log_directory(path, signer=signer, clock=live().wall_ns, map_bytes=MAP_BYTES)[0].close()
            second = ""
        except LogError as error:
            second = type(error).__name__
        try:
            log.storage.append([(3, b"another record")])
            overwrite = ""
        except LogError as error:
            overwrite = type(error).__name__
        log.append([b"%d" % at for at in range(50)])
        after = _bytes_of(log.storage)
    finally:
        log.close()
    reader = [name for name in dir(LogReader) if not name.startswith("_")]
    words = ("update", "delete", "remove", "replace", "overwrite", "put", "write", "append")
    return {
        "second": second, "overwrite": overwrite, "before": before, "after": after, "reader": reader,
        "reader_writes": [name for name in reader if name.startswith(words)],
        "changing": [name for name in dir(type(log)) if name.startswith(words[:5])],
    }  # fmt: skip


def _bytes_of(storage: Any) -> str:
    hasher = hashlib.sha256()
    for _, raw in storage.scan(1, 11):
        hasher.update(raw)
    return hasher.hexdigest()


def storages(laboratory: Laboratory) -> dict[str, dict[str, bool]]:
    """The storage contract on both backends: order, append-only, reading back, cutting, files."""
    from wal.lmdb_storage import LmdbStorage, create_directory

    path = laboratory.place("contract")
    create_directory(path, map_bytes=MAP_BYTES)
    found = {}
    for name, storage in (("LMDB", LmdbStorage(path, writable=True, map_bytes=MAP_BYTES)), ("memory", MemoryStorage())):
        signer, genesis = _signer()
        log = create_log(storage, genesis, signer=signer, clock=live().wall_ns, threaded=False)
        log.append([b"one", b"two"])
        digest = log.put_blob(b"a large result")
        second = storage.get(2)

        def refused(index: int, at: Any = storage, raw: bytes = bytes(second or b"")) -> bool:
            try:
                at.append([(index, raw)])
            except LogError:
                return True
            return False

        found[name] = {
            "order": refused(9), "append-only": refused(2), "reads back": log.read(2).payload == b"one",
            "scans": [index for index, _ in storage.scan(1, 9)] == [1, 2, 3], "promises": any(storage.read_slots()),
            "blobs": bool(digest), "unchanged": bytes(storage.get(2) or b"") == bytes(second or b"x"),
        }  # fmt: skip
        log.close()
    return found


def rows_under_load(laboratory: Laboratory) -> dict[str, Any]:
    """Readers' snapshots while writers append to a log on this disk; and a log whose storage is slow."""
    path = laboratory.place("loaded-log")
    signer, genesis = _signer()
    create_log_directory(path, genesis, signer=signer, clock=live().wall_ns, map_bytes=MAP_BYTES)
    log, _ = open_log_directory(path, signer=signer, clock=live().wall_ns, map_bytes=MAP_BYTES)
    over, torn, snapshots = threading.Event(), [], 0

    def write() -> None:
        while not over.is_set():
            log.append([b"x" * 100] * 4)

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(150):
            reader = LogReader(log.storage)
            head = reader.head
            last = reader.read(head.index)
            if last.link != head.link or last.index != head.index:
                torn.append(head.index)
            snapshots += 1
    finally:
        over.set()
        for writer in writers:
            writer.join(30)
        appended = log.size
        log.close()
    return {"snapshots": snapshots, "torn": torn, "appended": appended, **_slow()}


def _slow() -> dict[str, Any]:
    from femtoclaw.compliance.logs import findings

    memory = MemoryStorage()
    signer, genesis = _signer()
    log = create_log(Watched(memory, lambda name: time.sleep(0.05)), genesis, signer=signer, clock=live().wall_ns)
    waited = []
    for at in range(3):
        begun = time.monotonic()
        log.append([b"%d" % at])
        waited.append((time.monotonic() - begun) * 1000)
    log.close()
    return {"slow_ms": min(waited), "slow_sound": not findings(memory)}


def latencies(laboratory: Laboratory) -> dict[str, tuple[float, float]]:
    """Microseconds, median and 99th percentile: of verdicts by processor time, of whole starts by the clock."""
    from femtoclaw.protocol import validate

    node = Simulated()
    engines = node.authority.engines.engines(node.authority.state.node)
    found = {}
    for name, size in (("validate 1 KB", 900), ("validate 10 KB", 9_000), ("validate 100 KB", 60_000)):
        raw = say("x" * size)
        found[name] = _timed(lambda raw=raw: validate(raw, engines.schemas), 200)
    from femtoclaw.authorization import CallContext, authorize

    registry, policy = node.authority.state.node.registry, engines.policy()
    context = CallContext("operator", "operator", "", 0, "simulated")
    found["authorize"] = _timed(
        lambda: authorize(
            "fs.read", {"path": "prod.env"}, context, registry=registry, manifests=engines.manifests, schemas=engines.schemas,
            settings=engines.settings, engine=policy,
        ), 200,
    )  # fmt: skip
    home = laboratory.copy(laboratory.once(twin), "timed")
    starts = sorted(_clocked(lambda: laboratory.run(home, "intent", say("x").decode())) for _ in range(3))
    bare = sorted(_clocked(lambda: subprocess.run([sys.executable, "-I", "-c", "pass"], check=True)) for _ in range(3))
    return found | {"start of the process": (starts[1], starts[-1]), "interpreter alone": (bare[1], bare[-1])}


def _timed(work: Any, times: int) -> tuple[float, float]:
    taken = []
    for _ in range(times):
        begun = time.thread_time_ns()
        work()
        taken.append((time.thread_time_ns() - begun) / 1000)
    taken.sort()
    return taken[times // 2], taken[int(times * 0.99)]


def _clocked(work: Any) -> float:
    begun = time.monotonic()
    work()
    return (time.monotonic() - begun) * 1e6


def standing_words(laboratory: Laboratory) -> dict[str, str]:
    """What `status` would say of a twin without a report, and with reports of this build and another on record."""
    from femtoclaw.cli.execute import open_node
    from femtoclaw.compliance.report import build
    from femtoclaw.compliance.session import Quiet
    from femtoclaw.compliance.standing import keep, standing
    from femtoclaw.control import operator_signer
    from femtoclaw.home import Home
    from femtoclaw.procedures import procedure

    home = Home(laboratory.copy(laboratory.once(twin), "standing"))

    def word() -> str:
        reader = read_log_directory(home.log)
        try:
            return str(standing(home, reader)["compliance"])
        finally:
            reader.close()

    found = {"no report": word()}
    own = build()["digest"]
    recorded = ""
    for name, digest, overall in (
        ("a good one", own, "COMPLIANT"),
        ("a failing one", own, "NON_COMPLIANT"),
        ("another build", "0" * 64, "COMPLIANT"),
    ):
        with open_node(home.path, Quiet()) as node:
            signer = operator_signer(home, node.started.authority.state.node)
            with procedure(node.started, signer, "compliance.check", "all", "0" * 64) as told:
                told.content = {"build": digest, "overall": overall, "level": 0, "report": "0" * 64}
                told.detail = overall
            recorded = f"{told.name} of `all` by {signer.public.name}: {overall}, request at {told.ended}"
        keep(home, {"scope": ["all"]}, told.ended)
        found[name] = word()
    return found | {"recorded": recorded}


def changes(laboratory: Laboratory) -> dict[str, Any]:
    """Changes that somebody asks for who may not."""
    home = laboratory.copy(laboratory.once(twin), "changes")
    key = laboratory.place("bob.key")
    public = laboratory.run(home, "operator", "keygen", "bob", "--out", key).body.get("public_key", "")
    laboratory.run(home, "operator", "add", "bob", "--role", "ComplianceOfficer", "--public-key", public)

    def digests() -> tuple[Any, Any]:
        body = laboratory.run(home, "status").body
        return body.get("configuration"), body.get("claws")

    before = digests()
    other = laboratory.place("mallory.key")
    laboratory.run(home, "operator", "keygen", "mallory", "--out", other)
    codes = {
        "configuration by a wrong role": ("config", "set", "runtime.steps_max=9", "--operator-key", key),
        "a claw by a wrong role": ("claw", "enable", "web.get", "--operator-key", key),
        "release by a wrong role": ("release", "rollback", "--root", laboratory.folder, "--operator-key", key),
        "configuration by nobody's key": ("config", "set", "runtime.steps_max=9", "--operator-key", other),
        "development mode": ("config", "set", 'runtime.mode="development"'),
    }  # fmt: skip
    answers = {name: laboratory.run(home, *words).code for name, words in codes.items()}
    return {"codes": answers, "before": before, "after": digests()}


def growing(laboratory: Laboratory) -> dict[str, float]:
    """Milliseconds of one append at different sizes of a log on this disk, and the bytes of the program."""
    from femtoclaw.distribution import ROOT

    path = laboratory.place("growing-log")
    signer, genesis = _signer()
    create_log_directory(path, genesis, signer=signer, clock=live().wall_ns, map_bytes=1 << 28)
    log, _ = open_log_directory(path, signer=signer, clock=live().wall_ns, map_bytes=1 << 28)
    found = {}
    try:
        for size in (1_000, 10_000):
            while log.size < size:
                log.append([b"x" * 100] * 500)
            taken = sorted(_clocked(lambda: log.append([b"y"])) / 1000 for _ in range(40))
            found[f"append at {size}"] = taken[len(taken) // 2]
    finally:
        log.close()
    installed = 0
    for package in PACKAGES:
        for folder, folders, files in os.walk(os.path.join(ROOT, package)):
            folders[:] = [each for each in folders if each != "__pycache__"]
            installed += sum(os.path.getsize(os.path.join(folder, name)) for name in files)
    return found | {"program bytes": float(installed)}


SHIPPINGS = ("flipped", "gap", "swapped", "duplicate", "truncated")


def shipped(laboratory: Laboratory) -> dict[str, str]:
    """Frames of a log through the door by which a follower takes them, whole and changed: the error of each, empty for none."""
    from femtoclaw.compliance.logs import copied
    from wal.chain import verify_run
    from wal.record import Head, decode

    records = laboratory.once(copied).storage.records
    first = max(2, len(records) // 2)
    head = Head(first - 1, decode(records[first - 1]).link)
    frames = [(index, records[index]) for index in range(first, min(first + 8, len(records)) + 1)]

    def error(changed: list[tuple[int, bytes]]) -> str:
        try:
            verify_run(head, changed)
        except LogError as refused:
            return type(refused).__name__
        return ""

    flipped = bytearray(frames[2][1])
    flipped[len(flipped) // 2] ^= 1
    cut = frames[3][1][: len(frames[3][1]) // 2]
    return {
        "whole": error(frames), "flipped": error([*frames[:2], (frames[2][0], bytes(flipped)), *frames[3:]]),
        "gap": error([*frames[:2], *frames[3:]]), "swapped": error([frames[1], frames[0], *frames[2:]]),
        "duplicate": error([frames[0], frames[0], *frames[1:]]), "truncated": error([*frames[:3], (frames[3][0], cut)]),
    }  # fmt: skip
