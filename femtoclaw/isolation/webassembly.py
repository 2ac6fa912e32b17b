"""WebAssembly modules (FC-ABI-1.0.0): the four functions over linear memory, in wasmtime, with nothing to import.

Runs in a claw's process, which is confined like any other; the machine inside adds its own bounds. Instructions are
paid for with fuel, memory and tables have limits, and there is no import at all: no WASI, no clock, no chance, no
files. Such a module can compute, and nothing else. Its layouts are those of the C header for 32-bit pointers.
"""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from femtoclaw.claws.errors import ClawError
from femtoclaw.isolation import abi
from femtoclaw.isolation.abi import ModuleRefusedError
from femtoclaw.isolation.loading import Loaded, Prepared
from femtoclaw.isolation.stages import begin

if TYPE_CHECKING:
    from wasmtime import Config, Memory, Store

FUEL_PER_SECOND = 250_000_000
"""Fuel for each ``cpu_seconds`` of the limits: about one for each instruction, used up well before the processor time
is, so that a module that runs too far ends in the same place everywhere."""

MEMORY_SHARE = 2
"""Linear memory may have this part (1/n) of ``memory_bytes``; the rest is for the process around it."""

TABLE_ELEMENTS_MAX = 100_000
TABLES_MAX = 4
STACK_BYTES_MAX = 512 * 1024

ALLOCATE = "femtoclaw_module_alloc"
"""The fifth function, which WebAssembly needs: memory for so many bytes, or 0. The runtime never frees it."""

CONTEXT = struct.Struct("<I4xQI4x")
REQUEST = struct.Struct("<QII")
RESPONSE = struct.Struct("<iI")
"""``femtoclaw_runtime_context``, ``_request`` and ``_response`` of the header, for 32-bit pointers."""

_SIGNATURES = {
    abi.SYMBOLS[0]: ([], ["i32"]),
    abi.SYMBOLS[1]: (["i32"], ["i32"]),
    abi.SYMBOLS[2]: (["i32", "i32"], ["i32"]),
    abi.SYMBOLS[3]: ([], []),
    ALLOCATE: (["i32"], ["i32"]),
}
_CLOSED = ("wasm_threads", "wasm_memory64", "wasm_multi_memory", "shared_memory", "parallel_compilation")


def prepare() -> None:
    """Load wasmtime. Raises ModuleRefusedError(INCOMPATIBLE_RUNTIME) where it is not installed."""
    import femtoclaw.isolation.answer  # noqa: F401

    try:
        import wasmtime  # noqa: F401
    except (ImportError, OSError):
        detail = "WebAssembly needs the package wasmtime: install femtoclaw[wasm]"
        raise ModuleRefusedError("INCOMPATIBLE_RUNTIME", detail) from None


def load(prepared: Prepared) -> Loaded:
    """Compile, check and instantiate. Raises ModuleRefusedError: WRONG_ABI, SYMBOL_MISSING."""
    machine = _Machine(prepared)
    version = machine.version()
    abi.check_version(version)
    return Loaded(machine.call, lambda workspace, settings: machine.probe(version))


