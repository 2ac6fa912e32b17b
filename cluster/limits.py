"""Every bound of replication, with its unit (I11). Relations between bounds are checked on import."""

from __future__ import annotations

from wal.limits import BATCH_RECORDS_MAX, GROUP_BYTES_MAX, PAYLOAD_BYTES_MAX

ENTRIES_RECORDS_MAX = 4096
"""Records in one Entries message."""

ENTRIES_BYTES_MAX = 8 * 1024 * 1024
"""Frame bytes in one Entries message, unless a single record is larger."""

WINDOW_BYTES_MAX = 32 * 1024 * 1024
"""Frame bytes that a source may have on the way to one follower before it waits for acknowledgements."""

MESSAGE_BYTES_MAX = 96 * 1024 * 1024
"""One message on the wire: the largest is a blob."""

HISTORY_EPOCHS_MAX = 4096
"""Epochs in one history."""

NOTE_BYTES_MAX = 16 * 1024
"""One signed checkpoint or cosignature line."""

SEGMENT_BYTES_MAX = 64 * 1024 * 1024
"""One sealed segment on the wire, unpacked; what a larger one holds is sent as Entries."""

NAME_CHARACTERS_MAX = 64
"""A member's name."""

REASON_CHARACTERS_MAX = 512
"""The text of a refusal."""

PROMISES_MAX = 31
"""Promises in one epoch's record: as many as a membership has members."""

REGISTER_BYTES_MAX = 4096
"""The coordinator's register, encoded."""

LEASE_S_MIN, LEASE_S_MAX = 2, 60
"""How long leadership outlives a leader that says nothing, in seconds; etcd itself grants no less than two."""

COORDINATOR_CALL_S_MIN, COORDINATOR_CALL_S_MAX = 0.1, 30.0
"""How long one call to the coordinator may take, in seconds."""

COORDINATOR_ENDPOINTS_MAX = 9
"""Addresses of one coordinator."""

WAIT_S_MAX = 60.0
"""One bounded wait for a change of leadership, in seconds."""

assert ENTRIES_BYTES_MAX <= GROUP_BYTES_MAX <= WINDOW_BYTES_MAX <= MESSAGE_BYTES_MAX
assert BATCH_RECORDS_MAX <= ENTRIES_RECORDS_MAX
assert PAYLOAD_BYTES_MAX < ENTRIES_BYTES_MAX
