"""A cluster on etcd, from the command line: the leadership handed over, a leader that dies, etcd that is gone."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.cluster_homes import come_in, first_member, operator_key
from tests.cli.node import SAY
from tests.cluster.etcd_process import EtcdCluster

HELLO = json.dumps(SAY)


def test_the_leadership_is_handed_over_and_taken_over(tmp_path: Path) -> None:
    """By an order, and by itself when the leader is killed. Without etcd a leader goes on, and no other follows it."""
    etcd = EtcdCluster(tmp_path / "etcd")
    first = first_member(tmp_path, "--etcd", *etcd.endpoints)
    settings = first.home / "cluster.toml"
    settings.write_text(settings.read_text() + "etcd_lease_s = 2\n")  # the others get it with their invitations
    machines = [first]
    try:
        first.serve().until_executing()
        key = operator_key(first)
        for name in ("n2", "n3"):
            machines.append(come_in(first, name).serve())
            first.until(lambda name=name: first.call("cluster", "promote", name, expect=None).code == 0)
        second, third = machines[1:]
        assert first.until_led_by("n1")["coordinator"]["leader"] == "n1"
        assert first.refused("cluster", "transfer", "n4") == (1, "MembershipRefusedError")
        assert first.refused("cluster", "owner", "n2") == (2, "UsageError")

        giver = first
        for _ in range(5):
            if giver.call("cluster", "transfer", "n2", *key, expect=None).code == 0:
                break
            # Another voter may be quicker: then it is asked to hand over.
            first.until(lambda: first.status()["healthy"])
            giver = next(each for each in machines if each.name == first.status()["leader"])
            giver.until_executing()
        second.until_executing()
        epoch = third.until_led_by("n2")["epoch"]
        assert first.call("intent", HELLO).body["decision"] == "AUTHORIZED"

        second.kill()
        third.until(lambda: third.status()["leader"] in ("n1", "n3"))
        body = third.status()
        assert body["epoch"] > epoch
        heir = next(each for each in machines if each.name == body["leader"])
        heir.until_executing()
        assert first.call("intent", HELLO).body["decision"] == "AUTHORIZED"
        assert heir.call("cluster", "leave", "n2", *key).body["decision"] == "AUTHORIZED"

        etcd.end()
        body = first.status()
        assert (body["coordinator"]["kind"], body["coordinator"]["answers"]) == ("etcd", False)
        assert first.call("intent", HELLO).body["decision"] == "AUTHORIZED"  # a majority follows: that is enough
        heir.kill()
        last = next(each for each in (first, third) if each is not heir)
        last.until(lambda: not last.status()["healthy"])
    finally:
        for machine in machines:
            machine.kill()
        etcd.end()
