"""The claw's own process: from its fork, through the layers, to the claw's code and its answer.

The first byte of what it answers is not the claw's: 0 when every layer is in force, else the number of the step that
failed, counted from 1, and then no code of the claw has run.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
import os
import signal
from typing import Any, NamedTuple, NoReturn

from femtoclaw.claws.errors import ClawError
from femtoclaw.isolation import confine, kernel, loading, reach, wire
from femtoclaw.isolation.confine import close_descriptors
from femtoclaw.isolation.probe import Granted

ASKING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ignored by server and supervisors, which end when their sockets do; a claw has them as any process."""


_REHEARSED = {
    "entry": "a:b",
    "args": {"path": "x"},
    "workspace": "/",
    "settings": {},
    "permissions": ["workspace.read"],
}


NAME = b"femtoclaw-claw"
"""What the process is called in ``/proc`` once it has a call; before that, as its supervisor."""


class Given(NamedTuple):
    """What the process has from its supervisor: what the kernel grants, what every claw may reach, its temporary folder,
    the pipe that brings the request and the one for the answer, a descriptor of ``/proc``, and
    those of the claw's permissions that are known already."""

    granted: Granted
    rules: reach.Rules
    folder: str
    taking: int
    writing: int
    proc: int
    kind: frozenset[str]


def main(given: Given) -> NoReturn:
    """Wait for a request, run it, answer, end."""
    code = 0
    try:
        try:
            _serve(given)
        except confine.LayerError as error:
            wire.write_all(given.writing, bytes([error.index + 1]))
            code = 71
    except BaseException:
        code = 70
    finally:
        os._exit(code)


def _serve(given: Given) -> None:
    for number in ASKING_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    close_descriptors({given.taking, given.writing, given.proc})
    memory = loading.memory()  # the filter lets nobody make any
    failed: confine.LayerError | None = None
    ruleset = -1
    try:
        early = confine.Early(given.granted, given.writing, given.proc, given.rules, given.kind)
        ruleset = confine.before_request(early)
    except confine.LayerError as error:  # told when there is somebody to tell
        failed = error
    _rehearse()
    told = wire.read_message(given.taking, wire.REQUEST_BYTES_MAX, None)
    raw = None if told is None else wire.read_bytes(given.taking, wire.REQUEST_BYTES_MAX, None)
    os.close(given.taking)
    if told is None or raw is None:
        return  # no call came
    kernel.call_itself(NAME)
    if failed is not None:
        raise failed
    request = wire.decode(raw)
    prepared = _prepared(request, memory)
    permissions = frozenset(request.get("permissions", ()))
    rules = [(given.folder, reach.TEMPORARY), *reach.asked(request, permissions)]
    sandbox = confine.Sandbox(given.granted, request["limits"], permissions, rules, told["processes"], ruleset)
    os.chdir(request["workspace"])
    confine.after_request(sandbox)
    os.environ["TMPDIR"] = given.folder
    wire.write_all(given.writing, b"\0")
    answer = _answer(prepared, request)
    wire.write_all(given.writing, json.dumps(answer | _stages(prepared)).encode())


def _prepared(request: dict[str, Any], memory: int) -> Any:
    """What ``loading.prepare`` returns, or what it raised, which is told as what the claw itself raises: from the confined
    process. Nobody but a native module keeps ``memory``."""
    found: Any
    try:
        found = loading.prepare(request)
        if found.kind == "native":
            return found._replace(memory=memory)
    except Exception as error:
        found = error
    if memory >= 0:
        os.close(memory)
    return found


def _rehearse() -> None:
    """Do once what the request will need: a forked process pays for the first touch of every page of its memory, and
    nobody waits yet."""
    request = json.loads(json.dumps(_REHEARSED))
    loading.prepare(request)
    reach.asked(request, frozenset(request["permissions"]))
    _answer(ClawError(""), request)


def _answer(prepared: Any, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"result": _called(prepared, request)}
    except ClawError as error:
        return {"error": {"class": error.kind, "message": str(error)}}
    except MemoryError:
        return {"error": {"class": "EnvironmentError", "message": "memory limit reached"}}
    except Exception as error:  # a claw's defect is a result, told without a traceback
        return {"error": {"class": "ExecutionError", "message": f"the claw failed: {type(error).__name__}"}}


def _stages(prepared: Any) -> dict[str, Any]:
    """The stages that the life of an installed module came to, for the answer; nothing for the program's own claws."""
    if not getattr(prepared, "kind", ""):
        return {}
    from femtoclaw.isolation.stages import reached

    return {"stages": reached()}


def _called(prepared: Any, request: dict[str, Any]) -> dict[str, Any]:
    if isinstance(prepared, Exception):
        raise prepared
    if request.get("secrets"):
        from femtoclaw.sdk.granted import GRANTED

        GRANTED.update(request["secrets"])
    return loading.load(prepared)(request["args"], request["workspace"], request["settings"])
