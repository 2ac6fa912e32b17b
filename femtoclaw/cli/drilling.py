"""``drill``: faults of the runbook, built in homes of their own and answered; what came of it, and on record when asked."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output
from femtoclaw.drills.catalogue import BY_NAME, KINDS
from femtoclaw.drills.drill import Drill, Kind
from femtoclaw.errors import ConfigurationError, FemtoClawError, UsageError
from femtoclaw.home import locate, require

ALL, LIST = "all", "list"


def drill(arguments: Arguments, output: Output) -> int:
    """Run the named drills, or all; 0 when each found what the runbook says, 1 otherwise."""
    names = arguments.names
    if names in ([], [LIST]):
        return _list(output)
    unknown = [name for name in names if name not in BY_NAME]
    if names != [ALL] and unknown:
        raise UsageError(
            "no such drill", where=f"drill {unknown[0]}", expected=", ".join([*BY_NAME, ALL, LIST]), found=unknown[0]
        )
    wanted = list(KINDS) if names == [ALL] else [BY_NAME[name] for name in names]
    if arguments.record:
        require(locate(getattr(arguments, "home", None)))  # not at the end of minutes
    with _stoppable():
        ended = [_one(kind, arguments.keep, output) for kind in wanted]
    body: dict[str, Any] = {"ok": all(each["ok"] for each in ended), "drills": ended}
    if arguments.record:
        body["recorded_at"] = _record(arguments, output, ended)
    output.data(body)
    output.line()
    failed = [each["name"] for each in ended if not each["ok"]]
    told = (
        f"FAILED: {', '.join(failed)}" if failed else f"{len(ended)} of {len(ended)} drills ended as the runbook says"
    )
    output.line(told, "red" if failed else "green")
    return 1 if failed else 0


def _list(output: Output) -> int:
    output.data({"drills": [{"name": each.name, "what": each.what, "section": each.section} for each in KINDS]})
    for each in KINDS:
        output.line(f"{each.name:<21} {each.what}; runbook: {each.section}")
    output.note("run one with `femtoclaw drill NAME`, all with `femtoclaw drill all`; none touches your home")
    return 0


def _one(kind: Kind, keep: str | None, output: Output) -> dict[str, Any]:
    """Run one drill in a folder of its own; how it ended."""
    output.line()
    output.line(f"{kind.name}: {kind.what}", "bold")
    began = time.monotonic()
    told: dict[str, Any] = {"name": kind.name, "section": kind.section, "ok": True}
    with _folder(kind.name, keep) as folder:
        under_way = Drill(kind.name, folder, output)
        try:
            kind.run(under_way)
        except FemtoClawError as error:
            told |= {"ok": False, "why": str(error)}
            output.line(f"     FAILED: {error}", "red")
        finally:
            under_way.end()
    told |= {"seconds": round(time.monotonic() - began, 2), "steps": under_way.steps}
    output.note(f"{kind.name}: {'ended as the runbook says' if told['ok'] else 'FAILED'}, {told['seconds']:.1f} s")
    return told


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """A drill that is asked to stop ends its processes and removes its homes, in which keys lie; then the command ends as one
    that the signal ended."""

    def stop(number: int, frame: object) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)  # cleaning up is not stopped half-way
        raise SystemExit(128 + number)

    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    for each in before:
        signal.signal(each, stop)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextlib.contextmanager
def _folder(name: str, keep: str | None) -> Iterator[str]:
    """A new folder for one drill, kept where --keep says. Raises ConfigurationError when that is taken."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix=f"femtoclaw-{name}-") as folder:
            yield folder
        return
    folder = os.path.join(os.path.abspath(keep), name)
    if os.path.lexists(folder):
        raise ConfigurationError("--keep needs a new directory", where=folder)
    os.makedirs(folder, 0o700)
    yield folder


def _record(arguments: Arguments, output: Output, ended: list[dict[str, Any]]) -> int:
    """Put what came of the drills on record in this home, as a procedure; the index of its end."""
    from femtoclaw.cli.asking import signer_of
    from femtoclaw.cli.execute import open_node
    from femtoclaw.control import load_cosigners
    from femtoclaw.procedures import procedure

    with open_node(getattr(arguments, "home", None), output) as node:
        cosigners = load_cosigners(node.started.home, arguments.cosign)
        names = " ".join(each["name"] for each in ended)
        with procedure(node.started, signer_of(node, arguments), "drill.run", names, cosigners=cosigners) as told:
            failed = [each["name"] for each in ended if not each["ok"]]
            told.result = "failed" if failed else "done"
            told.detail = f"failed: {', '.join(failed)}" if failed else f"{len(ended)} drills ended as the runbook says"
            told.content = {"drills": [{key: each[key] for key in ("name", "ok", "seconds")} for each in ended]}
    return told.ended
