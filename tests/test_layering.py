"""The direction of imports is a rule, and a rule is a test."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {"wal": {"wal"}, "cluster": {"cluster", "wal"}, "femtoclaw": {"femtoclaw", "cluster", "wal"}}
OURS = set(ALLOWED)
PURE = {
    "wal": "record chain merkle note checkpoint recovery recovered head segment manifest genesis limits errors described_error "
    "cosignature fork_proof",
    "cluster": "witness witness_state witness_config messages steps standing following leading candidacy replica recent_frames "
    "coordinator coordinator_model "
    "reading witness witness_policy limits errors",
    "femtoclaw": "events event_codec state apply apply_control trail circumstances judging approvals control_plane "
    "control_policy control_effects adoption membership "
    "statement sealing commands decide lifecycle protocol strict_json argument_schemas policy_schema "
    "facts crash_rules memory context policy_text policy_check policy_groups policy_annotations policy_cases "
    "policy_explain policy_warnings counterfactual schema_bounds "
    "replay restore snapshot authorization engines feedback manifest errors config redaction "
    "modules/refusal modules/signature isolation/abi",
}
IMPURE = {"time", "random", "uuid", "os", "asyncio", "grpc", "lmdb", "threading", "socket", "subprocess", "secrets"}
LMDB_IMPORTERS = {"wal/lmdb_storage.py", "wal/inspection.py"}
GATE_KEEPERS = {"femtoclaw/gate.py"}


def sources() -> list[Path]:
    """Every module of the three packages."""
    return sorted(path for package in OURS for path in (ROOT / package).rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names of imported modules, wherever the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imported(path: Path) -> frozenset[str]:
    """First names of what a source imports. (Kept trees would cost more than they save: the collector walks them.)"""
    return frozenset(name.split(".")[0] for name in imports(tree_of(path)))


@pytest.mark.requirement("ARCH-3.1")
def test_layers_import_leftward_only() -> None:
    """wal knows no sibling; cluster knows wal; femtoclaw knows both."""
    found = []
    for path in sources():
        used = imported(path) & OURS
        found += [f"{name_of(path)} imports {name}" for name in used - ALLOWED[name_of(path).split("/")[0]]]
    assert found == []


@pytest.mark.invariant("I6")
@pytest.mark.parametrize("package, module", [(p, m) for p, names in PURE.items() for m in names.split()])
def test_pure_modules_import_nothing_impure(package: str, module: str) -> None:
    """Formats, tables and decisions have no clock, chance, disk, network or threads to reach for."""
    tree = ast.parse((ROOT / package / f"{module}.py").read_text())
    assert not {name.split(".")[0] for name in imports(tree)} & IMPURE


def test_only_the_storage_and_the_inspector_import_lmdb() -> None:
    """Everyone else goes through the port."""
    found = {name_of(p) for p in sources() if "lmdb" in imported(p)}
    assert found == LMDB_IMPORTERS


@pytest.mark.invariant("I5")
def test_only_the_gate_runs_the_isolation() -> None:
    """``isolation.run`` has one call site in a node, and ``Gate.dispatch`` one caller. The other two are no node's: a
    module is tried out before it is installed (no permission, nothing executed), and its author tests it without one."""
    runs, dispatches = [], []
    for path in sources():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = ast.unparse(node.func.value)
                if node.func.attr == "run" and "isolation" in owner:
                    runs.append(name_of(path))
                if node.func.attr == "dispatch":
                    dispatches.append(name_of(path))
    assert runs == ["femtoclaw/gate.py", "femtoclaw/modules/probe.py", "femtoclaw/sdk/testing.py"]
    assert dispatches == ["femtoclaw/runtime.py"]


FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}


def code_in_data(tree: ast.Module) -> Iterator[str]:
    """What could make code of data in a source, and what swallows every exception."""
    unsafe = {name.split(".")[0] for name in imports(tree)} & {"pickle", "marshal", "yaml", "shelve", "dill"}
    yield from sorted(unsafe)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
                yield ast.unparse(node)
            if any(keyword.arg == "shell" for keyword in node.keywords):
                yield ast.unparse(node)
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"line {node.lineno}: a bare except"


@pytest.mark.requirement("PROTO-6.2")
def test_data_is_never_code() -> None:
    """No eval, exec, pickle, yaml, shell=True, and no exception is swallowed without a word."""
    assert [f"{name_of(path)}: {what}" for path in sources() for what in code_in_data(tree_of(path))] == []


def test_the_rules_can_fail() -> None:
    """The walkers find what they look for in sources that break the rules."""
    assert "cluster" in {n.split(".")[0] for n in imports(ast.parse("def f():\n    import cluster.node"))}
    assert "time" in set(imports(ast.parse("from time import monotonic")))
    bad = "import yaml\neval(x)\nrun(x, shell=True)\ntry:\n    x\nexcept:\n    pass"
    assert len(list(code_in_data(ast.parse(bad)))) == 4
