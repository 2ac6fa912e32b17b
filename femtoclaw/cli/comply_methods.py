"""``comply methods`` and ``comply again``: the four methods run and kept, and run again from what was kept."""

from __future__ import annotations

import os
from typing import Any

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output
from femtoclaw.errors import UsageError
from femtoclaw.home import locate, require


def methods(arguments: Arguments, output: Output) -> int:
    """Run the four and write what they printed to ``--out``; 0 when each ended with 0."""
    from femtoclaw.compliance.grading import canonical
    from femtoclaw.compliance.methods import run_all
    from wal.durable_file import write_file

    if not arguments.out:
        raise UsageError("a file is needed for what they print", where="comply methods", expected="--out FILE")
    home = locate(getattr(arguments, "home", None))
    require(home)
    kept = run_all(home.path, arguments.domain or [])
    write_file(os.path.abspath(arguments.out), canonical(kept) + b"\n")
    told = [{key: each[key] for key in ("name", "command", "exit", "digest")} for each in kept["methods"]]
    output.data({"methods": told})
    for each in told:
        line = f"{each['name']:<25} exit {each['exit']}  femtoclaw {' '.join(each['command'])}  {each['digest'][:16]}"
        output.line(line, "red" if each["exit"] else "green")
    return 1 if any(each["exit"] for each in told) else 0


def again(arguments: Arguments, output: Output) -> int:
    """Run the command lines of ``--from`` again; 0 when every output is the one that was hashed and every verdict is equal."""
    from femtoclaw.compliance.methods import again as repeat

    if not arguments.source:
        raise UsageError("a file is needed", where="comply again", expected="--from FILE")
    home = locate(getattr(arguments, "home", None))
    require(home)
    found = repeat(home.path, _read(arguments.source))
    ok = all(each["kept"] and each["follows"] and each["equal"] for each in found)
    output.data({"ok": ok, "methods": found})
    for each in found:
        words = [name for name in ("kept", "follows", "equal") if not each[name]]
        output.line(
            f"{each['name']:<25} {'not ' + ', '.join(words) if words else 'equal'}", "red" if words else "green"
        )
    return 0 if ok else 1


def _read(path: str) -> Any:
    from femtoclaw.cli.json_file import read_json
    from femtoclaw.compliance.methods import FILE_BYTES_MAX

    return read_json(path, FILE_BYTES_MAX, "comply methods")
