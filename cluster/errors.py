"""Everything that replication and witnessing can refuse, split by who must act.

As with ``wal.errors``: every error says what happened, where, what was expected and found, and what to do next, and
``exit_code`` is the exit code that the command line's contract gives this class of trouble (2 configuration, 3 the
histories disagree, 4 unavailable, 5 outcome unknown).
"""

from __future__ import annotations

from wal.described_error import DescribedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cluster.messages import Reason


class ClusterError(DescribedError):
    """Base of all errors of this package. ``what`` is one sentence without a trailing dot; never holds a secret."""

    default_remedy = "report this as a defect, with the output of `femtoclaw status --json`"


class ClusterConfigurationError(ClusterError):
    """What an operator wrote (members, addresses, policies, keys) cannot be used."""

    exit_code = 2
    default_remedy = "correct the file or the argument that is named"


class ClusterUnavailableError(ClusterError):
    """Something elsewhere is needed and cannot be reached, or there is no quorum. Nothing was promised."""

    exit_code = 4
    default_remedy = "try again when the named node is reachable"


class CoordinatorUnavailableError(ClusterUnavailableError):
    """The coordinator does not answer: whether anybody leads is not known here."""

    default_remedy = "check the coordinator and the way to it; a node that cannot ask it does not lead"


class OutcomeUnknownError(ClusterError):
    """It was sent or stored, and whether it counts cannot be said yet."""

    exit_code = 5
    default_remedy = "do not repeat it: look at what the log holds once a leader is there again"


class DivergenceError(ClusterError):
    """Two histories of one log contradict each other. Nothing was changed; what shows it is kept as evidence."""

    exit_code = 3
    default_remedy = "stop what signs for this log, keep all evidence, and find out which of its keys signed twice"


class PeerProtocolError(ClusterError):
    """Bytes from another process that the protocol does not allow."""

    exit_code = 4
    default_remedy = "check that both sides are of versions that belong together, and who else may be answering there"


class WireError(PeerProtocolError):
    """A message that does not decode, or that is over a bound. ``reason`` is MALFORMED or TOO_LARGE."""

    def __init__(
        self, what: str, reason: Reason, *, where: str = "", expected: object = None, found: object = None
    ) -> None:
        super().__init__(what, where=where, expected=expected, found=found)
        self.reason = reason


class PeerUnavailableError(ClusterUnavailableError):
    """A member cannot be reached, did not answer in time, or the connection broke: what was sent may have arrived."""

    default_remedy = "check the member, its address and its certificate; a call that changes something is not repeated"


class PeerRefusedError(ClusterUnavailableError):
    """A member answered no. ``reason`` is its code."""

    default_remedy = "see the reason; `femtoclaw cluster status` on both nodes says what each believes"

    def __init__(
        self, what: str, reason: Reason, *, where: str = "", expected: object = None, found: object = None
    ) -> None:
        super().__init__(what, where=where, expected=expected, found=found)
        self.reason = reason


class WitnessUnavailableError(ClusterUnavailableError):
    """A witness cannot be reached, is busy, or says that it failed."""

    default_remedy = "check the witness and the way to it; the same checkpoint may be sent again"


class WitnessRefusedError(ClusterError):
    """A witness does not know this log, or trusts none of the keys that signed."""

    exit_code = 2
    default_remedy = (
        "have the witness's operator run `femtoclaw witness add-log DIR ORIGIN VKEY` with the log's public key"
    )


class WitnessDisagreesError(DivergenceError):
    """A witness has cosigned a history that this checkpoint does not continue."""


class WitnessAheadError(ClusterError):
    """A witness has cosigned a larger size of this log than the checkpoint's. ``size`` is that one.

    Harmless when a newer checkpoint of the same log is on its way; if the log has none as large, its end was lost or cut.
    """

    exit_code = 3
    default_remedy = "send the newest checkpoint; if this log was never longer here, keep it as evidence: it was cut"

    def __init__(self, size: int, *, where: str = "", expected: object = None) -> None:
        super().__init__("a witness has cosigned a larger size", where=where, expected=expected, found=size)
        self.size = size


class CosignatureMissingError(PeerProtocolError):
    """A witness answered yes, but with no cosignature that holds under its known key."""

    default_remedy = "check that you have the right public key of this witness"


class WitnessStateError(ClusterError):
    """A witness's own state is damaged, or missing though there was one: answering could contradict what it signed."""

    exit_code = 3
    default_remedy = (
        "restore the file from a backup that is not older; if there is none, retire this witness and its key"
    )


class CoordinatorVersionError(ClusterConfigurationError):
    """The coordinator's version is known to lose or repeat what it confirmed, or is not known at all."""

    default_remedy = "run etcd 3.4.22 or newer of 3.4, or 3.5.6 or newer, on every member that is named"


class EpochRegressionError(ClusterError):
    """The coordinator has gone back: it was restored from a backup, emptied, or is another one. Leadership is given back."""

    exit_code = 3
    default_remedy = (
        "find out who restored or replaced the coordinator; keep its data as evidence, and bring back the one whose "
        "epochs are not behind those that the members' logs hold"
    )


class CorruptRegisterError(ClusterError):
    """The register, or what the coordinator keeps beside it, does not decode."""

    exit_code = 3
    default_remedy = "find out who else writes there; restore the value from a backup that is not older"


class ReplicaStateError(ClusterError):
    """What a node remembers of the protocol is damaged or missing: it cannot know what it has promised."""

    exit_code = 3
    default_remedy = "keep the home as evidence, and join again as a new member: `femtoclaw cluster leave`, then `join`"


class NotLeadingError(ClusterUnavailableError):
    """This node does not lead, or not any more: it takes no work. ``found`` names the leader where it is known."""

    default_remedy = "ask the leader, or wait until there is one; `femtoclaw cluster status` shows who leads"


class NotReplicatedError(OutcomeUnknownError):
    """A record is durable here and was not acknowledged by enough others in time."""

    default_remedy = (
        "do not repeat it: the next leader's log says whether it counts; check the other members and the network"
    )
