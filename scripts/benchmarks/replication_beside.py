"""What replication is measured beside: etcd with its clients, and a bare gRPC stream to a durable LMDB."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import lmdb
from replication_members import EVENT_BYTES, MAP_BYTES

from cluster.tls import Pins, channel_credentials, load_identity, server_credentials
from cluster.transport import CLIENT_OPTIONS, SERVER_OPTIONS, load_grpc
from wal.membership import Member, Membership
from wal.note import public_key

IN_FLIGHT = 2
FRAME_BYTES = EVENT_BYTES + 100
"""A record of ours with what it has around its payload: the floor carries and stores the same bytes."""


class EtcdClient:
    """A client of etcd in a process of its own, which speaks with the member that leads."""

    def __init__(self, endpoint: str) -> None:
        self._grpc = load_grpc()
        self._target = endpoint
        self._numbers = itertools.count()
        self._value = os.urandom(EVENT_BYTES)
        self._put = self._grpc.insecure_channel(endpoint).unary_unary("/etcdserverpb.KV/Put")
        self._put(self._request(), timeout=10)

    def _request(self) -> bytes:
        """A put: two fields of bytes, key and value, so no generated code is needed."""
        return b"\x0a\x10%016x\x12\x80\x04%b" % (next(self._numbers), self._value)

    def _transaction(self, puts: int) -> bytes:
        """As many puts in one transaction: a success branch (field 2) of operations, each of them a put (field 2)."""
        pieces = []
        for _ in range(puts):
            put = self._request()
            operation = b"\x12" + _varint(len(put)) + put
            pieces += [b"\x12", _varint(len(operation)), operation]
        return b"".join(pieces)

    def one(self, count: int) -> list[float]:
        """Seconds of each of ``count`` puts, one after the other."""
        samples = []
        for _ in range(count):
            request, begun = self._request(), time.perf_counter()
            self._put(request, timeout=10)
            samples.append(time.perf_counter() - begun)
        return samples

    def many(self, clients: int, each: int, batch: int) -> float:
        """Keys per second of ``clients`` clients on one event loop, the fastest client that grpcio makes."""
        return clients * each * batch / asyncio.run(self._many(clients, each, batch))

    async def _many(self, clients: int, each: int, batch: int) -> float:
        async with self._grpc.aio.insecure_channel(self._target) as channel:
            call = channel.unary_unary(f"/etcdserverpb.KV/{'Put' if batch == 1 else 'Txn'}")
            made = self._request if batch == 1 else lambda: self._transaction(batch)

            async def client() -> None:
                for _ in range(each):
                    await call(made(), timeout=30)

            await call(made(), timeout=30)  # connected before the clock starts
            begun = time.perf_counter()
            await asyncio.gather(*(client() for _ in range(clients)))
            return time.perf_counter() - begun


def _varint(value: int) -> bytes:
    raw = b""
    while value > 0x7F:
        raw += bytes((value & 0x7F | 0x80,))
        value >>= 7
    return raw + bytes((value,))


def _members(folder: str) -> Membership:
    listed = [
        Member(
            name, public_key(name, bytes([number + 1]) * 32), "", load_identity(f"{folder}/{name}").certificate, True
        )
        for number, name in enumerate("ab")
    ]
    return Membership(1, tuple(listed))


class FloorServer:
    """A stream whose every message is split into records, committed, and answered with two bytes. Nothing is verified."""

    def __init__(self, folder: str, path: str) -> None:
        grpc = load_grpc()
        os.mkdir(path)
        self._env = lmdb.open(path, map_size=MAP_BYTES, lib_version=0)
        self._last = 0
        server = grpc.server(ThreadPoolExecutor(4), options=SERVER_OPTIONS)
        handler = grpc.stream_stream_rpc_method_handler(self._store)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("floor", {"Store": handler}),))
        membership = _members(folder)
        credentials = server_credentials(load_identity(f"{folder}/b"), Pins(lambda: membership))
        self._port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        self._server = server

    def port(self) -> int:
        """Where it listens."""
        return self._port

    def _store(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        del context
        for raw in requests:
            with self._env.begin(write=True) as txn:
                for at in range(0, len(raw), FRAME_BYTES):
                    self._last += 1
                    txn.put(self._last.to_bytes(8, "big"), raw[at : at + FRAME_BYTES], append=True)
            yield b"ok"


class FloorClient:
    """The other end, in a process of its own."""

    def __init__(self, folder: str, port: int) -> None:
        grpc = load_grpc()
        self._channel = grpc.secure_channel(
            f"127.0.0.1:{port}",
            channel_credentials(load_identity(f"{folder}/a"), load_identity(f"{folder}/b").certificate),
            options=[*CLIENT_OPTIONS, ("grpc.ssl_target_name_override", "b")],
        )
        self._waiting: SimpleQueue[bytes | None] = SimpleQueue()
        self._answers = self._channel.stream_stream("/floor/Store")(iter(self._waiting.get, None))

    def trips(self, count: int, records: int) -> list[float]:
        """Seconds of each of ``count`` messages of so many records, one after the other."""
        raw, samples = os.urandom(records * FRAME_BYTES), []
        for _ in range(count):
            begun = time.perf_counter()
            self._waiting.put(raw)
            next(self._answers)
            samples.append(time.perf_counter() - begun)
        return samples

    def stream(self, count: int, records: int) -> float:
        """Records per second, with two messages on the way."""
        raw, free = os.urandom(records * FRAME_BYTES), threading.Semaphore(IN_FLIGHT)

        def feed() -> None:
            for _ in range(count):
                free.acquire()
                self._waiting.put(raw)

        feeder = threading.Thread(target=feed)
        begun = time.perf_counter()
        feeder.start()
        for _ in range(count):
            next(self._answers)
            free.release()
        feeder.join()
        return count * records / (time.perf_counter() - begun)
