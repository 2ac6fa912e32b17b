"""Making a migration, and taking it back. Both come into force by one step, the exchange of two directories: whatever stops the
program, the home's log is the old one, as it was, or the new one, complete.

    HOME/log                                  in use
    HOME/migrations/1-2-8eadb68a6680/log      while it is built: the successor; afterwards: the old log, sealed
    HOME/migrations/1-2-8eadb68a6680/seal.note
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import contextlib
import os
from collections.abc import Callable
from typing import NamedTuple

from femtoclaw import config, distribution
from femtoclaw.config_file import edited
from femtoclaw.config_sources import gather, resolve_sources
from femtoclaw.errors import UnavailableError
from femtoclaw.home import Home, check_permissions, read_bounded
from femtoclaw.integrity import put_in_place, stage
from femtoclaw.key_file import KeySigner, create_key
from femtoclaw.key_index import FILE_NAME as KEY_INDEX
from femtoclaw.keys import folder as key_folder
from femtoclaw.keys import load_operator, load_signer, operator_file, write_index
from femtoclaw.migration.building import BLOBS, Built, Step, build
from femtoclaw.migration.plan import Plan, folder_of, plan_of_log
from femtoclaw.migration.refusal import MigrationUnsoundError
from femtoclaw.migration.seal import OLD_CONFIGURATION, Seal, seal_of, write_seal
from femtoclaw.migration.verifying import verify
from femtoclaw.passphrase import chosen_passphrase
from wal.reader import LogReader, read_log_directory
from wal.replacement import exchange
from wal.writer_lock import lock_for_writing

LOG = "log"


class Migrated(NamedTuple):
    """A migration that is in force."""

    plan: Plan
    built: Built
    folder: str


def migrate(home: Home, owner: str, authorize: Callable[[str, KeySigner], None], step: Step) -> Migrated:
    """Bring ``home`` to the newest format, with ``owner`` as its first operator, whose key is made where there is none.

    ``authorize`` has the owner's request recorded at the end of the new log, before that comes into force; what it raises
    leaves the home as it was. Raises NotApplicableError, MigrationUnsoundError, ConfigurationError, LogError.
    """
    check_permissions(home)
    signer = load_signer(home)
    lock = lock_for_writing(home.log)
    try:
        with contextlib.closing(read_log_directory(home.log)) as old:
            plan = plan_of_log(old, home.log)
            folder = folder_of(home, plan)
            step("begin")
            key = _owner_key(home, owner)
            before, after = _configuration(home)
            canonical, map_bytes = _canonical(home, after)
            new = os.path.join(folder, LOG)
            os.makedirs(folder, 0o700, exist_ok=True)
            blobs = os.path.join(home.log, BLOBS)
            built = build(plan, old, blobs, new, signer, key.public, canonical, map_bytes, step)
            step("verify")
            with contextlib.closing(read_log_directory(new)) as made:
                verify(plan, old, made, built.size, built.root)
        step("seal")
        write_seal(folder, plan, built, before, signer)
        authorize(new, key)
        step("files")
        _prepare_files(home, signer, before, after)
        step("exchange")
        _exchange(new, home.log)
        step("exchanged")
        if before != after:
            put_in_place(home.config_file)
    finally:
        os.close(lock)
    return Migrated(plan, built, folder)


def _owner_key(home: Home, owner: str) -> KeySigner:
    path = operator_file(home, owner)
    if not os.path.lexists(path):
        create_key(path, owner, chosen_passphrase(path))
    return load_operator(home, owner)


def _configuration(home: Home) -> tuple[bytes, bytes]:
    """The operator's file as it is, and as the newer format has it: a node that root runs says that it may."""
    before = read_bounded(home.config_file)
    if os.geteuid() != 0:
        return before, before
    return before, edited(before, home.config_file, {"security": {"allow_root": True}})


def _canonical(home: Home, raw: bytes) -> tuple[bytes, int]:
    effective = resolve_sources(gather(home, file=raw), None)
    return config.canonical(effective), int(effective["memory"]["map_bytes"])


def _prepare_files(home: Home, signer: KeySigner, before: bytes, after: bytes) -> None:
    """What the newer format has beside the log. None of it means anything to the older one."""
    write_index(home, signer)
    if distribution.trusted(home) is None:
        distribution.pin(home, signer)
    if before != after:
        stage(home.config_file, after)


def _exchange(new: str, log: str) -> None:
    if not exchange(new, log):
        raise UnavailableError(
            "two directories cannot change places in one step here", where=log, expected="a file system with RENAME_EXCHANGE",
            found="one without", remedy="copy the home to such a file system (ext4, xfs, btrfs, tmpfs) and migrate it there",
        )  # fmt: skip


def validate(home: Home) -> Seal:
    """Compare a migrated home with the old log that it keeps: seal, roots, every record. Raises NotApplicableError for a home that
    was not migrated, MigrationUnsoundError, LogError."""
    with contextlib.closing(read_log_directory(home.log)) as new:
        found = seal_of(home, new)
        kept = os.path.join(found.folder, LOG)
        if not os.path.isdir(kept):
            raise MigrationUnsoundError("the old log is gone", where=kept, expected=found.root, found="nothing")
        with contextlib.closing(read_log_directory(kept)) as old:
            _check_kept(old, found, kept)
            verify(plan_of_log(old, kept), old, new, found.migrated_size, found.migrated_root)
    return found


def _check_kept(old: LogReader, found: Seal, where: str) -> None:
    root = old.tree().root(found.size).hex() if old.size >= found.size else f"{old.size} records"
    if old.origin != found.origin or root != found.root or old.size != found.size:
        raise MigrationUnsoundError(
            "the old log is not the one that was sealed", where=where, expected=found.root, found=root
        )


def take_back(home: Home, found: Seal, tell: Callable[[str, str, str], None], step: Step) -> None:
    """Put the sealed old log in use again; the newer one stays beside it. ``tell`` (path of the old log, name and root of the newer
    one) records there what happened. Raises as ``validate``."""
    lock = lock_for_writing(home.log)
    kept = os.path.join(found.folder, LOG)
    try:
        with contextlib.closing(read_log_directory(kept)) as old:
            _check_kept(old, found, kept)
        with contextlib.closing(read_log_directory(home.log)) as new:
            size = new.size
            origin, root = new.origin, new.tree().root(size).hex()
        raw = read_bounded(os.path.join(found.folder, OLD_CONFIGURATION))
        step("files")
        if raw != read_bounded(home.config_file):
            stage(home.config_file, raw)
        step("exchange")
        _exchange(kept, home.log)
        step("exchanged")
    finally:
        os.close(lock)
    if os.path.lexists(f"{home.config_file}.next"):
        put_in_place(home.config_file)
    for path in (os.path.join(key_folder(home), KEY_INDEX), distribution.pin_path(home)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    step("tell")
    tell(home.log, origin, f"{size} {root}")
