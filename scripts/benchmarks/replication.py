"""Benchmark of replication: a leader and two followers beside etcd with three members, and a new follower's catch-up.

Usage: scripts/bench --replication [--quick] [--rounds N] [--records N]. Every member, every client and both ends of the floor
are processes of their own on loopback; ours and the floor's speak mutual TLS, etcd's members and clients nothing. An append
counts when it is durable on a majority; rounds are interleaved, the first is dropped.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from measure import Report, environment, main_guard, met
from replication_beside import EtcdClient, FloorClient, FloorServer
from replication_members import LEADER, Plan, Process, Working, found

from cluster.tls import make_identity
from tests.cluster.etcd_process import SEARCHED, EtcdCluster, EtcdMember, free_ports
from wal.limits import SEGMENT_RECORDS
from wal.replica_opening import create_replica_directory

FOLLOWERS = "bc"
CLIENTS = 64
BATCH = 64
P50_S = 0.75e-3
RATE = 9000
Samples = dict[str, list[float]]


def made_plan(folder: str, names: str) -> Plan:
    """Keys, ports and certificates of all."""
    for name in names:
        os.mkdir(os.path.join(folder, name))
        make_identity(os.path.join(folder, name), name)
    ports = free_ports(len(names))
    return Plan(folder, dict(zip(names, ports, strict=True)), {name: os.urandom(32) for name in names})


def leader_of(cluster: EtcdCluster) -> EtcdMember:
    """The member whose clients need no forwarding."""
    for member in cluster.members:
        told = member.ask("/v3/maintenance/status")
        if told["header"]["member_id"] == told["leader"]:  # type: ignore[index]
            return member
    raise RuntimeError("etcd has no leader")


def floor(plan: Plan) -> tuple[Process, Process]:
    """Both ends of the bare stream."""
    server = Process(FloorServer, plan.folder, os.path.join(plan.folder, "floor"))
    return server, Process(FloorClient, plan.folder, server.port())


def p8_round(samples: Samples, ours: Process, etcd: Process | None, bare: Process, count: int) -> None:
    """Every figure once."""
    if etcd is not None:
        samples["etcd one"].append(statistics.median(etcd.one(count)))
    samples["one"].append(statistics.median(ours.one(count)))
    samples["bare one"].append(statistics.median(bare.trips(count, 1)))
    if etcd is not None:
        samples["etcd many"].append(etcd.many(CLIENTS, count // 8, 1))
    samples["many"].append(ours.many(CLIENTS, count // 4, 1))
    samples["in flight"].append(ours.in_flight(CLIENTS, count // 4))
    samples["bare many"].append(CLIENTS / statistics.median(bare.trips(count // 2, CLIENTS)))
    if etcd is not None:
        samples["etcd batches"].append(etcd.many(CLIENTS, max(1, count // 100), BATCH))
    samples["batches"].append(ours.many(CLIENTS, max(2, count // 50), BATCH))
    samples["batches of one"].append(ours.many(1, count // 4, BATCH))
    samples["bare batches"].append(CLIENTS * BATCH / statistics.median(bare.trips(count // 10, CLIENTS * BATCH)))


def p8_rows(report: Report, samples: Samples) -> None:
    """The figures, each beside etcd's and the floor's."""
    told = {name: statistics.median(each) for name, each in samples.items()}
    beside, without = bool(samples["etcd one"]), "etcd is not installed"

    def ratio(name: str, peer: str) -> float:
        """Our speed over the peer's: of rates as they are, of times turned over."""
        each = [ours / theirs for ours, theirs in zip(samples[name], samples[peer], strict=True)]
        return 1 / statistics.median(each) if name == "one" else statistics.median(each)

    value, base = f"{told['one'] * 1e6:,.0f} us", f"bare stream {told['bare one'] * 1e6:,.0f} us"
    if beside:
        report.row(
            "P8", "quorum append, one client, p50", f"{value}, {ratio('one', 'etcd one'):.2f}x",
            f"etcd {told['etcd one'] * 1e6:,.0f} us, {base}", met(ratio("one", "etcd one") > 1 and told["one"] < P50_S),
        )  # fmt: skip
    else:
        report.row("P8", "quorum append, one client, p50", value, f"{without}, {base}", "not measured")
    for name, what, peer, bare, goal in (
        ("many", "64 clients, a thread each", "etcd many", "bare many", 1.0),
        ("in flight", "64 clients on one thread", "etcd many", "bare many", 1.0),
        ("batches of one", "64 events an append, one client", "etcd many", "bare many", 10.0),
        ("batches", "64 events an append, 64 clients", "etcd many", "bare batches", 10.0),
    ):
        value, base = f"{told[name]:,.0f}/s", f"bare stream {told[bare]:,.0f}/s"
        if beside:
            reached = ratio(name, peer) >= goal and told[name] > RATE
            report.row(
                "P8", what, f"{value}, {ratio(name, peer):.2f}x", f"etcd {told[peer]:,.0f}/s, {base}", met(reached)
            )
        else:
            report.row("P8", what, value, f"{without}, {base}", "not measured")
    if beside:
        report.row(
            "P8", "the same beside etcd with 64 puts a transaction", f"{ratio('batches', 'etcd batches'):.2f}x",
            f"etcd {told['etcd batches']:,.0f}/s", "",
        )  # fmt: skip


