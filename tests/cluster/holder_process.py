"""A member in its own process: campaigns, then answers one question a line. For tests that kill and freeze it.

Arguments: etcd's endpoints with commas, the log's id in hex, the member's name, the lease in seconds.
"""

from __future__ import annotations

import sys

from cluster.coordinator import Register
from cluster.etcd_coordinator import EtcdCoordinator
from cluster.etcd_settings import EtcdSettings


def main() -> None:
    endpoints, log_id, member, lease_s = sys.argv[1:]
    settings = EtcdSettings(tuple(endpoints.split(",")), lease_s=int(lease_s), call_s=0.6)
    coordinator = EtcdCoordinator(settings, bytes.fromhex(log_id))
    epoch = coordinator.campaign(member)
    print(epoch, flush=True)
    for line in sys.stdin:
        if line == "held\n":
            print(coordinator.held(), flush=True)
        elif line == "publish\n":
            assert epoch is not None
            print(coordinator.publish(epoch, Register(epoch, 1, bytes(32), (member,), 0)), flush=True)


if __name__ == "__main__":
    main()
