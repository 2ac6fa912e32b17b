"""Guards of what operators ask for at members of a cluster, and of incidents there."""

from tests.guard import Guard

_EXECUTOR = "tests/femtoclaw/test_following_executor.py"

GUARDS = (
    Guard("I9", "what is only recorded is passed on to the leader", "femtoclaw/serving/following.py",
          "        if command.action in ANYWHERE:\n", "        if False:\n",
          f"{_EXECUTOR}::test_what_is_only_recorded_is_the_leaders_to_record_wherever_it_is_asked"),
    Guard("I9", "what files of a home go with is not passed on", "femtoclaw/serving/following.py",
          "        if command.action in ANYWHERE:\n", "        if True:\n",
          f"{_EXECUTOR}::test_what_files_of_a_home_go_with_is_not_passed_on"),
)  # fmt: skip
