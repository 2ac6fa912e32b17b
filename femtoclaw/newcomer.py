"""A home that will be a member: its own key, identity and settings first, then the whole log of a cluster that lets it in.

Nothing of another node comes along: not its key, not its secrets, not its workspace. What the newcomer has of the log it has
verified record by record from the first one on, whoever sent it.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import contextlib
import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

from cluster.client import PeerClient
from cluster.errors import ClusterUnavailableError, DivergenceError, PeerProtocolError
from cluster.messages import Align, Entries, PullRequest, SealedSegment, Span, ToFollower
from cluster.tls import Identity, load_identity, make_identity
from femtoclaw import distribution
from femtoclaw.cluster_home import ClusterSettings, folder_of, settings_path, settings_text
from femtoclaw.errors import ConfigurationError, SecurityError, UnavailableError
from femtoclaw.home import DIRECTORY_MODE, PLACE_REMEDY, Home, check_workspace, resolved_configuration
from femtoclaw.key_file import SEED_BYTES, KeySigner, seal
from femtoclaw.keys import load_public_key, write_index
from femtoclaw.membership import Invitation, sign_join_request
from femtoclaw.passphrase import chosen_passphrase
from femtoclaw.place import unfinished
from femtoclaw.serving.recorded_files import follow_record
from femtoclaw.serving.references import blobs_named
from wal.blob import blob_file, blob_name
from wal.chain import VerifiedRun, verify_run
from wal.durable_file import sync_folder, write_file
from wal.errors import CorruptFileError, CorruptRecordError, SignatureError
from wal.membership import Member
from wal.note import PublicKey
from wal.record import FLAG_BATCH_END, FLAGS_LOW_BYTE
from wal.replica_log import ReplicaLog
from wal.replica_opening import create_replica_directory, open_replica_directory
from wal.segment import decode_segment

KEY_NAME = "femtoclaw.node/"
NOBODY = "-"
"""The owner of a cluster that this home does not know yet: nobody leads by it."""

Progress = Callable[[int], None]
"""Told how many records are here."""


# --- asking to be let in ---------------------------------------------------------------------------------------------


def prepare(home: Home, settings: ClusterSettings, address: str) -> tuple[bytes, Member]:
    """Make a home without a log in a new or empty directory, and return its signed request to join, with its entry.

    Raises ConfigurationError when something is there already, UnavailableError when the place cannot be written; nothing is
    left behind then, as with ``init``.
    """
    place = Home(os.path.realpath(home.path))
    try:
        with unfinished(place):
            return _build(place, settings, address)
    except OSError as error:
        raise UnavailableError(
            "the home cannot be made", where=home.path, found=error.strerror, remedy=PLACE_REMEDY
        ) from error


def _build(home: Home, settings: ClusterSettings, address: str) -> tuple[bytes, Member]:
    seed = os.urandom(SEED_BYTES)
    signer = KeySigner(KEY_NAME + os.urandom(16).hex(), seed)
    write_file(home.key_file, seal(signer.public.name, seed, chosen_passphrase(home.key_file)))
    write_file(home.public_key_file, signer.public.vkey().encode() + b"\n")
    os.chmod(home.public_key_file, 0o644)
    os.mkdir(home.operators, DIRECTORY_MODE)
    write_index(home, signer)
    distribution.pin(home, signer)
    os.mkdir(os.path.join(home.path, "workspace"), DIRECTORY_MODE)
    identity = make_identity(folder_of(home), settings.name)
    write_file(settings_path(home), settings_text(settings).encode())
    sync_folder(home.path)
    member = Member(settings.name, signer.public, address, identity.certificate, False)
    return sign_join_request(member, signer), member


# --- coming in -------------------------------------------------------------------------------------------------------


class Newcomer(NamedTuple):
    """Who comes in: the home, its identity, and its entry in the invitation."""

    home: Home
    identity: Identity
    entry: Member


def check_invited(home: Home, invitation: Invitation, name: str) -> Newcomer:
    """That the invitation is for this home: name, key and certificate. Raises ConfigurationError."""
    identity, own = load_identity(folder_of(home)), load_public_key(home.public_key_file)
    entry = invitation.membership.get(invitation.invited)
    assert entry is not None
    mine = (name, own, identity.certificate)
    if (entry.name, entry.key, entry.certificate) != mine:
        raise ConfigurationError(
            "the invitation is for another node", where=home.path, expected=f"{name}, {own.vkey()}",
            found=f"{entry.name}, {entry.key.vkey()}",
            remedy="accept it in the home that made the request, or have this home's own request admitted",
        )  # fmt: skip
    return Newcomer(home, identity, entry)


def come_in(
    newcomer: Newcomer, invitation: Invitation, issuer: PublicKey, settings: ClusterSettings, progress: Progress
) -> tuple[int, tuple[str, ...]]:
    """Fetch the log, put the recorded files in place, and take on the settings. May be repeated after whatever cut it.

    Returns the log's size here and the files that were written. Raises ClusterUnavailableError when no member can give the log,
    what verifying it raises, LogLockedError while the node is at work.
    """
    home = newcomer.home
    if not os.path.lexists(home.log):
        create_replica_directory(home.log, [(1, invitation.genesis)])
    log, _ = open_replica_directory(home.log)
    try:
        if log.log_id != invitation.log_id:
            raise ConfigurationError(
                "this home has another log", where=home.log, expected=invitation.log_id.hex(), found=log.log_id.hex(),
                remedy="accept the invitation in the home that made the request",
            )  # fmt: skip
        fetch(log, newcomer, invitation, progress)
        _check_admitted(log, newcomer.entry, issuer)
        written = follow_record(home, log)
        _make_workspace(home)
        size = log.head.index
    finally:
        log.close()
    write_file(settings_path(home), settings_text(settings).encode())
    return size, written


def fetch(log: ReplicaLog, newcomer: Newcomer, invitation: Invitation, progress: Progress) -> None:
    """Everything that a member has and this log has not, from the first member that can give it, the inviting one first.

    Raises ClusterUnavailableError naming what each of them said.
    """
    told: list[str] = []
    others = [each for each in invitation.membership.members if each.name != newcomer.entry.name]
    for member in sorted(others, key=lambda each: (not each.voter, each.name)):
        try:
            with contextlib.closing(PeerClient(member, newcomer.identity)) as peer:
                request = PullRequest(log.log_id, 0, log.head, tuple(Span(*span) for span in log.keys().epochs()))
                take(log, peer, peer.pull(request), progress)
                return
        except (
            ClusterUnavailableError,
            PeerProtocolError,
            CorruptRecordError,
            CorruptFileError,
            SignatureError,
        ) as error:
            told.append(f"{member.name}: {error.what}")
    raise ClusterUnavailableError(
        "no member could give the log", where=newcomer.home.log, expected="one that answers, and that knows this node",
        found="; ".join(told), remedy="see that a member is being served and can be reached at its address; then run it again",
    )  # fmt: skip


def take(log: ReplicaLog, peer: PeerClient, messages: Iterable[ToFollower], progress: Progress) -> None:
    """Store what a member sends, run by run: verified, with its blobs, read back. At the end a signature covers it.

    Raises CorruptRecordError and its like for what does not verify, DivergenceError when what was signed and what was sent are
    two histories.
    """
    aligned, note = False, b""
    for message in messages:
        if isinstance(message, Align):
            if message.at != log.head:
                raise DivergenceError(
                    "what is here is not the beginning of the cluster's log", where=log.storage.name,
                    expected=f"index {message.at.index}", found=f"index {log.head.index}",
                    remedy="move this home's log away, and accept the invitation again",
                )  # fmt: skip
            aligned = True
        elif isinstance(message, Entries | SealedSegment) and aligned:
            note = message.checkpoint or note
            _store(log, peer, message)
            progress(log.head.index)
        else:
            raise PeerProtocolError("a member sent something else than records", where=log.storage.name)
    if not note:
        raise PeerProtocolError("no leader's signature covers what was sent", where=log.storage.name)
    checkpoint = log.keys().open_checkpoint(note, log.origin).checkpoint
    if checkpoint.size > log.head.index or log.root_at(checkpoint.size) != checkpoint.root:
        raise DivergenceError(
            "a leader signed another history than the one that was sent", where=f"size {checkpoint.size}",
            expected=checkpoint.root.hex(), found=log.root_at(min(checkpoint.size, log.head.index)).hex(),
        )  # fmt: skip


def _store(log: ReplicaLog, peer: PeerClient, message: Entries | SealedSegment) -> None:
    if isinstance(message, SealedSegment):
        frames = _whole_appends_behind(log, message)
    else:
        if message.prev != log.head:
            raise PeerProtocolError("records came out of order", expected=log.head.index, found=message.prev.index)
        frames = [(log.head.index + number, raw) for number, raw in enumerate(message.frames, 1)]
    run = verify_run(log.head, frames)
    _fetch_blobs(log, peer, run, [raw for _, raw in frames])
    log.append_verified(run, message.checkpoint)


def _whole_appends_behind(log: ReplicaLog, message: SealedSegment) -> list[tuple[int, bytes]]:
    """What of a segment goes on behind this log, as far as its appends are whole: one may reach into the next segment."""
    frames = [each for each in decode_segment(message.raw, log.storage.name).frames() if each[0] > log.head.index]
    while frames and not frames[-1][1][FLAGS_LOW_BYTE] & FLAG_BATCH_END:
        frames.pop()
    return frames


def _fetch_blobs(log: ReplicaLog, peer: PeerClient, run: VerifiedRun, frames: list[bytes]) -> None:
    """What the records name is here before they are."""
    for digest in blobs_named(frames):
        if log.storage.get_file(blob_file(digest)) is not None:
            continue
        raw = peer.blob(bytes.fromhex(digest))
        if raw is None or blob_name(raw) != digest:
            raise ClusterUnavailableError(
                "a member has not a blob that a record names", where=f"index {run.head.index} or before", found=digest
            )
        log.storage.put_file(blob_file(digest), raw)


def _check_admitted(log: ReplicaLog, entry: Member, issuer: PublicKey) -> None:
    """What the log itself says: this node is a member, and whoever invited it was one. Raises SecurityError."""
    history = log.keys()
    members = history.newest.members
    known = members.get(entry.name) if members is not None else None
    if known is None or (known.key, known.certificate) != (entry.key, entry.certificate):
        raise SecurityError(
            "the log does not say that this node is a member", where=log.storage.name, expected=entry.key.vkey(),
            found=known.key.vkey() if known is not None else "no such member",
            remedy="have the request admitted again: `femtoclaw cluster join` at whoever leads",
        )  # fmt: skip
    if not any(each.members is not None and each.members.by_key(issuer) for each in history):
        raise SecurityError(
            "the invitation is not from a member of this log", where=log.storage.name, expected="a member's key",
            found=issuer.vkey(), remedy="keep the invitation as evidence, and find out where it came from",
        )  # fmt: skip


def _make_workspace(home: Home) -> None:
    """The workspace that the recorded configuration names, empty; one outside of the home is the operator's to make."""
    effective = resolved_configuration(home, None)
    place = os.path.realpath(home.inside(effective["security"]["workspace"]))
    if os.path.dirname(place) == os.path.realpath(home.path) and not os.path.lexists(place):
        os.mkdir(place, DIRECTORY_MODE)
    check_workspace(home, effective)
