"""Making a distribution's manifest: what belongs to it, each file's hash, the byte code, the signature.

``scripts/seal`` and the release build call this. It runs in an ordinary interpreter that has the locked packages; it is
not part of a node's work.
"""

from __future__ import annotations

import os
import py_compile
import re
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution

from femtoclaw.distribution import interpreter_files
from femtoclaw.errors import ConfigurationError
from femtoclaw.launcher import sealed
from femtoclaw.launcher.loading import CODE_FILE, METADATA
from femtoclaw.launcher.refusal import Refused
from femtoclaw.launcher.start import KEY_FILE, MANIFEST_FILE, dependencies, interpreter
from femtoclaw.launcher.sweep import IGNORED, INFORMATION, Sweep, measure, walk
from femtoclaw.version import VERSION
from wal.durable_file import write_file
from wal.note import Ed25519Signer, Signer, sign_note

PACKAGES = ("femtoclaw", "wal", "cluster")
HASH = "sha256"
BUILD_ONLY = ("@/cffi/", "@/pycparser/")
"""Python files of locked packages that nothing here imports: only cffi's library is loaded."""

LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)


class Made:
    """A sealed distribution: digest of its manifest, its counter, the key that signed it, and whether it is new."""

    def __init__(self, manifest: sealed.Manifest, key: str, *, new: bool) -> None:
        self.digest = manifest.digest
        self.counter = manifest.counter
        self.files = len(manifest.files)
        self.key = key
        self.new = new


def seal(
    root: str, lock: str, signer: Signer | None = None, *, counter: int | None = None, algorithm: str = HASH
) -> Made:
    """Write the manifest of the distribution at ``root`` with the packages that the file ``lock`` names, signed by
    ``signer``; without one by a key that is made now and thrown away after: then nothing is done when what is there is
    whole. ``counter`` is the version counter; by default the seconds since 1970, or one more than before: it grows even
    when what was sealed before is lost. ``algorithm`` is one of ``sealed.APPROVED``.

    Raises ConfigurationError when a locked package is not installed; OSError and LogError when it cannot be written.
    """
    before = _current(root)
    place = dependencies(root)
    paths = dict(_listed(root, place, lock))
    # The same files, too: a package that was added to the lock, or left it, changes none of those that were sealed.
    if signer is None and before is not None and before.whole and before.manifest.files.keys() == paths.keys():
        return Made(before.manifest, before.key, new=False)
    made = signer if signer is not None else Ed25519Signer("femtoclaw.sealed/this-machine", os.urandom(32))
    least = before.manifest.counter + 1 if before is not None else 0
    counted = max(least, int(time.time())) if counter is None else counter
    text, code = _describe(root, place, paths, counted, algorithm)
    folder = os.path.join(root, sealed.FOLDER)
    note = sign_note(text, [made])
    write_file(os.path.join(folder, CODE_FILE), code)
    write_file(os.path.join(folder, KEY_FILE), made.public.vkey().encode() + b"\n")
    write_file(os.path.join(folder, MANIFEST_FILE), note)
    for name in ("", CODE_FILE, KEY_FILE, MANIFEST_FILE):
        os.chmod(os.path.join(folder, name), 0o644 if name else 0o755)
    digest = sealed.hasher("sha256")(note).hexdigest()
    return Made(sealed.parse(text, digest, folder), made.public.vkey(), new=True)


class _Current:
    """What is sealed at a place now, and whether the files still are what was sealed."""

    def __init__(self, manifest: sealed.Manifest, key: str, *, whole: bool) -> None:
        self.manifest = manifest
        self.key = key
        self.whole = whole


def _current(root: str) -> _Current | None:
    folder = os.path.join(root, sealed.FOLDER)
    where = os.path.join(folder, MANIFEST_FILE)
    try:
        raw = sealed.read(where, sealed.MANIFEST_BYTES_MAX)
        key = sealed.read(os.path.join(folder, KEY_FILE), 1024).decode().strip()
        digest = sealed.hasher("sha256")(raw).hexdigest()
        manifest = sealed.parse(sealed.check_signature(raw, key, where), digest, where)
    except (OSError, ValueError, Refused):
        return None
    try:
        sweep = Sweep(root, manifest)
        sweep.begin()
        sweep.settle()
        return _Current(manifest, key, whole=manifest.python == interpreter() and _code_is_whole(root, manifest))
    except Refused:
        return _Current(manifest, key, whole=False)


