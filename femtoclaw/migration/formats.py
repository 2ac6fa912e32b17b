"""The formats that a home has had. Pure.

1. Before there was a control plane: nobody may change the node by a signed request, so nothing asks for one; the key files have
   no index, nothing says which distribution the home trusts, and the oldest events are of their first versions.
2. Operators and a control policy in the log, a signed index of the key files, a pin for the distribution.

A log's own format (``wal.genesis.FORMAT``) is 1 since the beginning. What an event type gained later is brought up when it is
read (``femtoclaw.event_codec``) and needs no migration. New configuration keys have defaults and need none either.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from femtoclaw.state import Node

FIRST, CONTROLLED = 1, 2
OLDEST, NEWEST = FIRST, CONTROLLED
"""The formats that this program reads; it makes homes of the newest."""


def format_of(node: Node) -> int:
    """The format of the home whose log folds to ``node``."""
    return CONTROLLED if node.control.version else FIRST
