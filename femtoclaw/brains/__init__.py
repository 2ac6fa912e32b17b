"""Brains: they only propose. The port, and how a name becomes a brain."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from femtoclaw.errors import BrainError, ConfigurationError


class Turn(NamedTuple):
    """One entry of the context: role (user, assistant, tool, system) and content."""

    role: str
    content: str


class ToolDescription(NamedTuple):
    """What a brain is told about a claw."""

    name: str
    description: str
    arguments_schema: Mapping[str, Any]


class Context(NamedTuple):
    """Everything a brain gets to see."""

    turns: tuple[Turn, ...]
    tools: tuple[ToolDescription, ...]


class Thought(NamedTuple):
    """A brain's raw output and where it came from (model, endpoint, attempts; never a secret)."""

    raw: bytes
    provenance: dict[str, str]


class Brain(Protocol):
    """Something that proposes."""

    name: str

    def think(self, context: Context) -> Thought:
        """The raw answer. Raises BrainError."""


class OversizeError(BrainError):
    """The answer is over its bound."""

    code = "BRAIN_OVERSIZE"


class ExhaustedError(BrainError):
    """A script has no more lines."""

    code = "BRAIN_EXHAUSTED"
    default_remedy = "add lines to the script, or end it with a message"


def describe(manifest: bytes) -> ToolDescription:
    """A claw's description for a brain, from its manifest's canonical bytes."""
    body = json.loads(manifest)
    return ToolDescription(body["name"], body["description"], body["arguments"])


def open_brain(spec: str, settings: Mapping[str, Any], secrets: Callable[[str], str | None]) -> Brain:
    """The brain that ``NAME[:ARG]`` names. Raises ConfigurationError."""
    name, _, argument = spec.partition(":")
    if name == "script":
        from femtoclaw.brains.script import ScriptBrain

        return ScriptBrain(argument)
    if name == "echo":
        from femtoclaw.brains.echo import EchoBrain

        return EchoBrain()
    if name == "openai":
        from femtoclaw.brains.openai import OpenAIBrain, read_settings

        return OpenAIBrain(argument, read_settings(settings.get("openai", {})), secrets("openai_api_key"))
    raise ConfigurationError("unknown brain", where=spec[:80], expected="script:FILE, echo or openai:MODEL")
