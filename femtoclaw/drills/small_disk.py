"""A machine on a small disk of its own, which can really be full: a file system that only a drill's processes see."""

from __future__ import annotations

import os
import subprocess
import sys

from femtoclaw.cli.cluster_demo_machines import Machine, command, environment
from femtoclaw.drills.drill import Drill

DISK_BYTES = 48 << 20
"""Size of the disk: three times the log's reserve, and no more, because it is memory."""

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

_HOLD = """
import os, sys
from femtoclaw.isolation import kernel
kernel.unshare(kernel.CLONE_NEWNS)
kernel.mount(b"none", b"/", b"", 0x4000 | 0x40000, b"")
kernel.mount(b"none", os.fsencode(sys.argv[1]), b"tmpfs", 0, b"mode=700,size=" + sys.argv[2].encode())
print("mounted", flush=True)
sys.stdin.read()
"""

_FILL = """
import os, sys
with open(sys.argv[1], "wb", buffering=0) as file:
    try:
        while file.write(bytes(4096)):
            pass
    except OSError:
        pass
"""


class SmallDisk(Machine):
    """One home on a disk of ``DISK_BYTES``, which lives as long as the process that holds it. Only its commands reach it: for
    everybody else the folder is empty."""

    def __init__(self, drill: Drill, holder: subprocess.Popen[bytes], place: str) -> None:
        super().__init__(drill.folder, os.path.join(os.path.basename(place), "node"), drill.output)
        self._holder = holder
        self._place = place
        self._namespace = os.open(f"/proc/{holder.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def prepare(self, *words: str, stdin: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
        client = self._start(command("--home", self.home, "--json", *words), stdin)
        self._clients.add(client)
        return client

    def _start(self, words: list[str], stdin: int) -> subprocess.Popen[bytes]:
        # A drill has one thread, and the child enters by two system calls.
        return subprocess.Popen(
            words, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), start_new_session=True,
            preexec_fn=self._enter,  # noqa: PLW1509
        )  # fmt: skip

    def _enter(self) -> None:
        from femtoclaw.isolation import kernel

        kernel.enter_namespace(self._namespace, kernel.CLONE_NEWNS)
        os.chdir(self.folder)

    def fill(self) -> None:
        """Write until not one byte is free."""
        self._start(
            [sys.executable, "-c", _FILL, os.path.join(self._place, "filled")], subprocess.DEVNULL
        ).communicate()

    def free(self) -> None:
        """Remove what filled it."""
        program = "import os, sys; os.unlink(sys.argv[1])"
        self._start(
            [sys.executable, "-c", program, os.path.join(self._place, "filled")], subprocess.DEVNULL
        ).communicate()

    def abandon(self) -> None:
        super().abandon()
        self._holder.kill()
        self._holder.communicate()
        if self._namespace >= 0:
            os.close(self._namespace)
            self._namespace = -1


def small_disk(drill: Drill) -> SmallDisk | None:
    """A machine without a home so far; None where this process may not mount a file system."""
    place = os.path.join(drill.folder, "disk")
    os.mkdir(place, 0o700)
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, place, str(DISK_BYTES)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, env=environment(), cwd=_ROOT,
    )  # fmt: skip
    assert holder.stdout is not None
    if holder.stdout.readline() != b"mounted\n":
        holder.kill()
        holder.communicate()
        return None
    return drill.adopt(SmallDisk(drill, holder, place))
