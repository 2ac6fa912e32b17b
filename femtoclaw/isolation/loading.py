"""From a request to a function that can be called: first the bytes, then the confinement, then the code.

``prepare`` runs before anything is confined and runs nothing of a module: it reads the module's files, and refuses
them unless each has the BLAKE3 that the request, and so the log, names. ``load`` runs after the confinement and makes
code of those very bytes: no file is read a second time, so exchanging one in between changes nothing (BOOT-9.1).

An entry is ``module:function`` of this program; ``python:FILE:NAME``, ``native:FILE`` or ``wasm:FILE`` of an installed
module; or one of the latter behind ``probe:``, which loads, initializes and shuts down, but does not execute.

Of the request these fields are used: ``entry``, ``limits`` always; of a module ``module_dir``, ``files``, ``name`` (what
it is called by), ``key`` (the execution's id) and, when there, ``runtime`` (the node's name) and ``deterministic``.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
import stat
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

Claw = Callable[[dict[str, Any], str, dict[str, Any]], dict[str, Any]]
"""Arguments, workspace and settings to a result."""

KINDS = {
    "python": "femtoclaw.isolation.python_files",
    "native": "femtoclaw.isolation.native",
    "wasm": "femtoclaw.isolation.webassembly",
}
"""Kind of an installed module, and what loads it: ``prepare() -> None`` before, ``load(Prepared) -> Loaded`` after."""

_NEEDED = {
    "python": ("inspect", "femtoclaw.sdk.declaration", "femtoclaw.sdk.interface", "femtoclaw.sdk.surroundings"),
    "native": (),
    "wasm": ("wasmtime",),
}
_ALWAYS = ("femtoclaw.isolation.answer", "femtoclaw.sdk.granted")

PROBE = "probe"

MODULE_BYTES_MAX = 64 * 1024 * 1024
"""All files of one module together."""

_MFD_NOEXEC_SEAL = 8

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PART_BYTES = 1 << 20


class Prepared(NamedTuple):
    """What ``load`` needs.

    ``kind`` is empty for the program's own claws, whose ``target`` is ``module:function``; else ``target`` is what
    follows the kind in the entry, and ``files`` holds the verified bytes. ``memory`` is what ``memory`` made, for a
    native module, or -1. ``deterministic`` is what the module declares: then Python code gets neither clock nor chance.
    """

    kind: str
    target: str
    probed: bool
    files: Mapping[str, bytes]
    limits: Mapping[str, Any]
    name: str
    key: str
    runtime: str
    memory: int = -1
    deterministic: bool = False


class Loaded(NamedTuple):
    """A module whose code is loaded and whose contract was checked. ``probe`` initializes it and shuts it down."""

    call: Claw
    probe: Callable[[str, dict[str, Any]], dict[str, Any]]


def preloads(entries: list[str]) -> tuple[str, ...]:
    """Modules that a fork server should import once, so that executions of these entries need not. Those that are not
    there are left out: a module that needs one is refused by itself, and the server starts."""
    from importlib.util import find_spec

    kinds = sorted({entry.partition(":")[0] for entry in entries} & set(KINDS))
    wanted = (*_ALWAYS, *(name for kind in kinds for name in (KINDS[kind], *_NEEDED[kind]))) if kinds else ()
    return tuple(name for name in wanted if find_spec(name) is not None)


def prepare(request: Mapping[str, Any]) -> Prepared:
    """Read and verify what the request's entry needs; runs no code of a module.

    Raises ModuleRefusedError (HASH_MISMATCH, INCOMPATIBLE_RUNTIME), a ClawError: then nothing may be loaded.
    """
    entry = str(request["entry"])
    word, _, rest = entry.partition(":")
    probed = word == PROBE
    kind, _, target = (rest if probed else entry).partition(":")
    if kind not in KINDS:
        return Prepared("", entry, False, {}, {}, "", "", "")
    import_module(KINDS[kind]).prepare()
    files = _verified_files(str(request["module_dir"]), request["files"])
    name, key, runtime = (str(request.get(field, "")) for field in ("name", "key", "runtime"))
    deterministic = request.get("deterministic") is True
    return Prepared(kind, target, probed, files, request["limits"], name, key, runtime, deterministic=deterministic)


def memory() -> int:
    """A descriptor of an empty file in memory for a native module's code, or -1 where there is none to be had.

    Files in memory are beyond every bound of a process, so the filter denies making them: this one is made before it, for
    whatever comes. It cannot be started as a program.
    """
    kept = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    for flags in (kept | _MFD_NOEXEC_SEAL, kept):  # before Linux 6.3 there was no such flag
        try:
            return os.memfd_create("module", flags)
        except OSError:
            continue
    return -1


def load(prepared: Prepared) -> Claw:
    """The function that executes the claw. The caller has confined the process: a module's code may run from here on.

    Raises ModuleRefusedError (WRONG_ABI, SYMBOL_MISSING), a ClawError; whatever a Python module's import raises.
    """
    if not prepared.kind:
        module, _, function = prepared.target.partition(":")
        found: Claw = getattr(import_module(module), function)
        return found
    if prepared.probed:
        return lambda args, workspace, settings: _probe(prepared, workspace, settings)
    return _loaded(prepared).call


def _loaded(prepared: Prepared) -> Loaded:
    loaded: Loaded = import_module(KINDS[prepared.kind]).load(prepared)
    return loaded


def _probe(prepared: Prepared, workspace: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What the module says of itself, or with which code it is refused. What it raises itself is the caller's."""
    from femtoclaw.isolation.abi import ModuleRefusedError

    try:
        return {"loaded": _loaded(prepared).probe(workspace, settings)}
    except ModuleRefusedError as error:
        return {"refused": {"code": error.code, "detail": error.detail}}


def _verified_files(folder: str, expected: Mapping[str, str]) -> dict[str, bytes]:
    """The bytes of every file by its relative path. Raises ModuleRefusedError(HASH_MISMATCH)."""
    from blake3 import blake3

    from femtoclaw.isolation.abi import ModuleRefusedError

    found: dict[str, bytes] = {}
    left = MODULE_BYTES_MAX
    for path, digest in sorted(expected.items()):
        try:
            raw = read_beneath(folder, path, left)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise ModuleRefusedError("HASH_MISMATCH", f"a file of it cannot be read: {reason}") from None
        if blake3(raw).hexdigest() != digest:
            raise ModuleRefusedError("HASH_MISMATCH", "a file of it is not the one that was installed")
        found[path] = raw
        left -= len(raw)
    return found


def read_beneath(folder: str, path: str, limit: int) -> bytes:
    """The bytes of a regular file at the relative ``path`` beneath ``folder``; no component of it may be a symlink.

    Raises OSError, also for what is no regular file and for more than ``limit`` bytes.
    """
    fd = os.open(folder, _FOLDER)
    try:
        *parents, name = path.split("/")
        for part in parents:
            deeper = os.open(part, _FOLDER, dir_fd=fd)
            os.close(fd)
            fd = deeper
        file = os.open(name, _FILE, dir_fd=fd)
    finally:
        os.close(fd)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("not a regular file")
        pieces, size = [], 0
        while piece := os.read(file, _PART_BYTES):
            size += len(piece)
            if size > limit:
                raise OSError("too large")
            pieces.append(piece)
    finally:
        os.close(file)
    return b"".join(pieces)
