"""Shared libraries as modules: the contract in memory, and everything that breaks it, in processes of their own."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from femtoclaw.isolation import abi, native, webassembly
from tests.femtoclaw import built_modules as build
from tests.femtoclaw.built_modules import ENTRIES, INCLUDE, Sandbox, built, message, refusal


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One sandbox for all: what one module does must not reach the next."""
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"))
    yield sandbox
    sandbox.isolation.close()


@pytest.mark.requirement("ABI-7.1")
@pytest.mark.parametrize("returned", ["0", '"1.0.0"', '""', '"\\xff\\xfe"', '"FC-ABI-2.0.0"'])
def test_versions_that_a_library_cannot_return(returned: str, sandbox: Sandbox, tmp_path: Path) -> None:
    """NULL, another form, nothing, and bytes that are no UTF-8."""
    version = f"const char *femtoclaw_module_version(void) {{ return {returned}; }}"
    assert refusal(sandbox.run(ENTRIES["native"], built("native", tmp_path, version=version))).startswith("WRONG_ABI")


C_EXECUTE = (
    "int32_t femtoclaw_module_execute(const femtoclaw_execution_request *q, femtoclaw_execution_response *r) {{ {} }}"
)
HOSTILE_LIBRARIES = {
    "segfault": (C_EXECUTE.format("*(volatile int *)8 = 1; return 0;"), "killed", "SIGSEGV"),
    "frees_the_request": (C_EXECUTE.format("free((void *)q); return 0;"), "killed", "SIG"),
    "frees_the_arguments": (C_EXECUTE.format("free((void *)q->arguments_json); return 0;"), "killed", "SIG"),
    "exits": (C_EXECUTE.format("_exit(0);"), "crashed", "without an answer"),
    "never_ends": (C_EXECUTE.format("for (;;);"), "timeout", "wall time"),
    "fails": (C_EXECUTE.format("r->status_code = 0; return 5;"), "error", "did not answer"),
    "no_response": (C_EXECUTE.format("return 0;"), "error", "no response"),
    "no_payload": (C_EXECUTE.format("r->status_code = 0; return 0;"), "error", "no response"),
    "unknown_status": (C_EXECUTE.format('r->status_code = 77; r->result_json = "{}"; return 0;'), "error", "status"),
    "no_json": (C_EXECUTE.format('r->status_code = 0; r->result_json = "{"; return 0;'), "error", "JSON"),
    "no_object": (C_EXECUTE.format('r->status_code = 0; r->result_json = "[1]"; return 0;'), "error", "JSON"),
    "twice": (C_EXECUTE.format(r'r->status_code = 0; r->result_json = "{\"a\":1,\"a\":2}"; return 0;'), "error", "JSON"),
    "no_utf8": (C_EXECUTE.format(r'r->status_code = 0; r->result_json = "{\"a\":\"\xff\"}"; return 0;'), "error", "JSON"),
    "deep": (
        C_EXECUTE.format("static char b[200001]; memset(b, '[', 200000); r->status_code = 0; r->result_json = b; return 0;"),
        "error",
        "JSON",
    ),
    "huge": (
        C_EXECUTE.format("char *b = malloc(100000001); memset(b, ' ', 100000000); b[100000000] = 0;"
                         "r->status_code = 0; r->result_json = b; return 0;"),
        "error",
        "over",
    ),
    "changes_the_request": (
        C_EXECUTE.format('((char *)q->arguments_json)[2] = 0; r->status_code = 0; r->result_json = "{}"; return 0;'),
        "error",
        "changed its request",
    ),
    "changes_the_handle": (
        C_EXECUTE.format('((femtoclaw_execution_request *)q)->execution_id = 1; r->status_code = 0; r->result_json = "{}";'
                         "return 0;"),
        "error",
        "changed its request",
    ),
    "error_without_message": (C_EXECUTE.format('r->status_code = 2; r->result_json = "{}"; return 0;'), "error", "not a mess"),
}  # fmt: skip


@pytest.mark.requirement("ABI-13.1", "ABI-9.1", "ABI-14.1")
@pytest.mark.parametrize("name", HOSTILE_LIBRARIES)
def test_what_a_library_does_wrong_is_contained(name: str, sandbox: Sandbox, tmp_path: Path) -> None:
    """Each ends as an outcome with a reason, and the next module is served."""
    execute, status, text = HOSTILE_LIBRARIES[name]
    top = "#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>"
    outcome = sandbox.run(
        ENTRIES["native"], built("native", tmp_path, top=top, execute=execute), limits={"wall_seconds": 1.5}
    )
    assert outcome.status == status, outcome
    assert text in message(outcome)
    assert sandbox.run(ENTRIES["native"], built("native", tmp_path)).result == {"done": True}


