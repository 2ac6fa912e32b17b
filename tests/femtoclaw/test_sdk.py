"""The SDK: a claw in a few lines, tested without a node in the real sandbox, and what bad ones come to."""

from __future__ import annotations

import json
import os
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.errors import ConfigurationError
from femtoclaw.modules.refusal import ModuleRejectedError
from femtoclaw.sdk import Claw, Limits, claw
from femtoclaw.sdk.cases import read_cases
from femtoclaw.sdk.testing import Check, ClawTester, summary
from tests.femtoclaw.built_modules import EXAMPLES
from tests.femtoclaw.counting_claw import count

DECLARED: dict[str, Any] = {
    "name": "text.count", "version": "1.0.0", "description": "Count.", "arguments": {"text": {"type": "string"}},
}  # fmt: skip


@pytest.mark.requirement("CLAW-5.1", "CLAW-6.1")
def test_a_claw_in_a_few_lines() -> None:
    """It has the three members of the contract, and is still its function."""
    assert isinstance(count, Claw)
    assert [count.name() for _ in range(100)] == ["text.count"] * 100
    assert [count.description() for _ in range(100)] == ["Count."] * 100
    assert count.execute({"text": "a b"}) == count("a b") == count(text="a b") == {"words": 2}
    schema = count.declaration()["arguments"]
    assert (schema["required"], schema["additionalProperties"]) == (["text"], False)


@pytest.mark.requirement("SDK-5.1", "SDK-6.1", "SDK-17.1")
@pytest.mark.parametrize("missing", DECLARED)
def test_a_claw_declares_all_four(missing: str) -> None:
    with pytest.raises(TypeError):
        claw(**{name: value for name, value in DECLARED.items() if name != missing})


@pytest.mark.requirement("SDK-5.1", "SDK-6.1", "SDK-17.1")
@pytest.mark.parametrize(
    "wrong",
    [{"name": ""}, {"name": "a b"}, {"name": "\udcff"}, {"version": "1.0"}, {"version": "v1.0.0"}, {"version": ""},
     {"permissions": ("all",)}, {"secrets": ("",)}, {"targets": {"text": "planet"}}, {"targets": {"other": "path"}}],
)  # fmt: skip
def test_a_wrong_declaration_is_refused_where_it_is_written(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        claw(**(DECLARED | wrong))


def test_a_claw_is_tested_where_it_is_written() -> None:
    """The tester takes the very object; its file is loaded in the sandbox."""
    with ClawTester(count) as tester:
        outcome = tester.run({"text": "one two three"})
        assert (outcome.status, outcome.result) == ("success", {"words": 3})
        assert tester.run({"text": ""}).error == {"class": "ArgumentError", "message": "there is no text"}
        assert (tester.fault({"text": "a"}), tester.fault({})) == ("", "ARGUMENT_MISSING")


@pytest.mark.requirement("SDK-20.1", "SDK-13.1")
def test_the_example_passes_all_four_groups(tmp_path: Path) -> None:
    folder = shutil.copytree(EXAMPLES / "python", tmp_path / "example")
    with ClawTester(str(folder), entry="python:checksum.py:checksum") as tester:
        checks = tester.check()
    assert all(check.passed for check in checks), checks
    assert summary(checks) == {"behaviour": (2, 2), "arguments": (3, 3), "errors": (1, 1), "abi": (1, 1)}


def module(folder: Path, body: str, cases: list[dict[str, Any]], **fields: Any) -> ClawTester:
    """A tester for a function of these lines."""
    lines = textwrap.indent(textwrap.dedent(body), "    ")
    declared = {"name": "test.bad", "version": "1.0.0", "description": "d", "arguments": {}, **fields}
    keywords = ", ".join(f"{name}={value!r}" for name, value in declared.items())
    source = f"from femtoclaw.sdk import *\n@claw({keywords})\ndef run():\n{lines}\n"
    (folder / "bad_claw.py").write_text(source)
    (folder / "module.tests.json").write_text(json.dumps({"cases": cases}))
    return ClawTester(str(folder), entry="python:bad_claw.py:run")


@pytest.mark.requirement("SDK-13.1")
@pytest.mark.parametrize("deterministic", [True, False])
def test_answers_that_differ(deterministic: bool, tmp_path: Path) -> None:
    """A fault in a claw that is declared deterministic, and labelled in another."""
    body = """
        import os
        begun = os.times().elapsed
        while os.times().elapsed == begun:
            pass
        return {"at": os.times().elapsed}
    """
    with module(tmp_path, body, [{"name": "it", "args": {}, "result": None}], deterministic=deterministic) as tester:
        again = tester.check()[1]
    assert again.passed is not deterministic
    assert "deterministic" in again.detail


@pytest.mark.requirement("SDK-20.1")
def test_wrong_cases_fail_in_their_group(tmp_path: Path) -> None:
    """Another result, another error, arguments that are accepted: each is told, and nothing else fails."""
    cases: list[dict[str, Any]] = [
        {"name": "result", "args": {}, "result": {"a": 2}},
        {"name": "error", "args": {}, "error": "ArgumentError"},
        {"name": "refused", "args": {}, "refused": "ARGUMENT_MISSING"},
    ]
    with module(tmp_path, "return {'a': 1}", cases) as tester:
        failed = [(check.group, check.name) for check in tester.check() if not check.passed]
    assert failed == [("behaviour", "result"), ("arguments", "refused"), ("errors", "error")]


@pytest.fixture(scope="module")
def workspace_claw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClawTester]:
    body = """
        import os
        return {"secret": secret("token"), "settings": settings(), "there": os.path.isdir(workspace())}
    """
    with module(tmp_path_factory.mktemp("claw"), body, [], secrets=("token",)) as tester:
        yield tester


