"""Native modules (FC-ABI-1.0.0): a shared library from verified bytes, called through ctypes.

Runs in a claw's process. What a library does wrong in there, such as writing where it must not or never returning,
ends that process and nothing else; the bounds on it are those of the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import mmap
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from femtoclaw.claws.errors import ClawError
from femtoclaw.isolation import abi
from femtoclaw.isolation.abi import ModuleRefusedError
from femtoclaw.isolation.loading import Loaded, Prepared
from femtoclaw.isolation.loading import memory as new_memory
from femtoclaw.isolation.stages import Life, begin


class Functions(ctypes.Structure):
    """``femtoclaw_functions``."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("workspace", ctypes.c_void_p),
        ("settings_json", ctypes.c_void_p),
        ("secret", ctypes.c_void_p),
    )


class RuntimeContext(ctypes.Structure):
    """``femtoclaw_runtime_context``."""

    _fields_ = (("abi_version", ctypes.c_uint32), ("runtime_id", ctypes.c_uint64), ("functions", ctypes.c_void_p))


class ExecutionRequest(ctypes.Structure):
    """``femtoclaw_execution_request``."""

    _fields_ = (
        ("execution_id", ctypes.c_uint64),
        ("capability", ctypes.c_void_p),
        ("arguments_json", ctypes.c_void_p),
    )


class ExecutionResponse(ctypes.Structure):
    """``femtoclaw_execution_response``."""

    _fields_ = (("status_code", ctypes.c_int32), ("result_json", ctypes.c_void_p))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.strnlen.restype = ctypes.c_size_t
_libc.strnlen.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

_RETURNS: dict[str, Any] = {
    "version": ctypes.c_void_p,
    "init": ctypes.c_int32,
    "execute": ctypes.c_int32,
    "shutdown": None,
}
_TAKES: dict[str, tuple[Any, ...]] = {
    "version": (),
    "init": (ctypes.c_void_p,),
    "execute": (ctypes.c_void_p, ctypes.POINTER(ExecutionResponse)),
    "shutdown": (),
}
_TEXT = ctypes.CFUNCTYPE(ctypes.c_void_p)
_TEXT_OF_TEXT = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
_MARGIN_BYTES = 64
"""Zeros before the first structure: to an allocator that is told to free it, nothing it has ever given out."""

_SECRET_NAME_BYTES_MAX = 256
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_SYMBOL_ENTRY = 1  # RTLD_DL_SYMENT
_CODE_TYPES = (2, 10)  # STT_FUNC, STT_GNU_IFUNC


def prepare() -> None:
    """What will be needed and is not imported with this module."""
    import femtoclaw.isolation.answer
    import femtoclaw.sdk.granted  # noqa: F401


def load(prepared: Prepared) -> Loaded:
    """Load the library. Raises ModuleRefusedError: WRONG_ABI, SYMBOL_MISSING."""
    raw = prepared.files.get(prepared.target)
    if raw is None:
        raise ModuleRefusedError("SYMBOL_MISSING", "its entry is none of its files")
    life = begin()
    library = _open(raw, prepared.memory)
    life.enter("abi_validation")
    functions = {name: _function(library, name) for name in abi.FUNCTIONS}
    version = functions["version"]()
    size = _libc.strnlen(version, abi.VERSION_BYTES_MAX + 1) if version else 0
    text = abi.decode_version(ctypes.string_at(version, size)) if version else ""
    abi.check_version(text)
    module = _Module(prepared, functions, life)
    return Loaded(module.call, lambda workspace, settings: module.probe(workspace, settings, text))


