"""``backup``: a node's backups: keygen, create, list, verify, restore, resume, prune."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from femtoclaw.cli.backup_previews import listed, would_create, would_restore
from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, when
from femtoclaw.errors import ConfigurationError, UsageError
from femtoclaw.home import Home, locate, require

if TYPE_CHECKING:
    from cluster.archive import ArchiveStore
    from femtoclaw.backup.creating import Created
    from femtoclaw.backup.place import Kept
    from femtoclaw.backup.rebuilding import Until
    from femtoclaw.backup.recovery_key import RecoveryKey
    from wal.note import PublicKey

_NEEDS = {
    "keygen": (), "create": ("to",), "list": ("from",), "verify": ("from",), "restore": ("from", "to", "key"),
    "resume": (), "prune": ("from", "keep"),
}  # fmt: skip


def backup(arguments: Arguments, output: Output) -> int:
    """0 done, 1 refused, 2 usage, 3 a backup that is not what was signed (nothing was written), 4 unavailable."""
    from femtoclaw.backup.place import as_place
    from femtoclaw.cli.backup_keys import keygen
    from femtoclaw.cli.backup_resuming import resume

    acts = {
        "keygen": keygen, "create": _create, "list": _list, "verify": _verify, "restore": _restore, "resume": resume,
        "prune": _prune,
    }  # fmt: skip
    for name in _NEEDS[arguments.what]:
        if getattr(arguments, name) is None:
            raise UsageError(f"backup {arguments.what} needs --{name}", where="backup")
    with as_place():
        return acts[arguments.what](arguments, output)


def _store(arguments: Arguments, target: str, *, create: bool = False) -> ArchiveStore:
    from cluster.archive import open_archive

    return open_archive(target, endpoint=arguments.endpoint, create=create)


def _create(arguments: Arguments, output: Output) -> int:
    """One backup, on record as the procedure backup.create."""
    from femtoclaw.backup.creating import create
    from femtoclaw.backup.on_record import remember
    from femtoclaw.backup.place import alone, as_place
    from femtoclaw.cli.asking import signer_of
    from femtoclaw.cli.execute import open_node
    from femtoclaw.control import load_cosigners
    from femtoclaw.goals import reading
    from femtoclaw.keys import load_public_key
    from femtoclaw.procedures import procedure

    home = locate(getattr(arguments, "home", None))
    require(home)
    recovery = _recovery_public(arguments, home, load_public_key(home.public_key_file))
    _refuse_inside(home, arguments.to)
    if arguments.dry_run:
        return would_create(home, recovery, arguments, output)
    store = _store(arguments, arguments.to, create=True)
    try:
        with open_node(getattr(arguments, "home", None), output) as node, alone(store):
            started = node.started
            recovery = _recovery_public(arguments, home, started.signer.public)
            cosigners = load_cosigners(home, arguments.cosign)
            who = signer_of(node, arguments)
            with (
                procedure(started, who, "backup.create", home.path, cosigners=cosigners) as told,
                reading(started) as reader,
                as_place(),
            ):
                created = create(
                    store, home, reader, started.signer, recovery, started.sources,
                    told=lambda index: output.progress(f"backed up to {index} ..."),
                )  # fmt: skip
                told.content = _recorded(created, store.name)
                told.detail = f"{created.manifest.size} records, backup {created.manifest.id}"
            remember(home, told.ended)
    finally:
        store.close()
    output.progress("")
    body = {"place": store.name, "procedure": told.id, "goals": told.goals, "recorded_at": told.ended} | _shown(created)
    output.data(body)
    manifest = created.manifest
    output.line(f"backup {manifest.id} of {manifest.size} records", "green")
    output.fields([
        ("log", manifest.log_id), ("root", manifest.root), ("state", manifest.state_hash), ("manifest", created.digest),
        ("recovery key", manifest.recovery_key),
        ("objects", f"{created.objects}, {created.new_objects} of them new ({created.new_bytes} bytes)"),
        ("read again", f"{created.checked} objects of earlier backups"),
        *((part, f"{manifest.parts[part].count}  {manifest.parts[part].digest}") for part in manifest.parts),
    ])  # fmt: skip
    for name in created.damaged:
        output.note(f"{name} is altered or missing: this backup has it anew, earlier ones that need it are not whole")
    return 0


def _recovery_public(arguments: Arguments, home: Home, known: PublicKey) -> PublicKey:
    """The recovery key in force; ``known`` is the node's key. Raises ConfigurationError, also for a --key that is another."""
    from femtoclaw.backup.recovery_key import in_force, load_recovery_public

    given = load_recovery_public(arguments.key) if arguments.key is not None else None
    found = in_force(home, [known])
    if given is not None and given != found:
        raise ConfigurationError(
            "this recovery key is not in force", where=f"--key {arguments.key}", expected=found.vkey(), found=given.vkey(),
            remedy="leave --key out; or put it in force: `femtoclaw backup keygen --key FILE.pub --replace`",
        )  # fmt: skip
    return found


