"""Measurements of the four methods: run on a twin, kept, and run again by somebody who has the file."""

from __future__ import annotations

import json
from typing import Any

from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.methods import digest, verdicts
from femtoclaw.compliance.twin import twin

SUITE = "STORAGE-18.1"
"""What the suite looks at here: one requirement, so that this run does not begin itself again."""


def repeated(laboratory: Laboratory) -> dict[str, Any]:
    """What was kept of the four, what running them again said, and of a file that names another command."""
    home, out = laboratory.once(twin), laboratory.place("methods.json")
    first = laboratory.run(home, "comply", "methods", "--domain", SUITE, "--out", out)
    with open(out, "rb") as file:
        kept = json.load(file)["methods"]
    again = laboratory.run(home, "comply", "again", "--from", out)
    foreign = laboratory.place("foreign.json")
    changed = [dict(each, command=["config", "set", "runtime.steps_max=3"]) for each in kept]
    with open(foreign, "w", encoding="utf-8") as file:
        json.dump({"format": 1, "methods": changed}, file)
    refused = laboratory.run(home, "comply", "again", "--from", foreign)
    return {
        "exit": first.code, "kept": kept, "again": again.code, "compared": again.body.get("methods", []),
        "foreign": refused.code,
        "digests": [digest(each["output"]) for each in kept],
        "verdicts": [verdicts(each["name"], each["output"]) for each in kept],
    }  # fmt: skip
