"""A home out of a backup, in four steps in order: verify, configuration, audit log, state. Built beside its name first.

Its log is marked as restored (``femtoclaw.restored_log``): it is not opened before an operator has said how it goes on. A home that
stands in the place is moved aside whole, its log as it was; how many records it had, the new log's mark knows.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from cluster.archive import ArchiveStore
from femtoclaw.backup.home_files import LOG_EXTRAS, FileRow, sync_tree, unpacked, write_one
from femtoclaw.backup.layout import BackupDamagedError
from femtoclaw.backup.place import Kept, Objects, check_all, load, manifest_names
from femtoclaw.backup.rebuilding import EVERYTHING, Rebuilding, RebuiltLog, Until
from femtoclaw.backup.recovery_key import RecoveryKey
from femtoclaw.errors import ConfigurationError, UnavailableError
from femtoclaw.home import DIRECTORY_MODE, Home, journal, read_text, resolved_configuration
from femtoclaw.restore import load_state
from femtoclaw.restored_log import ASIDE, REPORT, mark_aside
from femtoclaw.sources import Sources
from femtoclaw.state import Node, State, state_hash
from wal.durable_file import sync_folder, write_file
from wal.key_history import KeyHistory
from wal.note import Signer
from wal.reader import read_log_directory
from wal.writer_lock import lock_for_writing

STEPS = ("verify", "configuration", "audit_log", "state")
"""RUNBOOK-19.1, in order."""

_BUILDING, _REPLACED, _EXTRAS = ".restoring", ".replaced-", ".extras"


class Step(NamedTuple):
    """One step as it was taken: what it found, in a digest, and when."""

    step: str
    digest: str
    detail: str
    at_ns: int


class Replaced(NamedTuple):
    """The log that stood in the place, sealed where it is now: nothing writes there any more."""

    path: str
    size: int
    root: str


class RestoredHome(NamedTuple):
    """What was restored."""

    home: str
    manifest: str
    digest: str
    """BLAKE3 of the manifest's bytes."""
    log_id: str
    size: int
    root: str
    state_hash: str
    known: int
    """How many records the log is known to have had: of those behind ``size`` this home has none."""
    place: str
    """Where the backup lies: a newer one there says that there was more."""
    steps: tuple[Step, ...]
    replaced: Replaced | None
    notes: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        steps = [step._asdict() for step in self.steps]
        return self._asdict() | {
            "steps": steps,
            "replaced": self.replaced._asdict() if self.replaced else None,
            "notes": list(self.notes),
        }


def restore(
    store: ArchiveStore, kept: Kept, key: RecoveryKey, to: str, sources: Sources, *, until: Until = EVERYTHING,
    replace: bool = False, told: Callable[[str], None] = lambda text: None,
) -> RestoredHome:  # fmt: skip
    """Restore the backup ``kept`` to ``to``, where nothing is, or, with ``replace``, a home whose node does not run.

    Raises BackupDamagedError with nothing written; ConfigurationError for a place that is taken; LogLockedError; UnavailableError.
    """
    to = os.path.abspath(to)
    locked = _take_place(to, replace)
    building = f"{to}{_BUILDING}"
    try:
        shutil.rmtree(building, ignore_errors=True)
        restoring = _Restoring(store, kept, key, building, sources, told)
        known, standing = _known(to, kept.manifest.log_id)
        made = restoring.run(until, max(known, newest_in(store, kept.manifest.log_id)))
        replaced = None
        if locked >= 0:
            replaced = _put_aside(to, standing or Replaced(to, 0, ""), kept.manifest.log_id)
        restored = made._replace(home=to, replaced=replaced)
        write_file(os.path.join(building, REPORT), json.dumps(restored.plain(), sort_keys=True).encode() + b"\n")
        os.rename(building, to)
        sync_folder(os.path.dirname(to))
    except OSError as error:
        raise UnavailableError("the home cannot be restored", where=building, found=error.strerror) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
        if locked >= 0:
            os.close(locked)
    return restored


def _take_place(to: str, replace: bool) -> int:
    """The lock of the log that stands there, -1 for none. Raises ConfigurationError or LogLockedError."""
    if not os.path.isdir(os.path.dirname(to)):
        raise ConfigurationError(
            "there is no such folder", where="--to", expected="a name in a folder that exists", found=to
        )
    if not os.path.lexists(to) or (os.path.isdir(to) and not os.path.islink(to) and not os.listdir(to)):
        return -1
    log = os.path.join(to, "log")
    if not replace or not os.path.isdir(log) or os.path.islink(to):
        raise ConfigurationError(
            "there is something at this place already", where=to, expected="nothing, or with --replace a home",
            found="a home" if os.path.isdir(log) else "something else",
            remedy="name a new place; or stop the node, and say --replace: its home is moved aside as it is",
        )  # fmt: skip
    return lock_for_writing(log)


