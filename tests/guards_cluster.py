"""Guards of a member at work: what its driver says and takes, what its modes wait for, what it tells, shows and fetches."""

from __future__ import annotations

from tests.guard import Guard

DRIVER = "tests/cluster/test_driver.py"
MODES = "tests/cluster/test_modes.py"
READS = "tests/cluster/test_answering_reads.py"
RECOVERY = "tests/cli/test_peer_recovery.py"
_FRAMES = "tests/cluster/test_recent_frames.py::"
_HANDS = "tests/cluster/test_changing_hands.py::"
_EXECUTOR = "tests/femtoclaw/test_following_executor.py::"
_SESSION = "tests/femtoclaw/test_session.py::"

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
    Guard(
        "I10",
        "frames that changed while they were read are not sent",
        "cluster/recent_frames.py",
        "        return frames if self._changes == before else None",
        "        return frames",
        _FRAMES + "test_what_was_changed_while_it_was_read_is_not_given",
    ),
    Guard(
        "I10",
        "frames are not sent while they change",
        "cluster/recent_frames.py",
        "        if before & 1 or offset < 0",
        "        if offset < 0",
        _FRAMES + "test_nothing_is_given_while_it_is_changed",
    ),
    Guard(
        "I11",
        "every option of a connection is one that gRPC knows",
        "cluster/transport.py",
        '    ("grpc.keepalive_time_ms", KEEPALIVE_MS),',
        '    ("grpc.keepalive_ms", KEEPALIVE_MS),',
        "tests/cluster/test_transport_options.py::test_grpc_knows_the_option",
    ),
    Guard(
        "I2",
        "a transfer waits for the last record's signature",
        "femtoclaw/serving/member.py",
        "        if time.monotonic() > until or stopping.wait(PAUSE_S):\n            return False",
        "        return False",
        _HANDS + "test_a_transfer_waits_for_the_last_records_signature",
    ),
    Guard(
        "I2",
        "streams of a leadership that is given back end with it",
        "cluster/driver.py",
        "            with contextlib.suppress(ClusterError, LogError):\n"
        "                self.feed(Withdrawn())  # while it still counts as a leadership: its streams end with it\n"
        '            self._leadership = None\n            self._busy = ""\n',
        '            self._leadership = None\n            self._busy = ""\n'
        "            with contextlib.suppress(ClusterError, LogError):\n                self.feed(Withdrawn())\n",
        _HANDS + "test_a_leadership_that_was_given_back_unused_is_led_anew",
    ),
    Guard(
        "I2",
        "a promotion waits for a learner that is about to have everything",
        "femtoclaw/serving/leading.py",
        "            if not leads or time.monotonic() >= until:",
        "            if True:",
        _HANDS + "test_a_promotion_waits_for_a_learner_that_is_about_to_have_everything",
    ),
    Guard(
        "I2",
        "a learner that has not everything is not promoted",
        "femtoclaw/serving/leading.py",
        "        if command.action in (PROMOTE, TRANSFER):\n",
        "        if False:\n",
        _HANDS + "test_a_learner_that_does_not_come_is_not_promoted",
    ),
    Guard(
        "I2",
        "a request that is held when the node stops was not taken",
        "femtoclaw/serving/following.py",
        "lambda: not self._held or self._ended,",
        "lambda: not self._held,",
        _EXECUTOR + "test_a_request_that_waits_when_the_node_stops_was_not_taken",
    ),
    Guard(
        "I2",
        "a request that waits for a leader when the node stops was not taken",
        "femtoclaw/serving/following.py",
        "            if self._ended or time.monotonic() >= until:\n",
        "            if time.monotonic() >= until:\n",
        _EXECUTOR + "test_a_request_that_waits_when_the_node_stops_was_not_taken",
    ),
    Guard(
        "I2",
        "what is in flight ends before a node that stops",
        "femtoclaw/serving/following.py",
        "            if local is None and drain_s:",
        "            if False:",
        _EXECUTOR + "test_what_is_in_flight_ends_before_a_node_that_stops",
    ),
    Guard(
        "I4",
        "a node that stops without a majority closes its log",
        "femtoclaw/serving/session.py",
        "            stop(self.started, reason)\n        except (LogError, ClusterError, OSError) as error:",
        "            stop(self.started, reason)\n        except (LogError, OSError) as error:",
        _SESSION + "test_a_stop_without_a_majority_ends_all_the_same",
    ),
    Guard(
        "I2",
        "a member that has no room lets another lead",
        "femtoclaw/serving/member.py",
        '    return "" if alone or log.storage.room() > 0 else "there is no room for new work"',
        '    return ""',
        _SESSION + "test_what_cannot_execute_any_more_does_not_keep_others_from_leading",
    ),
)
