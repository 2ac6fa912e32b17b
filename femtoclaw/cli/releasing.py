"""``release``: build, verify, deploy, rollback, list; ``finish`` is what a deployment has the new release record."""

from __future__ import annotations

import os
from typing import Any

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, printable, program, when
from femtoclaw.errors import ConfigurationError, SecurityError, UsageError
from femtoclaw.home import Home, locate, require

TYPE_CHECKING = False
if TYPE_CHECKING:
    from femtoclaw.releases.deploying import Work
    from femtoclaw.releases.installation import Installation
    from femtoclaw.releases.statement import Release

INSTALLATION_VARIABLE = "FEMTOCLAW_INSTALLATION"
FINISH_BYTES_MAX = 65_536
WITH_FILE = ("verify", "deploy", "repair")


def release(arguments: Arguments, output: Output) -> int:
    """One of the commands below, by its word."""
    acts = {
        "build": _build,
        "verify": _verify,
        "deploy": _deploy,
        "rollback": _rollback,
        "list": _list,
        "prune": _prune,
        "repair": _repair,
        "finish": _finish,
    }
    what = arguments.what
    if (what in WITH_FILE) != (arguments.file is not None):
        wanted = "a FILE" if what in WITH_FILE else "nothing more"
        raise UsageError("wrong number of words", where=f"femtoclaw release {what}", expected=wanted)
    return acts[what](arguments, output)


def _build(arguments: Arguments, output: Output) -> int:
    """Write a release; equal inputs give equal bytes."""
    from femtoclaw.distribution import ROOT
    from femtoclaw.key_file import open_key, read_key_file, stated_key
    from femtoclaw.passphrase import operator_passphrase
    from femtoclaw.releases.building import build, own_versions

    if not arguments.out or not arguments.key:
        raise UsageError("a release needs a file and a key", where="release build", expected="--out FILE --key KEYFILE")
    raw = read_key_file(arguments.key)
    signer = open_key(raw, arguments.key, operator_passphrase, stated_key(raw, arguments.key))
    place = os.path.abspath(getattr(arguments, "from") or ROOT)
    made = build(place, arguments.out, signer, own_versions(), counter=arguments.counter, floor=arguments.floor)
    body = {"file": made.path, "digest": made.digest, "key": signer.public.vkey()} | _described(made.release)
    output.data(body)
    output.line(f"release {made.release.program} in {made.path}", "green")
    output.fields([(name, body[name]) for name in ("digest", "distribution", "counter", "floor", "files", "key")])
    output.line(f"check it anywhere with: {program()} release verify {made.path} --key {signer.public.vkey()}")
    return 0


def _described(release: Release) -> dict[str, Any]:
    return {
        "program": release.program, "counter": release.counter, "floor": release.floor, "interpreter": release.python,
        "distribution": release.distribution, "files": len(release.files),
    }  # fmt: skip


def _verify(arguments: Arguments, output: Output) -> int:
    """0 when the release is whole and by the key; raises ReleaseRefusedError (exit 3) when it is not."""
    from femtoclaw.releases.bundle import OpenRelease

    if not arguments.key:
        raise UsageError("whose release is it?", where="release verify", expected="--key KEY")
    with OpenRelease(arguments.file) as opened:
        found, anchor = opened.check([_key(arguments.key)], _revoked(arguments))
        for _ in opened.files(found):
            pass
        digest = opened.digest()
    output.data({"ok": True, "file": arguments.file, "digest": digest, "key": anchor} | _described(found))
    output.line(f"ok: release {found.program}, {len(found.files)} files, signed by {anchor.partition('+')[0]}", "green")
    output.fields(
        [("digest", digest), ("distribution", found.distribution), ("counter", found.counter), ("floor", found.floor)]
    )
    return 0


def _key(given: str) -> str:
    """A public key: the name of a file with one, or the key itself. Raises ConfigurationError."""
    from femtoclaw.home import read_bounded
    from femtoclaw.releases.bundle import identity

    text = (
        given
        if "+" in given and not os.path.exists(given)
        else read_bounded(given, 4096).decode("ascii", "replace").strip()
    )
    identity(text)
    return text


def _revoked(arguments: Arguments) -> tuple[str, ...]:
    """The keys that the home revoked, where there is one."""
    from femtoclaw.distribution import trusted

    pin = trusted(locate(getattr(arguments, "home", None)))
    return pin.revoked if pin is not None else ()


