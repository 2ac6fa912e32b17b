"""Everything the log can refuse, split by who must act.

Every error carries what happened, where, what was expected and found, and what to do next; ``exit_code`` is the
process exit code that the command line's contract gives this class of trouble (2 configuration, 3 integrity,
4 unavailable, 5 outcome unknown).
"""

from __future__ import annotations

from wal.described_error import DescribedError


class LogError(DescribedError):
    """Base of all log errors. ``what`` is one sentence without a trailing dot."""

    default_remedy = "report this as a defect, with the output of `femtoclaw verify --json`"


class BoundError(LogError):
    """The caller asked for more than a stated bound (see ``wal.limits``). Nothing was written."""

    exit_code = 2
    default_remedy = "split the input, or store large bytes as a blob"


class CorruptRecordError(LogError):
    """Bytes that should be a record are not: framing, checksum, link or order is wrong."""

    exit_code = 3
    default_remedy = "run `femtoclaw verify`, then `femtoclaw recover --dry-run` to see what can be repaired"


class CorruptFileError(LogError):
    """A file beside the records (HEAD, segment, manifest, snapshot, blob, bundle) fails its own check."""

    exit_code = 3
    default_remedy = "run `femtoclaw recover --dry-run`; keep the file, it is evidence"


class StoreUnreadableError(CorruptFileError):
    """The store's own structure is damaged: records behind it cannot be reached."""


class RollbackError(LogError):
    """The store is shorter than, or different from, what was already promised to someone."""

    exit_code = 3
    default_remedy = (
        "do not delete anything; repair from an archive with `femtoclaw recover --from-archive DIR`, "
        "or accept the loss with `femtoclaw recover --accept-gap`"
    )


class ForeignLogError(LogError):
    """The key, the HEAD slots and the records do not belong to the same log."""

    exit_code = 3
    default_remedy = "put back the key and files that belong to this log"


class WrongKeyError(ForeignLogError):
    """The signer's key is not the one in force. ``expected`` is the vkey of that one, ``found`` the signer's."""

    default_remedy = (
        "open the log with the key file whose public key is the expected one (keep both files of a rotation until the log "
        "has been opened with one of them); if the node never had that key, put back the log and key that belong together"
    )


class SupersededKeyError(WrongKeyError):
    """The signer's key was in force once; a rotation has ended that."""


class SignatureError(LogError):
    """A signed note does not verify under the key that was asked for."""

    exit_code = 3
    default_remedy = "check that you were given the right public key; if so, the signed text was changed"


class KeyNotInForceError(SignatureError):
    """A key of this log signed for a size at which another one was in force."""

    default_remedy = "do not rely on it; keep it as evidence, and ask who could still sign with that key"


class ForgedSignatureError(KeyNotInForceError):
    """Signed, for a size behind the rotation, by a key that was declared compromised there."""

    default_remedy = (
        "this is a forgery by whoever holds the compromised key: keep it as evidence, and rely on nothing in it"
    )


class UnknownFormatError(LogError):
    """Written by a newer version than this program understands. Nothing was touched."""

    exit_code = 2
    default_remedy = "open it with the version that wrote it, or upgrade this one"


class LogMissingError(LogError):
    """There is no log here."""

    exit_code = 2
    default_remedy = "create one with `femtoclaw init`, or point --home at the right directory"


class LogExistsError(LogError):
    """There is a log here already; creating another would destroy its history."""

    exit_code = 2
    default_remedy = "use the existing one, or choose another --home"


class LogLockedError(LogError):
    """Another live process owns this log for writing."""

    exit_code = 4
    default_remedy = "stop the other process, or use a reading command (`log`, `show`, `verify`, `status`)"


class MembersError(LogError):
    """The log has members, and whoever wants to write to it has not been let in to lead."""

    exit_code = 4
    default_remedy = "start the node with `femtoclaw serve`: it takes part, and writes while it leads"


class LogFullError(LogError):
    """No room: the map or the disk's reserve is used up. Nothing was written; reads go on."""

    exit_code = 4
    default_remedy = "free disk space (or raise memory.map_bytes) and start again"


class LogUnavailableError(LogError):
    """The store cannot be reached as it is: permissions, a read-only file system, a missing mount."""

    exit_code = 4
    default_remedy = "check the permissions and the mount of the directory"


class LogFailedError(LogError):
    """A write or a sync failed; its outcome is unknown and this handle will never write again."""

    exit_code = 5
    default_remedy = "stop the process, check the disk, and start again: recovery decides what was kept"


class LogClosedError(LogError):
    """The handle was closed."""

    exit_code = 70


class RangeError(LogError):
    """An index outside of the log."""

    exit_code = 2
    default_remedy = "indexes run from 1 to the size of the log; `femtoclaw status` shows it"
