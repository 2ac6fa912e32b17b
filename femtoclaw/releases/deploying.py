"""Putting a release in use, and going back, as procedures: each step named, nothing of the node touched before all checks hold.

    begin (authorized, on record) - signature - fit - state kept - unpacked beside - home trusts both - switched
    - restarted - checked at work - end on record - home trusts the new one only

What fails before the switch leaves everything as it was; what fails after it switches back by itself. The end of a deployment that
succeeded is recorded by the new release: the log may hold by then what only that one reads.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from femtoclaw import distribution
from femtoclaw.errors import FemtoClawError
from femtoclaw.home import Home
from femtoclaw.keys import load_signer
from femtoclaw.launcher.start import interpreter
from femtoclaw.releases import checking, restarting
from femtoclaw.releases.building import own_versions
from femtoclaw.releases.bundle import OpenRelease
from femtoclaw.releases.fitting import changed_claws, check_fit, kinds_of, require_asked
from femtoclaw.releases.history import Entry, cut_rollback, deployments, used_events
from femtoclaw.releases.installation import Installation, name_of
from femtoclaw.releases.keeping import drop_state, keep_state, size_of
from femtoclaw.releases.refusal import ReleaseRefusedError
from femtoclaw.releases.statement import Release
from femtoclaw.state import Node
from femtoclaw.version import VERSION
from wal.genesis import FORMAT

DEPLOY, ROLLBACK = "release.deploy", "release.rollback"


class ReleaseFailedError(FemtoClawError):
    """The release did not do its work; what was in use before is in use again."""

    code = "RELEASE_FAILED"
    exit_code = 1
    default_remedy = "see what the checks found; the release before is in use"


class NoReleaseError(FemtoClawError):
    """There is no release to go back to."""

    code = "NO_EARLIER_RELEASE"
    exit_code = 1
    default_remedy = "see `femtoclaw release list`; nothing was changed"


class Record(Protocol):
    """How the begin and the end of a procedure come on record, in whatever state the node is."""

    def begin(self, action: str, resource: str, digest: str) -> Node:
        """Ask and record; the node as it is recorded. Raises ProcedureRefusedError."""

    def end(self, result: str, detail: str, content: dict[str, Any]) -> None:
        """Record the end, by this program."""

    def end_by(self, starter: str, content: dict[str, Any], detail: str) -> bool:
        """Have the release that ``starter`` runs record that it is in use; whether it did."""


class Work(NamedTuple):
    """What a deployment works on. ``say`` tells a person; ``wait_s`` is how long a served node may be away."""

    home: Home
    installation: Installation
    record: Record
    say: Callable[[str], None]
    wait_s: float
    major: bool


def deploy(work: Work, path: str, keys: Sequence[str]) -> dict[str, Any]:
    """Put the release in the file ``path`` in use; what is said of it. ``keys`` are trusted to have signed it.

    Raises ProcedureRefusedError, ReleaseRefusedError, IncompatibleReleaseError (nothing was touched), ReleaseFailedError (what
    was before is in use again), UnavailableError.
    """
    with OpenRelease(path) as opened:
        digest = opened.digest()
        node = work.record.begin(DEPLOY, f"release:{digest[:32]}", digest)
        content: dict[str, Any] = {"file": digest, "steps": []}
        steps: list[str] = content["steps"]
        try:
            pin = distribution.trusted(work.home)
            release, anchor = opened.check(keys, pin.revoked if pin is not None else ())
            steps.append("signature")
            refuse_older(release, pin.floor if pin is not None else 0, path)
            check_fit(release, node, interpreter(), FORMAT, used_events(work.home))
            kinds = kinds_of(release, VERSION, own_versions())
            require_asked(kinds, work.major)
            work.installation.check_room(release, size_of(work.home))
            steps.append("fit")
            content |= {"kinds": list(kinds), "from": VERSION, "to": release.program}
            content |= {"changed_claws": changed_claws(release, node)}
            kept = keep_state(work.home, work.installation.root, name_of(release))
            content |= {"kept": {"digest": kept.digest, "size": kept.size, "root": kept.root}}
            work.say(f"state kept in {kept.folder}")
            steps.append("kept")
            name = _unpacked(work, opened, release, kept.folder)
            steps.append("unpacked")
            _put_in_use(work, name, release, anchor, content)
        except BaseException as error:
            _tell_failed(work, error, content)
            raise
    return content


def roll_back(work: Work) -> dict[str, Any]:
    """Put the newest release in use that was in use before the present one, and was good. Raises as ``deploy``, NoReleaseError."""
    target = earlier(work)
    node = work.record.begin(ROLLBACK, f"release:{target.name}", target.digest)
    content: dict[str, Any] = {"steps": []}
    try:
        pin = distribution.trusted(work.home)
        release, anchor = work.installation.check(target.name, [target.key], pin.revoked if pin is not None else ())
        content["steps"].append("signature")
        refuse_older(release, pin.floor if pin is not None else 0, work.installation.folder(target.name))
        check_fit(release, node, interpreter(), FORMAT, used_events(work.home))
        content["steps"].append("fit")
        _put_in_use(work, target.name, release, anchor, content)
    except BaseException as error:
        _tell_failed(work, error, content)
        raise
    return content


def refuse_older(release: Release, floor: int, where: str) -> None:
    """Raise ReleaseRefusedError(ROLLBACK) for a release below the floor, which never falls."""
    if release.counter < floor:
        raise ReleaseRefusedError("ROLLBACK", where=where, expected=f"counter {floor} or more", found=release.counter)


def earlier(work: Work) -> Entry:
    """What was in use before the release that is in use, and is still there: a deployment comes on top, a rollback takes off
    again. A rollback that was cut is finished: what it had put in use already is no reason to leave it. Raises NoReleaseError."""
    there, stack = work.installation.names(), list[Entry]()
    for entry in deployments(work.home):
        if entry.procedure == DEPLOY:
            stack.append(entry)
            continue
        while stack and stack[-1].name != entry.name:
            stack.pop()
    current, cut = work.installation.current(), cut_rollback(work.home)
    for entry in reversed(stack):
        if (entry.name == cut if cut else entry.name != current) and entry.name in there:
            return entry
    raise NoReleaseError(
        "there is no release to go back to", where=work.installation.root, expected="an earlier one that was good",
        found=", ".join(there) or "none",
    )  # fmt: skip


def _unpacked(work: Work, opened: OpenRelease, release: Release, kept: str) -> str:
    """The name of the release, which is unpacked; where that fails, the state that was kept for it goes too."""
    try:
        return work.installation.unpack(opened, release, opened.note)
    except FemtoClawError:
        drop_state(kept)
        raise


def _put_in_use(work: Work, name: str, release: Release, anchor: str, content: dict[str, Any]) -> None:
    """Switch, restart, look, and record; back again when it does not work. Raises ReleaseFailedError."""
    home, installation = work.home, work.installation
    before, signer = installation.current(), load_signer(home)
    health_before = checking.own_health(home)
    distribution.trust_both(home, release.distribution, anchor, signer)
    content["steps"].append("trusted")
    content |= {"installed": {"name": name, "digest": release.distribution, "key": anchor, "program": release.program,
                              "counter": str(release.counter), "floor": str(release.floor)}, "before": before or ""}  # fmt: skip
    try:
        installation.switch(name)
        content["steps"].append("switched")
        content["downtime_ms"] = _restarted(work)
        content["steps"].append("restarted")
        checks = checking.check_work(installation.starter, home, release.distribution, health_before)
        content["checks"] = {check.name: check.detail or "ok" for check in checks}
        wrong = [f"{check.name}: {check.detail}" for check in checks if check.detail]
        if not wrong:
            content["steps"].append("checked")
            recorded = work.record.end_by(installation.starter, content, f"{before or 'nothing'} to {name}")
            wrong = [] if recorded else ["it could not record that it is in use"]
        if wrong:
            raise ReleaseFailedError("the release does not do its work", where=name, found="; ".join(wrong))
    except BaseException:
        installation.switch(before)
        content["back_downtime_ms"] = _restarted(work)
        distribution.trust_one_again(home, signer)
        content["steps"].append("switched back")
        raise


def _restarted(work: Work) -> int | None:
    """Milliseconds in which nobody answered; None when the node is not served."""
    served = restarting.server_of(work.home) is not None
    taken = restarting.restart(work.home, work.wait_s)
    if served and taken is None:
        work.say("nobody has started the node again: it is at rest")
    return round(taken) if taken is not None else None


def _tell_failed(work: Work, error: BaseException, content: dict[str, Any]) -> None:
    """Put the failure on record. Should that fail, the error that is told is the first one."""
    from contextlib import suppress

    from wal.errors import LogError

    content.pop("installed", None)
    refused = getattr(error, "refused", None) or getattr(error, "kind", None) or type(error).__name__
    content |= {"failure": str(refused)}
    what = getattr(error, "what", None)
    with suppress(FemtoClawError, LogError, OSError):
        work.record.end("failed", what if isinstance(what, str) else type(error).__name__, content)
