"""What one seed makes of a cluster: how many nodes, which faults at which rates, how fast everything is. Pure values."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from cluster.standing import IN_SYNC_ALL, QUORUM, ReplicaConfig

MS = 1_000_000

PROFILES = (
    "calm", "lossy", "unordered", "partitions", "crashes", "slow-disks", "clocks", "rollback", "silent-rollback", "rot", "liar",
    "coordinator", "members", "transfer", "everything", "failover", "failover", "zombies", "liar", "sync", "flip", "mixed", "mixed",
)  # fmt: skip
"""What a seed turns on; a profile that is named twice is drawn twice as often."""


class Scenario(NamedTuple):
    """All that a world is built from. Times in nanoseconds, rates as the mean number of events in a second, or as the chance
    of a thing at each opportunity (``..._chance``)."""

    seed: int
    nodes: int
    steps: int
    profile: str
    mode: str
    real_signatures: bool = False
    delay_ns: tuple[int, int] = (1 * MS, 10 * MS)
    far_chance: float = 0.0
    drop_chance: float = 0.0
    twice_chance: float = 0.0
    overtake_chance: float = 0.0
    partition_rate: float = 0.0
    one_way_chance: float = 0.4
    crash_rate: float = 0.0
    inside_chance: float = 0.0
    """A crash that waits for the next Ready with something to do, and happens in the middle of it."""
    pause_rate: float = 0.0
    slow_chance: float = 0.0
    skew_ppm: int = 0
    wall_rate: float = 0.0
    rollback_rate: float = 0.0
    zombie_rate: float = 0.0
    """A leader loses its leadership and does not hear of it for a while."""
    silent: bool = False
    rot_rate: float = 0.0
    liar: str = ""
    flip_rate: float = 0.0
    coordinator_rate: float = 0.0
    rewind_chance: float = 0.1
    """Of what happens to the coordinator: that it is restored from a backup."""
    members_rate: float = 0.0
    transfer_rate: float = 0.0
    append_ns: int = 45 * MS
    batch_max: int = 3
    split_chance: float = 0.3
    segment_records: int = 4096
    spare: bool = False
    volatile: bool = False
    """Mutation: what is acknowledged is not synced."""
    unread: bool = False
    """Mutation: what is acknowledged was not read back."""
    forgetful: bool = False
    """Mutation: the protocol's state is not synced."""
    hasty: bool = False
    """Mutation: what is to be sent is sent before what is to be durable is."""
    stacked: bool = False
    """Mutation: the membership is changed again before the change before is committed."""
    headless: bool = False
    """Mutation: a log that is shorter than its HEAD says is opened all the same."""


def draw(seed: int, nodes: int, steps: int, profile: str = "", real: bool = False) -> Scenario:
    """The scenario of a seed; with ``profile``, of that kind."""
    random = Random(f"scenario {seed} {nodes} {profile}")
    kind = profile or random.choice(PROFILES)
    mode = IN_SYNC_ALL if random.random() < 0.3 else QUORUM
    made = Scenario(seed, nodes, steps, kind, mode, real)
    made = made._replace(
        delay_ns=random.choice(((1 * MS, 4 * MS), (1 * MS, 15 * MS), (5 * MS, 40 * MS))),
        segment_records=random.choice((8, 4096)),
        append_ns=random.choice((25 * MS, 45 * MS, 90 * MS)),
        crash_rate=0.3, inside_chance=0.5, partition_rate=0.15, drop_chance=0.002, skew_ppm=10_000,
    )  # fmt: skip
    return _with_faults(made, kind, random)


