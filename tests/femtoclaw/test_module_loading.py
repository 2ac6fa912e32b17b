"""Modules of all kinds in their sandbox: what is right runs, and nothing but the verified bytes; what is wrong is refused."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from femtoclaw.isolation import abi
from femtoclaw.isolation.abi import ABIVersion, ModuleRefusedError
from femtoclaw.modules.store import install_files, verify_installed
from tests.femtoclaw import built_modules as build
from tests.femtoclaw.built_modules import ENTRIES, EXAMPLES, Sandbox, built, message, refusal

KINDS = tuple(ENTRIES)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One sandbox for all: what one module does must not reach the next."""
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"))
    yield sandbox
    sandbox.isolation.close()


@pytest.mark.requirement("ABI-5.1", "ABI-9.1")
def test_one_capability_as_library_as_webassembly_and_as_python(sandbox: Sandbox, tmp_path: Path) -> None:
    """The same sample, built from source three times, answers the same."""
    args = {"text": 'zwölf Boxkämpfer \u2028 \n"quoted"'}
    library = build.compiled_c((EXAMPLES / "native" / "checksum.c").read_text(), tmp_path)
    machine = build.compiled_wat((EXAMPLES / "wasm" / "checksum.wat").read_text())
    python = (EXAMPLES / "python" / "checksum.py").read_bytes()
    found = [
        sandbox.run(entry, raw, args, name="text.checksum").result
        for entry, raw in (
            ("native:checksum.so", library),
            ("wasm:checksum.wasm", machine),
            ("python:checksum.py:checksum", python),
        )
    ]
    value = 2166136261
    for byte in json.dumps(args, separators=(",", ":"), ensure_ascii=False).encode():
        value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
    assert found == [{"checksum": f"{value:08x}"}] * 3


@pytest.mark.requirement("ABI-17.1")
@pytest.mark.parametrize("module", list(itertools.product((1, 2, 3), (4, 5, 6), (7, 8, 9))), ids=str)
def test_only_the_major_version_decides(module: tuple[int, int, int]) -> None:
    """27 versions of a module against a runtime of 2.5.8."""
    assert abi.compatible(ABIVersion(2, 5, 8), ABIVersion(*module)) == (module[0] == 2)


@pytest.mark.requirement("ABI-7.1", "ABI-4.1")
@pytest.mark.parametrize(
    "text, passes",
    [
        ("FC-ABI-1.0.0", True), ("FC-ABI-1.7.3", True), ("FC-ABI-2.0.0", False), ("FC-ABI-0.9.0", False), ("1.0.0", False),
        ("", False), ("FC-ABI-1.0", False), ("FC-ABI-01.0.0", False), ("fc-abi-1.0.0", False), ("FC-ABI-1.0.0 ", False),
        ("FC-ABI-1.0.0\n", False), ("FC-ABI-1.0.0-rc1", False), ("FC-ABI-1.0.0" * 50, False),
    ],
)  # fmt: skip
def test_which_version_texts_pass(text: str, passes: bool) -> None:
    if passes:
        assert abi.check_version(text).major == 1
        return
    with pytest.raises(ModuleRefusedError) as refused:
        abi.check_version(text)
    assert refused.value.code == "WRONG_ABI"


@pytest.mark.requirement("ABI-4.1", "ABI-7.1", "ABI-8.1")
@pytest.mark.parametrize("kind", KINDS)
def test_a_module_of_another_major_is_refused_before_its_init(kind: str, sandbox: Sandbox, tmp_path: Path) -> None:
    """Its init would never end; the refusal comes at once, and a newer minor runs."""
    hanging = {
        "native": "int32_t femtoclaw_module_init(const femtoclaw_runtime_context *c) { for (;;); }",
        "wasm": '(func (export "femtoclaw_module_init") (param i32) (result i32) (loop (br 0)) (i32.const 0))',
        "python": "def femtoclaw_module_init(context):\n    while True: pass",
    }
    two = {
        "native": {"version": 'const char *femtoclaw_module_version(void) { return "FC-ABI-2.0.0"; }'},
        "wasm": {"data": '(data (i32.const 16) "FC-ABI-2.0.0\\00")'},
        "python": {"version": "def femtoclaw_module_version(): return 'FC-ABI-2.0.0'"},
    }
    outcome = sandbox.run(ENTRIES[kind], built(kind, tmp_path, init=hanging[kind], **two[kind]))
    assert refusal(outcome).startswith("WRONG_ABI: it is of major 2")
    newer = {key: text.replace("2.0.0", "1.7.3") for key, text in two[kind].items()}
    if kind == "wasm":
        newer["data"] += '(data (i32.const 64) "{\\22done\\22:true}\\00")'
    assert sandbox.run(ENTRIES[kind], built(kind, tmp_path, **newer)).result == {"done": True}


