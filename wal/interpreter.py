"""Starting another interpreter for a part of the work, on this program's own modules."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def isolated(code: str, search_path: str) -> list[str]:
    """The command line of an interpreter that runs ``code`` with modules from ``search_path``, whatever the environment
    and the working directory say. Arguments may be added."""
    return [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {search_path!r}); {code}"]


command: Callable[[str, str], list[str]] = isolated
"""What is used. A launcher that has verified this program's files puts its own here, under which those are loaded."""
