"""Commands that end without a word at a chosen place, as by kill -9: what the next start finds is what a crash leaves."""

from __future__ import annotations

import signal
import subprocess
import sys

from tests.cli.node import ROOT, START, Node, environment

_CUT = """
import functools, importlib, os, signal
*folders, name = {names!r}
place = functools.reduce(getattr, folders, importlib.import_module({module!r}))
assert callable(getattr(place, name))
setattr(place, name, lambda *words, **named: os.kill(os.getpid(), signal.SIGKILL))
"""


def cut_at(node: Node, place: str, *words: str) -> None:
    """Run a command whose process is killed where it calls ``place`` (``module:function`` or ``module:Class.method``)."""
    module, _, names = place.partition(":")
    code = _CUT.format(module=module, names=names.split(".")) + START
    done = subprocess.run(
        [sys.executable, "-c", code, "--home", str(node.path), *words], capture_output=True, env=environment(), cwd=ROOT,
        check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done
