"""Python modules: made by the interpreter's own import, from verified bytes and from no file.

``python:FILE:NAME`` names one of three things in the module's file:

- ``femtoclaw_module_execute``: the file has all four functions of the ABI, with objects in place of memory;
- an object with ``name()``, ``description()`` and ``execute(args)``, as ``femtoclaw.sdk.claw`` makes it;
- a function of arguments, workspace and settings.

Imports among the module's own files are served from the verified bytes, before any file of this machine; what it
imports beside those comes from the interpreter and the program's environment, as far as the sandbox lets it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from types import ModuleType
from typing import Any, NoReturn

from femtoclaw.isolation import abi
from femtoclaw.isolation.abi import ModuleRefusedError
from femtoclaw.isolation.loading import Loaded, Prepared
from femtoclaw.isolation.stages import Life, begin

MEMBERS = ("name", "description", "execute")
"""Of a claw that is an object (CLAW-5.1)."""

PARAMETERS = {"version": 0, "init": 1, "execute": 2, "shutdown": 0}
"""Positional arguments of the four functions."""

_PLACE = "<module>/"
"""Where the module's files seem to be: in no folder of this machine."""

OURS = ("femtoclaw", "wal", "cluster")
OPEN = ("femtoclaw.sdk", "femtoclaw.manifest", "femtoclaw.errors", "femtoclaw.claws.errors", "femtoclaw.isolation")
"""Of this program's modules those that a module's code may import: the kit, and what serves it (EXT-13.1)."""

CLOSED = ("time", "datetime", "_datetime", "random", "_random", "secrets", "uuid", "zoneinfo")
"""Modules that a module which is declared deterministic does not get: clocks and chance (EXT-8.1)."""

CONSTANCY_CALLS = 100
"""How often a probe asks for name and description (CLAW-6.1)."""


def prepare() -> None:
    """What loading will import, while files can still be read without asking."""

    import femtoclaw.isolation.answer
    import femtoclaw.sdk.declaration
    import femtoclaw.sdk.granted
    import femtoclaw.sdk.interface
    import femtoclaw.sdk.surroundings  # noqa: F401


def load(prepared: Prepared) -> Loaded:
    """Import the module's file. Raises ModuleRefusedError (WRONG_ABI, SYMBOL_MISSING), and whatever the file raises."""
    path, _, name = prepared.target.rpartition(":")
    life = begin()
    found = _Files(prepared.files, closed=CLOSED if prepared.deterministic else ()).import_file(path)
    if name == abi.SYMBOLS[2]:
        return _four_functions(prepared, found, life)
    life.enter("abi_validation")
    target = getattr(found, name, None)
    if target is None:
        raise ModuleRefusedError("SYMBOL_MISSING", f"{name!a} is not in its file")
    if hasattr(target, "execute") or not callable(target):
        return _object(target, prepared.name, life)
    _check_arity(target, name, 3)

    def call(args: dict[str, Any], workspace: str, settings: dict[str, Any]) -> dict[str, Any]:
        life.enter("initialization")
        life.enter("registration")
        return _served(life, lambda: target(args, workspace, settings), lambda: None)

    return Loaded(call, lambda workspace, settings: {"abi": ""})


def _served(life: Life, request: Callable[[], dict[str, Any]], shutdown: Callable[[], object]) -> dict[str, Any]:
    """From the request to the shutdown, which comes also after an error."""
    try:
        life.enter("request")
        result = request()
        if life.reached[-1] == "request":
            life.enter("response")
        life.enter("completion")
    finally:
        life.enter("shutdown")
        shutdown()
    return result


class _Files:
    """Finder and loader of the module's own files, by their names in its folder."""

    def __init__(self, files: Mapping[str, bytes], *, closed: tuple[str, ...] = ()) -> None:
        self._closed = closed
        self._names: dict[str, tuple[str, bool]] = {}
        self._files = files
        for path in files:
            stem, dot, ending = path.rpartition(".")
            if dot and ending == "py":
                parts = stem.split("/")
                package = parts[-1] == "__init__" and len(parts) > 1
                self._names[".".join(parts[:-1] if package else parts)] = (path, package)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The import system asks; only for the module's own names there is an answer. Raises ImportError for parts of
        this program that are not for modules, and for what is closed to it."""
        known = self._names.get(name)
        if known is None:
            if name in self._closed:
                raise ImportError("a module that is declared deterministic gets neither clock nor chance")
            if name.partition(".")[0] in OURS and not any(name == each or name.startswith(f"{each}.") for each in OPEN):
                raise ImportError("of this program, a module may import femtoclaw.sdk")
            return None
        file, package = known
        return spec_from_loader(name, _Verified(name, file, self._files), is_package=package)

    def import_file(self, path: str) -> ModuleType:
        """The module that ``path`` is, executed."""
        name = next((name for name, (file, _) in self._names.items() if file == path), None)
        spec = self.find_spec(name) if name is not None else None
        if name is None or spec is None or spec.loader is None:
            raise ModuleRefusedError("SYMBOL_MISSING", "its entry is none of its Python files")
        for known in [each for each in sys.modules if each.partition(".")[0] in OURS[1:]]:
            del sys.modules[known]  # what this process itself has used of them, its module need not find
        for known in self._closed:
            sys.modules.pop(known, None)
        if self._closed:
            _close_chance()
        for own in self._names:
            sys.modules.pop(own, None)  # a module of the program by the same name is not meant
        sys.meta_path.insert(0, self)
        module = module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module


def _close_chance() -> None:
    """Take the system's randomness from the rest of this process's life."""
    import os

    def refused(*_: object) -> NoReturn:
        raise PermissionError("a module that is declared deterministic gets no chance")

    for name in ("urandom", "getrandom"):
        setattr(os, name, refused)


class _Verified(SourceFileLoader):
    """The import system's loader of source files, with bytes at hand in place of files.

    ``pkgutil.get_data(__name__, "words.txt")`` gives a module its own data, from the same bytes.
    """

    def __init__(self, name: str, path: str, files: Mapping[str, bytes]) -> None:
        super().__init__(name, f"{_PLACE}{path}")
        self._files = files

    def get_data(self, path: str) -> bytes:
        """The verified bytes of one of the module's files. Raises OSError for any other path."""
        raw = self._files.get(path.removeprefix(_PLACE)) if path.startswith(_PLACE) else None
        if raw is None:
            raise FileNotFoundError("a module has no other files")
        return raw

    def path_stats(self, path: str) -> Mapping[str, Any]:
        """Raises OSError: there is no file, and so no compiled one beside it."""
        raise FileNotFoundError("a module has no files")


