"""Guards of a member at work: what its driver says and takes, what its modes wait for, what it tells, shows and fetches."""

from __future__ import annotations

from tests.guard import Guard

DRIVER = "tests/cluster/test_driver.py"
MODES = "tests/cluster/test_modes.py"
READS = "tests/cluster/test_answering_reads.py"
RECOVERY = "tests/cli/test_peer_recovery.py"

GUARDS = (
    Guard(
        "I9",
        "what could not be made durable is not said",
        "cluster/driver.py",
        "                self.fail(error)\n                raise\n            if isinstance(act, CutOrphan):",
        "                told = None\n            if isinstance(act, CutOrphan):",
        DRIVER + "::test_a_promise_that_is_not_durable_is_not_given",
    ),
    Guard(
        "I4",
        "a member that failed to store says nothing any more",
        "cluster/driver.py",
        "        if self._failure is not None:\n            raise self._failure\n        if self._busy:",
        "        if self._busy:",
        DRIVER + "::test_a_promise_that_is_not_durable_is_not_given",
    ),
    Guard(
        "I10",
        "a pull puts nothing into a log that a leader decides over",
        "cluster/driver.py",
        "            if self._replica.leader or self.role",
        "            if self.role",
        DRIVER + "::test_what_any_member_has_is_taken_only_while_nobody_is_followed",
    ),
    Guard(
        "I10",
        "who was removed may call until that is committed",
        "cluster/replica_store.py",
        "        if now is None or before is None or index <= commit:",
        "        if True:",
        DRIVER + "::test_who_was_removed_may_call_until_that_is_committed",
    ),
    Guard(
        "I2",
        "who waits when a leadership ends hears of it",
        "cluster/acknowledgement.py",
        "            for _, _, waiter in self._waiting:\n                self._call(waiter, chain)\n            self._waiting = []",
        "            self._waiting = []",
        DRIVER + "::test_who_waits_when_a_leadership_ends_hears_of_it",
    ),
    Guard(
        "I10",
        "readers are shown what is committed only",
        "cluster/answering_reads.py",
        "        return min(self._driver.commit, self._driver.store.log.head.index)",
        "        return self._driver.store.log.head.index",
        READS + "::test_what_is_not_committed_yet_is_not_shown",
    ),
    Guard(
        "I10",
        "what a leader notices becomes an event",
        "femtoclaw/serving/member.py",
        "                self._record_notices(session)",
        "                pass",
        "tests/cluster/test_hostile_members.py::test_what_a_false_follower_answers",
        slow=True,
    ),
    Guard(
        "I9",
        "in mode witnessed a receipt waits for the witnesses",
        "cluster/driver.py",
        "            if self._witnessing is not None:\n                self._witnessing.committed()\n            else:\n"
        "                self._waiters.reached(ready.committed)",
        "            self._waiters.reached(ready.committed)",
        MODES + "::test_witnessed",
        slow=True,
    ),
    Guard(
        "I9",
        "in mode in_sync_all a receipt waits for the published set",
        "cluster/leading.py",
        "        if s.config.mode == IN_SYNC_ALL:",
        "        if False:",
        MODES + "::test_in_sync_all",
        slow=True,
    ),
    Guard(
        "I7",
        "who takes over from a leader that nobody followed doubts what is in flight",
        "femtoclaw/serving/member.py",
        "in_doubt=taken_over and self._settings.mode == LOCAL",
        "in_doubt=False",
        MODES + "::test_local",
        slow=True,
    ),
    Guard(
        "I9",
        "a log that was fetched anew is a learner's",
        "femtoclaw/cli/peer_recovery.py",
        'known._replace(restored=True, commit=0, frozen="", vouched=0)',
        'known._replace(restored=False, commit=0, frozen="", vouched=0)',
        RECOVERY + "::test_a_damaged_log_is_fetched_anew",
        slow=True,
    ),
    Guard(
        "I10",
        "an invitation is by a member of the log",
        "femtoclaw/newcomer.py",
        "    if not any(each.members is not None and each.members.by_key(issuer) for each in history):",
        "    if False:",
        RECOVERY + "::test_a_log_that_is_gone_is_fetched_anew",
        slow=True,
    ),
)
