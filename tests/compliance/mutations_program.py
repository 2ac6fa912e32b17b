"""Mutations under which the checks of the program in memory and its source files turn red."""

from __future__ import annotations

from femtoclaw.compliance.simulation import RUNS, determinism, gated, thinking
from tests.compliance.mutating import (
    MUTATIONS,
    measured,
    source_says,
)

MUTATIONS |= {
    "equal_inputs_give_equal_bytes": measured(determinism, digests=["0" * 64] + ["1" * 64] * (RUNS - 1)),
    "the_gate_cannot_be_passed": lambda laboratory: laboratory.replaced(
        gated, laboratory.once(gated)._replace(refusals=laboratory.once(gated).refusals | {"a forged grant": ""})
    ),
    "brains_are_interchangeable": measured(thinking, remembering=[]),
    "memory_is_a_bounded_window": measured(thinking, window=8),
    "results_are_remembered": measured(thinking, shown=[["go"], ["go", "nothing"]]),
    "brains_see_enabled_claws_only": measured(thinking, listed=["fs.list", "fs.read", "fs.write", "shell", "web.get"]),
    "four_parts_make_a_runtime": measured(thinking, scripted=[("REJECTED", "SYNTAX")]),
    "the_core_is_small": source_says("femtoclaw/gate.py", "import requests\n"),
    "brains_reach_no_tools": source_says("femtoclaw/brains/new.py", "from femtoclaw.gate import Gate\n"),
    "data_is_never_code": source_says("femtoclaw/new.py", "eval('1')\n"),
    "chance_comes_from_the_system": source_says("femtoclaw/new.py", "import random\n"),
    "there_is_one_way_to_an_effect": source_says("femtoclaw/new.py", "def go(gate):\n    gate.dispatch(1)\n"),
    "no_error_is_swallowed_bare": source_says("femtoclaw/new.py", "try:\n    pass\nexcept:\n    pass\n"),
}
