"""Loading what was verified: the bytes that were hashed are the bytes that run.

A module's byte code is read once from the sealed code file, hashed, and handed to the interpreter from memory; its
source file is not looked at again. A native library is copied to memory that the kernel seals against writing, hashed
there, and loaded from there: a file that is exchanged or written afterwards is another file. Where the kernel gives no
such memory, the library is loaded through the descriptor that was hashed, and refused when the file changed meanwhile.

Names below a sealed package are found here or not at all. Everything else is the standard library's: the module search
path has nothing but it.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ExtensionFileLoader, ModuleSpec, SourceFileLoader

from femtoclaw.launcher.refusal import Refused
from femtoclaw.launcher.sealed import FOLDER, Manifest
from femtoclaw.launcher.sweep import mismatch, missing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any

CODE_FILE = "code"
METADATA = "METADATA"
"""The one file of a package's description that is sealed: it holds the version."""

_NATIVE = ".so"
_SEALS = 0x0001 | 0x0002 | 0x0004 | 0x0008  # no more seals, no shrinking, no growing, no writing
_ADD_SEALS = 1033


class Distribution:
    """The files of a verified manifest, as the finder and its loaders read them."""

    def __init__(self, root: str, manifest: Manifest) -> None:
        self.root = root
        self.manifest = manifest
        self._hasher = manifest.hasher()
        self._code_path = os.path.join(root, FOLDER, CODE_FILE)
        self._code: bytes | None = None

    def place(self, path: str) -> str:
        """Where a path of the manifest is on this machine."""
        if path.startswith("@/"):
            return os.path.join(self.root, self.manifest.dependencies, path[2:])
        return os.path.join(self.root, path)

    def hold_code(self) -> None:
        """Read the code file now: processes that are confined later need no file for what they still import."""
        with open(self._code_path, "rb") as file:
            self._code = file.read()

    def code(self, path: str) -> bytes | None:
        """The byte code of a source, verified; None when there is none. Raises Refused."""
        if path not in self.manifest.code:
            return None
        offset, length, expected = self.manifest.code[path]
        try:
            raw = self._piece(offset, length)
        except OSError as error:
            found = str(error.strerror)
            raise Refused("FILE_MISSING", "sealed code cannot be read", self._code_path, expected, found) from None
        found = self._hasher(raw).hexdigest()
        if found != expected:
            raise mismatch(f"{self._code_path}: {path}", expected, found)
        return raw

    def _piece(self, offset: int, length: int) -> bytes:
        if self._code is not None:
            return self._code[offset : offset + length]
        fd = os.open(self._code_path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(fd, length, offset)
        finally:
            os.close(fd)

    def data(self, path: str) -> bytes:
        """A listed file's bytes, verified. Raises Refused, FileNotFoundError for one that is not listed."""
        entry = self.manifest.files.get(path)
        if entry is None:
            raise FileNotFoundError(2, "not sealed", path)
        where = self.place(path)
        try:
            with open(where, "rb") as file:
                raw = file.read(entry.size + 1)
        except OSError as error:
            raise missing(where, entry, error) from None
        found = self._hasher(raw).hexdigest()
        if found != entry.digest:
            raise mismatch(where, entry.digest, found)
        return raw

    def relative(self, where: str) -> str:
        """The path in the manifest of a place on this machine; what lies elsewhere has one that is not listed."""
        below = os.path.join(self.root, self.manifest.dependencies) + os.sep
        if where.startswith(below):
            return f"@/{where[len(below) :]}"
        return where.removeprefix(self.root + os.sep)

    def native(self, path: str) -> tuple[int, tuple[int, int] | None]:
        """A descriptor with a library's verified bytes; with what shows a later change, where they can change."""
        entry = self.manifest.files[path]
        where = self.place(path)
        try:
            source = os.open(where, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise missing(where, entry, error) from None
        before = _change(source)
        held = _sealed_copy(source, path)
        found = self._digest(source if held is None else held)
        if found != entry.digest:
            raise mismatch(where, entry.digest, found)
        if held is None:
            return source, before
        os.close(source)
        return held, None

    def _digest(self, descriptor: int) -> str:
        import mmap

        with mmap.mmap(descriptor, os.fstat(descriptor).st_size, prot=mmap.PROT_READ) as content:
            return str(self._hasher(content).hexdigest())


def _change(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_ctime_ns, status.st_size


def _sealed_copy(source: int, name: str) -> int | None:
    """The file's bytes in memory that nobody can write any more; None where the kernel offers none."""
    import fcntl

    try:
        held = os.memfd_create(os.path.basename(name), os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (OSError, AttributeError):
        return None
    try:
        size, offset = os.fstat(source).st_size, 0
        while offset < size and (moved := os.sendfile(held, source, offset, size - offset)):
            offset += moved
        fcntl.fcntl(held, _ADD_SEALS, _SEALS)
    except OSError:
        os.close(held)
        return None
    return held


class _Source(SourceFileLoader):
    """A module from its sealed byte code; from its verified source where there is none."""

    def __init__(self, fullname: str, path: str, distribution: Distribution) -> None:
        super().__init__(fullname, distribution.place(path))
        self._path = path
        self._distribution = distribution

    def path_stats(self, path: Any) -> dict[str, int]:
        return {"mtime": 0, "size": 0}

    def get_data(self, path: Any) -> bytes:
        if path.endswith(".pyc"):
            code = self._distribution.code(self._path)
            if code is None:
                raise FileNotFoundError(2, "no sealed code", path)
            return code
        return self._distribution.data(self._distribution.relative(path))

    def set_data(self, path: Any, data: Any, *, _mode: int = 0) -> None:
        """Nothing is written beside what is sealed."""


class _Native(ExtensionFileLoader):
    """A library from sealed memory."""

    def __init__(self, fullname: str, path: str, distribution: Distribution) -> None:
        super().__init__(fullname, distribution.place(path))
        self._path = path
        self._distribution = distribution

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        held, before = self._distribution.native(self._path)
        # The descriptor stays open: the dynamic linker takes two libraries of one name for the same.
        through = ModuleSpec(spec.name, self, origin=f"/proc/self/fd/{held}")
        module = super().create_module(through)
        if before is not None and _change(held) != before:
            raise mismatch(self.path, "a file that stays", "a file that was written while it was loaded")
        module.__file__ = self.path
        return module


class Finder:
    """Finds the modules of a distribution, and nothing below its packages that it does not list."""

    def __init__(self, distribution: Distribution) -> None:
        self._distribution = distribution
        self._modules: dict[str, str] = {}
        for path in distribution.manifest.files:
            name = _module(path)
            # A library goes before a source of the same name, as the interpreter has it.
            if name and (name not in self._modules or path.endswith(_NATIVE)):
                self._modules[name] = path
        self._tops = {name.partition(".")[0] for name in self._modules}

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """The module's spec; None for the standard library's. Raises ModuleNotFoundError for what is not sealed."""
        found = self._modules.get(fullname)
        if found is None:
            if fullname.partition(".")[0] in self._tops:
                raise ModuleNotFoundError(f"{fullname} is not part of the sealed distribution", name=fullname)
            return None
        kind = _Native if found.endswith(_NATIVE) else _Source
        loader = kind(fullname, found, self._distribution)
        spec = ModuleSpec(fullname, loader, origin=loader.path, is_package=found.endswith("/__init__.py"))
        spec.has_location = True
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(os.path.dirname(loader.path))
        return spec

    def find_distributions(self, context: Any = None) -> list[Any]:
        """For ``importlib.metadata``: the descriptions of the sealed packages, from verified bytes."""
        from femtoclaw.launcher.description import descriptions

        name = getattr(context, "name", None)
        return descriptions(self._distribution, name)


def _module(path: str) -> str:
    """The module's name of a path in the manifest; empty for data."""
    bare = path.removeprefix("@/")
    if bare.endswith(".py"):
        return bare[:-3].removesuffix("/__init__").replace("/", ".")
    if bare.endswith(_NATIVE):
        folder, _, file = bare.rpartition("/")
        stem = file.partition(".")[0]
        return f"{folder}/{stem}".replace("/", ".") if folder else stem
    return ""


def install(distribution: Distribution) -> None:
    """From now on the distribution's modules are loaded from verified bytes only, and nothing from the folders that
    are no part of the interpreter's installation."""
    outside = ("site-packages", "dist-packages")
    sys.path[:] = [folder for folder in sys.path if folder and os.path.basename(folder) not in outside]
    sys.meta_path.insert(0, Finder(distribution))
