"""Installed modules: ``MODULES/<manifest digest>/<relative path>``, whole or not there, for nobody to write.

The name of a folder says what must be in it; what runs is verified again at each load. Folders that no manifest of the
log names are never looked at.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping

from femtoclaw.manifest import Manifest
from femtoclaw.modules.package import compare, read_files
from femtoclaw.modules.refusal import Refusal
from wal.durable_file import refused_write, sync_folder

FOLDER = "modules"
"""Of the node's home."""

FILE_MODE = 0o400
FOLDER_MODE = 0o500
_WRITABLE = 0o700


def install_files(modules: str, manifest: Manifest, files: Mapping[str, bytes]) -> str:
    """Put the files of ``manifest`` into the folder ``modules`` and return the path of their own.

    Durable when this returns; after a crash they are there as a whole or not at all. Files that are there already and
    right stay; others by that name are replaced. Raises ValueError for files that are not the manifest's, and
    LogFailedError when they cannot be written.
    """
    if isinstance(compare(files, manifest), Refusal):
        raise ValueError("the files are not those of the manifest")
    path = os.path.join(modules, manifest.digest())
    try:
        os.makedirs(modules, _WRITABLE, exist_ok=True)
        if verify_installed(modules, manifest) is None:
            return path
        new = os.path.join(modules, f".new-{os.urandom(8).hex()}")
        _write_all(new, files)
        _remove(path)
        os.rename(new, path)
        sync_folder(modules)
    except OSError as error:
        raise refused_write(error, path) from error
    return path


def verify_installed(modules: str, manifest: Manifest) -> Refusal | None:
    """Whether the installed files are those of the manifest; HASH_MISMATCH or UNLISTED_FILE when not."""
    folder = os.path.join(modules, manifest.digest())
    try:
        files = read_files(folder)
        found = files if isinstance(files, Refusal) else compare(files, manifest)
    except OSError:
        found = Refusal("HASH_MISMATCH", "its files are not there")
    return found._replace(name=manifest.name, digest=manifest.digest()) if isinstance(found, Refusal) else None


def remove_files(modules: str, digest: str) -> None:
    """Remove the files of a module; nothing when there are none. Raises LogFailedError."""
    path = os.path.join(modules, digest)
    try:
        _remove(path)
        with contextlib.suppress(FileNotFoundError):
            sync_folder(modules)
    except OSError as error:
        raise refused_write(error, path) from error


def _write_all(folder: str, files: Mapping[str, bytes]) -> None:
    os.mkdir(folder, _WRITABLE)
    folders = [folder]
    for path, raw in sorted(files.items()):
        parent = os.path.dirname(os.path.join(folder, path))
        os.makedirs(parent, _WRITABLE, exist_ok=True)
        while parent not in folders:
            folders.append(parent)
            parent = os.path.dirname(parent)
        _write(os.path.join(folder, path), raw)
    for each in sorted(folders, key=len, reverse=True):
        os.chmod(each, FOLDER_MODE)
        sync_folder(each)


def _write(path: str, raw: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        view = memoryview(raw)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove(path: str) -> None:
    """Out of the way in one step, then removed; a crash between leaves a folder that nothing names."""
    if not os.path.lexists(path):
        return
    old = os.path.join(os.path.dirname(path), f".old-{os.urandom(8).hex()}")
    os.rename(path, old)
    if os.path.islink(old) or not os.path.isdir(old):
        os.unlink(old)
        return
    for folder, _, _ in os.walk(old):
        os.chmod(folder, _WRITABLE)
    shutil.rmtree(old)
