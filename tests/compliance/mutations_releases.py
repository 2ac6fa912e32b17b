"""Mutations under which the checks of releases, and of what the other areas leave turn red."""

from __future__ import annotations

import json
from typing import Any

from femtoclaw import events
from femtoclaw.compliance.laboratory import Answer, Laboratory
from femtoclaw.compliance.machines import (
    abi,
    settings_refused,
)
from femtoclaw.compliance.measures_more import (
    growing,
    shipped,
)
from femtoclaw.compliance.released import released
from femtoclaw.compliance.session import session
from femtoclaw.compliance.trails import Told, Trail
from tests.compliance.mutating import (
    MUTATIONS,
    PREPARED,
    Mutation,
    altered,
    measured,
    module_answer,
    twin_trail,
    without,
)


def _deployment() -> dict[str, Any]:
    """What the commands of releases answer, in their form: tests/cli/test_release_commands.py runs them."""
    good, refused = (
        Answer(0, [{"kept": {"digest": "d"}}], ""),
        Answer(3, [{"error": {"type": "ReleaseRefusedError"}}], ""),
    )
    history = Answer(0, [{"history": [{"procedure": "release.deploy"}, {"procedure": "release.rollback"}]}], "")
    steps = ["signature", "fit", "kept", "unpacked", "trusted", "switched", "restarted", "checked"]
    happened = [
        events.ProcedureBegun("release.deploy", "p", "r", "d", "root"),
        events.ProcedureEnded("release.deploy", "p", "done", "", json.dumps({"steps": steps}).encode(), (), "root"),
        events.ResponseRecorded("e", "in between"),
    ]
    told = [Told(at, at, "", True, event, repr(event).encode()) for at, event in enumerate(happened, 1)]
    names = ("deploy", "upgrade", "between", "rollback", "afterwards", "verify", "whole")
    answers = (
        dict.fromkeys(names, good)
        | dict.fromkeys(("another key", "changed", "unsigned"), refused)
        | {"history": history}
    )
    return {"answers": answers, "before": (9, "a" * 64), "prefix": True, "trail": Trail("twin", told, len(told))}


def deployed(**answers: int) -> Mutation:
    """Releases, with other exit codes of some commands; names with ``_`` for blanks."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = _deployment()
        changed = {name.replace("_", " "): code for name, code in answers.items()}
        found["answers"] |= {name: found["answers"][name]._replace(code=code) for name, code in changed.items()}
        return laboratory.replaced(released, found)

    return mutation


def never_deployed(laboratory: Laboratory) -> Laboratory:
    """A deployment that skipped the signature."""
    found = _deployment()
    trail = found["trail"].changed(altered("ProcedureEnded", content=b'{"steps":["switched","checked"]}'))
    return laboratory.replaced(released, found | {"trail": trail})


RELEASES = (
    "a_release_is_deployed_in_order", "foreign_releases_are_refused", "upgrades_keep_history", "rollbacks_keep_history",
    "downtime_is_told", "one_path_through_it_all",
)  # fmt: skip


PREPARED |= dict.fromkeys(RELEASES, deployed())


MUTATIONS |= {
    "a_release_is_deployed_in_order": never_deployed,
    "foreign_releases_are_refused": deployed(changed=0),
    "upgrades_keep_history": lambda laboratory: laboratory.replaced(released, _deployment() | {"prefix": False}),
    "rollbacks_keep_history": deployed(afterwards=3),
    "one_path_through_it_all": deployed(rollback=1),
    "memory_is_bounded": lambda laboratory: laboratory.replaced(
        session,
        laboratory.once(session)._replace(process=laboratory.once(session).process | {"RSS after": "9999999 kB"}),
    ),
    "it_needs_no_network": lambda laboratory: laboratory.replaced(
        session, laboratory.once(session)._replace(process=laboratory.once(session).process | {"TCP": "4711"})
    ),
    "appends_do_not_slow_down": lambda laboratory: laboratory.replaced(
        growing, laboratory.once(growing) | {"append at 10000": 1e6}
    ),
    "the_program_is_small": lambda laboratory: laboratory.replaced(
        growing, laboratory.once(growing) | {"program bytes": 1e9}
    ),
    "shipped_records_are_checked": measured(shipped, gap=""),
    "others_can_build_on_it": module_answer("untrusted", code=0),
}


MUTATIONS |= {
    "abi_versions_decide": lambda laboratory: laboratory.replaced(
        abi, laboratory.once(abi) | {"table": laboratory.once(abi)["table"] | {"FC-ABI-2.0.0": True}}
    ),
    "settings_have_bounds": lambda laboratory: laboratory.replaced(
        settings_refused, laboratory.once(settings_refused) | {"a timeout of zero": ""}
    ),
}


MUTATIONS |= {"records_stand_in_the_order_of_execution": twin_trail(without("ExecutionStarted", nth=0))}
