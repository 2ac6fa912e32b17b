"""Every bound of replication, with its unit (I11). Relations between bounds are checked on import."""

from __future__ import annotations

from wal.limits import BATCH_RECORDS_MAX, GROUP_BYTES_MAX, PAYLOAD_BYTES_MAX

ENTRIES_RECORDS_MAX = 4096
"""Records in one Entries message."""

ENTRIES_BYTES_MAX = 8 * 1024 * 1024
"""Frame bytes in one Entries message, unless a single append is larger."""

APPEND_BYTES_MAX = 64 * 1024 * 1024
"""Frame bytes of one atomic append that can be replicated: it travels and is stored whole."""

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

WINDOW_RECORDS = 8192
"""Records that a source may have on the way to one follower before it waits for acknowledgements."""

ASK_BYTES_MAX = 4 * 1024 * 1024
"""A question of the layer above, or its answer."""

ASK_S_MAX = 600
"""How long such an answer is waited for."""

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

CONTROL_BYTES_MAX = 24 * HISTORY_EPOCHS_MAX + 4096
"""One message that holds no records, without its note: the largest names all epochs of a history."""

BLOB_CHUNK_BYTES = 1024 * 1024
"""Bytes of a blob in one message."""

PATH_HASHES_MAX = 64
"""Hashes in one inclusion or consistency proof."""

CALLS_PER_PEER_MAX = 8
"""Calls of one member that a server serves at once, streams included; one more is refused as BUSY."""

CALLS_MAX = 64
"""Calls that a server serves at once."""

KEEPALIVE_MS = 2000
"""How long a connection may be silent before it is asked whether it is alive, and how long that may take, in milliseconds."""

CONNECT_MS_MAX = 2000
"""One attempt to connect, handshake included, in milliseconds."""

RECONNECT_MS_MIN, RECONNECT_MS_MAX = 50, 1000
"""Wait between two attempts to reach a member, in milliseconds."""

CALL_S_DEFAULT = 5.0
"""How long a call that is answered at once may take, in seconds."""

STREAM_SILENT_S_MAX = 30.0
"""How long a stream of blobs, records or pulled entries may bring nothing, in seconds."""

STOP_S_MAX = 5.0
"""How long a server waits for the end of what it has cut off, in seconds."""

REPLACED_S_MAX = 5.0
"""How long a new Follow stream waits for the end of the one that it replaces, in seconds."""

assert ENTRIES_BYTES_MAX <= GROUP_BYTES_MAX <= WINDOW_BYTES_MAX <= MESSAGE_BYTES_MAX
assert BATCH_RECORDS_MAX <= ENTRIES_RECORDS_MAX
assert PAYLOAD_BYTES_MAX < ENTRIES_BYTES_MAX

WITNESS_REQUEST_BYTES_MAX = 256 * 1024
"""One request to a witness: 63 hashes, and a checkpoint with room for the signatures of many kinds of keys."""

WITNESS_ANSWER_BYTES_MAX = 64 * 1024
"""One answer of a witness."""

WITNESS_HASHES_MAX = 63
"""Hashes in one consistency proof, by the protocol."""

WITNESS_CONNECTIONS_MAX = 64
"""Connections that a witness serves at once; one more is told to come again."""

WITNESS_REQUEST_SECONDS = 10.0
"""From the first to the last byte of a request, and the same for its answer: a slow client gives its place back."""

WITNESS_LOGS_MAX = 1024
"""Logs that one witness watches."""

WITNESS_KEYS_MAX = 64
"""Keys of one log that a witness trusts."""

WITNESS_EVIDENCE_MAX = 64
"""Refused requests of one log that a witness keeps: the first ones; only who holds a key of the log can cause any."""

WITNESS_RESENDS_MAX = 4
"""How often a client follows a witness that names another size, as another client of the same log may be at it too."""

WITNESS_POLICY_BYTES_MAX = 64 * 1024
"""A witness policy's text."""

WITNESS_POLICY_NAMES_MAX = 256
"""Logs, witnesses and groups of one witness policy together."""
