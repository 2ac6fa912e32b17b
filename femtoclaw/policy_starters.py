"""The policies that are shipped: one of them by its name, or an operator's own file."""

from __future__ import annotations

import os.path

from femtoclaw.home import read_text

STARTERS = {
    "default": "read the workspace, secrets excepted",
    "read-only": "read the workspace and facts of the machine, nothing else",
    "developer": "work in a source tree; unusual commands and overwriting wait for an approval",
    "ci-runner": "fixed commands and build outputs, within budgets; nobody is asked",
    "locked-down": "a server: narrow reads in working hours, two approvals for everything that changes something",
}
"""Name to what it is for. Each is a file in ``femtoclaw/policies``, with its cases in ``cases`` there."""

_FOLDER = os.path.join(os.path.dirname(__file__), "policies")


def starter(name: str) -> str:
    """The text of a shipped policy. Raises KeyError for a name that is none of ``STARTERS``."""
    STARTERS[name]
    return read_text(os.path.join(_FOLDER, f"{name}.cedar"))


def starter_cases(name: str) -> str:
    """The path of a shipped policy's file of cases. Raises KeyError for a name that is none of ``STARTERS``."""
    STARTERS[name]
    return os.path.join(_FOLDER, "cases", f"{name}.toml")


def chosen(word: str) -> str:
    """A shipped policy by its name, else the file of that name (``./NAME`` is always a file).

    Raises ConfigurationError as ``femtoclaw.home.read_text`` does.
    """
    return starter(word) if word in STARTERS else read_text(word)
