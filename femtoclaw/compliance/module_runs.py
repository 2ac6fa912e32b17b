"""Measurement of modules in the sandbox: samples that are right, and samples that each do one thing wrong.

There is no node here: a sandbox of its own over a store of its own, as an author's tests have it. What a node makes of a
module is measured on a twin (``module_life``).
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.sample_modules import BUILT_IN, FOUR, claw, declared, four, library
from femtoclaw.isolation import Isolation, Outcome
from femtoclaw.manifest import Manifest
from femtoclaw.modules.store import install_files

ARGUMENTS = {"text": 'zwölf \u2028 "quoted"'}
SHORT = {"wall_seconds": 0.6}
DETERMINISTIC: Mapping[str, Any] = {"deterministic": True}
"""Among the limits, for a sample that is declared so."""
WORKERS = 3
PRELOADED = ("femtoclaw.isolation.native", BUILT_IN.partition(":")[0])
FUNCTIONS = ("version", "init", "execute", "shutdown")

_RESPONSE = "def femtoclaw_module_execute(request, response):\n    response.status_code, response.result_json = {}\n    return 0"
_RAISES = "def femtoclaw_module_execute(request, response):\n    {}"
_CASE = "Femtoclaw_Module_Shutdown"

PYTHON: dict[str, dict[str, str]] = {
    **{f"python without {name}": {name: ""} for name in FUNCTIONS},
    "python in another case": {"shutdown": f"def {_CASE}(): pass"},
    "python init returns 1": {"init": "def femtoclaw_module_init(context): return 1"},
    "python init raises": {"init": "def femtoclaw_module_init(context): raise OSError('x')"},
    "python writes its context": {"init": "def femtoclaw_module_init(context): context.runtime_id = 5"},
    "python writes its request": {"execute": _RAISES.format("request.capability = 'other'")},
    "python takes too few": {"init": "def femtoclaw_module_init(): return 0"},
    "python takes too many": {"shutdown": "def femtoclaw_module_shutdown(more): pass"},
    "python is no function": {"shutdown": "femtoclaw_module_shutdown = 7"},
    "python no response": {"execute": _RAISES.format("return 0")},
    "python no json": {"execute": _RESPONSE.format("0, '{'")},
    "python no utf-8": {"execute": _RESPONSE.format("0, b'{\"a\":\"\\xff\"}'")},
    "python no object": {"execute": _RESPONSE.format("0, '[1]'")},
    "python error response": {"execute": _RESPONSE.format("2, '{\"message\":\"no such thing\"}'")},
    "python error with a result": {"execute": _RESPONSE.format("2, '{\"message\":\"m\",\"result\":{}}'")},
    "python unknown status": {"execute": _RESPONSE.format("77, '{}'")},
    "python shutdown twice": {"shutdown": "def femtoclaw_module_shutdown():\n    global n\n    n += 1\n    assert n == 1",
                              "top": "n = 0"},
    "python another major": {"version": "def femtoclaw_module_version(): return 'FC-ABI-2.0.0'"},
}  # fmt: skip
"""Modules with the four functions in Python, by what each does."""

ENDLESS: dict[str, dict[str, str]] = {
    "python init hangs": {"init": "def femtoclaw_module_init(context):\n    while True: pass"},
    "python shutdown hangs": {"shutdown": "def femtoclaw_module_shutdown():\n    while True: pass"},
}
"""The same, of those that only a bound ends."""

NATIVE: dict[str, dict[str, str]] = {
    "native whole": {},
    **{f"native without {name}": {name: ""} for name in FUNCTIONS},
    "native in another case": {"shutdown": f"void {_CASE}(void) {{}}"},
    "native is no function": {"shutdown": 'int seven __asm__("femtoclaw_module_shutdown") = 7;'},
    "native writes its request": {"execute": '((char *)q->arguments_json)[2] = 0; r->status_code = 0; r->result_json = "{}";'
                                  "return 0;"},
    "native writes its context": {
        "init": "int32_t femtoclaw_module_init(const femtoclaw_runtime_context *k)"
        "{ ((femtoclaw_runtime_context *)k)->abi_version = 5; return 0; }"
    },
    "native frees its request": {"execute": "free((void *)q); return 0;"},
    "native shutdown crashes": {"shutdown": "void femtoclaw_module_shutdown(void) { *(volatile int *)8 = 1; }"},
    "native shutdown twice": {"top": "#include <unistd.h>\n#include <stdio.h>\n#include <string.h>\nstatic int calls;",
                              "shutdown": "void femtoclaw_module_shutdown(void) { if (++calls > 1) _exit(9); }"},
    "native huge": {"execute": "char *b = malloc(100000001); memset(b, ' ', 100000000); b[100000000] = 0;"
                    "r->status_code = 0; r->result_json = b; return 0;"},
}  # fmt: skip
"""Modules in C."""

CLAWS: dict[str, str] = {
    "raises": "raise RuntimeError(args['text'])",
    "exits": "import os\nos._exit(3)",
    "segfaults": "import ctypes\nctypes.string_at(8)",
    "leaks descriptors": "import os\nreturn {'held': [os.open('/dev/null', 0) for _ in range(10000)]}",
    "allocates 4 GB": "x = bytearray(4 << 30)\nreturn {}",
    "forks": "import os\nn = 0\nwhile n < 500:\n    if os.fork() == 0:\n        import time\n        time.sleep(60)\n    n += 1\n"
    "return {}",
    "answers no object": "return 5",
    "imports the core": "found = {}\nfor name in ('femtoclaw.gate', 'femtoclaw.authority', 'femtoclaw.keys', 'wal.log'):\n"
    "    try:\n        __import__(name)\n        found[name] = True\n    except ImportError:\n        found[name] = False\n"
    "return {'reached': found}",
    "tells its environment": "import os\nreturn {'names': sorted(os.environ)}",
    "looks at its descriptors": "import os, stat\nkinds = {}\nfor fd in range(3, 256):\n    try:\n"
    "        mode = os.fstat(fd).st_mode\n    except OSError:\n        continue\n    kinds[str(fd)] = stat.S_IFMT(mode)\n"
    "return {'regular': [fd for fd, mode in kinds.items() if mode == stat.S_IFREG], 'open': len(kinds)}",
    "calls the node": "import socket\nwith socket.socket(socket.AF_UNIX) as ours:\n    ours.connect(args['text'])\n"
    "return {'reached': True}",
    "writes beside": "with open(args['text'], 'w') as file:\n    file.write('x')\nreturn {'reached': True}",
    "changes": "return {}",
    "reaches for chance": "import os\nfound = {}\nfor name in ('time', 'datetime', 'random', 'secrets', 'uuid'):\n    try:\n"
    "        __import__(name)\n        found[name] = True\n    except ImportError:\n        found[name] = False\n"
    "try:\n    found['os.urandom'] = bool(os.urandom(8))\nexcept PermissionError:\n    found['os.urandom'] = False\n"
    "return {'reached': found}",
    "works": "return {'length': len(args['text'])}",
}  # fmt: skip
"""Claw objects in Python, by what their ``execute`` does."""

LIMITED: dict[str, tuple[str, dict[str, float]]] = {
    "sleeps without end": ("import time\ntime.sleep(1000)", SHORT),
    "is busy without end": ("while True: pass", {"wall_seconds": 5.0, "cpu_seconds": 1}),
}
"""Those that only a bound ends."""


class Runs(NamedTuple):
    """Outcomes by the sample's name; ``no_compiler`` says why there are none in C. Descriptors of this process before and
    after, and whether a file appeared where none may."""

    outcomes: dict[str, Outcome]
    no_compiler: str
    descriptors: tuple[int, int]
    breached: bool


class Samples:
    """A sandbox over a store of its own."""

    def __init__(self, folder: str) -> None:
        self.store, self.workspace = os.path.join(folder, "modules"), os.path.join(folder, "workspace")
        os.makedirs(self.workspace)
        self.sandbox = Isolation(self.workspace, modules=PRELOADED, module_store=self.store)

    def run(self, entry: str, raw: bytes, limits: Mapping[str, Any], args: Mapping[str, Any]) -> Outcome:
        """Keep one file and call it."""
        files = {entry.split(":")[1]: raw}
        bounds = {name: value for name, value in limits.items() if name != "deterministic"}
        manifest = declared(entry, files, limits=bounds, deterministic="deterministic" in limits)
        install_files(self.store, manifest, files)
        return self.called(manifest, args)

    def called(self, manifest: Manifest, args: Mapping[str, Any]) -> Outcome:
        """Call what is kept."""
        return self.sandbox.run(manifest, dict(args), {}, idempotency_key="sample-1")


def module_runs(laboratory: Laboratory) -> Runs:
    """Every sample, once, in the sandbox."""
    folder = laboratory.place("samples")
    samples = Samples(folder)
    outside = os.path.join(folder, "breach")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{outside}.sock")
    listening.listen()
    try:
        samples.run("python:m.py:claw", claw(CLAWS["works"]), {}, ARGUMENTS)  # the sandbox's own descriptors
        before = len(os.listdir("/proc/self/fd"))
        with ThreadPoolExecutor(WORKERS) as pool:
            waiting = {
                name: pool.submit(samples.run, entry, raw, limits, args)
                for name, (entry, raw, limits, args) in _python(outside).items()
            }
            natives, no_compiler = _natives(laboratory, folder)
            waiting |= {
                name: pool.submit(samples.run, "native:m.so", raw, {"wall_seconds": 3.0}, ARGUMENTS)
                for name, raw in natives.items()
            }
            built_in = declared("python:m.py:claw", {"m.py": b""})._replace(entry=BUILT_IN, files={}, type="", abi="")
            waiting["built in"] = pool.submit(samples.called, built_in, ARGUMENTS)
            found = {name: each.result() for name, each in waiting.items()}
        after = len(os.listdir("/proc/self/fd"))
        found["works again"] = samples.run("python:m.py:claw", claw(CLAWS["works"]), {}, ARGUMENTS)
    finally:
        samples.sandbox.close()
        listening.close()
    return Runs(found, no_compiler, (before, after), os.path.exists(outside))


Case = tuple[str, bytes, Mapping[str, Any], Mapping[str, Any]]


def _python(outside: str) -> dict[str, Case]:
    """Name to entry, bytes, limits and arguments."""
    entry, ours = f"python:m.py:{FOUR}", "python:m.py:claw"
    cases: dict[str, Case] = {"python whole": (entry, four(), {}, ARGUMENTS)}
    cases |= {name: (entry, four(**parts), {}, ARGUMENTS) for name, parts in PYTHON.items()}
    cases |= {name: (entry, four(**parts), SHORT, ARGUMENTS) for name, parts in ENDLESS.items()}
    for name, body in CLAWS.items():
        text = {"calls the node": f"{outside}.sock", "writes beside": outside}.get(name, "word")
        description = "f'executed {self.calls} times'" if name == "changes" else "'a sample'"
        cases[name] = (ours, claw(body, description=description), {"processes": 8, **SHORT}, {"text": text})
    cases["declared deterministic"] = (ours, cases["reaches for chance"][1], DETERMINISTIC, ARGUMENTS)
    cases |= {name: (ours, claw(body), limits, ARGUMENTS) for name, (body, limits) in LIMITED.items()}
    whole = claw(CLAWS["works"])
    for member in ("name", "description", "execute"):
        lacking = whole.replace(f"def {member}(".encode(), f"def no_{member}(".encode())
        cases[f"claw without {member}"] = (ours, lacking, {}, ARGUMENTS)
    cases["claw of another name"] = (ours, claw("return {}", name="other"), {}, ARGUMENTS)
    return cases


def _natives(laboratory: Laboratory, folder: str) -> tuple[dict[str, bytes], str]:
    """The libraries, built; none, and why, where they cannot be."""
    from femtoclaw.compliance.checking import CannotMeasureError

    built = os.path.join(folder, "built")
    os.mkdir(built)
    try:
        with ThreadPoolExecutor(2) as pool:
            made = {
                name: pool.submit(library, built, name.replace(" ", "-"), **parts) for name, parts in NATIVE.items()
            }
            return {name: each.result() for name, each in made.items()}, ""
    except CannotMeasureError as error:
        return {}, str(error)