@pytest.mark.requirement("ABI-6.1", "ABI-19.1")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("function", ["version", "init", "execute", "shutdown"])
def test_a_missing_function_is_named(kind: str, function: str, sandbox: Sandbox, tmp_path: Path) -> None:
    raw = built(kind, tmp_path, **{function: ""})
    assert refusal(sandbox.run(ENTRIES[kind], raw)) == f"SYMBOL_MISSING: femtoclaw_module_{function}"


@pytest.mark.requirement("ABI-6.1")
@pytest.mark.parametrize("kind", KINDS)
def test_names_are_exact(kind: str, sandbox: Sandbox, tmp_path: Path) -> None:
    """Another case is another name."""
    parts = {"native": build.C_PARTS, "wasm": build.WAT_PARTS, "python": build.PYTHON_PARTS}[kind]
    wrong = parts["shutdown"].replace("femtoclaw_module_shutdown", "Femtoclaw_Module_Shutdown")
    outcome = sandbox.run(ENTRIES[kind], built(kind, tmp_path, shutdown=wrong))
    assert refusal(outcome) == "SYMBOL_MISSING: femtoclaw_module_shutdown"


@pytest.mark.requirement("ABI-19.1")
@pytest.mark.parametrize(
    "kind, parts",
    [
        ("native", {"shutdown": 'int seven __asm__("femtoclaw_module_shutdown") = 7;'}),
        ("python", {"init": "def femtoclaw_module_init(): return 0"}),
        ("python", {"shutdown": "def femtoclaw_module_shutdown(x): pass"}),
        ("python", {"shutdown": "femtoclaw_module_shutdown = 7"}),
        ("wasm", {"init": '(func (export "femtoclaw_module_init") (result i32) (i32.const 0))'}),
        ("wasm", {"shutdown": '(global (export "femtoclaw_module_shutdown") i32 (i32.const 0))'}),
        ("wasm", {"top": "(memory 2)"}),
        ("wasm", {"top": '(import "env" "now" (func (result i64))) (memory (export "memory") 2)'}),
    ],
)
def test_other_descriptors_are_refused(kind: str, parts: dict[str, str], sandbox: Sandbox, tmp_path: Path) -> None:
    """Data in place of a function, another number of arguments, another signature, an import."""
    code = refusal(sandbox.run(ENTRIES[kind], built(kind, tmp_path, **parts))).partition(":")[0]
    assert code in ("SYMBOL_MISSING", "WRONG_ABI")


@pytest.mark.requirement("ABI-8.1")
@pytest.mark.parametrize(
    "kind, init",
    [
        ("native", "int32_t femtoclaw_module_init(const femtoclaw_runtime_context *c) { return 1; }"),
        ("wasm", '(func (export "femtoclaw_module_init") (param i32) (result i32) (i32.const 1))'),
        ("wasm", '(func (export "femtoclaw_module_init") (param i32) (result i32) unreachable)'),
        ("python", "def femtoclaw_module_init(context): return 1"),
        ("python", "def femtoclaw_module_init(context): raise OSError('x')"),
        ("python", "def femtoclaw_module_init(context): context.runtime_id = 5"),
    ],
)
def test_a_module_that_does_not_initialize_is_refused(kind: str, init: str, sandbox: Sandbox, tmp_path: Path) -> None:
    assert refusal(sandbox.run(ENTRIES[kind], built(kind, tmp_path, init=init))).startswith("INIT_FAILED")


@pytest.mark.requirement("ABI-12.1")
def test_handles_are_of_the_execution_and_never_the_same() -> None:
    """64 bits that follow from the id; ten thousand ids have ten thousand handles."""
    handles = {abi.execution_handle(f"e-{number}") for number in range(10_000)}
    assert len(handles) == 10_000
    assert all(0 <= handle < 1 << 64 for handle in handles)
    assert abi.execution_handle("e-1") == abi.execution_handle("e-1")


