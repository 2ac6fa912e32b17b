"""A module as it is handed on: a folder with ``module.json``, ``module.sig`` and exactly the files that it lists.

Nothing of it is trusted or run here. Every file is read once, through descriptors and never through a symlink; what is
judged, signed and installed afterwards are the bytes that were read.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from blake3 import blake3

from femtoclaw.isolation.loading import MODULE_BYTES_MAX, read_beneath
from femtoclaw.manifest import FILES_MAX, Manifest
from femtoclaw.modules.declared import read_manifest
from femtoclaw.modules.refusal import Refusal
from femtoclaw.strict_json import DOCUMENT_BYTES_MAX
from wal.note import NOTE_BYTES_MAX

MANIFEST_FILE = "module.json"
SIGNATURE_FILE = "module.sig"
CASES_FILE = "module.tests.json"
RESULT_FILE = "module.result"
RESERVED = (MANIFEST_FILE, SIGNATURE_FILE, CASES_FILE, RESULT_FILE)
"""Files of the folder that are about the module and no part of it; they are not installed."""

DEPTH_MAX = 16
"""Folders of a package inside each other."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Package(NamedTuple):
    """What a folder holds: ``files`` by relative path, each as its manifest says; ``signature`` empty without one."""

    manifest: Manifest
    files: Mapping[str, bytes]
    signature: bytes


def read_package(folder: str) -> Package | Refusal:
    """Read a folder. Refusals: BAD_MANIFEST, BAD_VERSION, UNLISTED_FILE, HASH_MISMATCH.

    Raises OSError when the folder itself cannot be read.
    """
    try:
        raw = read_beneath(folder, MANIFEST_FILE, DOCUMENT_BYTES_MAX)
    except FileNotFoundError:
        return Refusal("BAD_MANIFEST", "there is no module.json")
    except OSError:
        return Refusal("BAD_MANIFEST", "module.json cannot be read")
    manifest = read_manifest(raw)
    if isinstance(manifest, Refusal):
        return manifest
    signature = b""
    if os.path.lexists(os.path.join(folder, SIGNATURE_FILE)):
        try:
            signature = read_beneath(folder, SIGNATURE_FILE, NOTE_BYTES_MAX)
        except OSError:
            return Refusal("BAD_SIGNATURE", "module.sig cannot be read", manifest.name, manifest.digest())
    files = read_files(folder, reserved=RESERVED)
    if not isinstance(files, Refusal):
        files = compare(files, manifest)
    if isinstance(files, Refusal):
        return files._replace(name=manifest.name, digest=manifest.digest())
    return Package(manifest, files, signature)


def read_files(folder: str, reserved: tuple[str, ...] = ()) -> dict[str, bytes] | Refusal:
    """All files in the folder but the ``reserved`` ones. Refuses whatever is neither file nor folder, and too much.

    Raises OSError when the folder cannot be read.
    """
    found: dict[str, bytes] = {}
    left = MODULE_BYTES_MAX
    try:
        for path in _paths(folder, "", 0):
            if path in reserved:
                continue
            if len(found) >= FILES_MAX:
                return Refusal("UNLISTED_FILE", f"it has more than {FILES_MAX} files")
            found[path] = read_beneath(folder, path, left)
            left -= len(found[path])
    except _NoModuleFileError as error:
        return Refusal("UNLISTED_FILE", str(error))
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        return Refusal("HASH_MISMATCH", f"a file of it cannot be read: {reason}")
    return found


def compare(files: Mapping[str, bytes], manifest: Manifest) -> dict[str, bytes] | Refusal:
    """The files, when they are those of the manifest: none missing, none more, none other."""
    for path in sorted(set(files) - set(manifest.files)):
        return Refusal("UNLISTED_FILE", f"{path!a} is not in module.json")
    for path, digest in sorted(manifest.files.items()):
        if path not in files:
            return Refusal("HASH_MISMATCH", f"{path!a} is missing")
        if blake3(files[path]).hexdigest() != digest:
            return Refusal("HASH_MISMATCH", f"{path!a} is not the file that module.json names")
    return dict(files)


class _NoModuleFileError(Exception):
    """Something that no module may hold."""


def _paths(folder: str, beneath: str, depth: int) -> Iterator[str]:
    if depth > DEPTH_MAX:
        raise _NoModuleFileError(f"its folders are nested deeper than {DEPTH_MAX}")
    fd = os.open(os.path.join(folder, beneath) if beneath else folder, _FOLDER)
    try:
        names = sorted(os.listdir(fd))
        modes = {name: os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode for name in names}
    finally:
        os.close(fd)
    if len(names) > FILES_MAX + len(RESERVED):
        raise _NoModuleFileError(f"it has more than {FILES_MAX} files")
    for name in names:
        path = f"{beneath}/{name}" if beneath else name
        if stat.S_ISDIR(modes[name]):
            yield from _paths(folder, path, depth + 1)
        elif stat.S_ISREG(modes[name]):
            yield path
        else:
            raise _NoModuleFileError(f"{path!a} is neither file nor folder")