def _refuse_inside(home: Home, place: str) -> None:
    root = os.path.realpath(home.path)
    if not place.startswith("s3://") and os.path.commonpath([root, os.path.realpath(place)]) == root:
        raise ConfigurationError(
            "a backup inside of what it is of", where="--to", expected="a place outside of the home", found=place
        )


def _recorded(created: Created, place: str) -> dict[str, Any]:
    """What the log keeps of a backup (RUNBOOK-18.2)."""
    manifest = created.manifest
    return {
        "id": manifest.id, "manifest": created.digest, "place": place, "size": manifest.size, "root": manifest.root,
        "state_hash": manifest.state_hash, "parts": {name: list(part) for name, part in manifest.parts.items()},
        "recovery_key": manifest.recovery_key, "checked": created.checked, "damaged": len(created.damaged),
    }  # fmt: skip


def _shown(created: Created) -> dict[str, Any]:
    manifest = created.manifest
    return {
        "id": manifest.id, "manifest": created.digest, "log": manifest.log_id, "origin": manifest.origin,
        "size": manifest.size, "link": manifest.link, "root": manifest.root, "state_hash": manifest.state_hash,
        "parts": {name: part._asdict() for name, part in manifest.parts.items()}, "objects": created.objects,
        "new_objects": created.new_objects, "new_bytes": created.new_bytes, "plain_bytes": manifest.plain_bytes,
        "recovery_key": manifest.recovery_key, "checked": created.checked, "damaged": list(created.damaged),
    }  # fmt: skip


def _found(arguments: Arguments, store: ArchiveStore) -> Kept:
    from femtoclaw.backup.place import find, one_log

    return find(store, one_log(store, arguments.log), arguments.id)


def _opening(arguments: Arguments, kept: Kept) -> RecoveryKey:
    """The recovery key of a backup. Raises ConfigurationError for another one, as opening a key does."""
    from femtoclaw.backup.recovery_key import RecoveryKey

    key = RecoveryKey(arguments.key)
    key.check(kept.manifest.recovery_key, f"--key {arguments.key}")
    return key


def _refuse_behind(kept: Kept, until: Until) -> None:
    """Raises ConfigurationError for an end that is not in the backup: what was behind its own, it does not know."""
    from femtoclaw.backup.rebuilding import EVERYTHING

    manifest = kept.manifest
    for option, asked, there, ends in (
        ("--at-index", until.index, until.index == EVERYTHING.index or 1 <= until.index <= manifest.size, str(manifest.size)),
        ("--at-time", when(until.time_ns), until.time_ns == EVERYTHING.time_ns or until.time_ns <= manifest.at_ns,
         when(manifest.at_ns)),
    ):  # fmt: skip
        if not there:
            raise ConfigurationError(
                "this backup does not reach as far as that", where=option, expected=f"at most {ends}, where backup "
                f"{manifest.id} ends", found=asked,
                remedy=f"leave {option} out for all of it, or choose a newer one: `femtoclaw backup list`",
            )  # fmt: skip


def _list(arguments: Arguments, output: Output) -> int:
    """What is there, each manifest's signature checked; 3 when one does not read."""
    from femtoclaw.backup.layout import BackupDamagedError
    from femtoclaw.backup.on_record import log_at_hand
    from femtoclaw.backup.place import load, logs_in, manifest_names

    store = _store(arguments, getattr(arguments, "from"))
    rows: list[dict[str, Any]] = []
    try:
        for log_id in [arguments.log] if arguments.log is not None else logs_in(store):
            for name in manifest_names(store, log_id):
                try:
                    rows.append(listed(load(store, log_id, name)))
                except BackupDamagedError as error:
                    rows.append({"log": log_id, "name": name, "ok": False, "error": str(error)})
    finally:
        store.close()
    lacking = []
    known = {row["log"] for row in rows} | {arguments.log or log_at_hand(locate(getattr(arguments, "home", None)))}
    for log_id in sorted(known - {""}):
        lacking += _lacking(arguments, output, store, log_id)
    others = _others(arguments, output, store, known)
    output.data({"place": store.name, "backups": rows, "lacking": lacking, "other_histories": others})
    for row in rows:
        told = (
            f"{row['id']}  {row['at']}  {row['size']:>9} records  {row['recovery_key']}"
            if row["ok"]
            else f"{row['name']}  {row['error']}"
        )
        output.line(told, "" if row["ok"] else "red")
    if not rows:
        output.line("this place holds no backup")
    return 0 if all(row["ok"] for row in rows) and not lacking and not others else 3


def _lacking(arguments: Arguments, output: Output, store: ArchiveStore, log_id: str) -> list[str]:
    """Name the backups that the log of the home, where it is that log, records in this place and that are not there; their ids."""
    from femtoclaw.backup.layout import size_in
    from femtoclaw.backup.on_record import gone
    from femtoclaw.backup.place import manifest_names

    there = [(name.rpartition("-")[2], size_in(name)) for name in manifest_names(store, log_id)]
    found = gone(locate(getattr(arguments, "home", None)), log_id, store.name, there)
    found = found if there else found[-1:]  # which of the older ones were pruned, nobody can say
    for each in found:
        output.note(
            f"backup {each.id} of {each.size} records is on record (index {each.index}), and is not in this place"
        )
    return [each.id for each in found]


