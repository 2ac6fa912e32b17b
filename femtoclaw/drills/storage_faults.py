"""Drills of storage and crashes: a killed node, a full log, a corrupt page, an older store put back, a home that is gone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from typing import Any

from femtoclaw.cli.cluster_demo_machines import Machine, until
from femtoclaw.drills.drill import Drill, call
from wal.errors import RollbackError

MESSAGE = '{"message":{"content":"Is anybody there?"}}'
FILL_MAX = 200
"""Intents after which a log with little room must have refused one."""

FLIPPED = 64
"""Places in the store that are altered: some of them are in use."""


def killed_node(drill: Drill) -> None:
    """SIGKILL in the middle of an execution."""
    drill.step("A node at work is killed while a call runs")
    node = drill.node()
    before = node.call("status", show=False)
    script = drill.file("work.jsonl", call("shell", bin="sleep", argv=["60"]) + "\n")
    client = node.prepare("run", "Wait.", "--brain", f"script:{script}", stdin=subprocess.DEVNULL)
    until(lambda: any(each.started for each in node.state().live.executions.values()), "the call is recorded as begun")
    client.send_signal(signal.SIGKILL)
    client.wait()
    drill.proved("the process is dead, and its call is on record as begun", size=before["size"])
    drill.step("Recover")
    found = node.call("recover")
    drill.check("one outcome is unknown", len(found["outcome_unknown"]), 1)
    drill.check("recovering again finds nothing", node.call("recover")["outcome_unknown"], [])
    drill.proved("what it did is OUTCOME_UNKNOWN; it was not run again", execution=found["outcome_unknown"][0])
    goes_on(drill, node, "report-after.txt", ("OutcomeUnknown", "RuntimeStarted"))


def full_disk(drill: Drill) -> None:
    """No room for another record."""
    drill.step("The log has no room any more")
    node = drill.node()
    room = node.call("config", "show", show=False)["configuration"]["memory"]["map_bytes"]
    size = os.stat(node.inside("log/data/data.mdb")).st_size
    node.call("config", "set", f"memory.map_bytes={size + 8192}")
    before = node.call("verify")
    for _ in range(FILL_MAX):
        code, lines = node.run("intent", MESSAGE, show=False)
        if code:
            break
    drill.check("work is refused as unavailable", code, 4)
    drill.proved(f"refused, with what to do: {lines[-1]['error']['remedy']}")
    drill.step("Give it room")
    node.call("config", "set", f"memory.map_bytes={room}")
    node.call("proof", "consistency", str(before["size"]), str(node.size()))
    drill.proved("what was recorded before is a prefix of what is recorded now")
    _really_full(drill)
    goes_on(drill, node, "report-after.txt", ("ConfigurationAdopted",))


def _really_full(drill: Drill) -> None:
    """The same of a disk that somebody else fills to the last byte."""
    from femtoclaw.drills.small_disk import small_disk

    drill.step("A disk that somebody else fills")
    disk = small_disk(drill)
    if disk is None:
        drill.proved("NOT SHOWN: this process may not mount a file system of its own, and fills none of yours")
        return
    drill.node(made=disk)
    before = disk.call("verify")
    disk.fill()
    _, lines = disk.run("health")
    drill.check("health says so", [each["result"] for each in lines[-1]["checks"] if each["name"] == "host: disk"], ["bad"])
    code, lines = disk.run("intent", MESSAGE)
    drill.check("work is refused as unavailable", (code, lines[-1]["error"]["type"]), (4, "LogFullError"))
    after = disk.call("verify")
    drill.check("what was recorded stays", (after["size"], after["root"]), (before["size"], before["root"]))
    disk.free()
    drill.write(disk, "report-room.txt")
    drill.sound(disk)
    drill.proved("with no byte free nothing is recorded and nothing is lost; with room it goes on")


def corrupt_page(drill: Drill) -> None:
    """Bytes of the store are others than were written."""
    drill.step("Bytes of the store change behind the node's back")
    node = drill.node()
    before = node.call("verify")
    evidence = os.path.join(drill.folder, "evidence.bundle")
    node.call("export", "--bundle", evidence)
    alter(node.inside("log/data/data.mdb"))
    code, _ = node.run("intent", MESSAGE)
    drill.check("the node refuses to start", code, 3)
    drill.proved("no record is read that does not verify, and none is cut")
    drill.step("Repair it from a copy that everybody can check")
    told = node.call("recover", "--dry-run", expect=3)
    drill.check("it would not go on by itself", told["verdict"] != "open", True)
    repaired = node.call("recover", "--from-archive", evidence)
    drill.proved(f"rebuilt: {repaired['size']} records", case=told["case"])
    drill.step("The same history")
    again = node.call("proof", "consistency", str(before["size"]), str(node.size()))
    drill.check("the root of before is a prefix of the log now", again.get("old_root", before["root"]), before["root"])
    drill.proved("its root is the one of before", root=before["root"])
    goes_on(drill, node, "report-after.txt", ("RuntimeStarted",))


def rollback_attack(drill: Drill) -> None:
    """Somebody puts an older store back: its chain verifies, and what was acknowledged since is not in it."""
    drill.step("An older copy of the store is put back")
    node = drill.node()
    store = node.inside("log/data/data.mdb")
    shutil.copy(store, os.path.join(drill.folder, "older.mdb"))
    drill.write(node, "acknowledged.txt")
    size = node.size()
    evidence = os.path.join(drill.folder, "evidence.bundle")
    node.call("export", "--bundle", evidence)
    shutil.copy(os.path.join(drill.folder, "older.mdb"), store)
    code, lines = node.run("intent", MESSAGE)
    refused = (code, lines[-1]["error"]["type"])
    drill.check("the node refuses to start, since HEAD has promised more", refused, (3, RollbackError.__name__))
    drill.proved(f"HEAD has promised more: {lines[-1]['error']['what']}")
    drill.step("Bring back what was acknowledged")
    repaired = node.call("recover", "--from-archive", evidence)
    drill.check("nothing that was acknowledged is missing", repaired["size"] >= size, True)
    drill.proved(f"{repaired['size']} records, the acknowledged one among them")
    goes_on(drill, node, "report-after.txt", ("RuntimeStarted",))


def restore_from_nothing(drill: Drill) -> None:
    """The whole home is gone; there is a backup and the recovery key."""
    drill.step("A backup, work after it, and then nothing is left")
    node = drill.node()
    key, place = os.path.join(drill.folder, "recovery.key"), os.path.join(drill.folder, "backups")
    node.call("backup", "keygen", "--out", key)
    made = node.call("backup", "create", "--to", place)
    drill.write(node, "after-the-backup.txt")
    shutil.rmtree(node.home)
    drill.proved(f"backed up at {made['size']} records; the home is deleted", size=made["size"], root=made["root"])
    drill.step("Restore it on an empty machine")
    node.call("backup", "verify", "--from", place, "--key", key)
    restored = node.call("backup", "restore", "--from", place, "--key", key, "--to", node.home)
    drill.check("root and state are those of the backup",
                (restored["root"], restored["state_hash"]), (made["root"], made["state_hash"]))  # fmt: skip
    code, _ = node.run("intent", MESSAGE)
    drill.check("a restored node does not go on by itself", code != 0, True)
    drill.proved("the same root and state; it goes on only by an operator's word", state_hash=restored["state_hash"])
    drill.step("An operator says that it goes on")
    node.call("backup", "resume")
    drill.proved("what was lost between backup and end is stated on record")
    goes_on(drill, node, "report-after.txt", ("ProcedureEnded",))


def goes_on(drill: Drill, node: Machine, name: str, kinds: tuple[str, ...]) -> None:
    """The last step of a drill: everything verifies, work goes on, and the audit trail tells of it."""
    drill.step("Everything verifies, and work goes on")
    done = drill.write(node, name)
    drill.check("an execution succeeds", done["decision"], "AUTHORIZED")
    report = drill.sound(node)
    missing = [kind for kind in kinds if not drill.recorded(node, kind)]
    drill.check("the audit trail tells of it", missing, [])
    drill.proved(f"{report['size']} records verify; on record: {', '.join(kinds)}", root=report["root"])


def alter(path: str) -> None:
    """Alter bytes all over a file, but not in its first two pages, which the kernel of the store checks itself."""
    size = os.stat(path).st_size
    with open(path, "r+b") as file:
        for place in range(FLIPPED):
            at = 8192 + place * (size - 8192) // FLIPPED + 2048
            file.seek(min(at, size - 1))
            byte: Any = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 0x40]))
