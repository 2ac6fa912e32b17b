"""The life of a module: eight stages in one order, told with the answer, and nothing of this program but its kit within reach."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from femtoclaw import commands, events
from femtoclaw.apply import apply
from femtoclaw.errors import CommandError, StateMachineError
from femtoclaw.isolation import Outcome
from femtoclaw.isolation.answer import Report, judge
from femtoclaw.isolation.stages import NEXT, STAGES, Life, StageError
from femtoclaw.modules.constancy import Constancy
from femtoclaw.modules.refusal import refused_at_load
from femtoclaw.modules.store import install_files
from tests.femtoclaw.built_modules import ENTRIES, Sandbox, built, manifest, message, refusal
from tests.femtoclaw.isolated import ROOT
from tests.femtoclaw.simulated import Simulated
from tests.femtoclaw.test_loop import call


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One sandbox for all."""
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"))
    yield sandbox
    sandbox.isolation.close()


def life_at(stage: str) -> Life:
    """A life whose last stage is this one."""
    life = Life()
    for each in STAGES[: STAGES.index(stage) + 1] if stage else ():
        life.enter(each)
    return life


@pytest.mark.parametrize("pair", list(itertools.product(("", *STAGES), STAGES)), ids=" to ".join)
def test_every_pair_of_stages(pair: tuple[str, str]) -> None:
    """What may follow, follows; everything else is refused and leaves the life where it was."""
    before, after = pair
    life = life_at(before)
    reached = list(life.reached)
    if after in NEXT[before]:
        life.enter(after)
        assert life.reached[-1] == after
    else:
        with pytest.raises(StageError):
            life.enter(after)
        assert life.reached == reached


@pytest.mark.parametrize("kind", ENTRIES)
def test_one_call_goes_through_all_eight(kind: str, sandbox: Sandbox, tmp_path: Path) -> None:
    assert sandbox.run(ENTRIES[kind], built(kind, tmp_path)).stages == STAGES


def test_an_object_and_a_function_too(sandbox: Sandbox) -> None:
    function = b"def run(args, workspace, settings): return {}\n"
    assert sandbox.run("python:m.py:run", function).stages == STAGES
    claw = b"""
class C:
    def name(self): return 'test.module'
    def description(self): return 'd'
    def execute(self, args): return {}
it = C()
"""
    assert sandbox.run("python:m.py:it", claw).stages == STAGES


def test_a_life_that_ends_early_says_where(sandbox: Sandbox, tmp_path: Path) -> None:
    """Another version, an init that fails, a request that fails, and a process that says nothing any more."""
    parts = {
        "version": "def femtoclaw_module_version(): return 'FC-ABI-2.0.0'",
        "init": "def femtoclaw_module_init(context): return 1",
        "execute": "def femtoclaw_module_execute(request, response): raise ValueError",
    }
    found = {
        name: sandbox.run(ENTRIES["python"], built("python", tmp_path, **{name: text})) for name, text in parts.items()
    }
    assert found["version"].stages == STAGES[:2]
    assert found["init"].stages == STAGES[:3]
    assert found["execute"].stages == (*STAGES[:5], "shutdown")
    silent = "def femtoclaw_module_execute(request, response):\n    import os\n    os._exit(0)"
    assert sandbox.run(ENTRIES["python"], built("python", tmp_path, execute=silent)).stages == ()


ASKED = """
import sys
from femtoclaw.isolation import loading, stages
target = "module.py:femtoclaw_module_execute"
call = loading.load(loading.Prepared("python", target, False, {"module.py": sys.argv[1].encode()}, {}, "test.module", "k", "n"))
life = stages.Lives.newest
def enter(stage):
    try:
        life.enter(stage)
    except stages.StageError:
        return "refused"
print(enter("request"), call({}, "/", {}), enter("request"), enter("registration"), enter("shutdown"))
"""


