"""Drills of trust: a lost key, a fork, an edited policy, an altered program."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Any

from femtoclaw.cli.cluster_demo_machines import Machine, environment
from femtoclaw.drills.drill import Drill, call
from femtoclaw.drills.storage_faults import MESSAGE, goes_on
from femtoclaw.releases.copying import copy_program

SMUGGLED = '\n@id("smuggled") permit (principal, action, resource);\n'
STEPS = ["identify", "contain", "preserve", "restore", "verify", "resume"]


def lost_key(drill: Drill) -> None:
    """The node's signing key is gone; a copy may be in wrong hands."""
    drill.step("The file of the node's key is gone")
    node = drill.node()
    key, place = os.path.join(drill.folder, "recovery.key"), os.path.join(drill.folder, "backups")
    node.call("backup", "keygen", "--out", key)
    node.call("backup", "create", "--to", place)
    os.unlink(node.inside("keys/node.key"))
    code, lines = node.run("intent", MESSAGE)
    drill.check("nothing is started without it", code in (2, 3), True)
    drill.proved(f"the node does not start: {lines[-1]['error']['what']}")
    drill.step("Bring it back from the backup")
    rescue = os.path.join(drill.folder, "rescue")
    node.call("backup", "restore", "--from", place, "--key", key, "--to", rescue)
    shutil.copy(os.path.join(rescue, "keys", "node.key"), node.inside("keys/node.key"))
    drill.check("the node starts again", drill.write(node, "again.txt")["decision"], "AUTHORIZED")
    drill.proved("the key out of the backup fits the log; no record was lost")
    drill.step("Whoever has the lost file must not sign for the node any more")
    before = node.call("key", "list", show=False)
    node.call("key", "rotate", "--compromised")
    node.call("key", "verify")
    after = node.call("key", "list", show=False)
    drill.check("another key is in force", before != after, True)
    drill.proved("another key signs from now on; what the old one signed still verifies")
    goes_on(drill, node, "report-after.txt", ("NodeKeyRotated", "StartFailed"))


def fork(drill: Drill) -> None:
    """One key signs two histories."""
    from femtoclaw.keys import load_public_key
    from wal.fork_proof import make_fork_proof

    drill.step("A copy of the node goes on by itself, with the same key")
    node = drill.node()
    twin = drill.machine("twin")
    shutil.copytree(node.home, twin.home, symlinks=True)
    notes = []
    for machine, name in ((node, "one.txt"), (twin, "two.txt")):
        drill.write(machine, name)
        notes.append(str(machine.call("proof", "inclusion", "1", show=False)["checkpoint"]))
    drill.check("both have as many records", node.size(), twin.size())
    drill.proved("two histories of one log, each with a valid signature", size=node.size())
    drill.step("An auditor who has kept the other checkpoint finds it out")
    kept = drill.file("kept.note", notes[1])
    node.call("verify", "--checkpoint", kept, expect=3)
    public = load_public_key(node.inside("keys/node.pub"))
    path = os.path.join(drill.folder, "fork.proof")
    with open(path, "wb") as file:
        file.write(make_fork_proof(notes[0].encode(), notes[1].encode(), public).encode())
    told = node.call("verify", "--fork", path, "--key", node.inside("keys/node.pub"))
    drill.proved("the two checkpoints in one file convict the key, to anyone", signer=told["signer"])
    drill.step("Answer the incident, and take the key out of use")
    _answered(drill, node, "replication_divergence")
    node.call("key", "rotate", "--compromised")
    drill.proved("answered in six steps; the twin's signatures count no more behind the rotation")
    goes_on(drill, node, "report-after.txt", ("IncidentOpened", "IncidentStepped", "NodeKeyRotated"))


def tampered_policy(drill: Drill) -> None:
    """Somebody edits the policy's file by hand."""
    drill.step("A permit for everything is written into the policy's file")
    node = drill.node()
    path = node.inside("policy.cedar")
    with open(path) as file:
        whole = file.read()
    with open(path, "a") as file:
        file.write(SMUGGLED)
    code, lines = node.run("intent", call("fs.read", path="report-0.txt"))
    drill.check("the node refuses to start", code, 3)
    drill.proved(f"nothing runs: {lines[-1]['error']['what']}")
    drill.step("Put the recorded policy back")
    recorded = node.call("policy", "show")["text"]
    drill.check("the log holds the policy of before", recorded, whole)
    with open(path, "w") as file:
        file.write(recorded)
    drill.proved("the file is the recorded one again")
    drill.step("Answer the incident")
    _answered(drill, node, "policy_tampering")
    drill.check("the attempt is on record", bool(drill.recorded(node, "StartFailed")), True)
    drill.proved("the refused start, the incident and its six steps are on record")
    goes_on(drill, node, "report-after.txt", ("StartFailed", "IncidentOpened", "NodeContained", "NodeReleased"))


def tampered_binary(drill: Drill) -> None:
    """A file of the program is altered on the disk of a node that was installed from a signed release."""
    drill.step("A node runs from a sealed copy of this program")
    node = drill.node()
    program = copy_program(os.path.join(drill.folder, "installed"))
    first = _run(program, node, "intent", MESSAGE)
    drill.check("it starts", first.returncode, 0)
    drill.proved("its files are those that the seal names")
    drill.step("One bit of one file changes")
    path = os.path.join(program, "femtoclaw", "gate.py")
    with open(path, "r+b") as file:
        byte: Any = file.read(1)
        file.seek(0)
        file.write(bytes([byte[0] ^ 1]))
    refused = _run(program, node, "intent", MESSAGE)
    drill.check("the start is refused", refused.returncode, 3)
    drill.check("the file is named", "femtoclaw/gate.py" in refused.stderr, True)
    drill.proved("nothing of it was loaded; the file is named")
    drill.step("Put the right file in its place")
    with open(path, "r+b") as file:
        file.write(byte)
    drill.check("it starts again", _run(program, node, "intent", MESSAGE).returncode, 0)
    drill.proved("the program is the sealed one again")
    drill.step("Answer the incident")
    _answered(drill, node, "distribution_tampering")
    drill.proved("contained at once, answered in six steps")
    goes_on(drill, node, "report-after.txt", ("IncidentOpened", "NodeContained", "NodeReleased"))


def _answered(drill: Drill, node: Machine, kind: str) -> None:
    """Open an incident of this kind, and take all six steps."""
    opened = node.call("incident", "open", kind, "--detail", f"drill {drill.name}")
    name = opened["resource"]
    drill.check("a critical incident contains the node", bool(node.call("status", show=False)["contained"]), True)
    denied = node.call("intent", call("fs.read", path="report-0.txt"), expect=1, show=False)
    drill.check("every call is denied meanwhile", denied["code"], "CONTAINED")
    for step in STEPS:
        node.call("incident", step, name)
    steps = [each["step"] for each in drill.recorded(node, "IncidentStepped") if each["incident_id"] == name]
    drill.check("the six steps are on record in order", steps, STEPS)


def _run(program: str, node: Machine, *words: str) -> subprocess.CompletedProcess[str]:
    """One command of that copy, through its launcher."""
    begin = "import sys; root = sys.argv.pop(1); sys.path.append(root); from femtoclaw.launcher.start import main; main(root)"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", begin, program, "--home", node.home, *words], capture_output=True, text=True,
        env=environment(), cwd=node.folder, check=False, timeout=60,
    )  # fmt: skip