def _others(arguments: Arguments, output: Output, store: ArchiveStore, logs: set[str]) -> list[str]:
    """Name the backups of the log at hand, where it is one of ``logs``, that are of another history than that log; their ids."""
    from femtoclaw.backup.histories import disagreeing
    from femtoclaw.backup.on_record import at_hand

    found: list[tuple[str, str]] = []
    with at_hand(locate(getattr(arguments, "home", None))) as reader:
        if reader is not None and reader.log_id.hex() in logs:
            found = disagreeing(store, reader)
    for backup_id, why in found:
        output.note(f"backup {backup_id} is of another history than the log of this home: {why}")
    return [backup_id for backup_id, _ in found]


def _verify(arguments: Arguments, output: Output) -> int:
    """Check one backup, with its recovery key by restoring it; 3 where it is not what was signed, or a recorded one is gone."""
    from femtoclaw.backup.verifying import verify
    from femtoclaw.sources import live

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what it restored goes before it ends
    store = _store(arguments, getattr(arguments, "from"))
    try:
        kept = _found(arguments, store)
        key = _opening(arguments, kept) if arguments.key is not None else None
        sources = live()
        begun = sources.elapsed_ns()
        verified = verify(store, kept, key, sources, work=arguments.work, told=output.progress)
        seconds = (sources.elapsed_ns() - begun) / 1e9
        lacking = _lacking(arguments, output, store, kept.manifest.log_id)
        others = _others(arguments, output, store, {kept.manifest.log_id})
    finally:
        store.close()
    output.progress("")
    manifest = kept.manifest
    output.data(
        {"ok": True, "lacking": lacking, "other_histories": others, "id": manifest.id, "log": manifest.log_id}
        | {"manifest": kept.digest, "seconds": round(seconds, 3)}
        | verified._asdict() | {"size": manifest.size, "root": manifest.root, "state_hash": manifest.state_hash}
    )  # fmt: skip
    if verified.restored:
        output.line(
            f"ok: backup {manifest.id} restores to {verified.records} records, root and state as signed", "green"
        )
    else:
        output.line(f"ok: backup {manifest.id}: all {verified.objects} objects are those that were signed for", "green")
        output.note("it was not restored: that needs the recovery key (--key FILE)")
    output.fields([
        ("log", manifest.log_id), ("root", manifest.root), ("state", manifest.state_hash), ("seconds", f"{seconds:.3f}"),
    ])  # fmt: skip
    return 3 if (lacking and arguments.id is None) or others else 0


def _restore(arguments: Arguments, output: Output) -> int:
    """Make a home out of a backup; it does not start before ``backup resume``."""
    from femtoclaw.backup.rebuilding import EVERYTHING
    from femtoclaw.backup.restoring import restore
    from femtoclaw.cli.filters import read_until
    from femtoclaw.sources import live

    until = EVERYTHING
    if arguments.at_index is not None:
        until = until._replace(index=arguments.at_index)
    if arguments.at_time is not None:
        until = until._replace(time_ns=read_until(arguments.at_time, "--at-time") or 0)
    store = _store(arguments, getattr(arguments, "from"))
    try:
        kept = _found(arguments, store)
        _refuse_behind(kept, until)
        if arguments.dry_run:
            return would_restore(store, kept, arguments, output)
        sources = live()
        begun = sources.elapsed_ns()
        restored = restore(
            store, kept, _opening(arguments, kept), arguments.to, sources, until=until, replace=arguments.replace,
            told=output.progress,
        )  # fmt: skip
        seconds = (sources.elapsed_ns() - begun) / 1e9
    finally:
        store.close()
    output.progress("")
    output.data(restored.plain() | {"seconds": round(seconds, 3)})
    for step in restored.steps:
        output.line(f"  {step.step:<14} {step.detail}")
    output.line(f"restored {restored.size} records into {restored.home}", "green")
    output.fields([
        ("log", restored.log_id), ("root", restored.root), ("state", restored.state_hash), ("seconds", f"{seconds:.3f}"),
        *([("replaced log", f"{restored.replaced.path}: {restored.replaced.size} records, root {restored.replaced.root}")]
          if restored.replaced else []),
    ])  # fmt: skip
    for note in restored.notes:
        output.note(note)
    if arguments.log is None:
        output.note("which log this is was taken from the backup itself: compare its id with the one that you noted")
    if restored.known > restored.size:
        output.note(f"the log is known to have had {restored.known} records: those behind {restored.size} are not here")
    output.note("it does not start before you say how it goes on: `femtoclaw backup resume` (docs/backup.md)")
    return 0


def _prune(arguments: Arguments, output: Output) -> int:
    """Remove all but the newest backups of a log, and what none of these needs."""
    from femtoclaw.cli.backup_pruning import prune

    store = _store(arguments, getattr(arguments, "from"))
    try:
        return prune(arguments, output, store)
    finally:
        store.close()
