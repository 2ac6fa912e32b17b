"""Measurements of the contract between the program and modules that need no node: layouts, ownership, ids, types, stages, order."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from femtoclaw.compliance.checking import CannotMeasureError
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.sample_modules import (
    FOUR,
    SCHEMA,
    claw,
    compiled,
    compiler,
    declared,
    four,
    headers,
    library,
)
from femtoclaw.distribution import ROOT
from femtoclaw.isolation import abi, stages
from femtoclaw.manifest import TYPES, Manifest
from femtoclaw.modules.declared import manifest_of, read_manifest
from femtoclaw.modules.refusal import Refusal

HANDLES = 10_000
CALLS = 10_000
SANITIZE_S = 60.0

FIELDS: dict[str, Any] = {
    "type": "capability", "name": "sample.claw", "version": "1.0.0", "description": "a sample", "category": "system",
    "arguments": SCHEMA, "permissions": [], "entry": "python:m.py:claw", "files": {"m.py": "0" * 64},
}  # fmt: skip


def layouts(laboratory: Laboratory) -> dict[str, list[int]]:
    """Sizes and offsets of the structures, as a C compiler has them from the published header, and as the program."""
    from femtoclaw.isolation import native

    structures = {
        "functions": native.Functions, "runtime_context": native.RuntimeContext,
        "execution_request": native.ExecutionRequest, "execution_response": native.ExecutionResponse,
    }  # fmt: skip
    lines, ours = [], []
    for name, structure in structures.items():
        lines.append(f"sizeof(femtoclaw_{name})")
        ours.append(len(bytes(structure())))
        for field in (each[0] for each in structure._fields_):
            lines.append(f"offsetof(femtoclaw_{name}, {field})")
            ours.append(getattr(structure, field).offset)
    body = "".join(f'printf("%zu\\n", (size_t){line});' for line in lines)
    source, target = laboratory.place("layout.c"), laboratory.place("layout")
    with open(source, "w") as file:
        file.write(
            '#include "femtoclaw_module.h"\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {' + body + "}\n"
        )
    compiled(["-I", headers(), "-o", target, source])
    printed = subprocess.run([target], check=True, capture_output=True, text=True, timeout=10).stdout
    return {"program": ours, "header": [int(line) for line in printed.split()]}


ALLOCATING = """
#include <stdio.h>
#include <stdlib.h>
static char *last; static long live;
static void forget(void) { if (last) { free(last); live--; } last = 0; }
"""
REPEATED = """
import sys
sys.path.insert(0, sys.argv[2])
from femtoclaw.isolation import loading, native
from femtoclaw.manifest import Limits
prepared = loading.Prepared("native", "m.so", False, {"m.so": open(sys.argv[1], "rb").read()}, Limits()._asdict(), "m", "k", "n")
loaded = native.load(prepared)
for _ in range(int(sys.argv[3])):
    found = loaded.call({"text": "word"}, "/", {})
