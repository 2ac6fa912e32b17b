"""Entry point. Answers ``--version`` before anything else is imported, and ends as soon as the answer is out."""

from __future__ import annotations

import sys

GARBAGE_OBJECTS = 50_000
"""New containers between two looks for garbage: the interpreter's 700 makes it look hundreds of times while modules
are loaded, which make next to none."""


def main() -> None:
    """Run the command line and exit with the contract's code."""
    if sys.argv[1:] == ["--version"]:
        from femtoclaw.version import VERSION

        print(f"femtoclaw {VERSION}")
        return
    import gc

    gc.set_threshold(GARBAGE_OBJECTS, *gc.get_threshold()[1:])
    from femtoclaw.cli.main import run

    try:
        code = run(sys.argv[1:])
    except SystemExit as ended:  # argparse, after it printed help
        if ended.code not in (None, 0):
            raise
        code = 0
    _end(code)


def _end(code: int) -> None:
    """End the process now, which leaves its memory to the kernel instead of taking it apart object by object.

    The interpreter ends in its own way when something still depends on that: another thread, a profiler, output that
    cannot be written (which it reports).
    """
    import os

    threading = sys.modules.get("threading")
    if (threading is not None and threading.active_count() > 1) or sys.getprofile() is not None or sys.gettrace():
        sys.exit(code)
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        sys.exit(code)
    os._exit(code)


if __name__ == "__main__":
    main()
