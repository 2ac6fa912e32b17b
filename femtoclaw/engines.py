"""The validator and the policy engine that a state calls for. Pure: built from what the log holds, cached by digest.

Building is the slow part (schemas compiled, policy parsed once a version); a cache can only save time, never change an
answer, because its key is the content itself.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

from femtoclaw.authorization import CallContext, Verdict, authorize
from femtoclaw.errors import ConfigurationError
from femtoclaw.manifest import Manifest, check_manifest, manifest_from_canonical
from femtoclaw.policy import PolicyEngine
from femtoclaw.protocol import ArgumentSchemas, Message, Rejected, ToolCall, validate
from femtoclaw.recorded import recorded, recorded_configuration, recorded_manifest
from femtoclaw.sealing import UNSEALED, Sealer
from femtoclaw.state import Claw, Node

CACHE_MAX = 16


class Engines(NamedTuple):
    """Everything that judging a message needs, fixed for one configuration, policy and registry."""

    registry: Mapping[str, Claw]
    manifests: Mapping[str, Manifest]
    schemas: ArgumentSchemas
    settings: Mapping[str, Mapping[str, Any]]
    policy: Callable[[], PolicyEngine | None]
    """Loads the policy engine at the first call that is judged: a run of messages needs none. Raises PolicyError."""
    steps_max: int
    environment: str

    @property
    def needs(self) -> frozenset[str]:
        """The groups of the policy context that a decision depends on. Loads the policy; raises PolicyError."""
        engine = self.policy()
        return engine.needs if engine is not None else frozenset()

    def validate(self, raw: bytes) -> Message | ToolCall | Rejected:
        """Step two of the loop: is this one valid intent?"""
        return validate(raw, self.schemas)

    def authorize(self, tool: str, args: dict[str, Any], context: CallContext) -> Verdict:
        """Step three: may it run?"""
        return authorize(
            tool,
            args,
            context,
            registry=self.registry,
            manifests=self.manifests,
            schemas=self.schemas,
            settings=self.settings,
            engine=self.policy(),
        )


class EngineCache:
    """Engines by content. One for a process; replay with another policy uses one of its own."""

    def __init__(self, policy_override: str | None = None, sealer: Sealer = UNSEALED) -> None:
        """``policy_override``: judge by this policy text instead of the recorded one (counterfactual replay). ``sealer``
        opens the texts of subjects whose keys are at hand."""
        self.sealer = sealer
        self._override = policy_override
        self._made: dict[tuple[str, str, tuple[tuple[str, str, bool], ...]], Engines] = {}
        self._last: tuple[Node, Engines] | None = None
        self._dress: Callable[[Engines], Engines] | None = None

    def dressed(self, dress: Callable[[Engines], Engines]) -> None:
        """Give out what ``dress`` makes of engines from now on: the same, measured."""
        self._dress = dress
        self._made.clear()
        self._last = None

    def engines(self, node: Node) -> Engines:
        """The engines for a node state. Raises PolicyError when its policy cannot be loaded, HistoryError when what it
        holds is no configuration or manifest."""
        if self._last is not None and self._last[0] is node:
            return self._last[1]
        registry = tuple(sorted((claw.name, claw.digest, claw.enabled) for claw in node.registry.values()))
        key = (node.policy.digest, node.configuration.digest, registry)
        made = self._made.get(key)
        if made is None:
            if len(self._made) >= CACHE_MAX:
                self._made.clear()
            made = _build(node, self._override)
            self._made[key] = made = self._dress(made) if self._dress is not None else made
        self._last = (node, made)
        return made


def registrable(raw: bytes) -> Manifest:
    """The manifest in ``raw``, when every call of it can be judged: the gate to the registry.

    Raises ConfigurationError when the bytes are no canonical manifest, or when its declarations, argument schema or
    types are not usable; nothing has been registered then.
    """
    try:
        manifest = manifest_from_canonical(raw)
        check_manifest(manifest)
        canonical = manifest.canonical() == raw
    except (TypeError, ValueError) as error:
        # The bytes are not ours: their words stay out of the text.
        raise ConfigurationError(
            "these bytes are no claw manifest", expected="canonical JSON of a manifest", found=type(error).__name__
        ) from None
    if not canonical:
        raise ConfigurationError(
            "a manifest is not in its canonical form", where=f"manifest {manifest.name}",
            expected="sorted keys, no white space, UTF-8", found="another spelling",
        )  # fmt: skip
    ArgumentSchemas([manifest]).compile()
    PolicyEngine.load("", [manifest])
    return manifest


def load_policy(text: str, node: Node) -> PolicyEngine:
    """Parse and validate a policy against the claws registered in ``node``. Raises PolicyError, and HistoryError for
    registered manifests that are none."""
    return _policy(text, list(_manifests(node).values()))


def _manifests(node: Node) -> dict[str, Manifest]:
    return {name: recorded_manifest(name, claw.manifest) for name, claw in node.registry.items()}


def _policy(text: str, manifests: list[Manifest]) -> PolicyEngine:
    return recorded("a manifest's arguments", lambda: PolicyEngine.load(text, manifests))


def _build(node: Node, override: str | None) -> Engines:
    manifests = _manifests(node)
    configuration = recorded_configuration(node.configuration.content)
    runtime = configuration.get("runtime", {})
    text = node.policy.text if override is None else override
    capabilities = configuration.get("capabilities", {})
    return Engines(
        registry=node.registry,
        manifests=manifests,
        schemas=ArgumentSchemas(manifests.values()),
        settings={name: entry["settings"] for name, entry in capabilities.items()},
        policy=cache(lambda: _policy(text, list(manifests.values())) if text else None),
        steps_max=runtime.get("steps_max", 1),
        environment=runtime.get("environment", ""),
    )