def _deploy(arguments: Arguments, output: Output) -> int:
    """Put a release in use; 0 when it works."""
    from femtoclaw.releases.deploying import deploy

    work = _work(arguments, output)
    keys = _trusted_keys(work.home, arguments)
    if arguments.dry_run:
        return _try(work, arguments.file, keys, output)
    return _tell_in_use(deploy(work, arguments.file, keys), work, output)


def _trusted_keys(home: Home, arguments: Arguments) -> list[str]:
    """The key that the operator names, else the one that vouches for what runs now. Raises UsageError for neither."""
    from femtoclaw.distribution import trusted

    pin = trusted(home)
    if arguments.key:
        return [_key(arguments.key)]
    if pin is None or pin.state != "sealed":
        raise UsageError(
            "whose release is it?", where="release deploy", expected="--key KEY: this home trusts none yet"
        )
    return [pin.key]


def _try(work: Work, path: str, keys: list[str], output: Output) -> int:
    """Only say whether it could be deployed."""
    from femtoclaw.cli.recorded_state import recorded_state
    from femtoclaw.distribution import trusted
    from femtoclaw.launcher.start import interpreter
    from femtoclaw.releases.building import own_versions
    from femtoclaw.releases.bundle import OpenRelease
    from femtoclaw.releases.deploying import refuse_older
    from femtoclaw.releases.fitting import RULES, changed_claws, check_fit, kinds_of, require_asked
    from femtoclaw.releases.history import used_events
    from femtoclaw.version import VERSION
    from wal.genesis import FORMAT

    pin, node = trusted(work.home), recorded_state(work.home).node
    with OpenRelease(path) as opened:
        found, _ = opened.check(keys, pin.revoked if pin is not None else ())
        refuse_older(found, pin.floor if pin is not None else 0, path)
        check_fit(found, node, interpreter(), FORMAT, used_events(work.home))
        for _ in opened.files(found):
            pass
    kinds = kinds_of(found, VERSION, own_versions())
    require_asked(kinds, work.major)
    changed = changed_claws(found, node)
    rules = {kind: RULES[kind] for kind in kinds}
    output.data({"would_deploy": True, "from": VERSION, "kinds": rules, "changed_claws": changed} | _described(found))
    output.line(f"release {found.program} fits this node; nothing was changed", "green")
    output.fields(list(rules.items()))
    for name in changed:
        output.note(f"claw {name} has another manifest in it: look at what it asks for")
    return 0


def _rollback(arguments: Arguments, output: Output) -> int:
    """Put the newest earlier release that was good in use again; 0 when it works."""
    from femtoclaw.releases.deploying import earlier, roll_back

    work = _work(arguments, output)
    if arguments.dry_run:
        target = earlier(work)
        output.data({"would_roll_back_to": target.name, "digest": target.digest})
        output.line(f"would go back to {target.name}; nothing was changed", "green")
        return 0
    return _tell_in_use(roll_back(work), work, output)


def _repair(arguments: Arguments, output: Output) -> int:
    """The launcher of an installed release does this before anything else runs: whoever comes here is none."""
    from femtoclaw.distribution import ROOT

    raise UsageError(
        "the installed release repairs itself", where="release repair", found=f"the program in {ROOT}",
        expected="ROOT/femtoclaw --home HOME release repair FILE, with nothing else before these words",
    )  # fmt: skip


def _prune(arguments: Arguments, output: Output) -> int:
    """Remove what is neither in use nor what `release rollback` would take; on record as the procedure release.deploy."""
    from femtoclaw.releases.deploying import DEPLOY, NoReleaseError, earlier
    from femtoclaw.releases.pruning import prune

    work = _work(arguments, output)
    try:
        stay = {earlier(work).name}
    except NoReleaseError:
        stay = set()
    pruned = prune(work.installation, stay, dry_run=True)
    if not arguments.dry_run:
        work.record.begin(DEPLOY, "prune", "")
        told = f"pruned: {len(pruned.removed)} went, {len(pruned.kept)} releases are kept"
        try:
            prune(work.installation, stay)
        except BaseException as error:
            work.record.end("failed", type(error).__name__, {"kept": pruned.kept})
            raise
        work.record.end("done", told, {"pruned": pruned.removed[:100], "bytes": pruned.size, "kept": pruned.kept})
    output.data({"root": work.installation.root, "dry_run": arguments.dry_run} | pruned._asdict())
    verb = "would go" if arguments.dry_run else "went"
    output.line(
        f"{len(pruned.removed)} folders {verb}, {pruned.size} bytes; {len(pruned.kept)} releases are kept", "green"
    )
    return 0


