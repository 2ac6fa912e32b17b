"""Checks of the documents that come with the program, and of what a third person can do again."""

from __future__ import annotations

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.documents import documented
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.methods import METHODS
from femtoclaw.compliance.repeated import SUITE, repeated

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


@shows("CONFORM-19.1")
def four_methods_can_be_run_again(laboratory: Laboratory) -> str:
    """The four methods run, their outputs are kept with digests; from the kept command lines the verdicts come out equal."""
    found = laboratory.once(repeated)
    kept = found["kept"]
    need([each["name"] for each in kept] == list(METHODS) and found["exit"] == 0, "four methods", found["exit"])
    every(((each["name"], each["output"] and each["verdicts"]) for each in kept), "an output with verdicts")
    need([each["digest"] for each in kept] == found["digests"], "the digests of the outputs", found["digests"])
    need([each["verdicts"] for each in kept] == found["verdicts"], "the verdicts of the outputs", found["verdicts"])
    need(found["again"] == 0 and len(found["compared"]) == 4, "equal verdicts when run again", found["compared"])
    every(((each["name"], each["kept"] and each["follows"] and each["equal"]) for each in found["compared"]), "equal")
    need(found["foreign"] == 2, "a file with another command refused", found["foreign"])
    told = "; ".join(f"femtoclaw {' '.join(each['command'])}: {each['digest'][:16]}" for each in kept)
    return f"{told}; equal when run again. The suite over {SUITE} here, over everything by `comply methods --out FILE`"
