"""What is kept of a node's state before another release is put in use: the log as a bundle, and the operator's files.

The bundle is what `femtoclaw export` writes: every record that a signed checkpoint covers, with proofs, checked by anyone. With it
`femtoclaw recover --from-archive` makes the log again. Keys are not in it: a release does not touch them.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
import shutil
from hashlib import sha256
from typing import NamedTuple

from femtoclaw.errors import UnavailableError
from femtoclaw.home import Home
from wal.durable_file import sync_folder, write_file

KEPT_FOLDER = "before"
BUNDLE = "log.bundle"
FILES = ("femtoclaw.toml", "policy.cedar", "distribution.pin", "manifest.json")


class Kept(NamedTuple):
    """Where it is, SHA-256 of the bundle, the records in it and their Merkle root in hex."""

    folder: str
    digest: str
    size: int
    root: str


def keep_state(home: Home, root: str, name: str) -> Kept:
    """Keep the state of ``home`` below the installation at ``root``, before the release ``name``. What an earlier attempt kept
    under the same name at the same size is replaced. Raises UnavailableError, LogError."""
    from femtoclaw.audit import named_blobs
    from wal.bundle import signed_checkpoint, write_bundle
    from wal.reader import read_log_directory

    folder, reader = "", read_log_directory(home.log)
    try:
        covered = signed_checkpoint(reader)
        size = covered.checkpoint.size
        folder = os.path.join(root, KEPT_FOLDER, f"{name}-{size}")
        _make_empty(folder)
        path = os.path.join(folder, BUNDLE)
        write_bundle(reader, path, named_blobs(reader.scan(1, size + 1), reader.storage), covered)
        _keep_files(home, folder)
    except BaseException:
        drop_state(folder)
        raise
    finally:
        reader.close()
    hasher = sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            hasher.update(piece)
    return Kept(folder, hasher.hexdigest(), size, covered.checkpoint.root.hex())


def drop_state(folder: str) -> None:
    """Remove what was kept before a release that was not put in use: nothing has changed that it would be needed for."""
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


def size_of(home: Home) -> int:
    """Bytes that a state may take at most, about: the log's files hold at least what its bundle does."""
    found = 0
    for place, _, files in os.walk(home.log):
        found += sum(os.stat(os.path.join(place, file)).st_blocks * 512 for file in files)
    return found


def _keep_files(home: Home, folder: str) -> None:
    for each in FILES:
        where = os.path.join(home.path, each)
        if os.path.isfile(where):
            with open(where, "rb") as file:
                write_file(os.path.join(folder, each), file.read())


def _make_empty(folder: str) -> None:
    try:
        if os.path.lexists(folder):
            shutil.rmtree(folder)
        os.makedirs(folder, 0o700)
        sync_folder(os.path.dirname(folder))
    except OSError as error:
        raise UnavailableError(
            "the state cannot be kept",
            where=folder,
            found=error.strerror,
            remedy="make room or permit it; nothing has changed",
        ) from error