class _Machine:
    """One instance; ``call`` or ``probe`` is used once."""

    def __init__(self, prepared: Prepared) -> None:
        import wasmtime

        raw = prepared.files.get(prepared.target)
        if raw is None:
            raise ModuleRefusedError("SYMBOL_MISSING", "its entry is none of its files")
        self._prepared = prepared
        self._life = begin()
        memory_bytes = int(prepared.limits["memory_bytes"]) // MEMORY_SHARE
        engine = wasmtime.Engine(_config(memory_bytes))
        try:
            module = wasmtime.Module(engine, raw)
        except (wasmtime.WasmtimeError, ValueError):
            raise ModuleRefusedError("WRONG_ABI", "it is no WebAssembly module that this program can run") from None
        self._life.enter("abi_validation")
        _check_interface(module)
        self._store = wasmtime.Store(engine)
        self._store.set_limits(
            memory_size=memory_bytes, table_elements=TABLE_ELEMENTS_MAX, instances=1, tables=TABLES_MAX, memories=1
        )
        self._store.set_fuel(int(prepared.limits["cpu_seconds"]) * FUEL_PER_SECOND)
        with self._contained():
            exports = wasmtime.Instance(self._store, module, []).exports(self._store)
        self._functions: dict[str, Any] = {name: exports[name] for name in _SIGNATURES}
        memory = exports["memory"]
        assert isinstance(memory, wasmtime.Memory)  # _check_interface has seen its type
        self._memory = _LinearMemory(memory, self._store)

    def version(self) -> str:
        """What the module says; checked by the caller."""
        address = self._run(abi.SYMBOLS[0])
        return abi.decode_version(self._memory.string(address, abi.VERSION_BYTES_MAX + 1)) if address else ""

    def call(self, args: dict[str, Any], workspace: str, settings: dict[str, Any]) -> dict[str, Any]:
        self._initialize()
        try:
            self._life.enter("request")
            result = self._execute(args)
            self._life.enter("completion")
        finally:
            self._life.enter("shutdown")
            self._run(abi.SYMBOLS[3])
        return result

    def probe(self, version: str) -> dict[str, Any]:
        self._initialize()
        self._life.enter("shutdown")
        self._run(abi.SYMBOLS[3])
        return {"abi": version}

    def _initialize(self) -> None:
        self._life.enter("initialization")
        number = abi.parse_version(abi.VERSION).number()
        context = CONTEXT.pack(number, abi.runtime_handle(self._prepared.runtime), 0)
        address = self._place(context)
        try:
            returned = self._run(abi.SYMBOLS[1], address)
        except ClawError as error:
            raise ModuleRefusedError("INIT_FAILED", str(error)) from None
        abi.check_status(returned, "INIT_FAILED", abi.SYMBOLS[1])
        self._life.enter("registration")

    def _execute(self, args: dict[str, Any]) -> dict[str, Any]:
        name = self._prepared.name.encode() + b"\0"
        body = json.dumps(args, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\0"
        texts = self._place(name + body)
        handle = abi.execution_handle(self._prepared.key)
        request = REQUEST.pack(handle, texts, texts + len(name))
        places = {self._place(request): request, texts: name + body}
        response = self._place(RESPONSE.pack(abi.NO_RESPONSE, 0))
        returned = self._run(abi.SYMBOLS[2], next(iter(places)), response)
        if any(self._memory.read(address, len(raw)) != raw for address, raw in places.items()):
            raise ClawError("the module changed its request")
        abi.check_executed(returned)
        self._life.enter("response")
        status, address = RESPONSE.unpack(self._memory.read(response, RESPONSE.size))
        limit = int(self._prepared.limits["output_bytes"])
        payload = self._memory.string(address, limit + 1) if address else None
        if payload is not None and len(payload) > limit:
            raise ClawError(f"the module's response is over {limit} bytes")
        return abi.result_of(status, payload)

    def _place(self, raw: bytes) -> int:
        """The address of memory of the module that now holds ``raw``."""
        address = self._run(ALLOCATE, len(raw)) & 0xFFFF_FFFF
        if not address or address % 8:
            raise ClawError(f"{ALLOCATE} gave no memory at a multiple of 8")
        self._memory.write(address, raw)
        return address

    def _run(self, name: str, *values: int) -> int:
        with self._contained():
            returned = self._functions[name](self._store, *values)
        return returned if isinstance(returned, int) else 0

    @contextlib.contextmanager
    def _contained(self) -> Iterator[None]:
        """Traps as errors of the claw: which bound was reached, and nothing of the module's own words."""
        import wasmtime

        try:
            yield
        except wasmtime.Trap as trap:
            raise ClawError(f"the module stopped: {_trap(trap)}") from None
        except wasmtime.WasmtimeError:
            raise ClawError("the module stopped: over a bound of memory or tables") from None


class _LinearMemory:
    """The module's memory by addresses that the module gave, each checked."""

    def __init__(self, memory: Memory, store: Store) -> None:
        self._memory = memory
        self._store = store

    def read(self, address: int, size: int) -> bytes:
        self._check(address, size)
        return bytes(self._memory.read(self._store, address, address + size))

    def write(self, address: int, raw: bytes) -> None:
        self._check(address, len(raw))
        self._memory.write(self._store, raw, address)

    def string(self, address: int, limit: int) -> bytes:
        """The bytes before the first zero, at most ``limit``. Raises ClawError when memory ends before either."""
        address &= 0xFFFF_FFFF
        end = min(address + limit, self._memory.data_len(self._store))
        self._check(address, 0)
        found, zero, _ = bytes(self._memory.read(self._store, address, end)).partition(b"\0")
        if not zero and end - address < limit:
            raise ClawError("the module gave a string without an end")
        return found

    def _check(self, address: int, size: int) -> None:
        if not 0 <= address <= self._memory.data_len(self._store) - size:
            raise ClawError("the module gave an address outside of its memory")


def _config(memory_bytes: int) -> Config:
    """Address space is bounded, so that none is taken but what memory may grow to: it then never has to move."""
    import wasmtime

    config = wasmtime.Config()
    config.consume_fuel = True
    config.cranelift_nan_canonicalization = True  # one answer on every machine
    config.max_wasm_stack = STACK_BYTES_MAX
    for name in _CLOSED:
        setattr(config, name, False)
    config.memory_reservation = memory_bytes
    config.memory_reservation_for_growth = 0
    config.memory_guard_size = 0
    return config


def _check_interface(module: Any) -> None:
    """Raises ModuleRefusedError for a module that imports anything, or exports the functions in another form."""
    import wasmtime

    if module.imports:
        raise ModuleRefusedError("WRONG_ABI", "it imports functions; a module gets none")
    exported = {export.name: export.type for export in module.exports}
    if not isinstance(exported.get("memory"), wasmtime.MemoryType):
        raise ModuleRefusedError("SYMBOL_MISSING", "memory")
    for name, (takes, gives) in _SIGNATURES.items():
        found = exported.get(name)
        if not isinstance(found, wasmtime.FuncType):
            raise ModuleRefusedError("SYMBOL_MISSING", name)
        if [str(each) for each in found.params] != takes or [str(each) for each in found.results] != gives:
            raise ModuleRefusedError("WRONG_ABI", f"{name} has another signature")


def _trap(trap: Any) -> str:
    import wasmtime

    try:
        code = trap.trap_code
    except ValueError:  # one that the binding has no name for
        code = None
    if code == wasmtime.TrapCode.OUT_OF_FUEL:
        return "its fuel is used up"
    return "a trap" if code is None else str(code.name).lower().replace("_", " ")