@pytest.mark.requirement("ABI-11.1")
@pytest.mark.parametrize("target", ["c->abi_version = 5", "((femtoclaw_functions *)c->functions)->secret = 0"])
def test_writing_the_context_ends_the_process(target: str, sandbox: Sandbox, tmp_path: Path) -> None:
    """Context and function table are read only, by the kernel."""
    body = f"femtoclaw_runtime_context *c = (void *)k; {target}; return 0;"
    init = f"int32_t femtoclaw_module_init(const femtoclaw_runtime_context *k) {{ {body} }}"
    outcome = sandbox.run(ENTRIES["native"], built("native", tmp_path, init=init))
    assert (outcome.status, "SIGSEGV" in message(outcome)) == ("killed", True)


@pytest.mark.requirement("ABI-10.1")
@pytest.mark.parametrize("body, status", [("for (;;);", "timeout"), ("*(volatile int *)8 = 1;", "killed")])
def test_a_shutdown_that_hangs_or_crashes(body: str, status: str, sandbox: Sandbox, tmp_path: Path) -> None:
    """It ends within the execution's bounds."""
    raw = built("native", tmp_path, shutdown=f"void femtoclaw_module_shutdown(void) {{ {body} }}")
    assert sandbox.run(ENTRIES["native"], raw, limits={"wall_seconds": 0.5}).status == status


@pytest.mark.requirement("ABI-10.1")
@pytest.mark.parametrize("answers", [True, False])
def test_shutdown_is_called_once(answers: bool, sandbox: Sandbox, tmp_path: Path) -> None:
    """After an answer, and after a response that is none."""
    top = "#include <unistd.h>\nstatic int calls;"
    shutdown = "void femtoclaw_module_shutdown(void) { if (++calls > 1) _exit(9); }"
    execute = "" if answers else C_EXECUTE.format("return 3;")
    parts = {"execute": execute} if execute else {}
    outcome = sandbox.run(ENTRIES["native"], built("native", tmp_path, top=top, shutdown=shutdown, **parts))
    assert outcome.status == ("success" if answers else "error")
    python = "def femtoclaw_module_shutdown():\n    import os\n    os._exit(7)"
    assert sandbox.run(ENTRIES["python"], built("python", tmp_path, shutdown=python)).exit_status == 7


def test_a_library_asks_for_workspace_settings_and_secrets(sandbox: Sandbox, tmp_path: Path) -> None:
    """Through the function table; a secret that was not granted is none."""
    top = "#include <stdio.h>\nstatic const femtoclaw_functions *f; static char b[4096];"
    init = "int32_t femtoclaw_module_init(const femtoclaw_runtime_context *c) { f = c->functions; return f->size != sizeof *f; }"
    execute = C_EXECUTE.format(
        r'const char *no = f->secret("other"), *yes = f->secret("token"); f->secret(0); f->secret("\xff");'
        r'snprintf(b, sizeof b, "{\"w\":\"%s\",\"s\":%s,\"yes\":\"%s\",\"no\":%d,\"c\":\"%s\",\"id\":%llu}",'
        r" f->workspace(), f->settings_json(), yes, no == 0, q->capability, (unsigned long long)(q->execution_id >> 1));"
        "r->status_code = 0; r->result_json = b; return 0;"
    )
    raw = built("native", tmp_path, top=top, init=init, execute=execute)
    found = sandbox.run(ENTRIES["native"], raw, secrets={"token": "tök3n-value"}).result
    assert found == {
        "w": str(sandbox.workspace), "s": {"depth": 3}, "yes": "tök3n-value", "no": 1, "c": "test.module",
        "id": abi.execution_handle("e-1") >> 1,
    }  # fmt: skip


@pytest.mark.requirement("ABI-12.1", "SDK-8.1")
@pytest.mark.parametrize(
    "status, kind",
    [(1, "ExecutionError"), (2, "ArgumentError"), (3, "AuthorizationError"), (4, "EnvironmentError")],
)
def test_errors_come_back_structured(status: int, kind: str, sandbox: Sandbox, tmp_path: Path) -> None:
    execute = C_EXECUTE.format(
        rf'r->status_code = {status}; r->result_json = "{{\"message\":\"no such thing\"}}"; return 0;'
    )
    outcome = sandbox.run(ENTRIES["native"], built("native", tmp_path, execute=execute))
    assert (outcome.status, outcome.error) == ("error", {"class": kind, "message": "no such thing"})