def _code_is_whole(root: str, manifest: sealed.Manifest) -> bool:
    try:
        raw = sealed.read(os.path.join(root, sealed.FOLDER, CODE_FILE), 1 << 28)
    except OSError:
        return False
    return bool(manifest.hasher()(raw).hexdigest() == manifest.bytecode.digest)


def source_files(root: str) -> list[str]:
    """Paths of the packages' own files, below ``root``, in order."""
    return sorted(path for name in PACKAGES for path, _ in walk(os.path.join(root, name), name))


def _listed(root: str, place: str, lock: str) -> Iterator[tuple[str, str]]:
    """Every file that belongs to the distribution: path in the manifest, place."""
    for path in source_files(root):
        yield path, os.path.join(root, path)
    with open(lock, encoding="utf-8") as file:
        names = LOCKED.findall(file.read())
    for name in names:
        for path in _of_package(name):
            if not path.startswith(BUILD_ONLY):
                yield path, os.path.join(place, path[2:])


def _of_package(name: str) -> list[str]:
    """The files that a locked package may be loaded from."""
    try:
        files = distribution(name).files or []
    except PackageNotFoundError:
        raise ConfigurationError(
            "a locked package is not installed", where=name, expected=name, found="nothing"
        ) from None
    parts = [file.parts for file in files if not file.name.endswith(IGNORED)]
    inside = [
        p
        for p in parts
        if ".." not in p and "__pycache__" not in p and (not p[0].endswith(INFORMATION) or p[1] == METADATA)
    ]
    return ["@/" + "/".join(p) for p in inside]


def _describe(root: str, place: str, paths: dict[str, str], counter: int, algorithm: str) -> tuple[str, bytes]:
    """The manifest's text and the code file."""
    lines = [sealed.TITLE, f"program {VERSION}", f"counter {counter}", f"hash {algorithm}", "signature ed25519",
             f"python {interpreter()}", f"dependencies {os.path.relpath(place, root)}"]  # fmt: skip
    hasher = sealed.hasher(algorithm)
    for path in interpreter_files():
        size, digest = measure(path, hasher, 0)
        lines.append(f"host {size} {digest} {path}")
    code = bytearray()
    compiled: list[str] = []
    for path, where in sorted(paths.items()):
        if "\n" in path:
            raise ConfigurationError("a file's name has two lines", where=repr(path))
        with open(where, "rb") as file:
            raw = file.read()
        lines.append(f"file {len(raw)} {hasher(raw).hexdigest()} {path}")
        if path.endswith(".py") and (byte_code := _compile(raw, path)) is not None:
            compiled.append(f"code {len(code)} {len(byte_code)} {path}")
            code += byte_code
    lines.append(f"bytecode {len(code)} {hasher(code).hexdigest()}")
    return "\n".join([*lines, *compiled, ""]), bytes(code)


def _compile(raw: bytes, path: str) -> bytes | None:
    """Byte code of exactly these bytes, marked as valid by itself; None for a file that does not compile. It names the path in
    the manifest, not the folder in which it was sealed: equal sources give equal code, and loading says where they are."""
    with tempfile.TemporaryDirectory(prefix="femtoclaw-seal-") as folder:
        source, target = os.path.join(folder, "source.py"), os.path.join(folder, "code.pyc")
        with open(source, "wb") as file:
            file.write(raw)
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        try:
            py_compile.compile(source, target, dfile=path, doraise=True, invalidation_mode=mode)
        except py_compile.PyCompileError:
            return None
        with open(target, "rb") as file:
            return file.read()


def main(root: str) -> None:
    """``scripts/seal``: seal the checkout at ``root`` and say what that means."""
    made = seal(root, os.path.join(root, "requirements.lock"))
    if not made.new:
        print(f"already sealed: {made.files} files are as they were; manifest {made.digest[:32]}")
        return
    print(f"sealed on this machine: {made.files} files, version counter {made.counter}, manifest {made.digest}")
    print(f"key {made.key}")
    print("Nobody else vouches for this: it trusts the files as they are now (trust on first use).")
    print(f"A node made before goes on after an operator said: femtoclaw distribution accept {made.digest[:16]}")
