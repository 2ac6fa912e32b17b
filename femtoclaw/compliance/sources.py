"""What the program's own source files say: imports, calls and sizes, read from this installation's files."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import ast
import os
from typing import NamedTuple

from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.distribution import ROOT

PACKAGES = ("wal", "cluster", "femtoclaw")
CORE = (
    "femtoclaw/protocol.py", "femtoclaw/strict_json.py", "femtoclaw/argument_schemas.py", "femtoclaw/authorization.py",
    "femtoclaw/facts.py", "femtoclaw/policy.py", "femtoclaw/gate.py", "femtoclaw/decide.py", "femtoclaw/apply.py",
    "femtoclaw/authority.py", "femtoclaw/runtime.py", "wal/record.py", "wal/chain.py", "wal/writer.py", "wal/log.py",
)  # fmt: skip
"""Validator, gate, dispatcher and log: what has to be read to trust the rest."""

CORE_LINES_MAX = 6000
CORE_IMPORTS = frozenset(("blake3", "cedarpy", "jsonschema_rs", "immutables", "nacl", "lmdb", "msgpack", "tenacity"))
DATA_AS_CODE = frozenset(("pickle", "marshal", "yaml", "shelve", "dill"))
NATIVE = frozenset(("ctypes", "cffi"))
CODE_CALLS = frozenset(("eval", "exec", "compile", "__import__"))


class Source(NamedTuple):
    """One file: its lines, the modules that it imports wherever, and its calls as ``owner.name`` or ``name``."""

    name: str
    lines: int
    imports: frozenset[str]
    calls: tuple[str, ...]
    shells: int
    bare_excepts: int

    @property
    def roots(self) -> set[str]:
        """The first names of what it imports."""
        return {name.split(".")[0] for name in self.imports}


def sources(laboratory: Laboratory) -> dict[str, Source]:
    """File to what it says, of the three packages. Raises OSError when the files cannot be read."""
    found = {}
    for package in PACKAGES:
        for folder, folders, files in os.walk(os.path.join(ROOT, package)):
            folders[:] = sorted(each for each in folders if each != "__pycache__")
            for file in sorted(files):
                if file.endswith(".py") and not file.endswith("_pb2.py"):
                    path = os.path.join(folder, file)
                    name = os.path.relpath(path, ROOT)
                    with open(path, encoding="utf-8") as source:
                        found[name] = read_source(name, source.read())
    return found


def read_source(name: str, text: str) -> Source:
    """One file's text."""
    imports: set[str] = set()
    calls: list[str] = []
    shells = bare = 0
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imports.add(node.module)
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                calls.append(f"{_name(node.func.value)}.{node.func.attr}")
            elif isinstance(node.func, ast.Name):
                calls.append(node.func.id)
            shells += any(keyword.arg == "shell" for keyword in node.keywords)
        elif isinstance(node, ast.ExceptHandler) and node.type is None:
            bare += 1
    return Source(name, text.count("\n"), frozenset(imports), tuple(calls), shells, bare)


def _name(owner: ast.expr) -> str:
    """The last name of what a method is called on; of a call that of what is called."""
    if isinstance(owner, ast.Call):
        return _name(owner.func)
    return owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
