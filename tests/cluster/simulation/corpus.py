"""Seeds that once found something, and what. They are run again with every change.

A seed means the same only as long as the simulation draws the same from it, so an old one may by now run another history; the
names of guards in ``mutations`` are what keeps the finds found.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.cluster.simulation.campaign import Job


class Find(NamedTuple):
    """A run that failed, and why it did."""

    job: Job
    what: str


CORPUS = (
    Find(Job(63, 3, 500, "partitions"), "a leader that took over a small in-sync set could never publish another one"),
    Find(Job(57, 3, 500, "lossy"), "a doubled alignment froze an honest follower"),
    Find(Job(54, 5, 500, "lossy"), "a late alignment froze a follower that knew more to be committed by now"),
    Find(
        Job(47, 3, 500, "unordered"), "a record was acknowledged without a member that was in the published set already"
    ),
    Find(Job(41, 3, 500, "slow-disks"), "answers to an older append were taken for those to a newer one"),
    Find(Job(33, 3, 500, "clocks"), "the end of an old stream was taken for the end of the one of now"),
    Find(Job(123, 3, 500, "rot"), "the order of messages depended on the order of a set"),
    Find(
        Job(1913, 3, 500, "liar"), "a liar's promise made a candidate cut committed records for a log that it never got"
    ),
    Find(Job(240, 5, 500, "everything"), "a follower with an orphan membership refused its leader for ever"),
    Find(
        Job(572, 5, 500, "failover"),
        "what was sent up to a segment's border ended inside of an append, and never arrived",
    ),
    Find(Job(82, 5, 500, "rollback"), "a node whose records were put back led with fewer than it knew to be committed"),
    Find(Job(289, 3, 500, "rollback"), "a node whose disk was put back froze at what an honest leader had it cut"),
    Find(Job(183, 3, 500, "unordered"), "a segment that came twice convicted an honest leader"),
    Find(
        Job(103415, 3, 500, "members"),
        "a voter that did not know yet that it was one kept the only candidate from its majority",
    ),
    Find(
        Job(410405, 3, 500),
        "records that were put back to as many of an older epoch passed for those that HEAD names: its link tells",
    ),
    Find(
        Job(512749, 3, 500),
        "a leader of before, whose orphan a later one had cut, was taken for put back by the older epoch's register: with a "
        "second disk that was, nobody could lead any more",
    ),
    Find(
        Job(103835, 3, 500),
        "a promise that went with a disk bound for ever in the checker, though the candidate that had it was long gone: its "
        "process had ended, and the coordinator, out of a backup, gave an older epoch",
    ),
)
