"""Guards of benchmarks: what no speed makes up for, and what a comparison must not pass over."""

from __future__ import annotations

from tests.guard import Guard

BENCH = "tests/femtoclaw/test_benchmarking.py"

GUARDS = (
    Guard(
        "I10",
        "a benchmark in which something is not so has failed, however fast it was",
        "femtoclaw/benchmarking/results.py",
        "    if not all(verified.values()) or not all(",
        "    if not all(",
        BENCH + "::test_the_worst_that_is_true_is_the_word",
    ),
    Guard(
        "I10",
        "a benchmark without syncs is invalid",
        "femtoclaw/benchmarking/results.py",
        '    if facts.get("syncs", 1) < facts.get("syncs_needed", 1):\n',
        "    if False:\n",
        BENCH + "::test_the_worst_that_is_true_is_the_word",
    ),
    Guard(
        "I10",
        "samples of a warm-up are in no statistic",
        "femtoclaw/benchmarking/samples.py",
        "        if not sample.warm_up:\n",
        "        if True:\n",
        BENCH + "::test_statistics_are_those_of_the_counted_samples",
    ),
    Guard(
        "I10",
        "a category that became slower is named",
        "femtoclaw/benchmarking/comparison.py",
        "            if _is_worse(old, new, unit, factor):\n",
        "            if False:\n",
        BENCH + "::test_a_regression_is_named",
    ),
    Guard(
        "I10",
        "a result whose workload is another, or that was not durable, is refused",
        "femtoclaw/benchmarking/comparison.py",
        "    if invalid:\n",
        "    if False:\n",
        BENCH + "::test_what_is_hard_to_compare_is_told_or_refused",
    ),
)
