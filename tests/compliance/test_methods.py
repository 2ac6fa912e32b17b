"""The four methods kept and run again: what was changed in the file is found, and no other command is run from it."""

from __future__ import annotations

from typing import Any

import pytest

from femtoclaw.compliance import methods
from femtoclaw.errors import UsageError

BODIES = {
    "test suite": '{"verdicts":[{"id":"A-1.1","result":"shown"}]}',
    "runtime inspection": '{"checks":[{"name":"log","result":"ok"},{"name":"disk","result":"bad"}]}',
    "audit-log verification": '{"ok":true,"findings":[]}', "configuration inspection": '{"ok":true}',
}  # fmt: skip


def kept() -> dict[str, Any]:
    """A file of the four."""
    told = [
        {"name": name, "command": list(words), "exit": 0, "output": BODIES[name], "digest": methods.digest(BODIES[name]),
         "verdicts": methods.verdicts(name, BODIES[name])}
        for name, words in methods.METHODS.items()
    ]  # fmt: skip
    return {"format": 1, "methods": told}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Command lines that would have been run; each answers as before."""
    lines: list[list[str]] = []

    def answer(home: str, name: str, words: list[str]) -> dict[str, Any]:
        lines.append(words)
        return {"exit": 0, "verdicts": methods.verdicts(name, BODIES[name])}

    monkeypatch.setattr(methods, "one", answer)
    return lines


def test_what_was_kept_is_compared(ran: list[list[str]]) -> None:
    """Equal where nothing was changed; a changed output, verdict or exit code is found in its own method."""
    assert all(each["kept"] and each["follows"] and each["equal"] for each in methods.again("home", kept()))
    assert ran == [list(words) for words in methods.METHODS.values()]
    for field, value, wrong in (
        ("output", '{"ok":false,"findings":[]}', "kept"), ("verdicts", {"log": "unsound"}, "follows"), ("exit", 3, "equal"),
    ):  # fmt: skip
        changed = kept()
        changed["methods"][2][field] = value
        found = methods.again("home", changed)
        assert found[2][wrong] is False
        assert all(each["kept"] and each["follows"] and each["equal"] for each in (*found[:2], found[3]))


@pytest.mark.parametrize(
    "words", [["config", "set", "a.b=1"], ["comply"], ["comply", "--dry-run", "--out", "f"], ["comply", "--dry-run", "--domain"],
              ["comply", "--dry-run", "--domain", "--html"]],
)  # fmt: skip
def test_no_other_command_is_run(ran: list[list[str]], words: list[str]) -> None:
    """A file is no way to have a node do something."""
    changed = kept()
    changed["methods"][0]["command"] = words
    with pytest.raises(UsageError):
        methods.again("home", changed)
    assert ran == []
    for other in ({}, {"format": 1, "methods": []}, {"format": 1, "methods": [1]}, []):
        with pytest.raises(UsageError):
            methods.again("home", other)


def test_the_suite_may_have_a_scope(ran: list[list[str]]) -> None:
    """Documents, ids or domains."""
    scoped = kept()
    scoped["methods"][0]["command"] += ["--domain", "STORAGE", "--domain", "seed"]
    methods.again("home", scoped)
    assert ran[0] == ["comply", "--dry-run", "--domain", "STORAGE", "--domain", "seed"]