Begun = tuple[list[tuple[int, bytes]], bytes]


def p9(report: Report, plan: Plan, ours: Process, records: int, rounds: int, begun: Begun) -> None:
    """A learner with nothing but the first records, until it has them all; in turn with the bare stream."""
    size, sealed = ours.fill(records), ours.sealed()
    rates: list[float] = []
    bares: list[float] = []
    for name in "defghijk"[:rounds]:
        create_replica_directory(plan.log(name), *begun)
        ours.enter(name, False)
        joining = Process(Working, plan, name)
        rates.append(joining.catch_up(size))
        joining.end()
        ours.leave(name)
        shutil.rmtree(plan.log(name))
        server, client = floor(plan)
        client.trips(2, 1)
        bares.append(client.stream(size // SEGMENT_RECORDS, SEGMENT_RECORDS))
        server.end()
        client.end()
        shutil.rmtree(os.path.join(plan.folder, "floor"))
    ratio = statistics.median(mine / bare for mine, bare in zip(rates, bares, strict=True))
    report.row(
        "P9", f"catch-up of a new follower, {size:,} records, {sealed // SEGMENT_RECORDS} segments",
        f"{statistics.median(rates):,.0f}/s, {ratio:.2f}x", f"bare stream {statistics.median(bares):,.0f}/s",
        met(ratio >= 0.7),
    )  # fmt: skip


def main() -> None:
    main_guard()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replication", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="few rounds: shows that it runs, not what it reaches")
    parser.add_argument("--only", default="P8,P9")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--records", type=int, default=0, help="of P9")
    arguments = parser.parse_args()
    rounds = arguments.rounds or (1 if arguments.quick else 7)
    for line in environment():
        print(line)
    print()
    report, samples = Report(), defaultdict[str, list[float]](list)
    with tempfile.TemporaryDirectory(prefix="femtoclaw-bench-") as folder:
        catching = rounds if rounds < 4 else 3
        plan = made_plan(folder, LEADER + FOLLOWERS + "defghijk"[:catching])
        begun = found(plan, LEADER + FOLLOWERS)
        ended: list[Process] = [Process(Working, plan, name) for name in FOLLOWERS]
        ours = Process(Working, plan, LEADER)
        ended.append(ours)
        etcd: EtcdCluster | None = None
        try:
            ours.lead(FOLLOWERS)
            if "P8" in arguments.only:
                if shutil.which("etcd", path=SEARCHED):
                    etcd = EtcdCluster(Path(folder) / "etcd", 3)
                    ended.append(Process(EtcdClient, leader_of(etcd).endpoint))
                peer = ended[-1] if etcd is not None else None
                ended += floor(plan)
                for number in range(rounds + 1):
                    p8_round(samples, ours, peer, ended[-1], 80 if arguments.quick else 400)
                    if not number:
                        samples.clear()
                for follower in ended[: len(FOLLOWERS)]:
                    follower.reach(ours.reach(0))
                p8_rows(report, samples)
            for process in ended[len(FOLLOWERS) + 1 :]:
                process.end()
            if etcd is not None:
                etcd.end()
            shutil.rmtree(os.path.join(folder, "floor"), ignore_errors=True)
            if "P9" in arguments.only:
                p9(report, plan, ours, arguments.records or (20_000 if arguments.quick else 200_000), catching, begun)
        finally:
            for process in ended:
                process.end()
            if etcd is not None:
                etcd.end()


if __name__ == "__main__":
    main()
