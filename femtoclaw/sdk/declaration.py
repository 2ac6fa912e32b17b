"""The decorator that makes a claw of a function: what a manifest needs, checked where the claw is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from femtoclaw.manifest import Limits, Manifest, check_manifest

PLACEHOLDER = "python:claw.py:claw"
"""The entry of a claw whose file nobody has named yet."""

Function = Callable[..., dict[str, Any]]


class Claw:
    """A function with its declaration. Calling it calls the function; ``execute`` calls it as the runtime does."""

    def __init__(self, function: Function, manifest: Manifest) -> None:
        self._function = function
        self._manifest = manifest
        self.__doc__ = function.__doc__

    def __call__(self, *args: Any, **keywords: Any) -> dict[str, Any]:
        return self._function(*args, **keywords)

    def name(self) -> str:
        """The tool identifier: constant."""
        return self._manifest.name

    def description(self) -> str:
        """What it does, for the brain: constant."""
        return self._manifest.description

    def execute(self, args: dict[str, Any]) -> dict[str, Any]:
        """Arguments by name to the function's parameters. Raises what the function raises."""
        return self._function(**args)

    def place(self) -> str:
        """The name of the Python module in which the function is written."""
        return self._function.__module__

    def declaration(self) -> dict[str, Any]:
        """The manifest's fields for ``module.json``, without ``entry`` and ``files``, which belong to a folder."""
        body = self._manifest._asdict() | {"limits": self._manifest.limits._asdict()}
        return {name: value for name, value in body.items() if name not in ("entry", "files")}


def claw(
    *,
    name: str,
    version: str,
    description: str,
    arguments: Mapping[str, Mapping[str, Any]],
    optional: tuple[str, ...] = (),
    permissions: tuple[str, ...] = (),
    secrets: tuple[str, ...] = (),
    category: str = "system",
    targets: Mapping[str, str] | None = None,
    idempotent: bool = False,
    deterministic: bool = False,
    requires_runtime: str = "",
    limits: Limits = Limits(),  # noqa: B008  (a NamedTuple: it cannot change)
) -> Callable[[Function], Claw]:
    """Declare the decorated function as a claw.

    ``arguments`` maps each parameter to a JSON Schema; those not in ``optional`` are required, others are refused.
    Everything else is a field of ``femtoclaw.manifest.Manifest``. Raises ConfigurationError for what no manifest may
    say, and for a schema that is none.
    """
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {key: dict(value) for key, value in arguments.items()},
        "required": sorted(set(arguments) - set(optional)),
        "additionalProperties": False,
    }
    manifest = Manifest(
        name, version, description, category, schema, dict(targets or {}), PLACEHOLDER, idempotent, limits,
        tuple(permissions), tuple(secrets), files={"claw.py": "0" * 64}, requires_runtime=requires_runtime,
        deterministic=deterministic, type="capability",
    )  # fmt: skip
    check_manifest(manifest)
    return lambda function: Claw(function, manifest)
