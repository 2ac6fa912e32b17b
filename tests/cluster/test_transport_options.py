"""gRPC takes an option that it does not know in silence, and does without: each that is set must be one of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cluster.transport import CLIENT_OPTIONS, SERVER_OPTIONS, load_grpc

NAMES = sorted({name for name, _ in (*SERVER_OPTIONS, *CLIENT_OPTIONS)})


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Every name of an option that stands in gRPC's library."""
    load_grpc()
    from grpc._cython import cygrpc

    return {name.decode() for name in re.findall(rb"grpc\.[a-z0-9_.]+", Path(cygrpc.__file__).read_bytes())}


@pytest.mark.parametrize("name", NAMES)
def test_grpc_knows_the_option(known: set[str], name: str) -> None:
    assert name in known


def test_another_name_is_not_known(known: set[str]) -> None:
    """The library says no to what it has not."""
    assert not {f"{name}_x" for name in NAMES} & known
    assert "grpc.keepalive_ms" not in known
