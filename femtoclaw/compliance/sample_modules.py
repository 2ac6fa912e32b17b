"""Modules for measurements: one capability written three times, in Python, in C, and as a claw of the program, and everything
that a bad module does. Built in the laboratory; none of it is part of the program's own claws.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from blake3 import blake3

from femtoclaw.compliance.checking import CannotMeasureError
from femtoclaw.isolation import Outcome
from femtoclaw.manifest import Limits, Manifest
from femtoclaw.modules.declared import manifest_of
from femtoclaw.modules.refusal import PREFIX

COMPILE_S = 60.0
FOUR = "femtoclaw_module_execute"
BUILT_IN = "femtoclaw.compliance.sample_claw:length"
SCHEMA = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}

PARTS = {
    "top": "",
    "version": "def femtoclaw_module_version(): return 'FC-ABI-1.0.0'",
    "init": "def femtoclaw_module_init(context): return 0",
    "execute": "def femtoclaw_module_execute(request, response):\n"
    "    import json\n"
    "    response.status_code = 0\n"
    "    response.result_json = json.dumps({'length': len(request.arguments_json.encode())})\n"
    "    return 0",
    "shutdown": "def femtoclaw_module_shutdown(): pass",
}
"""A Python file with the four functions: it tells how long its arguments are."""

C_PARTS = {
    "top": "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>",
    "version": "const char *femtoclaw_module_version(void) { return FEMTOCLAW_ABI; }",
    "init": "int32_t femtoclaw_module_init(const femtoclaw_runtime_context *k) { return 0; }",
    "execute": 'static char said[64]; snprintf(said, sizeof said, "{\\"length\\":%zu}", strlen(q->arguments_json));'
    "r->status_code = 0; r->result_json = said; return 0;",
    "shutdown": "void femtoclaw_module_shutdown(void) {}",
}
C_EXECUTE = (
    "int32_t femtoclaw_module_execute(const femtoclaw_execution_request *q, femtoclaw_execution_response *r) {{ {} }}"
)

CLAW = """
class Claw:
    def __init__(self): self.calls = 0
    def name(self): return {name!r}
    def description(self): return {description}
    def execute(self, args):
        self.calls += 1
{body}
claw = Claw()
"""


def four(**parts: str) -> bytes:
    """A Python file with the four functions, some of which are others; an empty part is left out."""
    return ("\n".join((PARTS | parts).values()) + "\n").encode()


def claw(body: str, name: str = "sample.claw", description: str = "'a sample'") -> bytes:
    """A Python file with a claw object; ``body`` are the lines of its ``execute``."""
    lines = "\n".join(f"        {line}" for line in body.strip().split("\n"))
    return CLAW.format(name=name, description=description, body=lines).encode()


def compiler() -> str:
    """The C compiler. Raises CannotMeasureError where there is none."""
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if found is None:
        raise CannotMeasureError("there is no C compiler here, so no module in C can be made")
    return found


def headers() -> str:
    """The folder of the published header."""
    from femtoclaw import sdk

    return os.path.join(os.path.dirname(os.path.abspath(sdk.__file__)), "include")


def library(folder: str, name: str, options: Sequence[str] = (), **parts: str) -> bytes:
    """A shared library from its parts; ``execute`` is a body of statements, or empty for none. Raises CannotMeasureError."""
    whole = C_PARTS | parts
    if whole["execute"]:
        whole["execute"] = C_EXECUTE.format(whole["execute"])
    source, target = os.path.join(folder, f"{name}.c"), os.path.join(folder, f"{name}.so")
    with open(source, "w") as file:
        file.write("\n".join(['#include "femtoclaw_module.h"', *whole.values()]))
    compiled([*options, "-shared", "-fPIC", "-O1", "-w", "-I", headers(), "-o", target, source])
    with open(target, "rb") as library_file:
        return library_file.read()


def compiled(words: Sequence[str]) -> None:
    """One run of the compiler. Raises CannotMeasureError when it fails."""
    done = subprocess.run([compiler(), *words], capture_output=True, timeout=COMPILE_S, check=False)
    if done.returncode:
        raise CannotMeasureError(f"the C compiler failed: {done.stderr.decode(errors='replace')[-300:]}")


def declared(entry: str, files: Mapping[str, bytes], **fields: Any) -> Manifest:
    """The manifest of a sample; what is not given is ordinary. Raises CannotMeasureError for one that is refused."""
    limits = Limits(wall_seconds=5.0)._replace(**fields.pop("limits", {}))
    body = {
        "type": "capability", "name": "sample.claw", "version": "1.0.0", "description": "a sample", "category": "system",
        "arguments": SCHEMA, "entry": entry, "permissions": [], "limits": limits._asdict(),
        "abi": "FC-ABI-1.0.0" if FOUR in entry or entry.startswith("native") else "",
        "files": {path: blake3(raw).hexdigest() for path, raw in files.items()},
    }  # fmt: skip
    found = manifest_of(body | fields)
    if not isinstance(found, Manifest):
        raise CannotMeasureError(f"a sample module cannot be declared: {found.code}: {found.detail}")
    return found


def message(outcome: Outcome) -> str:
    """What an outcome says went wrong; empty for a result."""
    return str((outcome.error or {}).get("message", ""))


def refusal(outcome: Outcome) -> str:
    """With which code and detail a module was refused in its process; empty when it was not."""
    told = message(outcome)
    return told.removeprefix(PREFIX) if told.startswith(PREFIX) else ""