def _with_faults(made: Scenario, kind: str, random: Random) -> Scenario:
    match kind:
        case "calm":
            return made._replace(crash_rate=0.1, inside_chance=0.0, partition_rate=0.0, drop_chance=0.0)
        case "lossy":
            return made._replace(drop_chance=0.03, twice_chance=0.03, far_chance=0.03)
        case "unordered":
            return made._replace(overtake_chance=0.15, twice_chance=0.1, far_chance=0.1)
        case "partitions":
            return made._replace(partition_rate=1.2)
        case "crashes":
            return made._replace(crash_rate=2.0, inside_chance=0.7)
        case "slow-disks":
            return made._replace(slow_chance=0.2, crash_rate=0.8)
        case "clocks":
            return made._replace(skew_ppm=40_000, wall_rate=1.0, pause_rate=0.8)
        case "rollback":
            return made._replace(rollback_rate=0.8)
        case "silent-rollback":
            return made._replace(rollback_rate=0.6, silent=True)
        case "rot":
            return made._replace(rot_rate=1.0, crash_rate=0.8)
        case "liar":
            return made._replace(liar=random.choice(LIES))
        case "flip":
            return made._replace(flip_rate=1.5)
        case "coordinator":
            return made._replace(coordinator_rate=1.5, pause_rate=0.4)
        case "members":
            return made._replace(members_rate=2.5, spare=True, crash_rate=0.5, partition_rate=0.3)
        case "transfer":
            return made._replace(transfer_rate=1.5)
        case "failover":
            return made._replace(partition_rate=0.8, crash_rate=1.2, pause_rate=0.4, inside_chance=0.7)
        case "zombies":
            return made._replace(zombie_rate=1.5, partition_rate=0.5)
        case "sync":
            return made._replace(mode=IN_SYNC_ALL, partition_rate=0.7, pause_rate=0.7, slow_chance=0.1)
        case "mixed":
            rates = {name: random.random() * most if random.random() < 0.6 else 0.0 for name, most in _MOST}
            return made._replace(spare=True, rewind_chance=random.choice((0.1, 0.4)), **rates)
        case _:
            return made._replace(
                drop_chance=0.02, twice_chance=0.03, far_chance=0.03, overtake_chance=random.choice((0.0, 0.05)),
                partition_rate=0.6, crash_rate=0.8, pause_rate=0.3, slow_chance=0.05, skew_ppm=30_000, wall_rate=0.3,
                rollback_rate=0.2, coordinator_rate=0.3, transfer_rate=0.4, members_rate=0.7, spare=True,
                rot_rate=0.2, zombie_rate=0.2,
            )  # fmt: skip


_MOST: tuple[tuple[str, float], ...] = (
    ("rollback_rate", 1.5), ("coordinator_rate", 2.0), ("zombie_rate", 2.0), ("members_rate", 3.0), ("crash_rate", 2.0),
    ("partition_rate", 1.5), ("pause_rate", 1.0), ("rot_rate", 1.0), ("transfer_rate", 1.0), ("slow_chance", 0.1),
    ("overtake_chance", 0.1), ("twice_chance", 0.1), ("drop_chance", 0.03), ("far_chance", 0.03), ("wall_rate", 1.0),
)  # fmt: skip
"""Of these, a mixed scenario draws some, each up to so much."""

LIES = ("stores-nothing", "other-roots", "wrong-epochs", "garbage", "promises", "sizes", "leads")


def config_of(scenario: Scenario, place: int) -> ReplicaConfig:
    """The configuration of the node number ``place``: short times, so that much happens in few steps."""
    return ReplicaConfig(
        mode=scenario.mode,
        in_sync_min=2,
        heartbeat_ns=150 * MS,
        patience_ns=(350 + 90 * place) * MS,
        contact_ns=450 * MS,
        lag_ns=250 * MS,
        publish_ns=200 * MS,
        keep_ns=400 * MS,
        window_records=SMALL_WINDOW if scenario.seed % 9 in (4, 7, 8) else ReplicaConfig().window_records,
    )


SMALL_WINDOW = 4
"""Records in flight in a third of the seeds: their logs are short, and who catches up is to be in the middle of it now and then."""

LEASE_NS = 600 * MS
TICK_NS = 75 * MS
