"""Guards of a node that is being served: what reaches it over its socket, or from another member."""

from __future__ import annotations

from tests.guard import Guard

API_ERRORS = "tests/femtoclaw/test_api_errors.py"
API_BOUNDS = "tests/femtoclaw/test_api_bounds.py"
API = "tests/femtoclaw/test_api.py"
SERVED = "tests/cli/test_served.py"
PUBLISHED = "tests/cli/test_published_contract.py"

GUARDS = (
    Guard(
        "I11",
        "a node is at work on no more calls than it may",
        "femtoclaw/api/service.py",
        "if not self._slots.acquire(blocking=False):",
        "if self._slots.acquire(blocking=False) is None:",
        API_BOUNDS + "::test_one_call_too_many_is_refused_at_once",
        slow=True,
    ),
    Guard(
        "I11",
        "fields of a request have bounds",
        "femtoclaw/api/codec.py",
        "if len(raw) > most:",
        "if False:",
        API_BOUNDS + "::test_what_is_over_a_bound_is_refused_unrecorded",
    ),
    Guard(
        "I2",
        "a leadership that is lost in the middle leaves the outcome unknown",
        "femtoclaw/api/answering.py",
        "if isinstance(error, NotLeadingError):",
        "if False:",
        API_ERRORS + "::test_a_leadership_lost_in_the_middle_leaves_the_outcome_unknown",
    ),
    Guard(
        "I2",
        "a request that was passed on and not answered is not sent again",
        "femtoclaw/api/forwarding.py",
        "raise _unknown(error.what, str(error.found) if error.found is not None else type(error).__name__) from error",
        "raise NotTakenError(error.what) from error",
        API_ERRORS + "::test_only_what_certainly_was_not_taken_may_be_sent_again",
    ),
    Guard(
        "I2",
        "a connection that breaks after a request was sent leaves its outcome unknown",
        "femtoclaw/api/client.py",
        'return _unknown(self._where, f"{error.code().name.lower()} from the connection")',
        'return UnavailableError("the connection broke", found=error.code().name)',
        SERVED + "::test_a_server_that_dies_in_the_middle_leaves_an_unknown_outcome",
    ),
    Guard(
        "I10",
        "an operator's time is judged by the node's own clock",
        "femtoclaw/api/local.py",
        "return command._replace(received_ns=self._started.sources.wall_ns())",
        "return command",
        API + "::test_the_node_judges_an_operators_time_by_its_own_clock",
    ),
    Guard(
        "I5",
        "a policy is not changed over calls that were decided since its comparison",
        "femtoclaw/api/local.py",
        "            self._refuse_decided_since(compared_size)\n",
        "",
        API + "::test_a_policy_is_not_changed_over_calls_that_nobody_compared",
    ),
    Guard(
        "I5",
        "such a change is alone among calls",
        "femtoclaw/api/at_work.py",
        "if not self._condition.wait_for(lambda: not self._alone and not self._calls, seconds):",
        "if not self._condition.wait_for(lambda: not self._alone, seconds):",
        API_ERRORS + "::test_a_change_that_is_alone_waits_for_calls_and_holds_later_ones_up",
    ),
    Guard(
        "I10",
        "what needs the program's own hands is refused by a node at work",
        "femtoclaw/api/local.py",
        "if command.action in AT_REST_ONLY:",
        "if False:",
        API + "::test_what_needs_the_programs_own_hands_is_refused",
    ),
    Guard(
        "I10",
        "settings that only a start reads are refused by a node at work",
        "femtoclaw/api/local.py",
        "        if keys:\n",
        "        if False:\n",
        API + "::test_a_configuration_is_taken_only_where_a_node_at_work_can_follow",
    ),
    Guard(
        "I5",
        "a run that nobody waits for ends before its next thought",
        "femtoclaw/api/at_work.py",
        "if self._abandoned():",
        "if False:",
        API_ERRORS + "::test_a_run_that_nobody_waits_for_ends_before_its_next_thought",
    ),
    Guard(
        "I12",
        "a defect of a served node tells its type only",
        "femtoclaw/api/failures.py",
        'f"a defect in femtoclaw: {type(error).__name__}"',
        'f"a defect in femtoclaw: {type(error).__name__} {error}"',
        API_ERRORS + "::test_a_defect_tells_its_type_and_nothing_else",
    ),
    Guard(
        "I12",
        "a secret that is set is struck out from then on",
        "femtoclaw/api/local.py",
        'if command.action.startswith("secret."):',
        "if False:",
        API + "::test_a_secret_is_recorded_only_where_its_value_is",
    ),
    Guard(
        "I12",
        "a secret is recorded only where its value is",
        "femtoclaw/api/local.py",
        "            require_secret(started.home, started.signer, command)\n",
        "            pass\n",
        API + "::test_a_secret_is_recorded_only_where_its_value_is",
    ),
    Guard(
        "I8",
        "who recorded an erasure forgets the key",
        "femtoclaw/api/local.py",
        "            started.subjects.destroy(command.resource)\n",
        "            pass\n",
        SERVED + "::test_an_erased_subject_is_forgotten_by_the_serving_process",
    ),
    Guard(
        "I10",
        "the socket is its owner's alone",
        "femtoclaw/api/socket.py",
        "SOCKET_MODE = 0o600",
        "SOCKET_MODE = 0o666",
        SERVED + "::test_the_socket_is_its_owners_alone",
    ),
    Guard(
        "I10",
        "a change that comes over the API reaches the home's files",
        "femtoclaw/api/local.py",
        "                put_in_place()\n",
        "",
        API + "::test_a_policy_that_a_program_sets_is_in_the_homes_file",
    ),
    Guard(
        "I10",
        "one at a time stages files of a home",
        "femtoclaw/api/own_files.py",
        "        return False\n    return True\n",
        "        return True\n    return True\n",
        API + "::test_one_at_a_time_stages_files",
    ),
    Guard(
        "I5",
        "who serves a node verifies a module before it is enabled",
        "femtoclaw/api/local.py",
        'if command.action == "claw.enable":',
        "if False:",
        PUBLISHED + "::test_a_module_whose_files_were_changed_is_not_enabled_by_a_node_at_work",
    ),
)