def _known(to: str, log_id: str) -> tuple[int, Replaced | None]:
    """How many records the log is known to have had, by the home that stands there and those that were moved aside before;
    and what stands there. What does not read says nothing."""
    from wal.errors import LogError

    parent, name = os.path.split(to)
    asides = [each for each in os.listdir(parent) if each.startswith(f"{name}{_REPLACED}")]
    known, standing = 0, None
    for path in [to, *(os.path.join(parent, each) for each in asides)]:
        try:
            reader = read_log_directory(os.path.join(path, "log"))
        except LogError:
            continue
        try:
            if path == to:
                standing = Replaced(to, reader.size, reader.tree().root(reader.size).hex())
            if reader.log_id.hex() == log_id:
                known = max(known, reader.size)
        except LogError:
            continue
        finally:
            reader.close()
    return known, standing


def newest_in(store: ArchiveStore, log_id: str) -> int:
    """The size of the newest backup of a log in a place, 0 for none. A manifest that does not read says nothing."""
    for name in reversed(manifest_names(store, log_id)):
        with contextlib.suppress(BackupDamagedError):
            return load(store, log_id, name).manifest.size
    return 0


def known_at(home: str, report: dict[str, Any]) -> int:
    """What the place of a restored home's backup, where that is a folder that is there, and homes that were moved aside know now of
    the length of its log."""
    from cluster.archive import open_archive

    known, place = _known(home, report["log_id"])[0], report.get("place")
    if isinstance(place, str) and os.path.isdir(place):
        store = open_archive(place)
        try:
            known = max(known, newest_in(store, report["log_id"]))
        finally:
            store.close()
    return known


def _put_aside(to: str, standing: Replaced, log_id: str) -> Replaced:
    """Move the home that stands there aside, with a mark that keeps it from starting: modes stop nobody who is root."""
    aside = f"{to}{_REPLACED}{standing.size}-{standing.root[:16] or 'unread'}"
    number = 0
    while os.path.lexists(aside if not number else f"{aside}-{number}"):
        number += 1
    aside = aside if not number else f"{aside}-{number}"
    for folder, _, files in os.walk(os.path.join(to, "log")):
        for file in files:
            os.chmod(os.path.join(folder, file), 0o400)
    mark_aside(Home(to), log_id)
    try:
        os.rename(to, aside)
    except OSError:
        os.unlink(os.path.join(to, ASIDE))
        raise
    sync_folder(os.path.dirname(to))
    return standing._replace(path=aside)


