"""Making a release of a sealed distribution: equal inputs give equal bytes.

What goes in is what the sealed manifest lists, each file compared with it as it is read: the three packages, the locked packages
that they load, their byte code. It is sealed anew, as a folder that holds everything, under the release's key and counter; a
machine that has the interpreter needs nothing else.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
import os
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import NamedTuple

from femtoclaw.errors import ConfigurationError
from femtoclaw.launcher import sealed
from femtoclaw.launcher.loading import CODE_FILE
from femtoclaw.launcher.start import KEY_FILE, MANIFEST_FILE
from femtoclaw.releases.bundle import write_release
from femtoclaw.releases.statement import PACKAGES_FOLDER, File, Release
from wal.note import Signer, sign_note

LOCK_FILE = "requirements.lock"
BESIDE = (LOCK_FILE, "LICENSE")
"""Files of the checkout that go along when they are there."""


class Versions(NamedTuple):
    """What a program reads and writes, as ``statement.Release`` has it."""

    log: tuple[int, int]
    home: tuple[int, int]
    events: Mapping[int, int]
    abi: str
    claws: Mapping[str, str]
    configuration: str


class Made(NamedTuple):
    """A release that was written: its file, what it says, SHA-256 of the file."""

    path: str
    release: Release
    digest: str


def own_versions() -> Versions:
    """What the running program reads and writes."""
    from femtoclaw import config
    from femtoclaw.claws import SHIPPED
    from femtoclaw.event_codec import VERSIONS
    from femtoclaw.isolation import abi
    from femtoclaw.migration.formats import NEWEST, OLDEST
    from wal.genesis import FORMAT

    claws = {claw.name: claw.digest() for claw in SHIPPED}
    keys = sha256(json.dumps(config.EMBEDDED, sort_keys=True).encode()).hexdigest()
    return Versions((FORMAT, FORMAT), (OLDEST, NEWEST), dict(VERSIONS), abi.VERSION, claws, keys)


def build(
    root: str, path: str, signer: Signer, versions: Versions, *, counter: int | None = None, floor: int = 0
) -> Made:  # fmt: skip
    """Write the release of the distribution that is sealed at ``root`` to the new file ``path``.

    ``counter`` is the release's (default: that of the seal); ``floor`` the least counter that is safe to go back to. Raises
    ConfigurationError when nothing is sealed there, a file is not what was sealed, or there is something at ``path``; OSError.
    """
    manifest, text = _sealed_at(root)
    counted = manifest.counter if counter is None else counter
    if floor > counted:
        raise ConfigurationError(
            "the floor is above the release's own counter", where="--floor", expected=f"<= {counted}", found=floor
        )
    note = sign_note(_restated(text, counted), [signer])
    contents = _contents(root, manifest, note, signer.public.vkey())
    files = {name: _described(root, manifest, name, raw) for name, raw in contents.items()}
    release = Release(
        manifest.program, counted, floor, manifest.python, versions.log, versions.home, versions.events, versions.abi,
        versions.claws, versions.configuration, sha256(note).hexdigest(), files,
    )  # fmt: skip
    _write(path, sign_note(release.text(), [signer]), release, lambda name: _read(root, manifest, name, contents))
    with open(path, "rb") as file:
        return Made(path, release, sha256(file.read()).hexdigest())


def _sealed_at(root: str) -> tuple[sealed.Manifest, str]:
    where = os.path.join(root, sealed.FOLDER, MANIFEST_FILE)
    try:
        raw = sealed.read(where, sealed.MANIFEST_BYTES_MAX)
        text = sealed.split(raw)[0]
    except (OSError, ValueError):
        raise ConfigurationError(
            "nothing is sealed here", where=where, expected="a sealed distribution", found="nothing that can be read",
            remedy="run `scripts/seal` in the checkout that is to be released",
        ) from None  # fmt: skip
    return sealed.parse(text, sha256(raw).hexdigest(), where), text


def _restated(text: str, counter: int) -> str:
    """The manifest of the same files, all in one folder, with the release's counter."""
    lines = []
    for line in text.split("\n"):
        kind = line.partition(" ")[0]
        lines.append({"counter": f"counter {counter}", "dependencies": "dependencies ."}.get(kind, line))
    return "\n".join(lines)


def _contents(root: str, manifest: sealed.Manifest, note: bytes, key: str) -> dict[str, bytes]:
    """Path in the release to bytes, empty for those that are read when they are written: they take much room."""
    folder = f"{PACKAGES_FOLDER}/{sealed.FOLDER}"
    found = {
        f"{folder}/{MANIFEST_FILE}": note,
        f"{folder}/{KEY_FILE}": key.encode() + b"\n",
        f"{folder}/{CODE_FILE}": b"",
    }
    for path in manifest.files:
        found[f"{PACKAGES_FOLDER}/{path.removeprefix('@/')}"] = b""
    for name in BESIDE:
        where = os.path.join(root, name)
        if os.path.isfile(where):
            found[name] = sealed.read(where, 1 << 20)
    return found


def _described(root: str, manifest: sealed.Manifest, name: str, raw: bytes) -> File:
    if raw or name in BESIDE:
        return File(len(raw), sha256(raw).hexdigest())
    raw = _from_disk(root, manifest, name)
    return File(len(raw), sha256(raw).hexdigest())


def _read(root: str, manifest: sealed.Manifest, name: str, contents: Mapping[str, bytes]) -> bytes:
    return contents[name] or (b"" if name in BESIDE else _from_disk(root, manifest, name))


def _from_disk(root: str, manifest: sealed.Manifest, name: str) -> bytes:
    """A file's bytes, compared with what was sealed. Raises ConfigurationError."""
    bare = name.removeprefix(f"{PACKAGES_FOLDER}/")
    if bare == f"{sealed.FOLDER}/{CODE_FILE}":
        where, entry = os.path.join(root, bare), manifest.bytecode
    else:
        entry = manifest.files.get(bare) or manifest.files[f"@/{bare}"]
        below = root if bare in manifest.files else os.path.join(root, manifest.dependencies)
        where = os.path.join(below, bare)
    try:
        raw = sealed.read(where, max(entry.size, 1))
    except OSError as error:
        raise ConfigurationError("a file cannot be released", where=where, found=error.strerror) from None
    found = manifest.hasher()(raw).hexdigest()
    if found != entry.digest:
        raise ConfigurationError(
            "a file is not what was sealed", where=where, expected=entry.digest, found=found,
            remedy="run `scripts/seal`, after a look at what was changed",
        )  # fmt: skip
    return raw


def _write(path: str, note: bytes, release: Release, read: Callable[[str], bytes]) -> None:
    """The file, whole under its name or not there. Raises ConfigurationError, OSError."""
    if os.path.lexists(path):
        raise ConfigurationError("there is something already", where=path, expected="a new file", found="a file")
    making = f"{path}.new-{os.getpid()}"
    try:
        with open(making, "xb") as file:
            write_release(file, note, release, read)
            file.flush()
            os.fsync(file.fileno())
        os.rename(making, path)
    finally:
        if os.path.lexists(making):
            os.unlink(making)