@pytest.mark.requirement("BOOT-9.1", "EXT-17.1")
@pytest.mark.parametrize("kind", KINDS)
def test_a_byte_changed_after_installation_is_found_before_any_code_runs(
    kind: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Every file is hashed at every load."""
    raw = built(kind, tmp_path)
    file = ENTRIES[kind].split(":")[1]
    declared = build.manifest(ENTRIES[kind], {file: raw})
    path = Path(install_files(sandbox.store, declared, {file: raw})) / file
    assert sandbox.isolation.run(declared, {"text": "a"}, {}).result == {"done": True}
    path.chmod(0o600)
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert refusal(sandbox.isolation.run(declared, {"text": "a"}, {})).startswith("HASH_MISMATCH")
    found = verify_installed(sandbox.store, declared)
    assert found is not None
    assert found.code == "HASH_MISMATCH"
    path.parent.chmod(0o700)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    assert refusal(sandbox.isolation.run(declared, {"text": "a"}, {})).startswith("HASH_MISMATCH")


@pytest.mark.requirement("BOOT-9.1", "BOOT-10.1")
@pytest.mark.parametrize("kind", KINDS)
def test_the_verified_bytes_are_the_loaded_ones(kind: str, tmp_path: Path) -> None:
    """A file exchanged between the check and the load is not what runs. In a process of its own: code is loaded."""
    raw = built(kind, tmp_path)
    file = ENTRIES[kind].split(":")[1]
    declared = build.manifest(ENTRIES[kind], {file: raw})
    store = tmp_path / "store"
    install_files(str(store), declared, {file: raw})
    program = """
import json, sys
from femtoclaw.isolation import loading
request = json.loads(sys.argv[1])
prepared = loading.prepare(request)
path = request["module_dir"] + "/" + sys.argv[2]
import os
os.chmod(request["module_dir"], 0o700); os.chmod(path, 0o600)
open(path, "wb").write(b"this is no module at all")
print(json.dumps(loading.load(prepared)({"text": "a"}, "/", {})))
"""
    request = {
        "entry": declared.entry, "files": dict(declared.files), "module_dir": str(store / declared.digest()),
        "limits": declared.limits._asdict(), "name": declared.name, "key": "k",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(request), file], capture_output=True, text=True, check=False,
        cwd=build.ROOT, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, '{"done": true}\n', "")


def test_imports_among_its_own_files_come_from_verified_bytes(sandbox: Sandbox) -> None:
    """Packages, helpers and data of the module are found, before an installed package of the same name; a file of the same
    name in the workspace is not."""
    (sandbox.workspace / "helper.py").write_text("VALUE = 'from the workspace'")
    files = {
        "main.py": b"import helper\nfrom parts import inner\nfrom parts.deeper import VALUE\n"
        b"import blake3\nimport pkgutil\nWORDS = pkgutil.get_data(__name__, 'words.txt').decode()\n"
        b"def run(args, workspace, settings): return {'found': [helper.VALUE, inner.VALUE, VALUE, WORDS, blake3.VALUE]}\n",
        "blake3.py": b"VALUE = 5\n",
        "words.txt": b"one two",
        "helper.py": b"VALUE = 1\n",
        "parts/__init__.py": b"",
        "parts/inner.py": b"from .deeper import VALUE as OTHER\nVALUE = OTHER - 1\n",
        "parts/deeper.py": b"VALUE = 3\n",
    }
    declared = build.manifest("python:main.py:run", files, abi="")
    install_files(sandbox.store, declared, files)
    assert sandbox.isolation.run(declared, {"text": "a"}, {}).result == {"found": [1, 2, 3, "one two", 5]}


@pytest.mark.requirement("ABI-9.1")
def test_a_python_module_that_changes_its_request_gets_a_type_error(sandbox: Sandbox, tmp_path: Path) -> None:
    execute = "def femtoclaw_module_execute(request, response):\n    request.capability = 'other'"
    outcome = sandbox.run(ENTRIES["python"], built("python", tmp_path, execute=execute))
    assert "TypeError" in message(outcome)


@pytest.mark.requirement("CLAW-5.1")
@pytest.mark.parametrize("missing", ["name", "description", "execute"])
def test_a_claw_without_one_of_its_members_is_refused(missing: str, sandbox: Sandbox) -> None:
    members = {
        "name": "def name(self): return 'test.module'",
        "description": "def description(self): return 'a test module'",
        "execute": "def execute(self, args): return {'got': args}",
    }
    whole = "class C:\n" + "".join(f"    {text}\n" for text in members.values()) + "it = C()\n"
    assert sandbox.run("python:m.py:it", whole.encode()).result == {"got": {"text": "word"}}
    del members[missing]
    lacking = "class C:\n" + "".join(f"    {text}\n" for text in members.values()) + "it = C()\n"
    assert refusal(sandbox.run("python:m.py:it", lacking.encode())).startswith(
        f"SYMBOL_MISSING: the claw has no {missing}"
    )
