"""Putting a configuration or a policy in force: content becomes events, or is refused. Pure."""

from __future__ import annotations

import json
from typing import Any

from femtoclaw import config, events
from femtoclaw.engines import load_policy
from femtoclaw.errors import ConfigurationError
from femtoclaw.events import Event
from femtoclaw.state import Node


def adopt_configuration(node: Node, content: bytes, operator: str) -> list[Event]:
    """Put a configuration in force, and switch claws as it says. One whose publisher is not trusted stays disabled.

    Raises ConfigurationError for bytes that are no canonical configuration, and for claws that are not registered.
    """
    current = node.configuration
    wanted = config.enabled(content)
    unknown = wanted - set(node.registry)
    if unknown:
        raise ConfigurationError("configuration enables claws that are not registered", found=sorted(unknown))
    adopted = events.ConfigurationAdopted(
        current.version + 1, config.digest(content), content, current.digest, operator
    )
    batch: list[Event] = [adopted]
    for name, claw in sorted(node.registry.items()):
        on = may_be_enabled(node, name) and name in wanted
        if claw.enabled != on:
            batch.append(events.ClawEnabled(name, operator) if on else events.ClawDisabled(name, operator))
    return batch


def may_be_enabled(node: Node, name: str) -> bool:
    """Whether this claw's code comes from somebody who is still trusted: the program itself, or a publisher."""
    publisher = node.registry[name].publisher
    return not publisher or publisher in node.publishers


def adopt_policy(node: Node, text: str, engine: str, operator: str) -> list[Event]:
    """Put a policy in force. Raises PolicyError for a text that does not load for the registered claws."""
    loaded = load_policy(text, node)
    current = node.policy
    return [
        events.PolicyAdopted(
            current.version + 1, loaded.digest, text, loaded.schema_digest, engine, current.digest, operator
        )
    ]


def whole_configuration(node: Node, content: bytes) -> dict[str, Any]:
    """The configuration in ``content``, over the embedded defaults: a key that a newer program has is not in what an older
    one recorded. Raises ConfigurationError for bytes that are none in canonical form."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise ConfigurationError("these bytes are no configuration", expected="a JSON object", found="other bytes")
    effective = config.resolve(body, "the request", frozenset(node.registry))
    config.check_together(effective, "the request")
    if config.canonical(body) != content:
        raise ConfigurationError(
            "these bytes are no configuration", expected="its canonical form", found="another spelling"
        )
    return effective
