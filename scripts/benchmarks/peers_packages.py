"""Peers that come as Python packages; runs in .venv-peers. Each function gives (versions, measure), as in peers_ours.py."""

from __future__ import annotations

import asyncio
import itertools
import json
import sqlite3
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, TypedDict

from measure import p50

Measured = tuple[str, Callable[..., float]]

PAYLOAD = b"x" * 512
SQLITE = f"SQLite {sqlite3.sqlite_version}"
CALL = {"tool": "fs.read", "args": {"path": "notes/a.txt"}}


def gaps_us(marks: list[float]) -> float:
    """Median of the times between marks in microseconds."""
    return p50([after - before for before, after in itertools.pairwise(marks)]) * 1e6


def eventsourcing_rows(folder: str) -> Measured:
    """The recorder that an application of this library stores with: one event a transaction, 64 threads."""
    from eventsourcing.persistence import StoredEvent
    from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore

    recorder = SQLiteApplicationRecorder(SQLiteDatastore(f"{folder}/events.db", lock_timeout=20, pool_timeout=20))
    recorder.create_table()

    def client(each: int) -> None:
        aggregate = uuid.uuid4()
        for number in range(each):
            recorder.insert_events([StoredEvent(aggregate, number, "peer:Appended", PAYLOAD)])

    def measure(clients: int, each: int) -> float:
        threads = [threading.Thread(target=client, args=(each,)) for _ in range(clients)]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return clients * each / (time.perf_counter() - begun)

    return f"eventsourcing {version('eventsourcing')}, {SQLITE}", measure


def etcd_puts(folder: str, port: int) -> Measured:
    """etcd over its gRPC port: a put's message is two byte fields, so it is written here and needs no generated code."""
    import grpc

    del folder
    target, method = f"127.0.0.1:{port}", "/etcdserverpb.KV/Put"
    numbers = itertools.count()

    def request() -> bytes:
        key = b"%016x" % next(numbers)
        return b"\x0a\x10" + key + b"\x12\x80\x04" + PAYLOAD

    with_one = grpc.insecure_channel(target).unary_unary(method)

    async def many(clients: int, each: int) -> float:
        async with grpc.aio.insecure_channel(target) as channel:
            put = channel.unary_unary(method)

            async def client() -> None:
                for _ in range(each):
                    await put(request(), timeout=10)

            await put(request(), timeout=10)  # connected before the clock starts
            begun = time.perf_counter()
            await asyncio.gather(*(client() for _ in range(clients)))
            return time.perf_counter() - begun

    def measure(clients: int, each: int) -> float:
        if clients > 1:
            return clients * each / asyncio.run(many(clients, each))
        begun = time.perf_counter()
        for _ in range(each):
            with_one(request(), timeout=10)
        return each / (time.perf_counter() - begun)

    measure(1, 1)
    return f"grpcio {version('grpcio')}", measure


class Turn(TypedDict):
    """A graph's state between a mocked brain and a trivial tool."""

    left: int
    call: dict[str, Any]
    result: str


def langgraph_steps(folder: str) -> Measured:
    """A graph of two nodes in a circle, every superstep saved before the next one (durability ``sync``)."""
    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.graph import END, START, StateGraph

    marks: list[float] = []

    def brain(state: Turn) -> dict[str, Any]:
        marks.append(time.perf_counter())
        return {"call": CALL, "left": state["left"] - 1}

    def tool(state: Turn) -> dict[str, Any]:
        return {"result": json.dumps({"echo": state["call"]["args"]})}

    graph = StateGraph(Turn)
    graph.add_node("brain", brain)
    graph.add_node("tool", tool)
    graph.add_edge(START, "brain")
    graph.add_conditional_edges("brain", lambda state: "tool" if state["left"] >= 0 else END)
    graph.add_edge("tool", "brain")
    connection = sqlite3.connect(f"{folder}/graph.db", check_same_thread=False)
    app = graph.compile(checkpointer=SqliteSaver(connection))

    def measure(count: int) -> float:
        marks.clear()
        settings = {"configurable": {"thread_id": uuid.uuid4().hex}, "recursion_limit": 2 * count + 10}
        app.invoke({"left": count, "call": {}, "result": ""}, settings, durability="sync")  # type: ignore[call-overload]
        return gaps_us(marks)

    versions = f"langgraph {version('langgraph')}, checkpoint-sqlite {version('langgraph-checkpoint-sqlite')}, {SQLITE}"
    return versions, measure


def dbos_steps(folder: str, wal: bool = False) -> Measured:
    """A workflow that calls two durable steps in turn; with ``wal`` the database file was put in WAL mode before."""
    from dbos import DBOS

    path = f"{folder}/dbos.db"
    if wal:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
    DBOS(config={"name": "peer", "system_database_url": f"sqlite:///{path}", "run_admin_server": False})
    marks: list[float] = []

    @DBOS.step()
    def brain() -> dict[str, Any]:
        marks.append(time.perf_counter())
        return CALL

    @DBOS.step()
    def tool(call: dict[str, Any]) -> str:
        return json.dumps({"echo": call["args"]})

    @DBOS.workflow()
    def agent(count: int) -> None:
        for _ in range(count):
            tool(brain())
        brain()

    DBOS.launch()

    def measure(count: int) -> float:
        marks.clear()
        agent(count)
        return gaps_us(marks)

    return f"dbos {version('dbos')}, {SQLITE}", measure


def restate_steps(folder: str, port: int, ingress: int, admin: int) -> Measured:
    """A handler that runs two durable actions in turn; the server calls it on ``port`` and journals each result."""
    import restate
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    del folder
    marks: list[float] = []

    async def brain() -> dict[str, Any]:
        marks.append(time.perf_counter())
        return CALL

    async def tool(call: dict[str, Any]) -> str:
        return json.dumps({"echo": call["args"]})

    service = restate.Service("Agent")

    @service.handler()
    async def steps(ctx, count):  # type: ignore[no-untyped-def]  # the SDK resolves annotations as globals
        for _ in range(count):
            call = await ctx.run_typed("brain", brain)
            await ctx.run_typed("tool", tool, call=call)
        await ctx.run_typed("brain", brain)
        return count

    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.loglevel = "ERROR"
    threading.Thread(
        target=lambda: asyncio.run(serve_forever(serve, restate.app([service]), config)), daemon=True
    ).start()
    post(f"http://127.0.0.1:{admin}/deployments", {"uri": f"http://127.0.0.1:{port}"}, tries=40)

    def measure(count: int) -> float:
        marks.clear()
        post(f"http://127.0.0.1:{ingress}/Agent/steps", count, tries=1)
        if len(marks) != count + 1:
            raise RuntimeError(f"{len(marks)} calls of the brain instead of {count + 1}: the handler was run again")
        return gaps_us(marks)

    post(f"http://127.0.0.1:{ingress}/Agent/steps", 1, tries=40)
    return f"restate-sdk {version('restate-sdk')}", measure


async def serve_forever(serve: Any, app: Any, config: Any) -> None:
    """Serve until the process is ended from outside; hypercorn's own signal handlers need the main thread."""
    await serve(app, config, shutdown_trigger=asyncio.Event().wait)


def post(url: str, body: object, *, tries: int) -> bytes:
    """POST ``body`` as JSON; refusals are tried again every 0.25 s, since servers come up in parts."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    while True:
        tries -= 1
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                content: bytes = answer.read()
                return content
        except OSError:
            if tries <= 0:
                raise
            time.sleep(0.25)