def _tell_in_use(content: dict[str, Any], work: Work, output: Output) -> int:
    installed, downtime = content["installed"], content["downtime_ms"]
    output.data(content | {"starter": work.installation.starter})
    output.line(f"in use: {installed['name']}", "green")
    output.fields([
        ("before", content["before"] or "no release"), ("steps", ", ".join(content["steps"])),
        ("downtime", "not served" if downtime is None else f"{downtime} ms"), ("start it with", work.installation.starter),
    ])  # fmt: skip
    return 0


def _list(arguments: Arguments, output: Output) -> int:
    """The releases that are unpacked, and which of them were good."""
    from femtoclaw.distribution import trusted
    from femtoclaw.releases.history import deployments

    home = locate(getattr(arguments, "home", None))
    require(home)
    installation = _installation(arguments)
    history, pin, current = deployments(home), trusted(home), installation.current()
    good = {entry.name for entry in history}
    rows = [{"name": name, "current": name == current, "good": name in good} for name in installation.names()]
    floor = pin.floor if pin is not None else 0
    unsettled = pin is not None and pin.also is not None
    output.data({"root": installation.root, "current": current, "releases": rows, "floor": floor, "unsettled": unsettled,
                 "history": [entry._asdict() for entry in history]})  # fmt: skip
    for row in rows:
        marks = [word for word, holds in (("in use", row["current"]), ("good", row["good"])) if holds]
        output.line(f"{row['name']}  {', '.join(marks) or 'never in use'}", "bold" if row["current"] else "")
    for entry in history:
        output.line(
            f"  {when(entry.time_ns)}  {entry.procedure}  {entry.name}  by {printable(entry.operator)}  index {entry.record}"
        )
    if unsettled:
        output.note("a deployment was cut: two distributions may start. Deploy the release again, or roll back")
    if not rows:
        output.line(f"no release is installed in {installation.root}")
    return 0


def _finish(arguments: Arguments, output: Output) -> int:
    """What `release deploy` has the new release do: record, by the operator's key, that it is in use, and trust it alone."""
    import json
    import sys

    from femtoclaw.cli.release_record import OperatorRecord
    from femtoclaw.distribution import integrity, trust_only
    from femtoclaw.keys import load_signer

    home = locate(getattr(arguments, "home", None))
    require(home)
    raw = sys.stdin.buffer.read(FINISH_BYTES_MAX + 1) if sys.stdin is not None else b""
    try:
        told = json.loads(raw) if len(raw) <= FINISH_BYTES_MAX else {}
        installed = told["content"]["installed"]
        record = OperatorRecord(arguments, output, told["action"], told["resource"], told["id"])
        detail = str(told["detail"])
    except (ValueError, KeyError, TypeError):
        raise UsageError("this is for `release deploy` alone", where="release finish", expected="its JSON") from None
    found = integrity()
    if (found.digest, found.anchor) != (installed["digest"], installed["key"]):
        raise SecurityError(
            "only the release itself says that it is in use", where="release finish", expected=installed["digest"],
            found=found.digest or "a process that nothing verified",
        )  # fmt: skip
    record.end("done", detail, told["content"])
    trust_only(home, installed["digest"], installed["key"], int(installed["floor"]), load_signer(home))
    output.data({"finished": installed["name"]})
    return 0


def _work(arguments: Arguments, output: Output) -> Work:
    from femtoclaw.cli.release_record import OperatorRecord
    from femtoclaw.cluster_home import is_member
    from femtoclaw.releases.deploying import Work

    home = locate(getattr(arguments, "home", None))
    require(home)
    if is_member(home):
        raise ConfigurationError(
            "this machine is a member of a cluster", where=home.path, expected="a node of its own",
            remedy="members are upgraded one by one: stop this one, install the program, `femtoclaw distribution accept`, start it",
        )  # fmt: skip
    return Work(
        home,
        _installation(arguments),
        OperatorRecord(arguments, output),
        output.note,
        float(arguments.wait),
        arguments.major,
    )


def _installation(arguments: Arguments) -> Installation:
    """Where releases are: as it is said, or where the program that runs is. Raises UsageError."""
    from femtoclaw.distribution import ROOT
    from femtoclaw.releases.installation import Installation, running_in

    root = arguments.root or os.environ.get(INSTALLATION_VARIABLE) or running_in(ROOT)
    if not root:
        raise UsageError(
            "where are releases installed?", where=f"release {arguments.what}",
            expected=f"--root DIR or {INSTALLATION_VARIABLE}, as the program that runs is none",
        )  # fmt: skip
    return Installation(root)
