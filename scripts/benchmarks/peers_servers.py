"""Peers that are servers: started on 127.0.0.1 with a data folder of their own, loaded by their own client where one exists."""

from __future__ import annotations

import csv
import os
import pwd
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from peers_processes import AbsentError, Server, Worker, answers, free_port, output_of

LOAD_SECONDS_MAX = 25.0
PAYLOAD = "x" * 512


class Running(NamedTuple):
    """A started contestant: what it is made of, its figure for a request, and the processes that sync for it."""

    versions: str
    measure: Callable[..., float]
    pids: tuple[int, ...]


def program(name: str, package: str, *folders: Path) -> str:
    """The path of an installed program, in ``folders`` first. Raises AbsentError with the Debian package that has it."""
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        raise AbsentError(f"{name} is not installed (Debian: {package}; scripts/bench --peers --install)")
    return found


def version_of(arguments: list[str], pattern: str) -> str:
    """What ``pattern``'s group finds in the output of a version command."""
    found = re.search(pattern, output_of(arguments))
    return found.group(1) if found else "of unknown version"


@contextmanager
def worker(python: str | Path, target: str, folder: Path, **settings: object) -> Iterator[Running]:
    """A contestant in a Python process of its own."""
    with Worker(python, target, folder, settings) as process:
        versions = process.answer(LOAD_SECONDS_MAX)["versions"]

        def measure(**request: int) -> float:
            return float(process.ask(LOAD_SECONDS_MAX, **request)["figure"])

        yield Running(versions, measure, (process.pid,))


@contextmanager
def redis(folder: Path) -> Iterator[Running]:
    """Append-only file, synced before every answer; no snapshots or rewrites to disturb it."""
    server, load = program("redis-server", "redis-server"), program("redis-benchmark", "redis-tools")
    port = free_port()
    arguments = [
        server, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--appendonly", "yes",
        "--appendfsync", "always", "--save", "", "--auto-aof-rewrite-percentage", "0", "--daemonize", "no",
    ]  # fmt: skip
    with Server(arguments, folder) as process:
        process.wait_until(lambda: answers(port))

        def measure(clients: int, each: int) -> float:
            said = output_of(
                [load, "-h", "127.0.0.1", "-p", str(port), "-c", str(clients), "-n", str(clients * each), "--csv",
                 "XADD", "peer", "*", "e", PAYLOAD],
                seconds=LOAD_SECONDS_MAX,
            )  # fmt: skip
            row = next((row for row in csv.reader(said.splitlines()) if row and row[0].startswith("XADD")), None)
            if row is None:
                raise AbsentError("redis-benchmark printed no line for XADD")
            return float(row[1])

        yield Running(f"Redis {version_of([server, '--version'], r'v=([0-9.]+)')}", measure, (process.pid,))


@contextmanager
def postgres(folder: Path) -> Iterator[Running]:
    """Default durability (fsync and synchronous_commit on); pgbench sends prepared INSERTs over TCP."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -int(path.parent.name.split(".")[0]))
    server, initdb = program("postgres", "postgresql", *folders), program("initdb", "postgresql", *folders)
    load = program("pgbench", "postgresql", *folders)
    user = "postgres" if os.geteuid() == 0 else None
    if user is not None:
        try:
            entry = pwd.getpwnam(user)
        except KeyError as error:
            raise AbsentError("PostgreSQL refuses to run as root, and there is no user postgres") from error
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    data, port = folder / "data", free_port()
    initialize = [initdb, "-D", str(data), "-U", "peer", "--auth=trust", "--encoding=UTF8", "--locale=C"]
    output_of(initialize, seconds=60, user=user)
    arguments = [server, "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", str(folder)]
    with Server(arguments, folder, user=user) as process:
        connection = ["-h", "127.0.0.1", "-p", str(port), "-U", "peer"]
        ready = program("pg_isready", "postgresql", *folders)
        process.wait_until(lambda: succeeds([ready, *connection, "-q"]))
        script = folder / "insert.sql"
        script.write_text(f"INSERT INTO e (b) VALUES ('{PAYLOAD}');\n")
        table = "CREATE TABLE e (i bigserial PRIMARY KEY, b bytea)"
        output_of([program("psql", "postgresql", *folders), *connection, "-d", "postgres", "-q", "-c", table])

        def measure(clients: int, each: int) -> float:
            said = output_of(
                [load, *connection, "-n", "-M", "prepared", "-f", str(script), "-c", str(clients), "-j",
                 str(min(clients, 2)), "-t", str(each), "postgres"],
                seconds=LOAD_SECONDS_MAX,
            )  # fmt: skip
            found = re.search(r"^tps = ([0-9.]+)", said, re.MULTILINE)
            if found is None:
                raise AbsentError("pgbench printed no tps")
            return float(found.group(1))

        yield Running(f"PostgreSQL {version_of([server, '--version'], r'([0-9.]+)')}", measure, (process.pid,))


def succeeds(arguments: list[str]) -> bool:
    """Whether a command ends with 0."""
    try:
        output_of(arguments, seconds=5)
    except AbsentError:
        return False
    return True


@contextmanager
def etcd(folder: Path, python: Path) -> Iterator[Running]:
    """One member with its own peer port; its client is ours over gRPC, since etcd's load tool is not packaged."""
    server = program("etcd", "etcd-server")
    port, peer = free_port(), free_port()
    url, peer_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer}"
    arguments = [
        server, "--name", "peer", "--data-dir", str(folder / "data"), "--listen-client-urls", url,
        "--advertise-client-urls", url, "--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url,
        "--initial-cluster", f"peer={peer_url}", "--log-level", "error",
    ]  # fmt: skip
    below = folder / "client"
    below.mkdir()
    with Server(arguments, folder) as process:
        process.wait_until(lambda: answers(port))
        with worker(python, "peers_packages:etcd_puts", below, port=port) as client:
            version = version_of([server, "--version"], r"etcd Version: ([0-9.]+)")
            yield Running(f"etcd {version}, client {client.versions}", client.measure, (process.pid,))


@contextmanager
def restate(folder: Path, python: Path, server: Path) -> Iterator[Running]:
    """One node with its default settings, and a service of the Python SDK that it calls over HTTP/2."""
    node, ingress, admin, service = (free_port() for _ in range(4))
    env = {
        "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
        "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{node}",
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_DISABLE_TELEMETRY": "true",
    }
    below = folder / "service"
    below.mkdir()
    arguments = [str(server), "--no-logo", "--node-name", "peer", "--base-dir", str(folder / "data")]
    with Server(arguments, folder, env=env) as process:
        process.wait_until(lambda: answers(ingress) and answers(admin))
        ports = {"port": service, "ingress": ingress, "admin": admin}
        with worker(python, "peers_packages:restate_steps", below, **ports) as client:
            version = version_of([str(server), "--version"], r"([0-9]+\.[0-9.]+)")
            yield Running(f"Restate {version}, {client.versions}", client.measure, (process.pid, *client.pids))