class _Module:
    """One loaded library; ``call`` or ``probe`` is used once."""

    def __init__(self, prepared: Prepared, functions: dict[str, Callable[..., Any]], life: Life) -> None:
        self._life = life
        self._prepared = prepared
        self._functions = functions

    def call(self, args: dict[str, Any], workspace: str, settings: dict[str, Any]) -> dict[str, Any]:
        with self._initialized(workspace, settings):
            self._life.enter("request")
            result = self._execute(args)
            self._life.enter("completion")
            return result

    def probe(self, workspace: str, settings: dict[str, Any], version: str) -> dict[str, Any]:
        with self._initialized(workspace, settings):
            return {"abi": version}

    @contextlib.contextmanager
    def _initialized(self, workspace: str, settings: dict[str, Any]) -> Iterator[None]:
        self._life.enter("initialization")
        context = _Context(self._prepared.runtime, workspace, settings)
        abi.check_status(self._functions["init"](context.address), "INIT_FAILED", abi.SYMBOLS[1])
        self._life.enter("registration")
        try:
            yield
        finally:
            self._life.enter("shutdown")
            self._functions["shutdown"]()

    def _execute(self, args: dict[str, Any]) -> dict[str, Any]:
        request = _Request(self._prepared.key, self._prepared.name, args)
        response = ExecutionResponse(abi.NO_RESPONSE, None)
        returned = self._functions["execute"](request.address, ctypes.byref(response))
        if not request.unchanged():
            raise ClawError("the module changed its request")
        abi.check_executed(returned)
        self._life.enter("response")
        return abi.result_of(response.status_code, self._payload(response.result_json))

    def _payload(self, address: int | None) -> bytes | None:
        if not address:
            return None
        limit = int(self._prepared.limits["output_bytes"])
        size = _libc.strnlen(address, limit + 1)
        if size > limit:
            raise ClawError(f"the module's response is over {limit} bytes")
        return ctypes.string_at(address, size)


class _Context:
    """RuntimeContext and function table in a page that nobody can write."""

    def __init__(self, runtime: str, workspace: str, settings: dict[str, Any]) -> None:
        self._texts = [_c_string(os.fsencode(workspace)), _c_string(_json(settings))]
        self._given: dict[str, Any] = {}
        answers = [_TEXT(partial(ctypes.addressof, text)) for text in self._texts]
        self._answers = (*answers, _TEXT_OF_TEXT(self._secret))
        addresses = [ctypes.cast(answer, ctypes.c_void_p).value for answer in self._answers]
        table = Functions(ctypes.sizeof(Functions), *addresses)
        self._memory = _Memory(_MARGIN_BYTES + ctypes.sizeof(RuntimeContext) + ctypes.sizeof(Functions))
        self.address = self._memory.address + _MARGIN_BYTES
        functions = self.address + ctypes.sizeof(RuntimeContext)
        number = abi.parse_version(abi.VERSION).number()
        self._memory.put(self.address, bytes(RuntimeContext(number, abi.runtime_handle(runtime), functions)))
        self._memory.put(functions, bytes(table))
        self._memory.protect()

    def _secret(self, name: int | None) -> int | None:
        from femtoclaw.sdk.granted import secret

        try:
            raw = ctypes.string_at(name, _libc.strnlen(name, _SECRET_NAME_BYTES_MAX)) if name else b""
            wanted = raw.decode()
            held = self._given.setdefault(wanted, _c_string(secret(wanted).encode()))
        except Exception:  # none may pass through the module's own frames: to it, there is no such secret
            return None
        return ctypes.addressof(held)


class _Request:
    """ExecutionRequest and its texts: a copy that the module could write, so that its bytes are compared afterwards."""

    def __init__(self, key: str, name: str, args: dict[str, Any]) -> None:
        texts = (name.encode() + b"\0", _json(args) + b"\0")
        size = ctypes.sizeof(ExecutionRequest)
        self._memory = _Memory(_MARGIN_BYTES + size + sum(map(len, texts)))
        self.address = self._memory.address + _MARGIN_BYTES
        addresses = (self.address + size, self.address + size + len(texts[0]))
        self._memory.put(self.address, bytes(ExecutionRequest(abi.execution_handle(key), *addresses)))
        for address, text in zip(addresses, texts, strict=True):
            self._memory.put(address, text)
        self._before = self._memory.content()

    def unchanged(self) -> bool:
        """Whether every byte is as it was."""
        return self._memory.content() == self._before


