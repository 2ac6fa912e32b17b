"""Changing a structure at random: what a forger who has the key can put where a program expects something else."""

from __future__ import annotations

import copy
import random
from typing import Any


def hostile_values() -> list[Any]:
    """Values of every type that msgpack has, at their borders."""
    return [
        0, 1, -1, 10**14, 2**31, 2**63, 2**64 - 1, -(2**63), 1.5, float("nan"), float("inf"), True, False, None, "",
        "x", "x" * 300, "\0", "\u2028", "a\nb", "../../x", b"", b"x" * 16, b"x" * 31, b"x" * 32, b"\xff" * 33, [], [1],
        [[[[]]]], [None] * 6, {}, {"a": 1}, {1: {}}, "0" * 64, "success", "AUTHORIZED",
    ]  # fmt: skip


def mutated(value: Any, chance: random.Random) -> Any:
    """A copy of a structure of lists in which one to three places were replaced, dropped, doubled or swapped."""
    whole = [copy.deepcopy(value)]
    for _ in range(chance.randrange(1, 4)):
        _mutate(whole, chance)
    return whole[0] if whole else None


def _mutate(whole: list[Any], chance: random.Random) -> None:
    places = list(_lists(whole))
    inner = [each for each in places if each is not whole and each]
    target = chance.choice(inner) if inner and chance.random() < 0.97 else whole
    if not target:
        return
    at, other = chance.randrange(len(target)), chance.randrange(len(target))
    match chance.randrange(6):
        case 0 if target is not whole:
            del target[at]
        case 1 if target is not whole:
            target.insert(at, copy.deepcopy(target[other]))
        case 2:
            target[at], target[other] = target[other], target[at]
        case 3 if isinstance(target[at], (str, bytes)) and target[at]:
            target[at] = target[at][: chance.randrange(len(target[at]))]
        case 4 if type(target[at]) is int and abs(target[at]) < 2**62:
            target[at] += chance.choice([-1, 1])
        case _:
            target[at] = chance.choice(hostile_values())


def _lists(value: Any) -> list[list[Any]]:
    found: list[list[Any]] = []
    if isinstance(value, list):
        found.append(value)
        for item in value:
            found.extend(_lists(item))
    return found
