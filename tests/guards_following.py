"""Guards of what a member takes from members that do not lead, of what a candidate keeps, of what
is acknowledged, and of those who wait."""

from __future__ import annotations

from tests.guard import Guard

_LYING = "tests/cluster/test_lying_members.py::"

GUARDS = (
    Guard(
        "I9",
        "records of this node's own epoch are adopted under its own signature only",
        "cluster/following.py",
        "            if self._adopting and not may_adopt(s.view, s.auth, run, message.checkpoint):\n",
        "            if False:\n",
        _LYING + "test_nobody_extends_an_epoch_of_this_nodes_own",
    ),
    Guard(
        "I9",
        "a member to adopt from that shows another record than it promised freezes nobody",
        "cluster/following.py",
        '                self._not_adopted(sender, f"it has another record at index {at.index}")\n                return\n',
        "                pass\n",
        _LYING + "test_a_lie_about_where_histories_part_freezes_nobody",
    ),
    Guard(
        "I9",
        "a note alone is stored before it is signed for",
        "cluster/following.py",
        "if run.records or message.checkpoint:",
        "if run.records:",
        _LYING + "test_a_note_alone_is_stored_before_it_is_signed_for",
    ),
    Guard(
        "I3",
        "what was committed is never cut",
        "cluster/following.py",
        "            if at.index < s.commit and not s.durable.restored:\n",
        "            if False:\n",
        _LYING + "test_what_is_committed_is_not_cut_after_a_restart",
    ),
    Guard(
        "I9",
        "a candidate remembers its epoch once somebody has promised it",
        "cluster/candidacy.py",
        "        if (s.durable.epoch, s.durable.leader) != (self.epoch, s.name):\n",
        "        if False:\n",
        _LYING + "test_a_candidate_that_nobody_promises_to_keeps_its_epoch",
    ),
    Guard(
        "I9",
        "a candidate remembers its epoch no earlier than somebody has promised it",
        "cluster/candidacy.py",
        "        self._ask()\n\n    def _keep",
        "        self._keep()\n        self._ask()\n\n    def _keep",
        _LYING + "test_a_candidate_that_nobody_promises_to_keeps_its_epoch",
    ),
    Guard(
        "I9",
        "that a change of the members is committed is remembered",
        "cluster/standing.py",
        "            if passed:\n",
        "            if False:\n",
        _LYING + "test_that_a_change_of_members_is_committed_outlives_a_restart",
    ),
    Guard(
        "I2",
        "who leaves a chain of wake-ups passes it on",
        "cluster/acknowledgement.py",
        "            own.pass_on()\n        return in_time",
        "            pass\n        return in_time",
        "tests/cluster/test_waiters.py::test_those_up_to_a_size_are_woken_and_no_others",
    ),
    Guard(
        "I2",
        "who leaves while the chain is made keeps its place",
        "cluster/acknowledgement.py",
        "if called and not own.woken:",
        "if False:",
        "tests/cluster/test_waiters.py::test_who_leaves_while_the_chain_is_made_keeps_its_place",
    ),
    Guard(
        "I10",
        "a heartbeat's checkpoint is judged when all of it is here",
        "cluster/following.py",
        "        if s.view.head().index < message.commit or s.view.last_epoch() < message.epoch:\n",
        "        if False:\n",
        "tests/cluster/test_kept_checkpoints.py::test_one_that_reaches_beyond_the_log_is_left",
    ),
    Guard(
        "I10",
        "another root in a heartbeat's checkpoint freezes",
        "cluster/following.py",
        "        if s.view.root_at(checkpoint.size) != checkpoint.root:\n",
        "        if False:\n",
        "tests/cluster/test_kept_checkpoints.py::test_another_root_freezes",
    ),
    Guard(
        "I2",
        "the word that another is to lead leaves first",
        "cluster/links.py",
        "            link.finish()\n",
        "            link.close()\n",
        "tests/cluster/test_links.py::test_the_word_that_another_is_to_lead_leaves_before_the_stream_ends",
    ),
    Guard(
        "I2",
        "the last word passes a stream that is over",
        "cluster/links.py",
        "            if self._over.is_set() and not isinstance(each, TransferNow):\n",
        "            if self._over.is_set():\n",
        "tests/cluster/test_links.py::test_the_word_that_another_is_to_lead_leaves_before_the_stream_ends",
    ),
    Guard(
        "I10",
        "a member's bytes that are no message are on record",
        "cluster/server.py",
        "            if isinstance(error, WireError):",
        "            if False:",
        "tests/cluster/test_bad_input.py::test_a_member_that_says_what_it_may_not",
        slow=True,
    ),
    Guard(
        "I2",
        "an acknowledgement of more than was sent is a lie",
        "cluster/leading.py",
        "        if message.size > progress.sent.index:\n",
        "        if False:\n",
        "tests/cluster/test_bad_input.py::test_a_follower_that_acknowledges_what_it_did_not_store",
        slow=True,
    ),
)
