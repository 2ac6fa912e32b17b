"""WebAssembly modules: fuel, memory and addresses are bounded inside the process, which is bounded as any claw's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.femtoclaw.built_modules import ENTRIES, Sandbox, built, message
from tests.femtoclaw.isolated import ROOT


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One sandbox for all: what one module does must not reach the next."""
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"))
    yield sandbox
    sandbox.isolation.close()


HOSTILE_MACHINES = {
    "loops": ("(loop (br 0)) (i32.const 0)", "fuel"),
    "recurses": ("(call $again (local.get 0)) drop (i32.const 0)", "stack overflow"),
    "grows": ("(loop $l (br_if $l (i32.ge_s (memory.grow (i32.const 100)) (i32.const 0)))) unreachable", "unreachable"),
    "reads_outside": ("(i32.load (i32.const -4))", "out of bounds"),
    "points_outside": (
        "(i32.store (local.get 1) (i32.const 0)) (i32.store offset=4 (local.get 1) (i32.const -16)) (i32.const 0)",
        "outside",
    ),
    "without_end": (
        "(memory.fill (i32.const 70000) (i32.const 32) (i32.const 61072)) (i32.store (local.get 1) (i32.const 0))"
        "(i32.store offset=4 (local.get 1) (i32.const 70000)) (i32.const 0)",
        "without an end",
    ),
    "changes_the_request": (
        "(i32.store8 (i32.load offset=12 (local.get 0)) (i32.const 32)) (i32.store (local.get 1) (i32.const 0))"
        "(i32.store offset=4 (local.get 1) (i32.const 64)) (i32.const 0)",
        "changed its request",
    ),
    "no_response": ("(i32.const 0)", "no response"),
    "fails": ("(i32.const 9)", "did not answer"),
}


@pytest.mark.requirement("ABI-13.1")
@pytest.mark.parametrize("name", HOSTILE_MACHINES)
def test_what_webassembly_does_wrong_is_contained(name: str, sandbox: Sandbox, tmp_path: Path) -> None:
    """Fuel, stack, memory and addresses have bounds of their own, inside those of the process."""
    body, text = HOSTILE_MACHINES[name]
    execute = f"""(func $again (param i32) (result i32) (i32.add (call $again (local.get 0)) (i32.const 1)))
        (func (export "femtoclaw_module_execute") (param i32 i32) (result i32) {body})"""
    outcome = sandbox.run(ENTRIES["wasm"], built("wasm", tmp_path, execute=execute), limits={"cpu_seconds": 2})
    assert outcome.status == "error", outcome
    assert text in message(outcome)


def test_memory_over_the_limit_is_not_given_at_all(sandbox: Sandbox, tmp_path: Path) -> None:
    """A module that declares more than its share of the memory bound does not start."""
    raw = built("wasm", tmp_path, top='(memory (export "memory") 5000)')
    assert "over a bound" in message(sandbox.run(ENTRIES["wasm"], raw))


def test_without_wasmtime_only_webassembly_is_refused() -> None:
    """The fork server starts, other modules run, and what is missing is said."""
    program = """
import importlib.util, sys
sys.modules["wasmtime"] = None
from femtoclaw.isolation import loading, webassembly
from femtoclaw.isolation.abi import ModuleRefusedError
try:
    webassembly.prepare()
except ModuleRefusedError as error:
    print(error.code)
real = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == "wasmtime" else real(name)
print("wasmtime" in loading.preloads(["wasm:a.wasm", "native:b.so"]), len(loading.preloads(["wasm:a.wasm"])) > 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT, timeout=60
    )
    assert (done.stdout, done.stderr) == ("INCOMPATIBLE_RUNTIME\nFalse True\n", "")
