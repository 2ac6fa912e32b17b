"""Guards of a module's life: its stages, what it may import, and that it keeps its word."""

from __future__ import annotations

from tests.guard import Guard

STAGES = "tests/femtoclaw/test_module_stages.py"
PACKAGES = "tests/femtoclaw/test_module_packages.py"

GUARDS = (
    Guard(
        "I10",
        "a stage of a module's life that is out of order is refused",
        "femtoclaw/isolation/stages.py",
        "        if stage not in NEXT[last]:",
        "        if False:",
        STAGES + "::test_every_pair_of_stages",
    ),
    Guard(
        "I10",
        "stages in an answer are those of a life",
        "femtoclaw/isolation/answer.py",
        "    if not isinstance(told, list) or len(told) > len(STAGES) or not all(each in STAGES for each in told):",
        "    if not isinstance(told, list):",
        STAGES + "::test_stages_that_no_life_has_are_no_answer",
    ),
    Guard(
        "I6",
        "a claw of the program has no life of a module on record",
        "femtoclaw/decide.py",
        "        if known is not None and not known.publisher:",
        "        if False:",
        STAGES + "::test_a_claw_of_the_program_has_no_life_of_a_module",
    ),
    Guard(
        "I6",
        "a module's life belongs to a call with a result",
        "femtoclaw/apply.py",
        "    if not execution.summary or execution.claw != event.claw:",
        "    if False:",
        STAGES + "::test_a_module_s_life_belongs_to_a_call_with_a_result",
    ),
    Guard(
        "I10",
        "a module's code imports of this program the kit alone",
        "femtoclaw/isolation/python_files.py",
        '                raise ImportError("of this program, a module may import femtoclaw.sdk")',
        "                pass",
        STAGES + "::test_the_core_is_not_to_be_imported",
    ),
    Guard(
        "I10",
        "a claw that is another after it executed is refused",
        "femtoclaw/isolation/python_files.py",
        "        if (target.name(), target.description()) != before:",
        "        if False:",
        STAGES + "::test_a_claw_that_is_another_after_it_executed_is_refused",
    ),
    Guard(
        "I10",
        "a claw's own name is the registered one",
        "femtoclaw/isolation/python_files.py",
        "        if before[0] != registered:",
        "        if False:",
        STAGES + "::test_a_claw_of_another_name_is_not_called",
    ),
    Guard(
        "I10",
        "a module that is declared deterministic gets no clock",
        "femtoclaw/isolation/python_files.py",
        "            if name in self._closed:",
        "            if False:",
        STAGES + "::test_declared_deterministic_it_gets_neither_clock_nor_chance",
    ),
    Guard(
        "I10",
        "a module that is declared deterministic gets no chance",
        "femtoclaw/isolation/python_files.py",
        "            _close_chance()",
        "            pass",
        STAGES + "::test_declared_deterministic_it_gets_neither_clock_nor_chance",
    ),
    Guard(
        "I10",
        "a deterministic module that answers otherwise is refused",
        "femtoclaw/modules/constancy.py",
        "            if self._answers.setdefault(key, answer) != answer:",
        "            if False:",
        STAGES + "::test_who_answers_otherwise_is_refused_from_then_on",
    ),
    Guard(
        "I10",
        "a module says of which type it is",
        "femtoclaw/modules/declared.py",
        "    if kind not in LOADED_TYPES:",
        "    if False:",
        PACKAGES + "::test_what_a_manifest_may_not_say",
    ),
)
