"""Every drill by its name, and the section of docs/runbook.md that it walks."""

from __future__ import annotations

from femtoclaw.drills.cluster_faults import lost_quorum, stale_follower
from femtoclaw.drills.drill import Kind
from femtoclaw.drills.storage_faults import (
    corrupt_page,
    full_disk,
    killed_node,
    restore_from_nothing,
    rollback_attack,
)
from femtoclaw.drills.trust_faults import fork, lost_key, tampered_binary, tampered_policy

KINDS = (
    Kind("killed-node", "a node is killed in the middle of an execution", "A node was killed", killed_node),
    Kind("full-disk", "there is no room for another record", "There is no room", full_disk),
    Kind("corrupt-page", "bytes of the store are not those that were written", "The log is damaged", corrupt_page),
    Kind("rollback-attack", "an older store is put back", "An older log was put back", rollback_attack),
    Kind("restore-from-nothing", "the home is gone; there is a backup", "Everything is gone", restore_from_nothing),
    Kind("lost-key", "the file of the node's key is gone", "A key is lost or in wrong hands", lost_key),
    Kind("fork", "one key signs two histories", "Two histories of one log", fork),
    Kind("tampered-policy", "the policy's file is edited by hand", "A file was edited by hand", tampered_policy),
    Kind("tampered-binary", "a file of the program is altered", "The program was altered", tampered_binary),
    Kind("stale-follower", "a follower misses what happens meanwhile", "A follower is behind", stale_follower),
    Kind("lost-quorum", "two of three members are gone", "No majority", lost_quorum),
)  # fmt: skip

BY_NAME = {kind.name: kind for kind in KINDS}
