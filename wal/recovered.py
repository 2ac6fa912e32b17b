"""Payloads of RECOVERED records: what recovery or repair did to the log. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgpack

from wal.errors import CorruptRecordError


class Cut(NamedTuple):
    """Records first..last were damaged above every promise and went to ``evidence/``; BLAKE3 hex of their frames."""

    first: int
    last: int
    digest: str


class Rebuilt(NamedTuple):
    """The log was built anew from ``records`` records that verified; ``doubt`` says what nobody can vouch for, if anything
    (then acknowledged records may be missing at its end)."""

    records: int
    reason: str
    doubt: str


def encode_recovered(act: Cut | Rebuilt) -> bytes:
    """A msgpack array: the name of the act and its fields."""
    raw: bytes = msgpack.packb(["cut" if isinstance(act, Cut) else "rebuilt", *act])
    return raw


def decode_recovered(payload: bytes, where: str) -> Cut | Rebuilt:
    """The inverse. Raises CorruptRecordError for anything else."""
    try:
        name, *fields = msgpack.unpackb(payload, use_list=False)
        if name == "cut" and [type(field) for field in fields] == [int, int, str]:
            return Cut(*fields)
        if name == "rebuilt" and [type(field) for field in fields] == [int, str, str]:
            return Rebuilt(*fields)
    except (ValueError, TypeError, msgpack.UnpackException):
        pass
    raise CorruptRecordError("not a recovery's record", where=where, expected="cut or rebuilt with its fields")
