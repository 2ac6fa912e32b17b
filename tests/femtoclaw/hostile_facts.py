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