def test_a_claw_reaches_what_it_was_given(workspace_claw: ClawTester) -> None:
    """Settings, workspace and a secret, by functions and not as arguments."""
    outcome = workspace_claw.run({}, settings={"depth": 3}, secrets={"token": "hunter22"})
    assert outcome.result == {"secret": "hunter22", "settings": {"depth": 3}, "there": True}
    assert workspace_claw.run({}).status == "error"


@pytest.mark.requirement("SDK-15.1", "EXT-21.1", "EXT-26.1")
@pytest.mark.parametrize(
    "body, statuses",
    [
        ("raise RuntimeError", {"error"}),
        ("import os\nos._exit(0)", {"crashed"}),
        ("import sys\nsys.exit(0)", {"crashed"}),
        ("import ctypes\nctypes.string_at(8)", {"killed"}),
        ("import os\nreturn {'fds': [os.open('/dev/null', 0) for _ in range(10000)]}", {"error"}),
        ("x = bytearray(4 << 30)\nreturn {}", {"error", "killed"}),
        ("import time\ntime.sleep(1000)", {"timeout"}),
        ("while True: pass", {"killed", "timeout"}),
        ("return 5", {"crashed"}),
        ("return {'a': float('nan')}", {"crashed"}),
        ("return {'a': 'x' * 10_000_000}", {"output_limit"}),
    ],
)
def test_a_kit_of_bad_claws(body: str, statuses: set[str], tmp_path: Path) -> None:
    """Each is an outcome; the tester, which stands where the node does, goes on and has leaked nothing."""
    with module(tmp_path, body, [], limits=Limits(wall_seconds=1.0, cpu_seconds=1)) as tester:
        before = len(os.listdir("/proc/self/fd"))
        assert tester.run({}).status in statuses
        assert tester.run({}).status in statuses
        assert len(os.listdir("/proc/self/fd")) <= before + 2  # the sandbox's own, made at the first run


def test_what_is_no_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModuleRejectedError, match="BAD_MANIFEST"):
        ClawTester(str(tmp_path))
    local = claw(**DECLARED)(lambda text: {})
    with pytest.raises(ModuleRejectedError, match="BAD_MANIFEST"):
        ClawTester(local)


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b'{"cases": 5}', b'{"cases": [5]}', b'{"cases": [{"name": "a", "args": {}}]}', b'{"cases": [], "x": 1}',
     b'{"cases": [{"name": "a", "args": {}, "result": 5}]}', b'{"cases": [{"name": "a", "args": [], "error": "b"}]}',
     b'{"cases": [{"name": "a", "args": {}, "error": "b", "result": {}}]}',
     b'{"cases": [{"name": "a", "args": {}, "error": "b", "files": {"a": 1}}]}'],
)  # fmt: skip
def test_cases_that_are_none(raw: bytes) -> None:
    with pytest.raises(ConfigurationError):
        read_cases(raw)


def test_a_case_stays_in_its_workspace(tmp_path: Path) -> None:
    case = {"name": "a", "args": {}, "result": {}, "files": {"../outside": "x"}}
    with module(tmp_path, "return {}", [case]) as tester, pytest.raises(ConfigurationError):
        tester.check()
    assert Check("abi", "x", True).detail == ""