def _object(target: Any, registered: str, life: Life) -> Loaded:
    """A claw that is an object. Raises ModuleRefusedError(SYMBOL_MISSING) for one that lacks a member."""
    for member, count in zip(MEMBERS, (0, 0, 1), strict=True):
        if not callable(getattr(target, member, None)):
            raise ModuleRefusedError("SYMBOL_MISSING", f"the claw has no {member}()")
        _check_arity(getattr(target, member), member, count)

    def call(args: dict[str, Any], workspace: str, settings: dict[str, Any]) -> dict[str, Any]:
        from femtoclaw.sdk import surroundings

        life.enter("initialization")
        surroundings.enter(workspace, settings)
        life.enter("registration")
        before = (target.name(), target.description())
        if before[0] != registered:
            raise ModuleRefusedError("BAD_MANIFEST", "its name() is not the one that is registered")
        result = _served(life, lambda: target.execute(args), lambda: None)
        if (target.name(), target.description()) != before:
            raise ModuleRefusedError("BAD_MANIFEST", "its name() or description() changed while it executed")
        return result

    def probe(workspace: str, settings: dict[str, Any]) -> dict[str, Any]:
        said = {(target.name(), target.description()) for _ in range(CONSTANCY_CALLS)}
        if len(said) != 1:
            raise ModuleRefusedError("BAD_MANIFEST", "its name() or description() changes from call to call")
        name, description = said.pop()
        told = {"abi": "", "name": name, "description": description}
        return told | ({"declaration": target.declaration()} if hasattr(target, "declaration") else {})

    return Loaded(call, probe)


def _four_functions(prepared: Prepared, found: ModuleType, life: Life) -> Loaded:
    life.enter("abi_validation")
    functions: dict[str, Callable[..., Any]] = {}
    for name, symbol in zip(abi.FUNCTIONS, abi.SYMBOLS, strict=True):
        functions[name] = getattr(found, symbol, None)  # type: ignore[assignment]
        if not callable(functions[name]):
            raise ModuleRefusedError("SYMBOL_MISSING", symbol)
        _check_arity(functions[name], symbol, PARAMETERS[name])
    version = functions["version"]()
    abi.check_version(version)

    def initialized(workspace: str, settings: dict[str, Any]) -> None:
        from femtoclaw.sdk import surroundings
        from femtoclaw.sdk.interface import RuntimeContext

        life.enter("initialization")
        surroundings.enter(workspace, settings)
        number = abi.parse_version(abi.VERSION).number()
        context = RuntimeContext(number, abi.runtime_handle(prepared.runtime))
        try:
            returned = functions["init"](context)
        except Exception as error:
            raise ModuleRefusedError("INIT_FAILED", f"{abi.SYMBOLS[1]} raised {type(error).__name__}") from None
        abi.check_status(returned, "INIT_FAILED", abi.SYMBOLS[1])
        life.enter("registration")

    def call(args: dict[str, Any], workspace: str, settings: dict[str, Any]) -> dict[str, Any]:
        initialized(workspace, settings)
        return _served(life, lambda: _execute(prepared, functions["execute"], args, life), functions["shutdown"])

    def probe(workspace: str, settings: dict[str, Any]) -> dict[str, Any]:
        initialized(workspace, settings)
        life.enter("shutdown")
        functions["shutdown"]()
        return {"abi": version}

    return Loaded(call, probe)


def _execute(prepared: Prepared, execute: Callable[..., Any], args: dict[str, Any], life: Life) -> dict[str, Any]:
    from femtoclaw.sdk.interface import ExecutionRequest, ExecutionResponse

    arguments = json.dumps(args, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    request = ExecutionRequest(abi.execution_handle(prepared.key), prepared.name, arguments)
    response = ExecutionResponse()
    abi.check_executed(execute(request, response))
    life.enter("response")
    text = response.result_json
    if isinstance(text, str):
        text = text.encode("utf-8", "surrogatepass")  # a lone surrogate is refused as what it is: no UTF-8
    return abi.result_of(response.status_code, text if isinstance(text, bytes) else None)


def _check_arity(function: Callable[..., Any], name: str, count: int) -> None:
    """Raises ModuleRefusedError(WRONG_ABI) for a function that cannot be called with so many positional arguments."""
    import inspect

    try:
        inspect.signature(function).bind(*[None] * count)
    except (TypeError, ValueError):
        raise ModuleRefusedError("WRONG_ABI", f"{name!a} does not take {count} arguments") from None
