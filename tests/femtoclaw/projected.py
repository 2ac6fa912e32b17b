"""Logs projected into the five stores, and what tests compare of them."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from femtoclaw import commands, config
from femtoclaw.claws import SHIPPED
from femtoclaw.home import claw_names
from femtoclaw.projections.database import MEMORY, Projections
from femtoclaw.projections.queries import select
from femtoclaw.projections.schema import STORES
from tests.femtoclaw.simulated import SETTINGS, Simulated
from tests.femtoclaw.test_replay import worked

Content = dict[str, list[dict[str, Any]]]


def content(projections: Projections) -> Content:
    return {store: select(projections, store) for store in STORES}


def projected(node: Simulated, file: str = MEMORY) -> Content:
    with closing(Projections(file)) as projections:
        projections.catch_up(node.log)
        return content(projections)


def adopt_retention(node: Simulated, rows: int) -> None:
    settings = SETTINGS | {"observability": {"telemetry_retention_events": rows}}
    effective = config.resolve(settings, "test", claw_names(SHIPPED))
    node.control("configuration.set", content=config.canonical(effective))


def interrupted_node() -> Simulated:
    """Executions of every ending: also one cut before it started, one cut in the middle, one without an answer."""
    node = worked()
    perform = node.authority.perform
    perform(commands.StartRun("r1", "cut-early", "echo", "run", "agent", b"hello"))
    perform(commands.StartRun("r2", "silent", "echo", "run", "agent", b"hello"))
    perform(commands.FailInference("silent", "TIMEOUT", "no answer"))
    perform(commands.SubmitIntent("cut-late", b'{"tool_call":{"tool":"fs.read","args":{"path":"z"}}}'))
    perform(commands.StartRuntime("boot2", "test", "python", "open"))
    for execution_id in ("cut-early", "cut-late"):
        perform(commands.ResolveInterrupted(execution_id))
    return node
