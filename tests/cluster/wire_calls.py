"""What several tests of the wire send, and how a refusal is read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster.errors import (
    PeerRefusedError,
)
from cluster.messages import Entries, Heartbeat, Reason
from tests.cluster.wire_nodes import (
    HEAD,
)

BEAT = Heartbeat(3, 6, b"")
LARGE = Entries(3, HEAD, (b"f" * 1_000_000,), b"", 6)


def reason_of(call: Callable[[], object]) -> Reason:
    with pytest.raises(PeerRefusedError) as caught:
        call()
    return caught.value.reason