RELEASED = [32, 0, 8, 16, 24, 24, 0, 8, 16, 24, 0, 8, 16, 16, 0, 8, 0x010000]
"""Sizes and offsets of FC-ABI-1 on 64-bit machines, structure by structure, and the version's number."""


@pytest.mark.requirement("ABI-11.1", "ABI-12.1", "ABI-17.1", "SUITE-10.2")
def test_layouts_are_those_of_the_compiled_header(tmp_path: Path) -> None:
    """Sizes and offsets in ctypes, and in the 32-bit packing for WebAssembly, against a C compiler's."""
    structures = {
        "functions": native.Functions, "runtime_context": native.RuntimeContext,
        "execution_request": native.ExecutionRequest, "execution_response": native.ExecutionResponse,
    }  # fmt: skip
    lines, expected = [], []
    for name, structure in structures.items():
        lines.append(f'printf("%zu\\n", sizeof(femtoclaw_{name}));')
        expected.append(ctypes.sizeof(structure))
        for field, _ in structure._fields_:
            lines.append(f'printf("%zu\\n", offsetof(femtoclaw_{name}, {field}));')
            expected.append(getattr(structure, field).offset)
    lines.append('printf("%u\\n", FEMTOCLAW_ABI_VERSION);')
    expected.append(abi.parse_version(abi.VERSION).number())
    source = (
        '#include "femtoclaw_module.h"\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {'
        + "".join(lines)
        + "}"
    )
    (tmp_path / "layout.c").write_text(source)
    subprocess.run(["cc", "-I", str(INCLUDE), "-o", "layout", "layout.c"], cwd=tmp_path, check=True, timeout=60)
    printed = subprocess.run([tmp_path / "layout"], check=True, capture_output=True, text=True, timeout=10).stdout
    assert [int(line) for line in printed.split()] == expected
    if ctypes.sizeof(ctypes.c_void_p) == 8:
        assert expected == RELEASED, "another layout is another major version"
    sizes = [each.size for each in (webassembly.CONTEXT, webassembly.REQUEST, webassembly.RESPONSE)]
    assert sizes == [24, 16, 8]
    assert webassembly.CONTEXT.pack(1, 2, 3)[16:20] == b"\3\0\0\0"


ALLOCATING = """
#include <stdio.h>
#include <stdlib.h>
static char *last; static long live;
static void forget(void) { if (last) { free(last); live--; } last = 0; }
"""
SANITIZED = """
import sys
from femtoclaw.isolation import loading, native
from femtoclaw.manifest import Limits
prepared = loading.Prepared("native", "module.so", False, {"module.so": open(sys.argv[1], "rb").read()},
                            Limits()._asdict(), "test.module", "e-1", "node")
loaded = native.load(prepared)
for _ in range(10_000):
    found = loaded.call({"text": "word"}, "/", {})
print(found)
"""


def sanitizer() -> str | None:
    """The address sanitizer's library, where the compiler has one."""
    found = subprocess.run(
        ["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=False, timeout=10
    )
    path = found.stdout.strip()
    return os.path.realpath(path) if os.path.isabs(path) else None


@pytest.mark.requirement("ABI-14.1")
@pytest.mark.parametrize("fault", ["", "free(q);", "free(r->result_json); free(b);"])
def test_ownership_under_the_address_sanitizer(fault: str, tmp_path: Path) -> None:
    """Ten thousand calls free nothing that is not theirs and leave nothing; a wrong free is seen at once."""
    library = sanitizer()
    if library is None:
        pytest.skip("the compiler has no address sanitizer")
    execute = C_EXECUTE.format(
        "forget(); char *b = malloc(64); live++; last = b;"
        r'snprintf(b, 64, "{\"live\":%ld}", live); r->status_code = 0; r->result_json = b;' + fault + " return 0;"
    )
    shutdown = "void femtoclaw_module_shutdown(void) { forget(); }"
    source = build.c_source(top=ALLOCATING, execute=execute, shutdown=shutdown)
    build.compiled_c(source, tmp_path, "-fsanitize=address", "-g")
    done = subprocess.run(
        [sys.executable, "-c", SANITIZED, str(tmp_path / "module.so")], capture_output=True, text=True, check=False,
        env={"LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"}, cwd=build.ROOT, timeout=100,
    )  # fmt: skip
    if fault:
        assert done.returncode != 0
        assert "AddressSanitizer: attempting" in done.stderr or "AddressSanitizer: heap-use-after-free" in done.stderr
    else:
        assert (done.returncode, done.stdout) == (0, "{'live': 1}\n"), done.stderr
