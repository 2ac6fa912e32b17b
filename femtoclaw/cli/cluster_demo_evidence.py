"""The cluster's demo, its proofs: nothing acknowledged is lost, all logs are one, and a stranger can check it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from femtoclaw.cli.cluster_demo_load import check_recorded
from femtoclaw.errors import FemtoClawError

if TYPE_CHECKING:
    from femtoclaw.cli.cluster_demo import Demo


def nothing_lost(demo: Demo) -> None:
    """What was acknowledged, and what was cut off."""
    demo.step(f"Nothing acknowledged is lost: compare what clients were told with the log of {demo.leader.name}")
    count = check_recorded(demo.leader, demo.machines, demo.answers)
    shown = demo.leader.call("show", demo.sleeping)
    if shown["execution"]["code"] != "OUTCOME_UNKNOWN":
        raise FemtoClawError(
            "the execution that was cut off is told as another", expected="OUTCOME_UNKNOWN", found=shown
        )
    demo.proved(
        f"each of {count} acknowledged executions is in it, started once and ended once, and left one file on one machine; "
        f"execution {demo.sleeping[-8:]}, which was running, is OUTCOME_UNKNOWN and was not run again",
        acknowledged=count, outcome_unknown=demo.sleeping,
    )  # fmt: skip


def verify(demo: Demo) -> None:
    """All logs are one log."""
    demo.step("Verify and replay all three homes")
    reports: list[dict[str, Any]] = []
    with ThreadPoolExecutor() as pool:
        for words in ("verify", "replay"):
            reports += pool.map(lambda machine, word=words: machine.call(word), demo.machines)
    verified, replayed = reports[:3], reports[3:]
    roots = {(each["size"], each["root"], each["state_hash"]) for each in verified}
    states = {(each["size"], each["state_hash"], len(each["divergences"])) for each in replayed}
    if len(roots) != 1 or states != {(verified[0]["size"], verified[0]["state_hash"], 0)}:
        raise FemtoClawError("the machines hold different histories", expected=verified[0], found=reports)
    size, root = verified[0]["size"], verified[0]["root"]
    demo.proved(
        f"three times {size} records under the root {root[:16]}..., and {replayed[0]['decisions']} decisions derived again "
        "without a difference", size=size, root=root, state_hash=verified[0]["state_hash"],
    )  # fmt: skip


def bundle(demo: Demo) -> None:
    """What a stranger needs."""
    demo.step("Export the log, and verify it with the first machine's public key and nothing else")
    target = os.path.join(demo.folder, "evidence.bundle")
    made = demo.leader.call("export", "--bundle", target)
    checked = demo.leader.call("verify", "--bundle", target, "--key", demo.machines[0].inside("keys/node.pub"))
    epochs = [(each["leader"], each["epoch"]) for each in checked["epochs"]]
    if made["not_covered"] or checked["size"] != made["size"] or epochs[-1] != (demo.leader.name, demo.epoch):
        raise FemtoClawError("the bundle tells less than the log", expected=made, found=checked)
    told = ", ".join(f"{name} (epoch {epoch})" for name, epoch in epochs)
    demo.proved(
        f"all {checked['size']} records; who led, each by a record with the signed promises of a majority: {told}",
        size=checked["size"], root=checked["root"], epochs=checked["epochs"],
    )  # fmt: skip
