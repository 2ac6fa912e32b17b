"""Checks of the documents that come with the program."""

from __future__ import annotations

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.documents import documented
from femtoclaw.compliance.laboratory import Laboratory

BYTES_MIN = 1000
LINES_MIN = 100


@shows("CONFORM-23.1")
def documents_say_what_is(laboratory: Laboratory) -> str:
    """Four documents; every command line in a document is one of this program, those that only read run; keys both ways."""
    found = laboratory.once(documented)
    every(((name, size > BYTES_MIN) for name, size in found.four.items()), "a document")
    refused = {line: why for line, why in found.lines.items() if why}
    need(not refused, "command lines that the program takes", refused)
    need(
        len(found.lines) > LINES_MIN and len(found.ran) >= 5,
        "command lines, some of which run",
        (len(found.lines), found.ran),
    )
    every(((line, code == 0) for line, code in found.ran.items()), "exit code 0")
    need(found.named == found.commands, "every command in a document", sorted(found.commands - found.named))
    need(found.keys == found.told, "the same keys in program and document", sorted(found.keys ^ found.told))
    return (
        f"{', '.join(found.four)}; {len(found.lines)} command lines parsed, {len(found.ran)} of them run: {', '.join(found.ran)}; "
        f"{len(found.commands)} commands, {len(found.keys)} keys both ways; the other lines change a node: tests run those of the "
        "runbook and the tour"
    )
