"""Events to bytes and back: a msgpack array of type code, version and the fields in order. Pure.

Codes and versions never change their meaning. An old version is brought up to the newest by the upcasters here, in
memory; the bytes in the log stay what they were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack

from femtoclaw import events
from femtoclaw.errors import Category, FemtoClawError, Severity
from femtoclaw.events import Event

CODES: dict[int, type[Event]] = {
    1: events.NodeProvisioned,
    2: events.ConfigurationAdopted,
    3: events.PolicyAdopted,
    4: events.ClawRegistered,
    5: events.ClawEnabled,
    6: events.ClawDisabled,
    7: events.RuntimeStarted,
    8: events.RuntimeStopped,
    9: events.StateHashed,
    20: events.RunStarted,
    21: events.InputReceived,
    22: events.InferenceReceived,
    23: events.InferenceFailed,
    24: events.ProtocolValidated,
    25: events.ProtocolRejected,
    26: events.AuthorizationDecided,
    27: events.ExecutionStarted,
    28: events.ExecutionFinished,
    29: events.OutcomeUnknown,
    30: events.ResponseRecorded,
    31: events.ExecutionCompleted,
    32: events.ExecutionFailed,
    33: events.RunEnded,
    40: events.ErrorRecorded,
    41: events.IntegrityVerified,
    50: events.OperatorAdded,
    51: events.OperatorRevoked,
    52: events.ControlPolicyAdopted,
    53: events.ControlRequested,
    54: events.ControlDecided,
    55: events.ApprovalRequested,
    56: events.ApprovalGranted,
    57: events.ApprovalRefused,
    58: events.ApprovalExpired,
    59: events.PublisherTrusted,
    60: events.PublisherDistrusted,
    61: events.ModuleInstalled,
    62: events.ModuleRejected,
    63: events.ClawRemoved,
    64: events.SecretChanged,
    65: events.SecretGranted,
    66: events.SecretWithdrawn,
    67: events.NodeKeyRotated,
    68: events.SubjectErased,
    69: events.NodeContained,
    70: events.NodeReleased,
    71: events.OperatorRekeyed,
    72: events.MembershipOrdered,
    73: events.ModuleCalled,
    80: events.StepTaken,
    81: events.StartFailed,
    82: events.HealthChecked,
    83: events.AlertRaised,
    84: events.AlertAcknowledged,
    85: events.IncidentOpened,
    86: events.IncidentStepped,
    87: events.ProcedureBegun,
    88: events.ProcedureEnded,
}
"""Type code to event type. Codes are never reused."""

VERSIONS: dict[int, int] = dict.fromkeys(CODES, 1) | {21: 2, 22: 2, 27: 2}
"""Newest version of each type."""

Upcaster = Callable[[tuple[Any, ...]], tuple[Any, ...]]
UPCASTERS: dict[tuple[int, int], Upcaster] = {
    (21, 1): lambda fields: (*fields, "", 0, ""),
    (22, 1): lambda fields: (*fields, 0),
    (27, 1): lambda fields: (*fields, 0),
}
"""(code, version) to the function that turns that version's fields into the next version's."""

_CODE_OF = {kind: code for code, kind in CODES.items()}
_MAKE: dict[tuple[int, int], Callable[[Any], Event]] = {
    (code, VERSIONS[code]): kind._make for code, kind in CODES.items()
}
_packb = msgpack.Packer(use_bin_type=True, autoreset=True).pack
_unpackb = msgpack.unpackb


class EventFormatError(FemtoClawError):
    """A record's payload is not an event that this program understands."""

    category = Category.MEMORY
    severity = Severity.CRITICAL
    code = "EVENT_FORMAT"
    exit_code = 3
    default_remedy = "upgrade this program if a newer one wrote the log; otherwise run `femtoclaw verify`"


class EventUnknownError(EventFormatError):
    """A newer program wrote the event: nothing is wrong with it, it only cannot be judged here."""

    code = "EVENT_UNKNOWN"
    exit_code = 2
    default_remedy = "judge it with the version that wrote it, or upgrade this program"


def encode(event: Event) -> bytes:
    """Deterministic bytes of an event."""
    code = _CODE_OF[type(event)]
    raw: bytes = _packb((code, VERSIONS[code], *event))
    return raw


def decode(raw: bytes) -> Event:
    """The event in a verified record's payload.

    Raises EventFormatError for bytes that are no event, an unknown code, or a version newer than this program's.
    """
    try:
        fields = _unpackb(raw, use_list=False, max_ext_len=0)
        make = _MAKE.get(fields[:2])
        if make is not None:
            return make(fields[2:])
        return _upcast(fields[0], fields[1], fields[2:])
    except (ValueError, TypeError, IndexError, KeyError, msgpack.UnpackException) as error:
        raise EventFormatError("record payload is not an event", found=f"{type(error).__name__}: {error}") from error


def _upcast(code: int, version: int, fields: tuple[Any, ...]) -> Event:
    kind = CODES.get(code)
    if kind is None or version > VERSIONS[code]:
        raise EventUnknownError(
            "event is newer than this program",
            expected=f"type {code} up to version {VERSIONS.get(code, 0)}",
            found=f"version {version}",
        )
    while version < VERSIONS[code]:
        fields = UPCASTERS[code, version](fields)
        version += 1
    return kind._make(fields)


def declared_types(kind: type[Event]) -> dict[str, Any]:
    """Field names to declared types: str, int, bytes or ``tuple[str, ...]``."""
    known = _DECLARED.get(kind)
    if known is None:
        from typing import get_type_hints

        known = _DECLARED[kind] = get_type_hints(kind)
    return known


_DECLARED: dict[type[Event], dict[str, Any]] = {}


def check_types(event: Event) -> str | None:
    """None when every field has its declared type, else the name of the first that has not."""
    kind = type(event)
    for value, declared in zip(event, _PLAIN.get(kind) or _plain(kind), strict=True):
        if type(value) is not declared or (isinstance(value, tuple) and not all(type(item) is str for item in value)):
            return next(name for name, found in zip(kind._fields, event, strict=True) if found is value)
    return None


_PLAIN: dict[type[Event], tuple[type, ...]] = {}


def _plain(kind: type[Event]) -> tuple[type, ...]:
    """The declared types in order, ``tuple`` for tuples of str."""
    known = tuple(each if each in (str, int, bytes) else tuple for each in declared_types(kind).values())
    return _PLAIN.setdefault(kind, known)
