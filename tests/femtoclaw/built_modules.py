"""Modules for tests, built from source: C with ``cc``, WebAssembly from its text, Python as it is."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3

from femtoclaw.isolation import Isolation, Outcome
from femtoclaw.manifest import Limits, Manifest
from femtoclaw.modules.declared import manifest_of
from femtoclaw.modules.store import install_files
from tests.femtoclaw.isolated import ROOT

INCLUDE = ROOT / "femtoclaw" / "sdk" / "include"
EXAMPLES = ROOT / "docs" / "examples" / "modules"
SCHEMA = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}

C_PARTS = {
    "top": "",
    "version": "const char *femtoclaw_module_version(void) { return FEMTOCLAW_ABI; }",
    "init": "int32_t femtoclaw_module_init(const femtoclaw_runtime_context *context) { return 0; }",
    "execute": """int32_t femtoclaw_module_execute(const femtoclaw_execution_request *q, femtoclaw_execution_response *r) {
        r->status_code = 0; r->result_json = "{\\"done\\":true}"; return 0; }""",
    "shutdown": "void femtoclaw_module_shutdown(void) {}",
}

WAT_PARTS = {
    "top": '(memory (export "memory") 2)',
    "data": '(data (i32.const 16) "FC-ABI-1.0.0\\00") (data (i32.const 64) "{\\22done\\22:true}\\00")',
    "alloc": """(global $free (mut i32) (i32.const 1024))
        (func (export "femtoclaw_module_alloc") (param i32) (result i32) (local i32)
          (local.set 1 (global.get $free))
          (global.set $free (i32.and (i32.add (i32.add (local.get 1) (local.get 0)) (i32.const 7)) (i32.const -8)))
          (local.get 1))""",
    "version": '(func (export "femtoclaw_module_version") (result i32) (i32.const 16))',
    "init": '(func (export "femtoclaw_module_init") (param i32) (result i32) (i32.const 0))',
    "execute": """(func (export "femtoclaw_module_execute") (param i32 i32) (result i32)
        (i32.store (local.get 1) (i32.const 0)) (i32.store offset=4 (local.get 1) (i32.const 64)) (i32.const 0))""",
    "shutdown": '(func (export "femtoclaw_module_shutdown"))',
}

PYTHON_PARTS = {
    "top": "import json",
    "version": "def femtoclaw_module_version(): return 'FC-ABI-1.0.0'",
    "init": "def femtoclaw_module_init(context): return 0",
    "execute": """
def femtoclaw_module_execute(request, response):
    response.status_code, response.result_json = 0, '{"done":true}'
    return 0
""",
    "shutdown": "def femtoclaw_module_shutdown(): pass",
}


def c_source(**parts: str) -> str:
    """A whole C module, some parts of which are others."""
    return "\n".join(['#include "femtoclaw_module.h"', *(C_PARTS | parts).values()])


def wat_source(**parts: str) -> str:
    """The same as WebAssembly text."""
    return "(module\n" + "\n".join((WAT_PARTS | parts).values()) + ")"


def python_source(**parts: str) -> str:
    """The same as a Python file with the four functions."""
    return "\n".join((PYTHON_PARTS | parts).values()) + "\n"


def compiled_c(source: str, folder: Path, *options: str) -> bytes:
    """The bytes of a shared library."""
    (folder / "module.c").write_text(source)
    target = folder / "module.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-w", *options, "-I", str(INCLUDE), "-o", str(target), "module.c"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    return target.read_bytes()


def compiled_wat(source: str) -> bytes:
    """The bytes of a WebAssembly module."""
    import wasmtime

    return bytes(wasmtime.wat2wasm(source))


def built(kind: str, folder: Path, **parts: str) -> bytes:
    """A module of this kind (native, wasm, python) from its parts."""
    if kind == "native":
        return compiled_c(c_source(**parts), folder)
    return compiled_wat(wat_source(**parts)) if kind == "wasm" else python_source(**parts).encode()


ENTRIES = {
    "native": "native:module.so",
    "wasm": "wasm:module.wasm",
    "python": "python:module.py:femtoclaw_module_execute",
}


def manifest(entry: str, files: Mapping[str, bytes], **fields: Any) -> Manifest:
    """A manifest for these files; what is not given is ordinary."""
    body = {
        "type": "capability", "name": "test.module", "version": "1.0.0", "description": "a test module", "category": "system",
        "arguments": SCHEMA, "entry": entry, "permissions": [], "abi": "FC-ABI-1.0.0",
        "files": {path: blake3(raw).hexdigest() for path, raw in files.items()},
    }  # fmt: skip
    found = manifest_of(body | fields)
    assert isinstance(found, Manifest), found
    return found


class Sandbox:
    """An isolation over a module store."""

    def __init__(self, root: Path) -> None:
        self.store = str(root / "modules")
        self.workspace = root / "workspace"
        self.workspace.mkdir(exist_ok=True)
        self.isolation = Isolation(
            str(self.workspace), modules=("femtoclaw.isolation.native",), module_store=self.store
        )

    def run(self, entry: str, raw: bytes, args: Mapping[str, Any] | None = None, **more: Any) -> Outcome:
        """Install one file and run it. ``limits``, ``secrets`` and ``name`` may be given."""
        files = {entry.split(":")[1]: raw}
        limits = Limits(wall_seconds=5.0)._replace(**more.pop("limits", {}))._asdict()
        declared = manifest(entry, files, name=more.pop("name", "test.module"), limits=limits)
        install_files(self.store, declared, files)
        return self.isolation.run(declared, dict(args or {"text": "word"}), {"depth": 3}, idempotency_key="e-1", **more)


def message(outcome: Outcome) -> str:
    """What the outcome says went wrong."""
    assert outcome.error is not None, outcome
    return str(outcome.error["message"])


def refusal(outcome: Outcome) -> str:
    """The code and detail with which a module was refused in its sandbox."""
    assert outcome.status == "error", outcome
    assert message(outcome).startswith("module refused: "), outcome
    return message(outcome).removeprefix("module refused: ")


def write_package(folder: Path, body: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """A package folder with this ``module.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, raw in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(raw)
    (folder / "module.json").write_text(json.dumps(body))
