"""The runtime's own errors, in the ten canonical categories of the error model.

The three governing documents name the categories differently; ``docs/glossary.md`` holds the alias table. An error
says what happened, where, what was expected and found, what to do next, and which exit code it ends a command with
(0 done, 1 the answer is no, 2 usage or configuration, 3 integrity, 4 unavailable, 5 outcome unknown, 70 a defect,
130 interrupted before anything was changed).
"""

from __future__ import annotations

from enum import Enum

from wal.described_error import DescribedError


class Category(str, Enum):
    """Exactly one per error (ERROR-3.1)."""

    CONFIGURATION = "CONFIGURATION"
    PROTOCOL = "PROTOCOL"
    AUTHORIZATION = "AUTHORIZATION"
    CAPABILITY = "CAPABILITY"
    MEMORY = "MEMORY"
    STATE_MACHINE = "STATE_MACHINE"
    SECURITY = "SECURITY"
    OBSERVABILITY = "OBSERVABILITY"
    RUNTIME = "RUNTIME"
    SYSTEM = "SYSTEM"


class Severity(str, Enum):
    """Decides the handling: record, record and alert, ERROR state, shutdown (ERROR-4.1)."""

    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
    CRITICAL = "CRITICAL"


class FemtoClawError(DescribedError):
    """Base of the runtime's errors. ``what`` is one sentence without a trailing dot; never holds a secret (I12)."""

    category = Category.RUNTIME
    severity = Severity.ERROR
    code = "RUNTIME_ERROR"
    default_remedy = "report this as a defect, with the output of `femtoclaw status --json`"


class ConfigurationError(FemtoClawError):
    """The operator's files or flags are wrong; nothing was started."""

    category = Category.CONFIGURATION
    code = "CONFIGURATION_ERROR"
    exit_code = 2
    default_remedy = "correct the file or flag named above and run the command again"


class UsageError(ConfigurationError):
    """The command line itself is wrong."""

    default_remedy = "see `femtoclaw COMMAND --help`"


class PolicyError(ConfigurationError):
    """A policy that does not parse, or does not fit the schema of the registered claws."""

    code = "POLICY_INVALID"
    default_remedy = "correct the policy file; the one in force has not changed"


class CommandInterruptedError(FemtoClawError):
    """Ctrl-C or SIGTERM in a command that may have caused an effect."""

    code = "INTERRUPTED"
    exit_code = 5
    default_remedy = "nothing to repair: what was in flight is closed at the next start (see `femtoclaw status`)"


class ReadingInterruptedError(FemtoClawError):
    """Ctrl-C in a command that causes no effect."""

    severity = Severity.INFO
    code = "INTERRUPTED"
    exit_code = 130
    default_remedy = "nothing was changed; run it again"


class BrainError(FemtoClawError):
    """The brain did not answer, or not within its bounds. Nothing was executed."""

    category = Category.SYSTEM
    code = "BRAIN_UNAVAILABLE"
    exit_code = 4
    default_remedy = "check the brain's address and its service, then run again; nothing was executed"


class CapabilityError(FemtoClawError):
    """A claw could not be run at all (not: ran and failed, which is a result)."""

    category = Category.CAPABILITY
    code = "CAPABILITY_ERROR"
    exit_code = 4
    default_remedy = "see `femtoclaw show EXECUTION_ID` for what the claw reported"


class StateMachineError(FemtoClawError):
    """An illegal transition was asked for (STATE-3.1)."""

    category = Category.STATE_MACHINE
    severity = Severity.CRITICAL
    code = "STATE_MACHINE_ERROR"


class SecurityError(FemtoClawError):
    """Tampering, a forged or reused token, or a breach of isolation."""

    category = Category.SECURITY
    severity = Severity.CRITICAL
    code = "SECURITY_ERROR"
    exit_code = 3
    default_remedy = "stop the node and keep the home directory as evidence"


class CommandError(FemtoClawError):
    """A command that makes no sense in this state; nothing was recorded."""

    category = Category.RUNTIME
    code = "COMMAND_REFUSED"
    exit_code = 70


class IntegrityError(SecurityError):
    """Something is not what was verified, recorded or signed: the node does not start with it."""

    code = "INTEGRITY_VIOLATION"
    default_remedy = "put back what was there, or have an operator accept the change; nothing was started"


class HistoryError(IntegrityError):
    """The log holds what this program never records: whoever has the node's key wrote it, or memory failed."""

    code = "HISTORY_UNSOUND"
    default_remedy = "run `femtoclaw verify`, which names the index; keep the home as evidence"


class AnswerIsNoError(FemtoClawError):
    """What was asked for may not be; nothing was changed."""

    category = Category.AUTHORIZATION
    code = "REFUSED"
    exit_code = 1
    default_remedy = "see what is said above; nothing was changed"


class ControlRefusedError(FemtoClawError):
    """A control request that no operator of this node signed, or that is not from now; nothing was changed."""

    category = Category.AUTHORIZATION
    code = "CONTROL_REFUSED"
    exit_code = 1
    default_remedy = "see `femtoclaw operator list` for who may sign, and with which key"


class UnavailableError(FemtoClawError):
    """The authority cannot accept work now (stopping, full, failed)."""

    category = Category.SYSTEM
    code = "UNAVAILABLE"
    exit_code = 4
    default_remedy = "see `femtoclaw status`; nothing was executed"
