"""The coordinator on etcd: a key that lives by a lease is the leadership, the revision that created it is the epoch.

Keys: ``<prefix>/<log id in hex>/leader`` (value: the member's name) and ``.../head`` (the register). The epoch of a key that
was created later is always higher, on one etcd. An etcd that was restored from a backup counts again from where the backup
was: that is found out here while this object lives, by ``campaign(above=)`` after that, and by the voters in any case.
"""

from __future__ import annotations

import threading

from cluster.coordinator import (
    NUMBER_MAX,
    Register,
    check_wait,
    decode_register,
    encode_register,
)
from cluster.errors import (
    ClusterError,
    CoordinatorUnavailableError,
    CorruptRegisterError,
    EpochRegressionError,
)
from cluster.etcd_client import EtcdClient, KeyValue, LeaseGoneError, absent, changed_times, created
from cluster.etcd_endpoint import boot_clock
from cluster.etcd_lease import Leadership, LeaseKeeper
from cluster.etcd_messages import message
from cluster.etcd_settings import EtcdSettings
from cluster.limits import NAME_CHARACTERS_MAX

JOIN_S = 5.0


class EtcdCoordinator:
    """The port of ``cluster/coordinator.py`` for one member and the log of ``log_id`` (its 32 bytes).

    Nothing is asked on construction; ``connect`` does, for whoever wants to know early. A call takes at most
    ``EtcdSettings.call_s``; ``resign`` twice that, and ``campaign`` six times, as they ask several things. Calls may also raise
    CoordinatorVersionError and ClusterConfigurationError (etcd refuses us). To be used in the process that made it.
    """

    def __init__(self, settings: EtcdSettings, log_id: bytes) -> None:
        self._settings = settings
        self._client = EtcdClient(settings)
        place = f"{settings.prefix}/{log_id.hex()}"
        self._leader_key = f"{place}/leader".encode()
        self._head_key = f"{place}/head".encode()
        self._acting = threading.Lock()
        self._keeper: LeaseKeeper | None = None
        self._seen_epoch = 0

    def connect(self) -> None:
        """Reach etcd once: its version, its identity, our permission to read."""
        self.leader()

    def campaign(self, member: str, above: int = 0) -> int | None:
        with self._acting:
            self._give_back()
            try:
                return self._campaign(member, above)
            except EpochRegressionError as error:
                self._client.halt(error)
                raise

    def leader(self) -> tuple[str, int] | None:
        found = self._client.get(self._leader_key)
        self._seen_epoch = found.create_revision
        return (self._name(found), found.create_revision) if found.create_revision else None

    def attests(self, member: str, epoch: int) -> bool:
        found = self._client.get(self._leader_key)
        return epoch > 0 and (found.create_revision, found.value) == (epoch, member.encode())

    def register(self) -> Register | None:
        found = self._client.get(self._head_key)
        return decode_register(found.value, found.version, self._head_key.decode()) if found.version else None

    def publish(self, epoch: int, register: Register) -> Register | None:
        raw = encode_register(register)
        if not 0 < epoch <= NUMBER_MAX:
            return None
        compare = [created(self._leader_key, epoch), changed_times(self._head_key, register.version)]
        put = message("PutRequest", key=self._head_key, value=raw)
        put_now, read, _ = self._client.swap(compare, put, self._leader_key, self._head_key)
        done = register._replace(version=register.version + 1)
        if put_now:
            return done
        leader, head = read
        # An earlier try of this very call may have been carried out without an answer.
        return done if (leader.create_revision, head.version, head.value) == (epoch, done.version, raw) else None

    def held(self) -> bool:
        keeper = self._keeper
        return keeper is not None and self._client.usable and keeper.held()

    def resign(self) -> None:
        with self._acting:
            self._give_back()

    def wait_change(self, timeout_s: float) -> bool:
        ends_s = boot_clock() + check_wait(timeout_s)
        seen = self._seen_epoch
        found = self._client.get(self._leader_key)
        if found.create_revision == seen:
            if not self._client.wait_event(self._leader_key, found.revision, ends_s):
                return False
            found = self._client.get(self._leader_key)
        self._seen_epoch = found.create_revision
        return True

    def close(self) -> None:
        keeper = self._keeper
        if keeper is not None:
            keeper.stop()
        self._client.close()
        if keeper is not None:
            keeper.join(JOIN_S)

    def _campaign(self, member: str, above: int) -> int | None:
        standing = self._client.get(self._leader_key)
        if standing.create_revision:
            self._note_other(standing, above)
            return None
        sent_s = boot_clock()
        lease, lease_s = self._client.grant(self._settings.lease_s)
        try:
            epoch = self._create(member, lease, above)
        except ClusterError:
            # Whatever came of it must not last; where even this cannot be asked, the lease ends by itself.
            self._revoke_quietly(lease)
            raise
        if epoch is None:
            self._revoke_quietly(lease)
            return None
        self._keeper = LeaseKeeper(self._client, self._leader_key, Leadership(epoch, lease, lease_s), sent_s)
        self._keeper.start()
        return epoch

    def _create(self, member: str, lease: int, above: int) -> int | None:
        """The leadership key with this lease, unless there is one: its epoch, or None."""
        put = message("PutRequest", key=self._leader_key, value=member.encode(), lease=lease)
        try:
            put_now, read, revision = self._client.swap([absent(self._leader_key)], put, self._leader_key)
        except LeaseGoneError as error:
            raise CoordinatorUnavailableError(
                "the lease ended before it was used", found="a slow coordinator"
            ) from error
        if not put_now:
            if read[0].lease != lease:
                self._note_other(read[0], above)
                return None
            # An earlier try of this very call was carried out without an answer.
            revision = read[0].create_revision
        if revision <= above:
            raise self._regressed(above, revision)
        self._seen_epoch = revision
        return revision

    def _note_other(self, found: KeyValue, above: int) -> None:
        """Somebody else leads. Raises EpochRegressionError when with an epoch that was already passed."""
        if 0 < found.create_revision < above:
            raise self._regressed(above, found.create_revision)
        self._seen_epoch = found.create_revision

    def _give_back(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.stop()
            self._client.revoke(keeper.leadership.lease)

    def _revoke_quietly(self, lease: int) -> None:
        try:
            self._client.revoke(lease)
        except ClusterError:
            # It is not kept alive, so it ends; the caller has the error that matters.
            return

    def _regressed(self, above: int, found: int) -> EpochRegressionError:
        return EpochRegressionError(
            "etcd has gone back: it grants epochs that have been passed", where=self._leader_key.decode(),
            expected=f"> {above}", found=found,
        )  # fmt: skip

    def _name(self, found: KeyValue) -> str:
        """The member's name in the leadership key. Raises CorruptRegisterError."""
        try:
            name = found.value.decode("ascii")
        except UnicodeDecodeError as error:
            raise CorruptRegisterError("the leader's name does not decode", where=self._leader_key.decode()) from error
        if not 0 < len(name) <= NAME_CHARACTERS_MAX:
            raise CorruptRegisterError(
                "the leader's name has a wrong length", where=self._leader_key.decode(), found=len(name)
            )
        return name