print(found)
"""


def ownership(laboratory: Laboratory) -> dict[str, tuple[int, str, str]]:
    """A module that allocates, called many times under the address sanitizer, and one that frees what is not its own: exit
    code, output, and what the sanitizer said. Raises CannotMeasureError without one."""
    found = subprocess.run(
        [compiler(), "-print-file-name=libasan.so"], capture_output=True, text=True, check=False, timeout=10
    )
    path = found.stdout.strip()
    if not os.path.isabs(path):
        raise CannotMeasureError("the compiler has no address sanitizer")
    folder = laboratory.place("sanitized")
    os.mkdir(folder)
    execute = (
        "forget(); char *b = malloc(64); live++; last = b;"
        r'snprintf(b, 64, "{\"live\":%ld}", live); r->status_code = 0; r->result_json = b; FAULT return 0;'
    )
    ended = {}
    for name, fault in (("careful", ""), ("frees the request", "free((void *)q);")):
        library(
            folder, name.replace(" ", "-"), ("-fsanitize=address", "-g"), top=ALLOCATING,
            execute=execute.replace("FAULT", fault).replace("{", "{{").replace("}", "}}").format(),
            shutdown="void femtoclaw_module_shutdown(void) { forget(); }",
        )  # fmt: skip
        file = os.path.join(folder, name.replace(" ", "-") + ".so")
        done = subprocess.run(
            [sys.executable, "-c", REPEATED, file, ROOT, str(CALLS)], capture_output=True, text=True, check=False,
            env={"LD_PRELOAD": os.path.realpath(path), "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"}, cwd=folder,
            timeout=SANITIZE_S,
        )  # fmt: skip
        said = next((line for line in done.stderr.splitlines() if "AddressSanitizer" in line), "")
        ended[name] = (done.returncode, done.stdout.strip(), said)
    return ended


def handles(laboratory: Laboratory) -> dict[str, int]:
    """How many handles so many executions have, and the largest."""
    found = {abi.execution_handle(f"execution-{number}") for number in range(HANDLES)}
    return {"executions": HANDLES, "handles": len(found), "largest": max(found)}


def declarations_of_modules(laboratory: Laboratory) -> dict[str, str]:
    """Which code refuses a declaration, by what is wrong with it; empty where it is taken."""
    from femtoclaw.modules.declared import check_declared

    wrong: dict[str, Mapping[str, Any]] = {
        "whole": {}, "no type": {"type": None}, "an unknown type": {"type": "driver"}, "a type that is no text": {"type": 7},
        "an empty id": {"name": ""}, "an id with a blank": {"name": "a b"}, "no id": {"name": None},
        "an id that is no utf-8": {"name": "\udcff"}, "version 1.0": {"version": "1.0"}, "version v1.0.0": {"version": "v1.0.0"},
        "no version": {"version": None}, "no permissions": {"permissions": None},
        **{f"type {kind}": {"type": kind} for kind in TYPES},
    }  # fmt: skip

    def code(fields: Mapping[str, Any]) -> str:
        body = {name: value for name, value in (FIELDS | dict(fields)).items() if value is not None}
        found = manifest_of(body)
        return found.code if isinstance(found, Refusal) else ""

    def declared_code(taken: tuple[str, ...] = (), **fields: Any) -> str:
        manifest = manifest_of(FIELDS | fields)
        fault = manifest if isinstance(manifest, Refusal) else check_declared(manifest, "1.4.2", taken)
        return fault.code if fault is not None else ""

    raw = read_manifest(b'{"name":"\xff"}')
    return {name: code(fields) for name, fields in wrong.items()} | {
        "bytes that are no utf-8": raw.code if isinstance(raw, Refusal) else "",
        "an id twice": declared_code(("sample.claw",)),
        "runtime >=2 on 1.4.2": declared_code(requires_runtime=">=2"),
        "runtime >=1,<2 on 1.4.2": declared_code(requires_runtime=">=1,<2"),
    }


ASKED = """
import json, sys
sys.path.insert(0, sys.argv[1])
from femtoclaw.isolation import loading, stages

def refused(stage):
    try:
        life.enter(stage)
    except stages.StageError:
        return True
    return False

