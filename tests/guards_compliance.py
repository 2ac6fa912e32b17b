"""Guards of the compliance run: what it must not take for shown, and where it must not work."""

from __future__ import annotations

from tests.guard import Guard

REPORTS = "tests/compliance/test_reports.py"
COVERAGE = "tests/compliance/test_coverage.py"

GUARDS = (
    Guard(
        "I10",
        "a check that breaks shows nothing",
        "femtoclaw/compliance/checking.py",
        'result, text = FAILED, f"the measurement ended with {type(error).__name__}: {error}"\n    return',
        'result, text = SHOWN, f"the measurement ended with {type(error).__name__}: {error}"\n    return',
        REPORTS + "::test_a_check_that_breaks_shows_nothing",
    ),
    Guard(
        "I10",
        "a check without evidence shows nothing",
        "femtoclaw/compliance/checking.py",
        "        if not text:\n",
        "        if False:\n",
        REPORTS + "::test_a_check_that_breaks_shows_nothing",
    ),
    Guard(
        "I10",
        "one failed requirement turns the whole verdict",
        "femtoclaw/compliance/grading.py",
        "    if any(result == FAILED for _, result in results):\n",
        "    if False:\n",
        REPORTS + "::test_words_and_levels_follow_from_verdicts",
    ),
    Guard(
        "I10",
        "a level of a report needs every step below it",
        "femtoclaw/auditing/levels.py",
        "        if not all(step.met for step in asked if step.level == number):\n            break\n",
        "        if not all(step.met for step in asked if step.level == number):\n            continue\n",
        REPORTS + "::test_words_and_levels_follow_from_verdicts",
    ),
    Guard(
        "I10",
        "a report on a part says nothing of the whole",
        "femtoclaw/compliance/standing.py",
        '    if report["scope"] == ["all"]:\n',
        "    if True:\n",
        REPORTS + "::test_a_run_is_on_record",
    ),
    Guard(
        "I8",
        "a dry run records nothing",
        "femtoclaw/cli/complying.py",
        "recorded = 0 if arguments.dry_run else",
        "recorded =",
        REPORTS + "::test_a_dry_run_records_nothing",
    ),
    Guard(
        "I12",
        "evidence is escaped in the page",
        "femtoclaw/compliance/page.py",
        "{escape(report['evidence'][each.id])}",
        "{report['evidence'][each.id]}",
        REPORTS + "::test_the_page_is_of_one_piece",
    ),
    Guard(
        "I10",
        "a requirement that nothing covers is a gap",
        "femtoclaw/compliance/coverage.py",
        "if each.seed and not any(_covered(each, shown, exempt).values())",
        "if False",
        COVERAGE + "::test_a_requirement_that_nothing_covers_is_found",
    ),
)
