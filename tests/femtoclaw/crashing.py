"""A machine that stops before a chosen change of a name on disk."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest


class Crash(BaseException):
    """The machine is gone."""


def stopping(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the machine stop before the n-th change of a name on disk (a rename, a removal); it lives again at 0."""
    left = 0

    def before(real: Callable[..., None]) -> Callable[..., None]:
        def change(*places: str, **others: int) -> None:
            nonlocal left
            if left == 1:
                raise Crash
            left -= left > 0
            real(*places, **others)

        return change

    for name in ("rename", "replace", "unlink"):
        monkeypatch.setattr(os, name, before(getattr(os, name)))

    def set_left(count: int) -> None:
        nonlocal left
        left = count

    return set_left
