"""Claws that say what they find about themselves, for the isolation's tests."""

from __future__ import annotations

import os
from typing import Any

Args = dict[str, Any]


def standing(args: Args, workspace: str, settings: Args) -> Args:
    """User, capabilities, filter and what is in the workspace, as the kernel says; needs `processes`."""
    with open("/proc/self/status") as file:
        found = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    names = ("Uid", "Gid", "Groups", "CapPrm", "CapEff", "CapInh", "CapAmb", "CapBnd", "NoNewPrivs", "Seccomp")
    with open(os.path.join(workspace, "made"), "w") as file:
        file.write("by the claw")
    return {name: found[name].split() for name in names}


def knows(args: Args, workspace: str, settings: Args) -> Args:
    """Every place where a secret could be: those granted, the environment, arguments, settings, the command line."""
    from femtoclaw.sdk.granted import GRANTED

    with open("/proc/self/cmdline") as file, open("/proc/self/environ") as other:
        elsewhere = [file.read(), other.read(), str(dict(os.environ)), str(args), str(settings)]
    return {"granted": dict(GRANTED), "elsewhere": "\n".join(elsewhere)}


def renames(args: Args, workspace: str, settings: Args) -> Args:
    """Move a file to another folder, which Landlock knows from its second ABI on; then cut it."""
    os.mkdir(os.path.join(workspace, "folder"))
    done = []
    with open(os.path.join(workspace, "file"), "w") as file:
        file.write("text")
    for name, work in (("move", lambda: os.rename("file", "folder/file")), ("cut", lambda: open("file", "w").close())):
        try:
            work()
            done.append(name)
        except OSError:
            continue
    return {"done": done}


def raced(args: Args, workspace: str, settings: Args) -> Args:
    """Call ``fs.read`` or ``fs.write`` 1000 times on a path that somebody swaps."""
    from femtoclaw.claws import fs_read, fs_write
    from femtoclaw.claws.errors import ClawError

    os.fsync = lambda fd: None  # what is written is not meant to last, and the race is faster
    done = refused = reached = 0
    while done + refused < 1000:
        try:
            if args["write"]:
                fs_write.execute({"path": args["path"], "content": "mine", "mode": args["write"]}, workspace, settings)
            else:
                reached += "secret" in fs_read.execute({"path": args["path"]}, workspace, settings)["content"]
            done += 1
        except ClawError:
            refused += 1
    return {"done": done, "refused": refused, "reached": reached}
