"""Guards of witnesses: cosignatures, fork proofs, the witness's state and its server."""

from __future__ import annotations

from tests.guard import Guard

_IN_SERVER = "tests/cluster/test_witness_http.py::"
_DECISIONS = "tests/cluster/test_witness.py::"
_PROCESS = "tests/cluster/test_witness_server.py::"
_POLICY = "tests/cluster/test_witness_policy.py::"
_FORK = "tests/wal/test_fork_proof.py::"
_COSIGNED = "tests/wal/test_cosignature.py::"

GUARDS = (
    Guard(
        "I2",
        "a witness's state is durable before its cosignature leaves",
        "cluster/witness_server.py",
        "            self._store.save(answer.state)\n",
        "            pass\n",
        _IN_SERVER + "test_the_state_is_on_the_disk_when_the_answer_is_given",
    ),
    Guard(
        "I2",
        "a witness whose state could not be written answers no more",
        "cluster/witness_server.py",
        "        if origin in self._failed:\n",
        "        if False:\n",
        _IN_SERVER + "test_no_cosignature_leaves_before_its_state_is_durable",
    ),
    Guard(
        "I9",
        "a witness judges one request of a log at a time",
        "cluster/witness_server.py",
        "        with lock:\n",
        "        if True:\n",
        _IN_SERVER + "test_one_request_of_a_log_at_a_time",
    ),
    Guard(
        "I10",
        "a witness checks the consistency proof",
        "cluster/witness.py",
        "        verify_consistency(log.size, new.size, request.hashes, log.root, new.root)\n",
        "        pass\n",
        _DECISIONS + "test_a_proof_that_does_not_prove_is_422",
    ),
    Guard(
        "I10",
        "a witness refuses another root of the same size",
        "cluster/witness.py",
        "        verify_consistency(log.size, new.size, request.hashes, log.root, new.root)\n",
        "        if new.size > log.size:\n            verify_consistency(log.size, new.size, request.hashes, log.root, new.root)\n",
        _DECISIONS + "test_another_root_of_the_same_size_is_422_and_convicts_the_key",
    ),
    Guard(
        "I10",
        "a witness takes checkpoints by trusted keys only",
        "cluster/witness.py",
        "        trusted = open_note(request.note, log.keys).verified\n",
        "        trusted = log.keys\n",
        _DECISIONS + "test_only_a_trusted_key_counts",
    ),
    Guard(
        "I10",
        "a witness goes on only from the size that it has cosigned",
        "cluster/witness.py",
        "    if request.old != log.size:\n",
        "    if False:\n",
        _DECISIONS + "test_another_old_size_is_409_and_names_the_right_one",
    ),
    Guard(
        "I10",
        "a witness's times never fall",
        "cluster/witness.py",
        "max(now_s, log.time_s, 1)",
        "max(now_s, 1)",
        _DECISIONS + "test_a_clock_that_was_set_back_says_nothing_new",
    ),
    Guard(
        "I3",
        "a damaged witness state is refused",
        "cluster/witness_state.py",
        "    if title != _TITLE or encode_state(log) != raw:\n",
        "    if False:\n",
        _DECISIONS + "test_a_state_reads_back_and_every_changed_bit_is_found",
    ),
    Guard(
        "I3",
        "a witness state must be cosigned by this witness",
        "cluster/witness_state.py",
        "    if not _is_own(log, own):\n",
        "    if False:\n",
        _DECISIONS + "test_a_state_that_this_witness_never_cosigned_is_refused",
    ),
    Guard(
        "I3",
        "a witness does not begin anew where a state was lost",
        "cluster/witness_store.py",
        "        if raw is None:\n            raise WitnessStateError(",
        "        if raw is None:\n            return WatchedLog(origin, keys)\n            raise WitnessStateError(",
        _PROCESS + "test_it_does_not_start_on_a_damaged_or_lost_state",
    ),
    Guard(
        "I9",
        "one process at a time works on a witness's directory",
        "cluster/witness_store.py",
        "        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "        pass\n",
        _PROCESS + "test_a_second_process_and_a_change_while_it_runs_are_refused",
    ),
    Guard(
        "I10",
        "a client counts only a cosignature that holds",
        "cluster/witness_client.py",
        "return verify_cosignature(text, line, witness.key), line",
        "return Cosignature(witness.key, 1), line",
        _IN_SERVER + "test_what_else_a_witness_may_answer",
    ),
    Guard(
        "I10",
        "a cosignature is verified over time and text",
        "wal/cosignature.py",
        "    verify_signature(cosigned_message(text, time_s), stamped[_TIME_BYTES:], _signing(key))\n",
        "",
        _COSIGNED + "test_a_line_of_a_known_key_that_does_not_hold_refuses_all",
    ),
    Guard(
        "I10",
        "a cosigner counts once",
        "cluster/witness_policy.py",
        "            if member in self._members:\n",
        "            if False:\n",
        _POLICY + "test_what_is_no_policy_is_refused",
    ),
    Guard(
        "I10",
        "a fork proof needs two different roots",
        "wal/fork_proof.py",
        "    if root == first.root:\n",
        "    if False:\n",
        _FORK + "test_one_history_convicts_nobody",
    ),
    Guard(
        "I10",
        "a fork proof is of one log",
        "wal/fork_proof.py",
        "    if first.origin != second.origin:\n",
        "    if False:\n",
        _FORK + "test_others_signatures_convict_nobody",
    ),
    Guard(
        "I10",
        "a fork proof's hashes lead to the larger root",
        "wal/fork_proof.py",
        "    if (first, second) != (proof.root, larger.root):\n",
        "    if False:\n",
        _FORK + "test_hashes_that_lead_elsewhere_convict_nobody",
    ),
    Guard(
        "I11",
        "a slow client gives its place back",
        "cluster/deadline.py",
        "        if left <= 0:\n",
        "        left = max(left, 5.0)\n        if False:\n",
        _IN_SERVER + "test_a_slow_client_loses_its_place",
    ),
    Guard(
        "I11",
        "a witness's connections are bounded",
        "cluster/witness_server.py",
        "        if self._places.acquire(blocking=False):\n",
        "        if self._places.acquire(blocking=False) or True:\n",
        _IN_SERVER + "test_connections_are_bounded",
    ),
    Guard(
        "I11",
        "a witness's evidence is bounded",
        "cluster/witness_store.py",
        "or len(there) >= WITNESS_EVIDENCE_MAX",
        "",
        _IN_SERVER + "test_evidence_is_kept_once_and_within_a_bound",
    ),
)
