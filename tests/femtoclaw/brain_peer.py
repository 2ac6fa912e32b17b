"""A real server for HTTP brains, and the brain that asks it."""

from __future__ import annotations

from typing import Any

from femtoclaw.brains import Context, Turn
from femtoclaw.brains.openai import OpenAIBrain, Settings
from tests.femtoclaw.openai_server import Behaviour, Server

CONTEXT = Context((Turn("user", "hello"), Turn("assistant", "{}"), Turn("tool", '{"tool_result":{}}')), ())
MESSAGE = '{"message":{"content":"hé"}}'
KEY = "sk-very-secret"


class Peer:
    """A server, the brain that asks it, and how long the brain slept (without sleeping)."""

    def __init__(self) -> None:
        self.servers: list[Server] = []
        self.slept: list[float] = []

    def brain(self, *behaviours: Behaviour, key: str = KEY, **settings: Any) -> OpenAIBrain:
        server = Server(*behaviours)
        self.servers.append(server)
        bounds = Settings(
            base_url=server.base_url, connect_seconds=2.0, read_seconds=2.0, total_seconds=20.0, attempts=3
        )
        return OpenAIBrain("test-model", bounds._replace(**settings), key, sleep=self.slept.append)

    @property
    def requests(self) -> list[tuple[str, dict[str, str], dict[str, Any]]]:
        return self.servers[-1].requests
