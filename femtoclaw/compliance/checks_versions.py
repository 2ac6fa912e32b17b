"""Checks of a module's next version: who it is stays, and what it may do is asked for again."""

from __future__ import annotations

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.module_versions import NAME, versions


@shows("UPGRADE-11.1")
def wider_versions_are_granted_anew(laboratory: Laboratory) -> str:
    """A module's next version that wants more is denied until an operator enables it; the verdicts of the corpus stay the same; one
    that does not fit is refused."""
    found = laboratory.once(versions)
    answers = found["answers"]
    every(
        (
            (name, answers[name].code == 0)
            for name in ("first", "called", "disable", "wider", "enable", "called granted")
        ),
        "exit 0",
    )
    need("network" in str(answers["shown"].body), "the permission shown to who enables it", answers["shown"].body)
    early = answers["wider while enabled"]
    need(
        (early.code, early.body.get("code")) == (1, "ASKS_FOR_MORE"),
        "no installation over one that is enabled",
        early.body,
    )
    need(
        answers["called as before"].code == 0, "the version before at work meanwhile", answers["called as before"].body
    )
    ungranted = answers["called ungranted"].body
    need(ungranted.get("decision") == "DENIED_CAPABILITY_DISABLED", "a denial before the grant", ungranted)
    need(
        len(found["before"]) > 100 and found["before"] == found["after"],
        "equal verdicts of the corpus",
        len(found["before"]),
    )
    installed = found["trail"].of("ModuleInstalled")
    need(len(installed) == 2, "two versions under one name on record", installed)
    enabled = [each for each in found["trail"].of("ClawEnabled") if each.event.name == NAME]
    need(
        len(enabled) == 2 and enabled[1].index > installed[1].index,
        "a grant of its own",
        [each.index for each in enabled],
    )
    need(answers["too new"].code == 3 and "INCOMPATIBLE_RUNTIME" in str(answers["too new"].body), "an incompatible one refused",
         answers["too new"].body)  # fmt: skip
    need(answers["called still"].code == 0, "the one before still at work", answers["called still"].body)
    places = ", ".join(str(each.index) for each in installed)
    return (
        f"{len(found['before'])} verdicts equal; installed at versions: {places}; granted again at {enabled[1].index}"
    )
