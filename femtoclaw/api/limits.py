"""Bounds of the API, each with its unit. What the runtime bounds itself is not bounded here again. Pure."""

REQUEST_BYTES_MAX = 2 * 1024 * 1024
REPLY_BYTES_MAX = 64 * 1024 * 1024

MESSAGE_BYTES_MAX = 1024 * 1024 - 1024
"""A message to be gated: with what is recorded beside it, it fits a record."""

TEXT_BYTES_MAX = 256 * 1024
CONTENT_BYTES_MAX = 1024 * 1024
BRAIN_BYTES_MAX = 4096 + 64
NAME_CHARACTERS_MAX = 128
SIGNATURE_BYTES_MAX = 64
COSIGNATURES_MAX = 16
LOG_RECORDS_MAX = 1_000_000

RESULTS_BYTES_MAX = 2 * 1024 * 1024
"""Results of a run's steps in one reply; what is over is left out, and is in the log. With a response and progress it fits a
member's answer, which takes 4 MiB."""

FAILURE_CHARACTERS_MAX = 1000
"""Of one text of a failure: they travel in a header, which takes 8 KiB."""

FAILURE_SMALL_MAX = 200
"""The same where all together would be too much."""

FAILURE_BYTES_MAX = 4096

FORWARDED_PROGRESS_BYTES_MAX = 1024 * 1024
"""Of a run that another member executes; what is over is left out, and is in the log."""

PROGRESS_WAITING_MAX = 1024
"""Messages of a run that wait for a slow reader; the next are left out."""

CONNECT_SECONDS = 5.0
READ_SECONDS = 60.0
"""For a status or a state's hash."""

EFFECT_SECONDS = 24 * 3600.0
"""For what may run claws and brains: each has deadlines of its own."""

READERS_MAX = 8
"""Calls that change nothing, at once."""

OTHERS_MAX = 6
"""Threads of the server for what it answers beside the API, such as probes of its health."""

WORKERS_MAX = 128
EXCLUSIVE_SECONDS = 10.0
"""How long a change of policy waits for calls that are under way."""

PATIENCE_S = 30.0
"""How long a request waits in a cluster for somebody who leads."""

FOLLOW_SECONDS = 10.0
"""How long a client waits until its node has the record that the leader acknowledged."""
