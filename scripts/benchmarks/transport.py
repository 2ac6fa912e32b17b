"""Benchmark of the wire: one-record Entries and their Ack over a Follow stream, beside a bare gRPC echo in the same run.

Usage: scripts/bench --transport [--quick]. Both sides of both are processes of their own on loopback, with mutual TLS by
the same certificates; rounds are interleaved.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from measure import Report, environment, interleaved, main_guard, met, p50

from cluster import codec
from cluster.client import Outbox, PeerClient
from cluster.messages import Ack, Entries, ToFollower, ToSource
from cluster.server import ReplicationServer
from cluster.tls import Identity, Pins, channel_credentials, load_identity, make_identity, server_credentials
from cluster.transport import CLIENT_OPTIONS, SERVER_OPTIONS
from wal.membership import Member, Membership
from wal.note import public_key
from wal.record import Head

FRAME = b"f" * 600
NOTE = b"n" * 300
COSIGNATURE = b"c" * 150
SMALL = Entries(3, Head(5, bytes(32)), (FRAME,), NOTE, 5)
LARGE = Entries(3, Head(5, bytes(32)), (b"f" * 2048,) * 4096, NOTE, 5)
ACK = Ack(3, 6, COSIGNATURE)


class Follower:
    """A handler that stores nothing: what is measured is the way to it and back."""

    def follow(self, peer: str, inbound: Iterator[ToFollower]) -> Iterator[ToSource]:
        for _ in inbound:
            yield ACK


def bare(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    """What gRPC's own tutorial does, without looking at a byte."""
    answer = codec.encode_to_source(ACK)
    for _ in requests:
        yield answer


def serve(kind: str, folder: str, port: Connection) -> None:
    """The other process."""
    import grpc

    identity, membership = members(folder)
    if kind == "ours":
        server: Any = ReplicationServer("127.0.0.1:0", identity["b"], lambda: membership, Follower())  # type: ignore[arg-type]
        server.start()
        port.send(server.port)
    else:
        server = grpc.server(ThreadPoolExecutor(4), options=SERVER_OPTIONS)
        server.add_generic_rpc_handlers((handlers(grpc),))
        port.send(server.add_secure_port("127.0.0.1:0", server_credentials(identity["b"], Pins(lambda: membership))))
        server.start()
    threading.Event().wait()


def handlers(grpc: Any) -> Any:
    """The bare service."""
    return grpc.method_handlers_generic_handler("bare", {"Echo": grpc.stream_stream_rpc_method_handler(bare)})


def members(folder: str) -> tuple[dict[str, Identity], Membership]:
    """Two members with certificates in ``folder``."""
    identities = {name: load_identity(os.path.join(folder, name)) for name in ("a", "b")}
    listed = [
        Member(name, public_key(name, bytes([number + 1]) * 32), "", identity.certificate, True)
        for number, (name, identity) in enumerate(identities.items())
    ]
    return identities, Membership(1, tuple(listed))


def started(kind: str, folder: str) -> tuple[Any, int]:
    """A serving process and its port."""
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=serve, args=(kind, folder, sender), daemon=True)
    process.start()
    return process, receiver.recv()


def ours(folder: str, port: int) -> Callable[[ToFollower], None]:
    """A round trip through client and server of the wire."""
    identities, membership = members(folder)
    member = membership.members[1]._replace(address=f"127.0.0.1:{port}")
    outbox = Outbox()
    answers = PeerClient(member, identities["a"]).follow(outbox)

    def trip(message: ToFollower) -> None:
        outbox.put(message)
        next(answers)

    return trip


def echo(folder: str, port: int) -> Callable[[bytes], None]:
    """A round trip through gRPC alone, fed from a queue as any caller must."""
    import grpc

    identities, _ = members(folder)
    channel = grpc.secure_channel(
        f"127.0.0.1:{port}",
        channel_credentials(identities["a"], identities["b"].certificate),
        options=[*CLIENT_OPTIONS, ("grpc.ssl_target_name_override", "b")],
    )
    waiting: SimpleQueue[bytes | None] = SimpleQueue()
    answers = channel.stream_stream("/bare/Echo")(iter(waiting.get, None))

    def trip(raw: bytes) -> None:
        waiting.put(raw)
        next(answers)

    trip.channel = channel  # type: ignore[attr-defined]  # which would close itself when forgotten
    return trip


def main() -> None:
    main_guard()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transport", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="few rounds: shows that it runs, not what it reaches")
    arguments = parser.parse_args()
    for line in environment():
        print(line)
    print()
    report = Report()
    with tempfile.TemporaryDirectory(prefix="femtoclaw-bench-") as folder:
        for name in ("a", "b"):
            make_identity(os.path.join(folder, name), name)
        processes, ports = zip(*(started(kind, folder) for kind in ("ours", "bare")), strict=True)
        through, beside = ours(folder, ports[0]), echo(folder, ports[1])
        for identity, what, message, rounds, count, goal_s in (
            (
                "P8",
                "the wire: a 600-byte record, Entries to Ack, p50",
                SMALL,
                3 if arguments.quick else 12,
                300,
                300e-6,
            ),
            ("P9", "the wire: 8 MiB of records, Entries to Ack, p50", LARGE, 1 if arguments.quick else 4, 15, None),
        ):
            raw = codec.encode_to_follower(message)
            samples = interleaved(
                {"bare": lambda raw=raw: beside(raw), "ours": lambda message=message: through(message)},
                rounds=rounds, count=count,
            )  # fmt: skip
            taken, limit = p50(samples["ours"]), p50(samples["bare"])
            verdict = met(taken <= 1.3 * limit and taken <= (goal_s or taken))
            report.row(
                identity,
                what,
                f"{taken * 1e6:,.0f} us, {taken / limit:.2f}x",
                f"bare gRPC {limit * 1e6:,.0f} us",
                verdict,
            )
        encoded = codec.encode_to_follower(SMALL)
        both = {"encode": lambda: codec.encode_to_follower(SMALL), "decode": lambda: codec.decode_to_follower(encoded)}
        cost = {name: p50(each) for name, each in interleaved(both, rounds=3, count=2000).items()}
        report.row("P8", "of it encoding and decoding, p50", f"{sum(cost.values()) * 1e6:.0f} us", "", "")
        for process in processes:
            process.terminate()
            process.join()


if __name__ == "__main__":
    main()
