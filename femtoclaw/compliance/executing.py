"""Measurements of what is executed: claws in the real sandbox under a node in memory, and claws that fail as they are told."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from femtoclaw import config, events
from femtoclaw.claws import SHIPPED
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.simulation import SETTINGS, Remembering, Simulated
from femtoclaw.compliance.twin import call, say
from femtoclaw.errors import ConfigurationError
from femtoclaw.isolation import Isolation, Outcome
from femtoclaw.manifest import Manifest

ALL = """\
@id("all") @accepts("inline_code,runs_file,runs_program,loads_code,outside_path,writes_option")
permit (principal, action, resource);
"""
TIMEOUT_S = 1.0
RANDOM_BYTES = 5_000_000
_HANGS = str(61_000_000 + os.getpid())
"""Seconds that a hanging command asks for: a number that no other process of this machine has as an argument."""


def executed(laboratory: Laboratory) -> dict[str, Any]:
    """Real commands with output on both streams, statuses, signals, five megabytes, and one that ignores its end."""
    workspace = laboratory.place("workspace")
    os.mkdir(workspace, 0o700)
    raw = os.urandom(RANDOM_BYTES)
    for name, content in (("notes.txt", b"Ship on Friday.\n"), ("random", raw)):
        with open(os.path.join(workspace, name), "wb") as file:
            file.write(content)
    isolation = Isolation(workspace)
    node = Simulated(ALL, isolation=isolation, claws=[_bounded(each) for each in SHIPPED])
    try:
        found: dict[str, Any] = {name: _shell(node, *argv) for name, argv in _COMMANDS.items()}
        node.gate.close()
        isolation = Isolation(workspace)
        timed = Simulated(ALL, isolation=isolation, claws=[_bounded(each, TIMEOUT_S) for each in SHIPPED])
        return found | {"large": _large(timed, raw)} | {"hanging": _hanging(timed)}
    finally:
        isolation.close()


_COMMANDS = {
    "both streams": ("/bin/cat", "notes.txt", "nothing"), "exit 3": ("/bin/sh", "-c", "echo out; echo err >&2; exit 3"),
    "signal": ("/bin/sh", "-c", "kill -9 $$"), "outside": ("/bin/cat", "/etc/shadow"),
}  # fmt: skip


def _bounded(manifest: Manifest, wall_seconds: float = 20.0) -> Manifest:
    return manifest._replace(limits=manifest.limits._replace(wall_seconds=wall_seconds))


def _shell(node: Simulated, *argv: str) -> dict[str, Any]:
    step = node.runtime.intent(call("shell", bin=argv[0], argv=list(argv[1:])))
    return (step.result or {}) | {"decision": step.decision, "event": _finished(node)}


def _finished(node: Simulated) -> dict[str, Any]:
    """The newest result on record, with the times of its start and its end."""
    told = [(batch, each) for batch in node.recorded for each in batch.events]
    ended = [(batch, each) for batch, each in told if isinstance(each, events.ExecutionFinished)]
    if not ended:
        return {}
    batch, event = ended[-1]
    last = batch.receipt.first
    started = [each.receipt.last for each, event in told if isinstance(event, events.ExecutionStarted)][-1]
    times = [node.log.read(index).time_ns for index in (started, last)]
    fields = ("status", "exit_status", "duration_ns", "original_bytes", "kept_bytes", "output_digest")
    return {name: getattr(event, name) for name in fields} | {"times": times}


def _large(node: Simulated, raw: bytes) -> dict[str, Any]:
    """A file of random bytes, read in two halves, and printed by a command whose output is cut."""
    from wal.blob import read_blob

    half, content = len(raw) // 2, b""
    for offset in (0, half):
        step = node.runtime.intent(call("fs.read", path="random", offset=offset, length=half))
        body = step.result or {}
        if "blob" in body:
            content += base64.b64decode(json.loads(read_blob(node.storage, body["blob"]) or b"{}")["content_base64"])
    cut = _shell(node, "/bin/cat", "random")
    result = cut.get("result") or json.loads(read_blob(node.storage, cut.get("blob", "")) or b"{}")
    return {
        "bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest(), "read": hashlib.sha256(content).hexdigest(),
        "cut": {name: result.get(f"stdout_{name}") for name in ("truncated", "bytes", "kept_bytes", "sha256")},
        "event": cut["event"],
    }  # fmt: skip


def _hanging(node: Simulated) -> dict[str, Any]:
    """A command that ignores SIGTERM, with a process of its own below it."""
    begun = time.monotonic()
    step = node.runtime.intent(
        call("shell", bin="/bin/sh", argv=["-c", f'trap "" TERM; /bin/sleep {_HANGS} & /bin/sleep {_HANGS}'])
    )
    seconds = time.monotonic() - begun
    left = _running(_HANGS)
    after = node.runtime.intent(call("fs.read", path="notes.txt"))
    return {
        "outcome": step.outcome,
        "seconds": seconds,
        "left": left,
        "after": after.outcome,
        "event": _finished_before(node),
    }


def _finished_before(node: Simulated) -> str:
    told = [each for batch in node.recorded for each in batch.events if isinstance(each, events.ExecutionFinished)]
    return told[-2].status


def _running(word: str) -> list[str]:
    """Processes of this machine that have this argument."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    if word.encode() in file.read().split(b"\0"):
                        found.append(name)
            except OSError:
                continue
    return found


MARKER = "MARKER-of-an-exception"


class Failing:
    """Stands where the sandbox stands: fails with a marker in its words, as often as it is told."""

    def __init__(self, times: int) -> None:
        self.left = times

    def run(
        self, manifest: Manifest, args: dict[str, Any], settings: dict[str, Any], *, idempotency_key: str = "",
        secrets: Mapping[str, str] = MappingProxyType({}),
    ) -> Outcome:  # fmt: skip
        """An error first, an exception of the isolation itself next, then results."""
        self.left -= 1
        if self.left == 0:
            raise RuntimeError(MARKER)
        if self.left > 0:
            told = {"class": "ExecutionError", "message": f"{MARKER}: Traceback (most recent call last)"}
            return Outcome("crashed", None, told, 1, 1000, 2000, 0, 0, "")
        return Outcome("success", {"done": True}, None, 0, 1000, 2000, 8, 8, "")

    def layers(self) -> dict[str, str]:
        """None."""
        return {}

    def close(self) -> None:
        """Nothing to stop."""


RETRIES = ("retry", "retries", "retry_max", "retry_policy", "attempts")


def retried(laboratory: Laboratory) -> dict[str, Any]:
    """A brain that asks again after a capability failed: what it was shown, and what was judged each time."""
    node = Simulated(ALL, isolation=Failing(2))
    brain = Remembering([call("fs.read", path="notes.txt")] * 3 + [say("done")])
    result = node.runtime.run("go", brain, source="comply", agent="operator")
    shown = [turn.content for context in brain.contexts for turn in context.turns]
    told = [each for batch in node.recorded for each in batch.events]
    judged = {
        kind.__name__: [each.execution_id for each in told if isinstance(each, kind)]
        for kind in (events.ProtocolValidated, events.AuthorizationDecided, events.ExecutionStarted)
    }
    refused = {}
    for key in RETRIES:
        try:
            config.resolve(SETTINGS | {"runtime": {key: 3}}, "a file", None)
            refused[key] = ""
        except ConfigurationError as error:
            refused[key] = error.what
    return {
        "outcomes": [step.outcome for step in result.steps], "shown": shown, "contexts": len(brain.contexts),
        "judged": judged, "refused": refused,
    }  # fmt: skip
