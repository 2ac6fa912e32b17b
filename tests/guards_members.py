"""Guards of what operators ask for at members of a cluster, and of incidents there."""

from tests.guard import Guard

_EXECUTOR = "tests/femtoclaw/test_following_executor.py"

_INCIDENTS = "tests/cli/test_member_incidents.py"

GUARDS = (
    Guard("I9", "what is only recorded is passed on to the leader", "femtoclaw/serving/following.py",
          "        if command.action in ANYWHERE:\n", "        if False:\n",
          f"{_EXECUTOR}::test_what_is_only_recorded_is_the_leaders_to_record_wherever_it_is_asked"),
    Guard("I9", "what files of a home go with is not passed on", "femtoclaw/serving/following.py",
          "        if command.action in ANYWHERE:\n", "        if True:\n",
          f"{_EXECUTOR}::test_what_files_of_a_home_go_with_is_not_passed_on"),
    Guard("I10", "a member that met two histories is an incident at the leader", "femtoclaw/serving/notices.py",
          '"PEER_DIVERGED", "PEER_FROZEN", ', '"PEER_DIVERGED", ',
          f"{_INCIDENTS}::test_a_history_that_forked_stops_the_cluster_where_an_operator_says_so", slow=True),
    Guard("I10", "evidence that another member signed verifies at every member", "femtoclaw/cli/incident_evidence.py",
          "(members.members if members else ())", "()",
          f"{_INCIDENTS}::test_a_member_that_lies_is_an_incident_that_is_answered_from_another_member", slow=True),
)  # fmt: skip
