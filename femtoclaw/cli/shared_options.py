"""Kinds of values on the command line, and the options of whoever signs: for every table of options."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SECONDS_MAX = (1 << 63) // 1_000_000_000
"""The last second that the nanoseconds of a record's index can hold; in the year 2262."""


def utf8(word: str) -> str:
    """A word that is text. Raises ValueError for other bytes: no id, event type, claw or brain has them."""
    word.encode()
    return word


def moment(word: str) -> str:
    """A time as it was written; beyond what a record can hold, the end of that. Raises ValueError for digits that make
    no number."""
    if word.isdigit():
        return str(min(int(word), SECONDS_MAX))
    year, dash, _ = word.partition("-")
    if dash and year.isdigit() and not 1970 <= int(year) < 2262:
        return str(SECONDS_MAX if int(year) >= 2262 else 0)
    return word


SIGNING: dict[str, dict[str, Any]] = {
    "--as": {"type": utf8, "metavar": "NAME", "help": "the operator who asks (default: the login's)"},
    "--operator-key": {
        "metavar": "FILE",
        "help": "their key file, where it is not in the home (or $FEMTOCLAW_OPERATOR_KEY)",
    },
}
"""Options of the commands that an operator signs."""

COSIGNING: dict[str, dict[str, Any]] = SIGNING | {
    "--cosign": {"action": "append", "metavar": "FILE", "help": "the key of another operator who signs too"},
}