def test_a_loaded_module_cannot_be_asked_out_of_order(tmp_path: Path) -> None:
    """The loader itself: a request before the initialization, and whatever comes behind the shutdown, never begins. In a process
    of its own: code is loaded."""
    done = subprocess.run(
        [sys.executable, "-c", ASKED, built("python", tmp_path).decode()], capture_output=True, text=True, check=False,
        cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("refused {'done': True} refused refused refused\n", "")


CHANGING = b"""
class C:
    def __init__(self): self.calls = 0
    def name(self): return 'test.module'
    def description(self): return f'executed {self.calls} times'
    def execute(self, args):
        self.calls += 1
        return {}
it = C()
"""


def test_a_claw_that_is_another_after_it_executed_is_refused(sandbox: Sandbox) -> None:
    assert refusal(sandbox.run("python:m.py:it", CHANGING)).startswith("BAD_MANIFEST")


def test_a_claw_of_another_name_is_not_called(sandbox: Sandbox) -> None:
    steady = CHANGING.replace(b"executed {self.calls} times", b"")
    assert sandbox.run("python:m.py:it", steady).result == {}
    told = sandbox.run("python:m.py:it", steady.replace(b"test.module", b"other"))
    assert refusal(told).startswith("BAD_MANIFEST: its name()")
    assert told.stages == STAGES[:4]


@pytest.mark.parametrize(
    "name", ["femtoclaw.gate", "femtoclaw.authority", "femtoclaw.keys", "wal", "wal.lmdb_storage", "cluster"]
)
def test_the_core_is_not_to_be_imported(name: str, sandbox: Sandbox) -> None:
    """The kit is."""
    source = f"import femtoclaw.sdk\ndef run(args, workspace, settings):\n    import {name}\n    return {{}}\n"
    assert message(sandbox.run("python:m.py:run", source.encode())) == "the claw failed: ImportError"
    kit = (
        "def run(args, workspace, settings):\n    from femtoclaw.sdk import Limits, secret, workspace\n    return {}\n"
    )
    assert sandbox.run("python:m.py:run", kit.encode()).result == {}


CHANCE = b"def run(args, workspace, settings):\n    import os, %s\n    return {'drawn': bool(os.urandom(1))}\n"


@pytest.mark.parametrize("name", ["time", "datetime", "random", "secrets", "uuid", "json"])
def test_declared_deterministic_it_gets_neither_clock_nor_chance(name: str, sandbox: Sandbox) -> None:
    """Not declared, it gets both."""
    raw = CHANCE % name.encode()
    files = {"m.py": raw}
    found = {}
    for deterministic in (True, False):
        declared = manifest("python:m.py:run", files, abi="", deterministic=deterministic)
        install_files(sandbox.store, declared, files)
        found[deterministic] = sandbox.isolation.run(declared, {"text": "a"}, {})
    assert found[False].result == {"drawn": True}
    kept = "PermissionError" if name == "json" else "ImportError"
    assert message(found[True]) == f"the claw failed: {kept}"


def outcome(answer: str) -> Outcome:
    return Outcome("success", {"a": answer}, None, 0, 1, 2, 3, 4, answer)


def test_who_answers_otherwise_is_refused_from_then_on() -> None:
    """The same request, another answer: refused, and not called again; another request, or one that is not declared, is not."""
    constancy = Constancy()
    declared = manifest("python:m.py:run", {"m.py": b""}, abi="", deterministic=True)
    other = manifest("python:m.py:run", {"m.py": b"#"}, abi="")
    for steady in ({"text": "a"}, {"text": "b"}):
        assert constancy.judge(declared, steady, outcome(steady["text"])).status == "success"
        assert constancy.judge(declared, steady, outcome(steady["text"])).status == "success"
    for answer in ("x", "y"):
        assert constancy.judge(other, {}, outcome(answer)).status == "success"
    assert constancy.refuses(declared) is None
    refused = constancy.judge(declared, {"text": "a"}, outcome("z"))
    assert (refused.status, refused.result) == ("error", None)
    assert refusal(refused).startswith("NOT_DETERMINISTIC")
    again = constancy.refuses(declared)
    assert again is not None
    assert again.error == refused.error
    assert constancy.refuses(other) is None
    assert refused_at_load(message(refused), "m", "d") is not None


def test_what_depends_on_more_than_the_request_is_not_held_to_it() -> None:
    """A workspace, a secret, and a bound of time: the same request may end otherwise."""
    constancy = Constancy()
    reads = manifest("python:m.py:run", {"m.py": b""}, abi="", deterministic=True, permissions=["workspace.read"])
    plain = manifest("python:m.py:run", {"m.py": b""}, abi="", deterministic=True)
    for answer in ("x", "y"):
        assert constancy.judge(reads, {}, outcome(answer)).status == "success"
    assert constancy.judge(plain, {}, outcome("x")._replace(status="timeout")).status == "timeout"
    assert constancy.judge(plain, {}, outcome("x")).status == "success"


def test_stages_that_no_life_has_are_no_answer() -> None:
    """An answer with them is none at all; so is one with more than there are."""
    ended = Report("", 0, 10, 10, 1, 2, "")
    assert judge(ended, b'{"result":{},"stages":["load"]}', 100).stages == ("load",)
    for told in ('["begun"]', "5", "[5]", json.dumps([*STAGES, "load"]), '{"load":1}'):
        found = judge(ended, f'{{"result":{{}},"stages":{told}}}'.encode(), 100)
        assert (found.status, found.result, found.stages) == ("crashed", None, ()), told


CALLED = ("1.0.0", "d" * 64, *STAGES)


def running() -> tuple[Simulated, commands.RecordOutcome]:
    """A node on which a claw of the program has just started, and what it will come to."""
    node = Simulated()
    raw = json.dumps(call("fs.read", path="a.txt")).encode()
    node.authority.perform(commands.SubmitIntent("e1", raw, 1))
    return node, commands.RecordOutcome("e1", "success", b"{}", "", "", "", 0, 1, 2, 2, "", "")


def test_a_claw_of_the_program_has_no_life_of_a_module() -> None:
    node, outcome = running()
    with pytest.raises(CommandError, match="no life of a module"):
        node.authority.perform(outcome._replace(called=CALLED))
    node.authority.perform(outcome)


def test_a_module_s_life_belongs_to_a_call_with_a_result() -> None:
    """Before there is one, of another claw, and of no execution, it cannot have happened."""
    node, _ = running()
    told = events.ModuleCalled("e1", "fs.read", *CALLED[:2], STAGES)
    finished = events.ExecutionFinished("e1", "success", b"{}", "", "", "", 0, 1, 2, 2, "")
    state = apply(node.state, finished)
    assert apply(state, told).live.executions == state.live.executions
    for before, event in (
        (node.state, told),
        (state, told._replace(claw="other")),
        (state, told._replace(execution_id="e2")),
    ):
        with pytest.raises(StateMachineError):
            apply(before, event)
