"""Checks of a program of which one byte is another: a sealed copy, started by its own launcher."""

from __future__ import annotations

from femtoclaw.compliance.altered_program import ALTERED, MODULE, Altered, altered_program, refusal_of
from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.starts import starts

LAUNCHER = "femtoclaw.launcher"


def _whole_first(laboratory: Laboratory) -> Altered:
    """The measurement, in which the unaltered program must have worked."""
    found = laboratory.once(altered_program)
    need(found.whole.code == 0, "a whole program that works", found.whole.stderr[-200:])
    return found


@shows("DEPLOY-5.1")
def an_altered_byte_stops_the_launcher(laboratory: Laboratory) -> str:
    """One byte of one file of a sealed copy: the launcher names the file, ends with 3, and imported nothing but itself."""
    found = _whole_first(laboratory)
    refusal = refusal_of(found.attempts["serve"])
    need(found.attempts["serve"].code == 3 and refusal.get("code") == "HASH_MISMATCH", "exit 3, HASH_MISMATCH", refusal)
    need(str(refusal["where"]).endswith(ALTERED), f"the file by its name: {ALTERED}", refusal["where"])
    need(LAUNCHER in found.imported, "imports that were told", found.imported)
    others = [name for name in found.imported if name != "femtoclaw" and not name.startswith(LAUNCHER)]
    need(not others and MODULE not in found.imported, "nothing imported but the launcher", others)
    return (
        f"exit 3, HASH_MISMATCH of {ALTERED}; of this program {len(found.imported)} modules were imported, all of the launcher, by "
        "the interpreter's own account (-X importtime). It does read the altered file, to hash it"
    )


@shows("DEPLOY-5.2")
def an_altered_program_does_not_run(laboratory: Laboratory) -> str:
    """However it is started: exit 3, nobody serves, the log does not grow, the journal has it; nor does one with a changed pin."""
    found = _whole_first(laboratory)
    every(((name, answer.code == 3) for name, answer in found.attempts.items()), "exit 3")
    need(not found.served, "nobody serving")
    need(found.before == found.after, "no record more", (found.before, found.after))
    refused = found.journal.count('"result": "refused"')
    need(refused == len(found.attempts), "a line of the boot journal for each", refused)
    start = laboratory.once(starts)["distribution's pin changed"]
    need(start.refused and start.answer.code == 3, "a changed pin refused too", start.answer.code)
    return (
        f"{', '.join(found.attempts)}: exit 3 each, {found.after} records before and after, {refused} refusals in the journal; a "
        "changed pin: exit 3. Commands that only read (log, status, verify ...) are no runtime, and are not verified"
    )