class _Restoring:
    """One restore under way, in a folder of its own."""

    def __init__(
        self, store: ArchiveStore, kept: Kept, key: RecoveryKey, building: str, sources: Sources, told: Callable[[str], None]
    ) -> None:  # fmt: skip
        self._kept = kept
        self._store = store
        self._objects = Objects(store, kept.manifest.log_id, key)
        self._home = Home(building)
        self._sources = sources
        self._told = told
        self._steps: list[Step] = []
        self._notes: list[str] = []

    def run(self, until: Until, known: int) -> RestoredHome:
        """The four steps. Nothing is written before the first has found every object as it was signed for."""
        manifest = self._kept.manifest
        partly = until != EVERYTHING
        count = check_all(self._objects, manifest, lambda done: self._told(f"verified {done} objects ..."))
        self._taken("verify", self._kept.digest, f"{count} objects are those that the node signed for")
        files = self._files()
        self._taken("configuration", "", f"{files} files, as they lay on the node's disk")
        rebuilt = self._log(until, known)
        self._extras(keep=not partly)
        self._taken("audit_log", rebuilt.root.hex(), f"{rebuilt.head.index} records and {rebuilt.blobs} blobs")
        found = self._state(rebuilt, partly)
        self._taken("state", found, f"the state after {rebuilt.head.index} records")
        self._tell()
        sync_tree(self._home.path)
        return RestoredHome(
            self._home.path, manifest.id, self._kept.digest, manifest.log_id, rebuilt.head.index, rebuilt.root.hex(), found,
            rebuilt.mark.known, self._store.name, tuple(self._steps), None, tuple(self._notes),
        )  # fmt: skip

    def _taken(self, step: str, digest: str, detail: str) -> None:
        self._steps.append(Step(step, digest, detail, self._sources.wall_ns()))
        self._told(f"{step}: {detail}")

    def _tell(self) -> None:
        for step in self._steps:
            journal(
                self._home,
                step.at_ns,
                "restore_step",
                step=step.step,
                result="done",
                digest=step.digest,
                text=step.detail,
            )

    def _files(self) -> int:
        """Write the home's files; those of the log's folder wait beside it."""
        os.mkdir(self._home.path, DIRECTORY_MODE)
        where = f"backup {self._kept.manifest.id}"
        count = 0
        for row, content in unpacked(map(self._objects.open, self._kept.manifest.others["files"]), where):
            self._write(row, content)
            count += 1
        settings = resolved_configuration(self._home, None)
        workspace = self._home.inside(settings["security"]["workspace"])
        if not os.path.lexists(workspace):
            if os.path.commonpath([self._home.path, workspace]) == self._home.path:
                os.makedirs(workspace, DIRECTORY_MODE)
            self._notes.append("there is no file in the workspace: those of claws are not in a backup")
        return count

    def _write(self, row: FileRow, content: Iterator[bytes]) -> None:
        extra = row.path.startswith("log/")
        if extra and not row.path.startswith(tuple(f"{folder}/" for folder in LOG_EXTRAS)):
            raise BackupDamagedError(
                "a backup holds a file that no backup has",
                where=row.path,
                expected=", ".join(LOG_EXTRAS),
                found="another folder",
            )
        top = os.path.join(self._home.path, _EXTRAS) if extra else self._home.path
        try:
            write_one(top, row, content)
        except FileExistsError:
            raise BackupDamagedError("a backup holds a file twice", where=row.path) from None

    def _extras(self, *, keep: bool) -> None:
        """Put what stood beside the records into the log's folder, but for what is there anew."""
        top = os.path.join(self._home.path, _EXTRAS)
        for folder, _, files in os.walk(os.path.join(top, "log")):
            for file in files if keep else ():
                path = os.path.join(self._home.path, os.path.relpath(os.path.join(folder, file), top))
                if not os.path.lexists(path):
                    os.makedirs(os.path.dirname(path), DIRECTORY_MODE, exist_ok=True)
                    os.rename(os.path.join(folder, file), path)
        shutil.rmtree(top, ignore_errors=True)

    def _log(self, until: Until, known: int) -> RebuiltLog:
        rebuilding = Rebuilding(self._home.log, self._kept.manifest, self._objects, until)
        return rebuilding.run(
            self._sources.wall_ns, known=known, signer=self._signer,
            told=lambda index: self._told(f"restored up to {index} ..."),
        )  # fmt: skip

    def _signer(self, keys: KeyHistory) -> Signer:
        """The node's key, for a checkpoint at an earlier end. Raises ConfigurationError when it was not in force there."""
        from femtoclaw.keys import load_signer

        signer = load_signer(self._home)
        if keys.newest.key != signer.public:
            raise ConfigurationError(
                "the node's key came into force behind the end that was asked for", where="--at-index or --at-time",
                expected=keys.newest.key.vkey(), found=signer.public.vkey(),
                remedy="restore a backup from before the rotation, or end behind it",
            )  # fmt: skip
        return signer

    def _state(self, rebuilt: RebuiltLog, partly: bool) -> str:
        """Fold the records, none of it taken from a state image when all of the backup is there; the hash of the state."""
        state = fold(self._home.log)
        found = state_hash(state)
        if not partly and found != self._kept.manifest.state_hash:
            raise BackupDamagedError(
                "the restored records give another state than the manifest says", where=f"backup {self._kept.manifest.id}",
                expected=self._kept.manifest.state_hash, found=found,
            )  # fmt: skip
        if partly:
            self._notes.append(f"it ends at record {rebuilt.head.index} of {self._kept.manifest.size}, as was asked")
            self._fit_configuration(state.node)
        self._fit_policy(state.node)
        return found

    def _fit_configuration(self, node: Node) -> None:
        """Make the configuration the one that was in force at the earlier end."""
        import tomlkit

        from femtoclaw import config

        if config.canonical(resolved_configuration(self._home, None)) != node.configuration.content:
            write_file(self._home.config_file, tomlkit.dumps(json.loads(node.configuration.content)).encode())
            self._notes.append(f"{os.path.basename(self._home.config_file)} is written anew, as it was recorded then")

    def _fit_policy(self, node: Node) -> None:
        """Have the recorded policy in its file: at an earlier end it was another one, and one outside of the home is not in a
        backup; what stands there is left as it is."""
        path = self._home.inside(resolved_configuration(self._home, None)["policy"]["file"])
        inside = os.path.commonpath([self._home.path, os.path.abspath(path)]) == self._home.path
        if not inside and os.path.lexists(path):
            return
        if inside and os.path.exists(path) and read_text(path) == node.policy.text:
            return
        if not os.path.isdir(os.path.dirname(path)):
            self._notes.append(f"the policy file {path} is not there: write the recorded one (`femtoclaw policy show`)")
            return
        write_file(path, node.policy.text.encode())
        self._notes.append(f"{path if not inside else os.path.basename(path)} is the recorded policy")


def fold(log: str) -> State:
    """The state at the head of the log in a directory, from its first record on where no state image is beside it."""
    reader = read_log_directory(log)
    try:
        return load_state(reader)
    finally:
        reader.close()