class _Memory:
    """Pages of their own, from the kernel."""

    def __init__(self, size: int) -> None:
        self._pages = mmap.mmap(-1, size)
        self._held = ctypes.c_char.from_buffer(self._pages)  # keeps it from being unmapped or moved
        self.address = ctypes.addressof(self._held)

    def put(self, address: int, raw: bytes) -> None:
        ctypes.memmove(address, raw, len(raw))

    def content(self) -> bytes:
        return self._pages[:]

    def protect(self) -> None:
        """Reading only, from here on. Raises OSError."""
        if _libc.mprotect(self.address, len(self._pages), mmap.PROT_READ) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def _function(library: ctypes.CDLL, name: str) -> Callable[..., Any]:
    symbol = f"femtoclaw_module_{name}"
    try:
        found = library[symbol]
    except AttributeError:
        raise ModuleRefusedError("SYMBOL_MISSING", symbol) from None
    if not _is_code(ctypes.cast(found, ctypes.c_void_p)):
        raise ModuleRefusedError("SYMBOL_MISSING", f"{symbol} is no function")
    found.restype, found.argtypes = _RETURNS[name], _TAKES[name]
    return found


class _SymbolPlace(ctypes.Structure):
    _fields_ = (
        ("file", ctypes.c_void_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_void_p),
        ("address", ctypes.c_void_p),
    )


def _is_code(address: ctypes.c_void_p) -> bool:
    """Whether the symbol at ``address`` is a function, where the C library tells (glibc, 64 bit); elsewhere True."""
    if not hasattr(_libc, "dladdr1") or ctypes.sizeof(ctypes.c_void_p) != 8:
        return True
    entry = ctypes.c_void_p()
    _libc.dladdr1.argtypes = (
        ctypes.c_void_p,
        ctypes.POINTER(_SymbolPlace),
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.c_int,
    )
    if not _libc.dladdr1(address, ctypes.byref(_SymbolPlace()), ctypes.byref(entry), _SYMBOL_ENTRY) or not entry.value:
        return True
    return ctypes.string_at(entry.value + 4, 1)[0] & 0xF in _CODE_TYPES  # st_info of an Elf64_Sym


def _open(raw: bytes, memory: int) -> ctypes.CDLL:
    """The library in ``raw``, by way of ``memory``, which is closed. Its constructors run here."""
    if memory < 0:
        memory = new_memory()  # where nothing is confined; else -1 again
    try:
        _seal(raw, memory)
        return _dlopen(f"/proc/self/fd/{memory}")
    except OSError:
        return _through_file(raw)
    finally:
        if memory >= 0:
            os.close(memory)


def _seal(raw: bytes, memory: int) -> None:
    """Write these bytes where nobody can change them any more. Raises OSError."""
    _write(memory, raw)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)


def _through_file(raw: bytes) -> ctypes.CDLL:
    """By way of a file in this execution's own temporary folder, where memory cannot be executed by name."""
    path = os.path.join(os.environ["TMPDIR"], "module.so")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o500)
    try:
        _write(fd, raw)
    finally:
        os.close(fd)
    try:
        return _dlopen(path)
    finally:
        os.unlink(path)


def _dlopen(path: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_LOCAL)
    except OSError:  # its text has the path, and what the file says
        raise ModuleRefusedError("WRONG_ABI", "it is no library that this machine can load") from None


def _write(fd: int, raw: bytes) -> None:
    view = memoryview(raw)
    while view:
        view = view[os.write(fd, view) :]


def _c_string(raw: bytes) -> Any:
    if b"\0" in raw:
        raise ValueError("a zero byte within a C string")
    return ctypes.create_string_buffer(raw)


def _json(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
