"""Where a new key may be written: not among the node's own keys, whose signed index names all that may be there."""

from __future__ import annotations

import os

from femtoclaw.errors import UsageError
from femtoclaw.home import Home


def refuse_among_keys(home: Home, path: str) -> None:
    """Raises UsageError for a file in the folder of the home's keys: one that their index does not name stops every start."""
    folder = os.path.realpath(os.path.dirname(home.key_file))
    if os.path.commonpath([folder, os.path.realpath(path)]) == folder:
        raise UsageError(
            "a new key among the node's own would stop every start: their signed index does not name it", where="--out",
            expected=f"a file outside of {folder}", found=path,
            remedy="keep it elsewhere, best on another machine; --operator-key FILE names an operator's key where it is used",
        )  # fmt: skip
