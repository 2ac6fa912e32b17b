"""What a claw reports when it cannot do what was asked: a class and a message without secrets (CLAW-14.1)."""

from __future__ import annotations


class ClawError(Exception):
    """Base; ``kind`` is one of ArgumentError, ExecutionError, AuthorizationError, EnvironmentError."""

    kind = "ExecutionError"


class ArgumentError(ClawError):
    """The arguments name something that cannot be meant."""

    kind = "ArgumentError"


class AccessError(ClawError):
    """Outside of what this claw may touch."""

    kind = "AuthorizationError"


class SurroundingsError(ClawError):
    """The machine did not allow it: missing file, full disk, no such program."""

    kind = "EnvironmentError"
