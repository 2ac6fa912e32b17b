"""The twin: a home of the same program in the laboratory, with a policy under which everything that matters happens."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from femtoclaw.compliance.checking import CannotMeasureError
from femtoclaw.compliance.laboratory import Laboratory, end
from femtoclaw.home import Home

if TYPE_CHECKING:
    from femtoclaw.api.client import Client

READY_S = 30.0
_LOOK_S = 0.02

ENABLED = ("fs.read", "fs.list", "fs.write", "shell", "system.info")
"""``process.list`` and ``web.get`` stay as a claw begins: disabled."""

BINARIES = ("/bin/sh", "/bin/sleep", "/bin/echo", "/bin/cat")

POLICY = """\
@id("look") permit (principal, action in [Action::"fs.read", Action::"fs.list", Action::"system.info"], resource);
@id("write") permit (principal, action == Action::"fs.write", resource) when { context.path like "out/*" };
@id("asked") @approvals("1") permit (principal, action == Action::"fs.write", resource) when { context.path like "held/*" };
@id("echo") permit (principal, action == Action::"shell", resource)
when { ["/bin/echo", "/bin/sleep"].contains(context.binary) };
@id("reach-out") @accepts("outside_path") permit (principal, action == Action::"shell", resource)
when { context.binary == "/bin/cat" };
@id("attack") @accepts("inline_code,runs_file,runs_program,loads_code,outside_path,writes_option")
permit (principal, action == Action::"shell", resource)
when { context.binary == "/bin/sh" && context.command like "*twin-attack*" };
@id("secrets") forbid (principal, action, resource) when {
  context has path && (context.path like "*.env*" || context.path like "*.key" || context.path like "*.pem"
  || context.path like "*.ssh*" || context.path like "*.netrc" || context.path like "*credentials*")
};
"""


def twin(laboratory: Laboratory) -> str:
    """A fresh twin's home, made once. Raises CannotMeasureError when ``init`` does not do it."""
    policy = os.path.join(laboratory.folder, "twin.cedar")
    with open(policy, "w") as file:
        file.write(POLICY)
    home = laboratory.place("twin")
    words = [word for name in ENABLED for word in ("--enable", name)]
    words += [word for path in BINARIES if os.path.exists(path) for word in ("--binary", path)]
    answer = laboratory.run(home, "init", *words, "--policy", policy)
    if answer.code:
        raise CannotMeasureError(f"no twin could be made: {answer.stderr[-300:]}")
    workspace = os.path.join(home, "workspace")
    for folder in ("out", "held"):
        os.mkdir(os.path.join(workspace, folder))
    for name in ("notes.txt", "a", "prod.env", "a.key"):
        with open(os.path.join(workspace, name), "w") as file:
            file.write("Ship on Friday.\n")
    os.symlink(os.path.join(home, "keys", "node.key"), os.path.join(workspace, "link"))
    return home


class Serving:
    """A twin that is served by a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], client: Client) -> None:
        self.process = process
        self.client = client


@contextlib.contextmanager
def serving(laboratory: Laboratory, home: str, **variables: str) -> Iterator[Serving]:
    """Serve a twin and connect to it; whoever does not stop it in order has it killed. Raises CannotMeasureError when it
    does not come up."""
    from cluster.transport import load_grpc
    from femtoclaw.api.client import connect
    from femtoclaw.api.socket import is_served

    load_grpc()
    process = laboratory.begin(home, "serve", **variables)
    try:
        limit = time.monotonic() + READY_S
        while not is_served(Home(home)):
            if process.poll() is not None or time.monotonic() > limit:
                raise CannotMeasureError("`femtoclaw serve` of a twin did not come up")
            time.sleep(_LOOK_S)
        with connect(Home(home)) as client:
            yield Serving(process, client)
    finally:
        if process.poll() is None:
            end(process, signal.SIGKILL)


def call(tool: str, **args: Any) -> bytes:
    """A tool call as a brain says it."""
    return json.dumps({"tool_call": {"tool": tool, "args": args}}).encode()


def say(text: str) -> bytes:
    """A message as a brain says it."""
    return json.dumps({"message": {"content": text}}).encode()
