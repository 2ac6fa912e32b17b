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

from femtoclaw.launcher.held import Held, hold
from femtoclaw.launcher.refusal import Refused, mismatch, missing
from femtoclaw.launcher.sealed import FOLDER, Manifest
from femtoclaw.launcher.sweep import measure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any

    from femtoclaw.launcher.sweep import Sweep

CODE_FILE = "code"
METADATA = "METADATA"
"""The one file of a package's description that is sealed: it holds the version."""

_NATIVE = ".so"


class Distribution:
    """The files of a verified manifest, as the finder and its loaders read them."""

    def __init__(self, root: str, manifest: Manifest, sweep: Sweep | None = None) -> None:
        """``sweep`` is the comparison that is under way, whose work on libraries need not be done twice."""
        self._sweep = sweep
        self.root = root
        self.manifest = manifest
        self._hasher = manifest.hasher()
        self._dependencies = os.path.normpath(os.path.join(root, manifest.dependencies))
        self._code: memoryview | None = None

    def place(self, path: str) -> str:
        """Where a path of the manifest is on this machine."""
        if path.startswith("@/"):
            return os.path.join(self._dependencies, path[2:])
        return os.path.join(self.root, path)

    def code(self, path: str) -> bytes | None:
        """The byte code of a source, verified; None when there is none. Raises Refused."""
        if path not in self.manifest.code:
            return None
        offset, length = self.manifest.code[path]
        return bytes(self.read_code()[offset : offset + length])

    def read_code(self) -> memoryview:
        """The code file, read once and whole: a process that is confined later opens no file for what it imports.
        Raises Refused."""
        if self._code is None:
            entry, where = self.manifest.bytecode, os.path.join(self.root, FOLDER, CODE_FILE)
            try:
                with open(where, "rb", buffering=0) as file:
                    raw = file.read(entry.size + 1)
            except OSError as error:
                raise missing(where, entry.digest, error) from None
            found = self._hasher(raw).hexdigest()
            if found != entry.digest:
                raise mismatch(where, entry.digest, found)
            self._code = memoryview(raw)
        return self._code

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
            raise missing(where, entry.digest, error) from None
        found = self._hasher(raw).hexdigest()
        if found != entry.digest:
            raise mismatch(where, entry.digest, found)
        return raw

    def relative(self, where: str) -> str:
        """The path in the manifest of a place on this machine; what lies elsewhere has one that is not listed."""
        below = self._dependencies + os.sep
        own = where.removeprefix(self.root + os.sep)
        if own in self.manifest.files or not where.startswith(below):
            return own
        return f"@/{where[len(below) :]}"

    def native(self, path: str) -> Held:
        """A library's verified bytes. Raises Refused."""
        held = self._sweep.held(path) if self._sweep is not None else None
        return held if held is not None else hold(self.place(path), self.manifest.files[path], self._hasher)


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
        held = self._distribution.native(self._path)
        self._check(held)
        module = super().create_module(ModuleSpec(spec.name, self, origin=f"/proc/self/fd/{held.descriptor}"))
        self._check(held)
        module.__file__ = self.path
        return module

    def _check(self, held: Held) -> None:
        if held.altered():
            raise mismatch(self.path, "a file that stays", "one that was written since it was hashed")


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
        parents = {name.rpartition(".")[0] for name in self._modules}
        while above := {name.rpartition(".")[0] for name in parents} - parents:
            parents |= above
        self._namespaces = parents - set(self._modules) - {""}
        """Packages without a file of their own, such as ``google``: nothing is executed for them."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """The module's spec; None for the standard library's. Raises ModuleNotFoundError for what is not sealed."""
        found = self._modules.get(fullname)
        if found is None and fullname in self._namespaces:
            spec = ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = []
            return spec
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


class _Guard:
    """An audit hook: a library that is opened by its name (``ctypes``), past the import system, is compared first.

    It is loaded from the disk, so one that is exchanged in the moment between is not noticed.
    """

    def __init__(self, distribution: Distribution) -> None:
        self._distribution = distribution
        self._places = (distribution.root + os.sep, distribution.place("@/"))

    def __call__(self, event: str, arguments: Any) -> None:
        if event != "ctypes.dlopen" or not isinstance(arguments[0], (str, bytes)):
            return
        where = os.path.realpath(os.fsdecode(arguments[0]))
        if where.startswith(self._places):
            self._check(where)

    def _check(self, where: str) -> None:
        distribution = self._distribution
        entry = distribution.manifest.files.get(distribution.relative(where))
        if entry is None:
            raise Refused("UNLISTED_FILE", "a library that was not sealed", where, "a sealed one", "another")
        try:
            found = measure(where, distribution.manifest.hasher(), entry.size)[1]
        except OSError as error:
            raise missing(where, entry.digest, error) from None
        if found != entry.digest:
            raise mismatch(where, entry.digest, found)


def install(distribution: Distribution) -> None:
    """From now on the distribution's modules are loaded from verified bytes only, and nothing from the folders that
    are no part of the interpreter's installation."""
    outside = ("site-packages", "dist-packages")
    sys.path[:] = [folder for folder in sys.path if folder and os.path.basename(folder) not in outside]
    sys.addaudithook(_Guard(distribution))
    sys.meta_path.insert(0, Finder(distribution))