raw, target = sys.argv[2].encode(), "m.py:femtoclaw_module_execute"
call = loading.load(loading.Prepared("python", target, False, {"m.py": raw}, {}, "sample.claw", "k", "n"))
life = stages.Lives.newest
early = {stage: refused(stage) for stage in ("request", "registration", "load")}
result = call({"text": "word"}, "/", {})
whole = list(life.reached)
late = {stage: refused(stage) for stage in ("request", "registration", "shutdown")}
print(json.dumps({"early": early, "result": result, "whole": whole, "late": late}))
"""


def lives(laboratory: Laboratory) -> dict[str, Any]:
    """Every pair of stages of a life, and a loaded module that is asked out of order: what was refused. Loaded in a process of
    its own, as any module."""
    pairs = {(before, after): _follows(before, after) for before in ("", *stages.STAGES) for after in stages.STAGES}
    raw = four(execute=f"seen = []\ndef {FOUR}(request, response):\n    seen.append(1)\n"
               "    response.status_code, response.result_json = 0, '{\"calls\":%d}' % len(seen)\n    return 0")  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", ASKED, ROOT, raw.decode()], capture_output=True, check=True, timeout=SANITIZE_S,
        cwd=laboratory.folder,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"pairs": pairs}


def _follows(before: str, after: str) -> bool:
    life = stages.Life()
    for stage in stages.STAGES[: stages.STAGES.index(before) + 1] if before else ():
        life.enter(stage)
    try:
        life.enter(after)
    except stages.StageError:
        return False
    return True


def answers_of_claws(laboratory: Laboratory) -> dict[str, str]:
    """What becomes of the bytes that a claw's process answers with: status, and message of an error."""
    from femtoclaw.isolation.answer import Report, judge

    ended = Report("", 0, 10, 10, 1, 2, "")
    said = {
        "a result": b'{"result":{"a":1}}', "an error": b'{"error":{"class":"ArgumentError","message":"no"}}',
        "both": b'{"result":{},"error":{"class":"ArgumentError","message":"no"}}', "neither": b"{}",
        "an unknown class": b'{"error":{"class":"Other","message":"no"}}', "no object": b"[]",
        "forged stages": b'{"result":{},"stages":["begun"]}',
    }  # fmt: skip
    found = {}
    for name, raw in said.items():
        outcome = judge(ended, raw, 1000)
        found[name] = f"{outcome.status} {(outcome.error or {}).get('class', '')}".strip()
    return found


def load_order(laboratory: Laboratory) -> dict[str, Any]:
    """The order in which a start looks at modules, over registries and folders in many orders, one module being broken."""
    from immutables import Map

    from femtoclaw.modules.startup import entry_modules, faults
    from femtoclaw.modules.store import install_files
    from femtoclaw.state import Claw, Node

    made: dict[str, tuple[Manifest, bytes]] = {}
    for name in ("delta", "alpha", "charlie", "bravo", "echo"):
        raw = claw("return {}", name=f"sample.{name}")
        made[name] = (declared("python:m.py:claw", {"m.py": raw}, name=f"sample.{name}"), raw)
    orders, entries = [], []
    for turn in range(20):
        store = laboratory.place("ordered")
        names = [
            name for _, name in sorted((hash_of(f"{turn} {name}"), name) for name in made)
        ]  # another order each time
        registry: Map[str, Claw] = Map()
        for name in names:
            manifest, raw = made[name]
            path = install_files(store, manifest, {"m.py": raw})
            known = Claw(manifest.name, manifest.canonical(), manifest.digest(), True, "acme")
            registry = registry.set(manifest.name, known)
            if name in ("charlie", "alpha"):
                os.chmod(os.path.join(path, "m.py"), 0o600)
                with open(os.path.join(path, "m.py"), "ab") as file:
                    file.write(b"#")
        node = Node()._replace(registry=registry)
        orders.append([(refusal.name, refusal.code) for refusal in faults(store, node)])
        entries.append(entry_modules(node))
    return {"orders": orders, "entries": entries}


def unasked(laboratory: Laboratory) -> dict[str, Any]:
    """A module that is registered on a running node without an operator's request: how that ends, and the registry."""
    from femtoclaw import commands
    from femtoclaw.compliance.simulation import Simulated
    from femtoclaw.errors import FemtoClawError

    node = Simulated()
    before = sorted(node.authority.state.node.registry)
    try:
        node.authority.perform(commands.RegisterClaw(declared("python:m.py:claw", {"m.py": b""}).canonical()))
        error = ""
    except FemtoClawError as refused:
        error = f"{type(refused).__name__}: {refused.what}"
    return {"error": error, "before": before, "after": sorted(node.authority.state.node.registry)}


def hash_of(text: str) -> str:
    """A number that looks like chance, the same each time."""
    from blake3 import blake3

    return blake3(text.encode()).hexdigest()
