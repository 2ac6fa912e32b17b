"""Options of another act are mistakes, whichever command they are given to."""

from __future__ import annotations

from typing import Any

import pytest

from femtoclaw.cli.acts import TAKEN_BY
from femtoclaw.cli.options import COMMANDS
from femtoclaw.cli.parser import parse
from femtoclaw.errors import UsageError

LOOKED_AT_ELSEWHERE = {"archive", "cluster", "distribution", "witness"}
EACH = [(command, name) for command, taken in TAKEN_BY.items() for name in taken]


def choices(command: str) -> tuple[str, ...]:
    takes = COMMANDS[command][2]
    found: tuple[str, ...] = takes.get("what", takes.get("which", {})).get("choices", ())
    return found


def words(name: str, keywords: dict[str, Any]) -> list[str]:
    """The option or positional as somebody gives it; a number that is no default."""
    if keywords.get("action") == "store_true":
        return [name]
    value = str(keywords.get("choices", ["7"])[0])
    return [name, value] if name.startswith("-") else [value]


@pytest.mark.parametrize(("command", "name"), EACH, ids=" ".join)
def test_an_option_is_taken_by_its_acts_and_refused_by_all_others(command: str, name: str) -> None:
    """The mistake is named with the act; nothing is read as if it had not been there."""
    acts, keywords = TAKEN_BY[command][name].split(), COMMANDS[command][2][name]
    assert acts and set(acts) < set(choices(command)), "else it needs no row"
    for act in choices(command):
        before = ["x"] if name == "claw" else []  # the second of two positionals
        line = [command, act, *before, *words(name, keywords)]
        if act in acts:
            assert getattr(parse(line), keywords.get("dest") or name.lstrip("-").replace("-", "_")) not in (None, False, [])
            continue
        with pytest.raises(UsageError, match="has no meaning here") as refused:
            parse(line)
        assert refused.value.where == f"{command} {act}"


def test_the_help_says_of_whom_an_option_is_as_the_table_does() -> None:
    """Where a help begins with acts, these are the acts: what it says is what is refused."""
    told = 0
    for command, (_, _, takes) in COMMANDS.items():
        for name, keywords in takes.items():
            head, colon, _ = str(keywords.get("help", "")).partition(": ")
            named = head.split(", ")
            if command in LOOKED_AT_ELSEWHERE or not name.startswith("-") or not colon or not set(named) <= set(choices(command)):
                continue
            told += 1
            assert set(named) <= set(TAKEN_BY[command][name].split()), (command, name)
    assert told > 50


def test_every_command_with_acts_has_its_rows() -> None:
    """A new one is thought about."""
    with_acts = {command for command in COMMANDS if choices(command)}
    unshared = {
        command for command in with_acts - LOOKED_AT_ELSEWHERE
        if {name for name in COMMANDS[command][2] if name not in ("what", "which")} - {"--as", "--operator-key", "--cosign"}
    }  # fmt: skip
    assert unshared - set(TAKEN_BY) == {"proof"}  # both acts take numbers
    assert not set(TAKEN_BY) - with_acts
