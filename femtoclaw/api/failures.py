"""Errors on their way: what a failure tells, and the same typed error at the other end, so that a command prints the same text
and ends with the same exit code as without a server. What an error tells holds no secret (I12), there as here."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from cluster.errors import ClusterError
from femtoclaw.api.executor import NotTakenError
from femtoclaw.api.limits import FAILURE_BYTES_MAX, FAILURE_CHARACTERS_MAX, FAILURE_SMALL_MAX
from femtoclaw.api.v1 import node_pb2 as pb
from femtoclaw.errors import Category, FemtoClawError, Severity
from wal.errors import LogError

FAMILIES: dict[str, type[Any]] = {"femtoclaw": FemtoClawError, "wal": LogError, "cluster": ClusterError}

_HOMES = (
    "femtoclaw.errors", "wal.errors", "cluster.errors", "femtoclaw.api.executor", "femtoclaw.runtime", "femtoclaw.sealing",
    "femtoclaw.event_codec", "femtoclaw.isolation.outcome", "femtoclaw.modules.refusal",
)  # fmt: skip
"""Where classes are looked for, in this order; another one comes back as a class of its name in its family."""


def failure_of(error: BaseException) -> Any:
    """The ``Failure`` that tells of an error, in at most ``FAILURE_BYTES_MAX`` bytes. Of one that nobody foresaw it tells the
    type only: its text may hold anything."""
    family = next((name for name, base in FAMILIES.items() if isinstance(error, base)), "")
    if not family:
        told = FemtoClawError(f"a defect in femtoclaw: {type(error).__name__}", where="the served node")
        return failure_of(told)
    failure = _filled(family, error, FAILURE_CHARACTERS_MAX)
    return failure if failure.ByteSize() <= FAILURE_BYTES_MAX else _filled(family, error, FAILURE_SMALL_MAX)


def _filled(family: str, error: Any, most: int) -> Any:
    failure = pb.Failure(
        type=f"{family}.{type(error).__name__}",
        code=getattr(error, "code", ""),
        category=getattr(getattr(error, "category", None), "value", ""),
        severity=getattr(getattr(error, "severity", None), "value", ""),
        what=_text(error.what, most), where=_text(error.where, most), remedy=_text(error.remedy, most),
        exit_code=error.exit_code, not_taken=isinstance(error, NotTakenError),
    )  # fmt: skip
    if error.expected is not None:
        failure.expected = _text(error.expected, most)
    if error.found is not None:
        failure.found = _text(error.found, most)
    return failure


def _text(value: object, most: int) -> str:
    return str(value)[:most].encode("utf-8", "replace").decode()


def error_of(failure: Any) -> Exception:
    """The typed error that a failure tells of."""
    family, _, name = failure.type.partition(".")
    base = FAMILIES.get(family, FemtoClawError)
    kind = _class(base, name)
    error: Any = Exception.__new__(kind)  # not by its own constructor, which may ask for more than a failure tells
    base.__init__(
        error, failure.what, where=failure.where, remedy=failure.remedy,
        expected=failure.expected if failure.HasField("expected") else None,
        found=failure.found if failure.HasField("found") else None,
    )  # fmt: skip
    error.exit_code = failure.exit_code or base.exit_code
    if base is FemtoClawError:
        error.code = failure.code or kind.code
        for attribute, values in (("category", Category), ("severity", Severity)):
            told = getattr(failure, attribute)
            if told in {each.value for each in values}:
                setattr(error, attribute, values(told))
    return error  # type: ignore[no-any-return]


def _class(base: type[Any], name: str) -> type[Any]:
    for home in _HOMES:
        found = getattr(import_module(home), name, None)
        if isinstance(found, type) and issubclass(found, base):
            return found
    return type(name, (base,), {}) if name.isidentifier() and len(name) <= 80 else base
