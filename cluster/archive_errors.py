"""What an archive can refuse, split by who must act."""

from __future__ import annotations

from cluster.errors import (
    ClusterConfigurationError,
    ClusterError,
    ClusterUnavailableError,
    DivergenceError,
)


class ArchiveTargetError(ClusterConfigurationError):
    """What was named is no archive, or a name that no archive has."""

    default_remedy = "name a folder, or s3://BUCKET/PREFIX"


class ArchiveUnavailableError(ClusterUnavailableError):
    """The archive cannot be reached, read or written. What it held before, it holds."""

    default_remedy = (
        "check the archive's address, its credentials and its free space; the same command may be run again"
    )


class ArchiveDamagedError(ClusterError):
    """An archived object is not what its name says: flipped bits, a cut, or bytes that were never a part of this log."""

    exit_code = 3
    default_remedy = (
        "keep the object as evidence outside of the archive, and run `femtoclaw archive push` on a node that has it"
    )


class ArchiveBoundError(ArchiveDamagedError):
    """An archived object would take more room than anything that a log holds; it was not expanded."""


class ArchiveDivergedError(DivergenceError):
    """The archive holds another history of this log, or other bytes under a name that is needed. Nothing was overwritten."""

    default_remedy = (
        "keep both as evidence; find out which node wrote the other object, or what damaged it, before you move it away"
    )


class ArchiveForeignError(ClusterError):
    """The archive holds other logs, and not the one that was asked for."""

    exit_code = 3
    default_remedy = "give the archive of this log; `femtoclaw archive list` says which logs one holds"


class ArchiveIncompleteError(ClusterError):
    """What is there is sound, and not enough to rebuild a log from."""

    exit_code = 3
    default_remedy = (
        "run `femtoclaw archive push` on a node that still has the log, or take the rest from another archive"
    )
